"""Replies that runs share through a cache."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, Budget, InvalidInput, Message, MissingExtra, Reply, RLMResult, TextDelta, Usage
from rlm_integrations.cache import DiskCache
from rlm_integrations.engine.reply_cache import ReplyCache
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell, events
from tests.stalls import longest_stall_s

TEXT = "some text to look at\n" * 10
MESSAGES = (Message("user", "hi"),)
CODE = "FINAL(llm_query('a') + str(len(context)))"


class Store:
    """A cache in memory that notes what it is asked."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.asked: list[str] = []

    def get(self, key: str) -> str | None:
        self.asked.append(key)
        return self.texts.get(key)

    def set(self, key: str, value: str) -> None:
        self.texts[key] = value


def scripted(**settings: Any) -> ScriptedModel:
    """A model for a run of one turn and one sub-call."""
    return ScriptedModel(by_role([cell(CODE)], lambda prompt: prompt.upper()), **settings)


def sources(result: RLMResult) -> list[str]:
    """Where the answers to all model calls were taken from."""
    return [event.source for event in events(result, "model_call_ended")]


def test_what_was_asked_in_one_run_is_not_asked_in_the_next(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    first, second = scripted(), scripted()
    results = [run(make_rlm(model, cache=tmp_path / "c"), "q", TEXT) for model in (first, second)]
    assert [result.answer for result in results] == [f"A{len(TEXT)}"] * 2
    assert (len(first.calls), len(second.calls)) == (2, 0)
    assert [sources(result) for result in results] == [["model", "model"], ["cache", "cache"]]


def test_an_answer_from_the_cache_costs_nothing_and_takes_nothing_of_the_budget(run: Any, make_rlm: Any) -> None:
    store, budget = Store(), Budget(max_calls=4, max_cost_usd=1.0)
    run(make_rlm(scripted(usd_per_token=0.001), cache=store, budget=budget), "q", TEXT)
    asking = scripted(usd_per_token=0.001)
    texts = {key: text for key, text in store.texts.items() if "```" not in text}
    store.texts = texts  # of the sub-call alone, so that the turn is paid
    result = run(make_rlm(asking, cache=store, budget=budget), "q", TEXT)
    assert sources(result) == ["model", "cache"]
    assert result.usage.calls == 1
    ended = events(result, "model_call_ended")
    assert ended[1].usage == Usage(0, 0, 0, 0.0)
    assert result.usage.cost_usd == ended[0].usage.cost_usd


def test_a_batch_from_the_cache_passes_a_budget_that_could_not_pay_for_it(run: Any, make_rlm: Any) -> None:
    store = Store()
    root = [cell("FINAL(llm_query_batched([f'{i}{len(context)}' for i in range(9)]))")]
    for budget in (Budget(), Budget(max_calls=2)):
        model = ScriptedModel(by_role(root, str.upper))
        result = run(make_rlm(model, cache=store, budget=budget, output_type=list[str]), "q", TEXT)
        assert result.answer == [f"{i}{len(TEXT)}" for i in range(9)]
    assert model.calls == []


def test_a_prompt_too_large_for_the_budget_is_answered_from_the_cache(run: Any, make_rlm: Any) -> None:
    store, root = Store(), [cell("FINAL(llm_query(context * 4_000))")]
    for budget in (Budget(), Budget(max_tokens=20_000)):
        model = ScriptedModel(by_role(root, lambda _: "yes"))
        assert run(make_rlm(model, cache=store, budget=budget), "q", TEXT[:21]).answer == "yes"
    assert model.calls == []


def test_the_key_is_made_of_all_that_the_answer_depends_on() -> None:
    cache, model = ReplyCache(Store()), ScriptedModel([])
    key = cache.key(model, MESSAGES, {"temperature": 0.5, "stop": ["x"]})
    assert key is not None
    assert len(key) == 64
    same = {"stop": ["x"], "temperature": 0.5, "timeout": 3.0, "on_text": print, "event_id": "7"}
    assert cache.key(model, list(MESSAGES), same) == key

    class Elsewhere(ScriptedModel):
        identity = "elsewhere"

    others = [
        cache.key(model, MESSAGES, {"temperature": 0.6, "stop": ["x"]}),
        cache.key(model, MESSAGES, {"temperature": 0.5, "stop": ["x"], "max_tokens": 5}),
        cache.key(model, (Message("system", "hi"),), {"temperature": 0.5, "stop": ["x"]}),
        cache.key(model, (Message("user", "ho"),), {"temperature": 0.5, "stop": ["x"]}),
        cache.key(model, (*MESSAGES, *MESSAGES), {"temperature": 0.5, "stop": ["x"]}),
        cache.key(ScriptedModel([], name="other"), MESSAGES, {"temperature": 0.5, "stop": ["x"]}),
        cache.key(Elsewhere([]), MESSAGES, {"temperature": 0.5, "stop": ["x"]}),
    ]
    assert len({key, *others}) == 8


def test_a_model_by_name_is_known_by_its_server_and_options_but_not_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    cache = ReplyCache(Store())

    def key(**settings: Any) -> str | None:
        return cache.key(LiteLLMModel("openai/gpt-5-mini", **settings), MESSAGES, {})

    plain = key(api_key="sk-1")
    assert key(api_key="sk-2", timeout=3) == plain
    assert len({plain, key(temperature=1), key(api_base="http://here/v1"), key(max_tokens=9), key(seed=1)}) == 5
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here/v1")
    assert key() == key(api_base="http://here/v1") != plain


def test_a_model_whose_answers_no_words_can_tell_apart_is_not_cached(run: Any, make_rlm: Any) -> None:
    class Unknown(ScriptedModel):
        identity = None

    store = Store()
    run(make_rlm(Unknown(by_role([cell(CODE)], str.upper)), cache=store), "q", TEXT)
    assert (store.texts, store.asked) == ({}, [])


def test_settings_told_by_an_address_alone_make_no_key() -> None:
    class Anything(ScriptedModel):
        """Is known by what it is given."""

        identity: Any = None

    model, cache = Anything([]), ReplyCache(Store())
    for identity, is_cached in [(repr(object()), False), ({"tools": [repr(scripted)]}, False), ("<m>", True)]:
        model.identity = identity
        assert (cache.key(model, MESSAGES, {}) is not None) is is_cached, identity


def test_text_from_the_cache_is_streamed(make_rlm: Any) -> None:
    store = Store()
    root = "```python\nprint(len(context))\nFINAL_WRITE('how long?', notes=len(context))\n```"

    def say(messages: Sequence[Message]) -> str:
        return root if len(messages) == 2 else "It is long."

    for _ in range(2):
        rlm = make_rlm(ScriptedModel(say), cache=store, final_write=True)
        told = list(rlm.stream("q", TEXT))
        answer_id = next(event.id for event in told if getattr(event, "purpose", "") == "answer")
        deltas = [event.text for event in told if isinstance(event, TextDelta) and event.id == answer_id]
        assert "".join(deltas) == "It is long."
    assert {event.source for event in told if event.kind == "model_call_ended"} == {"cache"}


BROKEN = [
    "",
    "no json",
    "null",
    "[]",
    '"text"',
    "[" * 100_000,
    '{"text": "A"}',
    '{"text": 7, "usage": {"input_tokens": 1, "output_tokens": 1, "cached_tokens": 0, "cost_usd": null}}',
    '{"text": "A", "usage": {"input_tokens": -1, "output_tokens": 1, "cached_tokens": 0, "cost_usd": null}}',
    '{"text": "A", "usage": {"input_tokens": true, "output_tokens": 1, "cached_tokens": 0, "cost_usd": null}}',
    '{"text": "A", "usage": {"input_tokens": 1, "output_tokens": 1, "cached_tokens": 0, "cost_usd": "free"}}',
    '{"text": "A", "usage": {"input_tokens": 1, "output_tokens": 1, "cached_tokens": 0, "cost_usd": NaN}}',
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:40])
def test_a_broken_entry_is_a_miss_and_is_logged_and_written_anew(
    make_rlm: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    make_rlm(scripted(), cache=store).run("q", TEXT)
    whole = dict(store.texts)
    store.texts = dict.fromkeys(whole, text)
    with caplog.at_level(logging.WARNING, "rlm_integrations"):
        result = make_rlm(scripted(), cache=store).run("q", TEXT)
    assert sources(result) == ["model", "model"]
    assert "cache holds nothing that can be read" in caplog.text
    assert store.texts == whole


def test_a_cache_that_fails_does_not_fail_the_run(run: Any, make_rlm: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def get(self, key: str) -> str:
            raise ConnectionError("the store is away")

        def set(self, key: str, value: str) -> None:
            raise OSError("the disk is full")

    with caplog.at_level(logging.WARNING, "rlm_integrations"):
        assert run(make_rlm(scripted(), cache=Failing()), "q", TEXT).status == "complete"
    assert "the store is away" in caplog.text
    assert "the disk is full" in caplog.text


def test_any_text_survives_the_disk(tmp_path: Path) -> None:
    cache = ReplyCache(DiskCache(tmp_path))
    reply = Reply("a lone \ud800, a null \0, \r\n, 漢字 and \U0001f600", Usage(3, 2, 1, 0.25))
    cache.keep("k", reply)
    assert cache.find("k") == reply
    assert cache.find("other") is None


def test_an_empty_reply_is_not_kept() -> None:
    store = Store()
    ReplyCache(store).keep("k", Reply(" \n"))
    assert store.texts == {}


def test_a_reply_cut_short_for_one_budget_is_not_kept_for_other_runs(run: Any, make_rlm: Any) -> None:
    store = Store()
    assert run(make_rlm(scripted(), cache=store, budget=Budget(max_tokens=3_500)), "q", TEXT).status == "complete"
    assert store.texts == {}


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys
        from rlm_integrations import RLM
        from rlm_integrations.testing import ScriptedModel

        code = "FINAL(llm_query_batched([str(i) + context for i in range(20)]))"
        says = lambda messages: f"```python\\n{code}\\n```" if messages[0].role == "system" else messages[0].content * 2
        model = ScriptedModel(says)
        answer = RLM(model, cache=sys.argv[1], output_type=list[str]).run("q", "text").answer
        print(len(model.calls), answer == [f"{i}text" * 2 for i in range(20)])
        """
    )

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])

    def ended(process: subprocess.Popen[str]) -> list[str]:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return said.split()

    together = [ended(process) for process in [start(), start()]]
    assert [right for _, right in together] == ["True", "True"]
    assert ended(start()) == ["0", "True"]


def test_many_threads_may_use_a_folder_at_once(make_rlm: Any, tmp_path: Path) -> None:
    root = [cell("FINAL(len(llm_query_batched([f'{i} {context}' for i in range(200)])))")]
    for calls in (201, 0):
        model = ScriptedModel(by_role(root, str.upper))
        rlm = make_rlm(model, cache=tmp_path, max_parallel=32, budget=Budget(max_calls=None))
        assert rlm.run("q", "text").answer == "200"
        assert len(model.calls) == calls


def test_nothing_in_the_folder_is_ever_unpickled(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.set("k", "text")
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    proof = tmp_path / "proof"
    evil = b"cos\nmkdir\n(S'" + os.fsencode(proof) + b"'\ntR."
    file.write_bytes(file.read_bytes()[:4] + evil)
    assert cache.get("k") == evil.decode()
    file.write_bytes(file.read_bytes()[:4] + b"\x80\x04\xff")
    with pytest.raises(ValueError, match="utf-8"):
        cache.get("k")
    assert not proof.exists()


@pytest.fixture
def always_trims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is looked through whenever something is kept in it."""
    monkeypatch.setattr("rlm_integrations.cache.SETS_BETWEEN_TRIMS", 1)


@pytest.mark.usefixtures("always_trims")
def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", "utf-8")
    cache = DiskCache(tmp_path, max_mb=0.0001)
    for number in range(3):
        cache.set(str(number), "x" * 1_000)
    DiskCache(tmp_path, max_mb=0.0001).set("k", "x")
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "precious"


@pytest.mark.usefixtures("always_trims")
def test_a_folder_that_holds_too_much_loses_what_was_written_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    files: dict[int, Path] = {}
    for number in range(10):
        before = set(tmp_path.rglob("*"))
        cache.set(str(number), "x" * 996)
        (files[number],) = set(tmp_path.rglob("*")) - before
        os.utime(files[number], (number, number))
    DiskCache(tmp_path, max_mb=0.008).set("new", "x")
    assert [number for number, path in files.items() if path.exists()] == [3, 4, 5, 6, 7, 8, 9]
    assert cache.get("new") == "x"


def test_a_folder_is_looked_through_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_integrations.cache.SETS_BETWEEN_TRIMS", 20)
    for number in range(10):
        DiskCache(tmp_path).set(str(number), "x" * 1_000)
    cache = DiskCache(tmp_path, max_mb=0.0001)
    assert any(cache.set("k", "y") or cache.get("9") is None for _ in range(2_000))


def test_a_path_that_can_t_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "a\0b"):
        with pytest.raises(InvalidInput, match="can't be kept in this folder"):
            RLM(ScriptedModel([]), cache=path)


async def awaited(key: str, value: str = "") -> None:
    """A method of a cache that can't be used."""


@pytest.mark.parametrize(
    "cache",
    ["", " ", 7, True, {}, Store, object(), type("Async", (), {"get": awaited, "set": awaited})()],
    ids=["empty", "blank", "number", "bool", "dict", "class", "object", "async"],
)
def test_what_is_no_cache_is_refused(cache: Any) -> None:
    with pytest.raises(InvalidInput, match="pass the path of a folder"):
        RLM(ScriptedModel([]), cache=cache)


@pytest.mark.parametrize("option", [object(), {1: 0, "a": 0}], ids=["object", "mixed keys"])
def test_options_that_no_key_can_be_made_of_are_refused(option: Any) -> None:
    with pytest.raises(InvalidInput, match="JSON values"):
        RLM(ScriptedModel([]), cache=Store(), response_format=option)


def test_without_the_extra_the_error_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cachelib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlm-integrations\[cache\]'"):
        RLM(ScriptedModel([]), cache=tmp_path)


def test_a_cache_is_never_asked_in_the_event_loop(make_rlm: Callable[..., RLM]) -> None:
    threads = set[int]()

    class Blocking(Store):
        def get(self, key: str) -> str | None:
            threads.add(threading.get_ident())
            return super().get(key)

        def set(self, key: str, value: str) -> None:
            threads.add(threading.get_ident())
            super().set(key, value)

    asyncio.run(make_rlm(scripted(), cache=Blocking()).arun("q", TEXT))
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.alone
def test_a_disk_cache_does_not_hold_the_event_loop(make_rlm: Callable[..., RLM], tmp_path: Path) -> None:
    prompts = "[f'{i}' + context * 20_000 for i in range(50)]"
    root = [cell(f"FINAL(len(llm_query_batched({prompts})))")]
    model = ScriptedModel(by_role(root, lambda prompt: prompt[:1_000] * 100))
    rlm = make_rlm(model, cache=tmp_path)
    assert longest_stall_s(lambda: rlm.arun("q", "x")) < 0.5


def test_a_cached_run_is_the_same_run(make_rlm: Any, tmp_path: Path) -> None:
    def told(result: RLMResult) -> list[Any]:
        return [
            (event.kind, getattr(event, "text", ""), getattr(event, "new_messages", ""), getattr(event, "stdout", ""))
            for event in result.trajectory
        ]

    root = [cell("print(llm_query('a'))"), cell("FINAL(len(context))")]
    results = [make_rlm(ScriptedModel(by_role(root, str.upper)), cache=tmp_path).run("q", TEXT) for _ in range(2)]
    assert told(results[0]) == told(results[1])
    assert json.loads(json.dumps(results[1].answer)) == str(len(TEXT))
