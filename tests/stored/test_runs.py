"""Runs over documents on disk: sub-calls, citations, saving and going on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import (
    RLM,
    Budget,
    BudgetExceeded,
    CellEnded,
    Context,
    InvalidInput,
    Message,
    RunStarted,
    Trajectory,
)
from rlm_integrations.context import Digest
from rlm_integrations.page import render_page
from rlm_integrations.stored import StoredDocument, StoredDocuments
from rlm_integrations.testing import ScriptedModel
from tests.conftest import Run
from tests.scripts import cell

QUOTE = "The staging server listens on port 8443."
ANSWER = cell(f"FINAL('8443', quotes=[{QUOTE!r}])")
LOOK = cell("print(search('staging port', 1))")


def printed(result: Any) -> list[str]:
    """What the cells of the root run printed, or why they failed."""
    return [
        f"{event.stdout}{event.error or ''}"
        for event in result.trajectory
        if isinstance(event, CellEnded) and event.parent_id == result.run_id
    ]


def test_an_answer_cites_the_documents_on_disk(run: Run, make_rlm: Callable[..., RLM], lazy: Context) -> None:
    result = run(make_rlm(ScriptedModel([LOOK, ANSWER])), "Which port?", lazy)
    assert (result.answer, result.status) == ("8443", "complete")
    assert [(cited.document_id, cited.start) for cited in result.citations] == [("a.txt", 21 * 3_000)]
    assert QUOTE in printed(result)[0]


def test_a_quote_in_other_spaces_is_shown_as_it_stands(run: Run, make_rlm: Callable[..., RLM], lazy: Context) -> None:
    model = ScriptedModel([LOOK, cell("FINAL('8443', quotes=['the staging  server listens'])"), ANSWER])
    run(make_rlm(model), "Which port?", lazy)
    assert "The staging server listens" in model.calls[2].messages[-1].content


def test_a_child_is_given_documents_and_not_their_text(
    run: Run, make_rlm: Callable[..., RLM], lazy: Context, eager: Context
) -> None:
    def reply(messages: Sequence[Message]) -> str:
        asked = messages[1].content
        if "Question: how many?" in asked:
            return cell("FINAL([type(context).__name__, [doc.id for doc in context]])")
        if "Question: one?" in asked:
            return cell("FINAL([context.id, len(context)])")
        return cell(
            "print(rlm_query('how many?', context[1:3]))\nprint(rlm_query('one?', context[2]))\n"
            "print(rlm_query_batched('how many?', [context[:1], [context[4], context[0]]]))\nFINAL(1)"
        )

    model = ScriptedModel(reply)
    result = run(make_rlm(model), "root", lazy)
    said = printed(result)[0]
    assert "['b/empty.md', 'b/grüße.txt']" in said
    assert f"['b/grüße.txt', {len(eager.value[2])}]" in said
    assert "['a.txt']" in said
    assert "['d.html', 'a.txt']" in said
    starts = [event.context for event in result.trajectory if isinstance(event, RunStarted)][1:]
    documents = lazy.value
    parts = [documents[1:3], documents[2], documents[:1], StoredDocuments(documents.store, (4, 0))]
    assert {start.sha256 for start in starts} == {Context.of(part).sha256 for part in parts}
    assert len({start.sha256 for start in starts} | {lazy.sha256}) == 5
    assert Context.of(documents[2]).sha256 == Context.of(eager.value[2]).sha256


def test_documents_that_fit_into_a_prompt_are_read_where_no_child_may_be(
    run: Run, make_rlm: Callable[..., RLM], lazy: Context
) -> None:
    def reply(messages: Sequence[Message]) -> str:
        if "Text:" in messages[-1].content:
            return f"read {messages[-1].content.partition('Text:')[2].strip()}"
        return cell("print(rlm_query('port?', context[3:]))\nprint(rlm_query('port?', context))\nFINAL(1)")

    result = run(make_rlm(ScriptedModel(reply, window_tokens=2_000), max_depth=0, max_iterations=1), "root", lazy)
    said = printed(result)[0]
    assert 'read ["name,port\\nproduction,8444\\n", "The release is due in May."]' in said
    assert "these 5 documents have 114,137 characters in all" in said
    assert "at most 7,200" in said
    assert "in a loop" in said


def test_more_than_any_prompt_takes_is_refused_for_a_model_of_unknown_window(
    run: Run, make_rlm: Callable[..., RLM], lazy: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlm_integrations.engine import sub_calls

    monkeypatch.setattr(sub_calls, "MAX_PROMPT_CHARS", 1_000)
    model = ScriptedModel([cell("print(rlm_query('port?', context))"), ANSWER, ANSWER])
    assert "takes at most 1,000" in printed(run(make_rlm(model, max_depth=0), "root", lazy))[0]
    assert all("Text:" not in call.messages[-1].content for call in model.calls)


def test_a_tool_is_given_documents_that_it_reads_itself(run: Run, make_rlm: Callable[..., RLM], lazy: Context) -> None:
    given: list[Any] = []

    def keep(documents: Any) -> int:
        """Keeps what it is given."""
        given.append(documents)
        return len(documents)

    code = "keep(context)\nkeep(context[1:])\nkeep(context[0])\nkeep(list(context)[:2])\nFINAL(1)"
    run(make_rlm(ScriptedModel([cell(code)] * 2), tools=[keep]), "root", lazy)
    many, part, one, listed = given[:4]
    assert (many, part) == (lazy.value, lazy.value[1:])
    assert isinstance(one, StoredDocument)
    assert one == lazy.value[0]
    assert isinstance(listed, StoredDocuments)
    assert listed.numbers == (0, 1) or listed.numbers == range(2)


def test_a_list_of_nothing_but_documents_is_a_batch(run: Run, make_rlm: Callable[..., RLM], lazy: Context) -> None:
    def reply(messages: Sequence[Message]) -> str:
        if len(messages) == 1:
            return f"read {messages[0].content[:10]}"
        if "Question: root" in messages[1].content:
            return cell(
                "print(llm_query_batched([doc for doc in context[3:]]), llm_query_batched(context[3:]))\n"
                "print(rlm_query_batched('which?', list(context[2:])), rlm_query_batched('which?', context[:1]))\n"
                "print(rlm_query_batched(context[3:], ['a', 'b']))\nFINAL(1)"
            )
        return cell("FINAL(getattr(context, 'id', context))")

    said = printed(run(make_rlm(ScriptedModel(reply), max_iterations=1), "root", lazy))[0]
    pair = "['read name,port', 'read The releas']"
    assert said.startswith(f"{pair} {pair}\n['b/grüße.txt', 'c.csv', 'd.html'] ['a.txt']\n['a', 'b']\n")


def test_a_batch_of_more_text_than_prompts_take_is_refused(
    run: Run, make_rlm: Callable[..., RLM], lazy: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_integrations.engine.sub_calls.MAX_PROMPT_CHARS", 1_000)
    calls = [
        "llm_query_batched(context)",
        "llm_query(context[0])",
        "rlm_query('q', context[0])",
        "rlm_query(context[0])",
    ]
    code = "for call in (" + ", ".join(f"lambda: {call}" for call in calls) + "):\n"
    code += "    try:\n        call()\n    except RuntimeError as error:\n        print(error)"
    model = ScriptedModel([cell(code), ANSWER])
    many, *single = printed(run(make_rlm(model, max_depth=0), "root", lazy))[0].splitlines()
    assert "these 5 documents have 114,137 characters in all, and prompts at most 1,000" in many
    for line, name in zip(single, ("prompt", "context", "query"), strict=True):
        assert f"the {name} has 105,041 characters, and one prompt takes at most 1,000" in line
    assert len(model.calls) == 2


def test_the_facts_of_a_long_document_are_found_in_a_thread(
    make_rlm: Callable[..., RLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.txt").write_text("word " * 300_000)
    context = Context.from_files(tmp_path, lazy=True)
    threads = []
    add = Digest.add

    def noted(self: Digest, id: str, text: str) -> None:
        threads.append(threading.current_thread())
        add(self, id, text)

    monkeypatch.setattr(Digest, "add", noted)
    model = ScriptedModel([cell("print(rlm_query('how long?', context[0]))"), cell("FINAL(len(context))"), ANSWER])
    result = asyncio.run(make_rlm(model, max_iterations=1).arun("root", context))
    assert printed(result)[0] == "1500000\n"
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_documents_among_other_values_are_refused_with_what_to_do(
    run: Run, make_rlm: Callable[..., RLM], lazy: Context
) -> None:
    model = ScriptedModel([cell("rlm_query('q', [context[:2], 'x'])"), cell("llm_query(context)"), ANSWER, ANSWER])
    listed, bare = printed(run(make_rlm(model), "root", lazy))[:2]
    assert "context[0] is 2 documents on disk, which go by themselves" in listed
    assert "pass one slice of them" in listed
    assert "prompt must be a str, not 5 documents" in bare


def test_such_a_context_is_never_written_into_a_saved_run(
    make_rlm: Callable[..., RLM], lazy: Context, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("an earlier run")
    with pytest.raises(InvalidInput, match="include_context=True would write all documents"):
        make_rlm(ScriptedModel([ANSWER])).run("q", lazy, save=path, include_context=True)
    assert path.read_text() == "an earlier run"
    with pytest.raises(InvalidInput, match="include_context=True would write all documents"):
        Trajectory([], context=lazy).save(path, include_context=True)
    assert path.read_text() == "an earlier run"


def test_a_run_is_not_saved_over_one_of_the_documents(
    make_rlm: Callable[..., RLM], lazy: Context, folder: Path
) -> None:
    with pytest.raises(InvalidInput, match="is one of the documents"):
        make_rlm(ScriptedModel([ANSWER])).run("q", lazy, save=folder / "c.csv")
    assert (folder / "c.csv").read_text().startswith("name,port")


def test_a_saved_run_goes_on_over_documents_on_disk_and_is_replayed_over_them(
    make_rlm: Callable[..., RLM], lazy: Context, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(BudgetExceeded):
        make_rlm(ScriptedModel([LOOK, ANSWER]), budget=Budget(max_calls=1), on_exhausted="raise").run(
            "Which port?", Context.from_files(folder, lazy=True), save=path
        )
    model = ScriptedModel([ANSWER])
    result = make_rlm(model).resume(path, lazy)
    assert (result.answer, len(model.calls)) == ("8443", 1)
    assert make_rlm(ScriptedModel([])).replay(path, lazy).citations == result.citations


def test_the_page_of_a_run_shows_what_was_cited(make_rlm: Callable[..., RLM], lazy: Context, eager: Context) -> None:
    trajectory = make_rlm(ScriptedModel([LOOK, ANSWER])).run("Which port?", lazy).trajectory
    assert render_page(trajectory, lazy) == render_page(trajectory, eager)


def test_a_run_tells_the_same_facts_as_in_memory(run: Run, make_rlm: Callable[..., RLM], lazy: Context) -> None:
    result = run(make_rlm(ScriptedModel([LOOK, ANSWER])), "Which port?", lazy)
    [start] = [event for event in result.trajectory if isinstance(event, RunStarted)]
    assert start.context == lazy.summary
    assert len(json.dumps([repr(event) for event in result.trajectory])) < 20_000
