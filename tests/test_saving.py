"""A run is in its file as soon as it happens, whatever happens to the run, and no key is."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rlm_integrations import RLM, Context, Document, InvalidInput, Message, ModelError, Trajectory
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saved_run import context_line
from rlm_integrations.saving import Saver
from rlm_integrations.testing import ScriptedModel
from tests.openai_server import OpenAIServer, Refused
from tests.scripts import by_role, cell

KEY = "sk-hunter2hunter2"
TURNS = [cell("print(context[:5])"), cell("print(llm_query('hi'))"), cell("FINAL(len(context))")]


def model() -> ScriptedModel:
    """Three turns and a sub-call."""
    return ScriptedModel(by_role(TURNS, lambda prompt: f"said: {prompt}"))


@pytest.fixture(params=["run", "arun", "stream", "astream", "completion", "acompletion"])
def save(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``save(rlm, query, context, **saving)`` by each way to ask."""

    async def read(events: Any) -> None:
        async for _ in events:
            pass

    def ask(rlm: RLM, *args: Any, **saving: Any) -> None:
        asked = getattr(rlm, request.param)(*args, **saving)
        match request.param:
            case "arun" | "acompletion":
                asyncio.run(asked)
            case "stream":
                list(asked)
            case "astream":
                asyncio.run(read(asked))

    return ask


def test_a_run_is_saved_by_every_way_to_ask(make_rlm: Any, tmp_path: Path, save: Callable[..., None]) -> None:
    seen: list[Any] = []
    rlm = make_rlm(model(), observers=[seen.append])
    save(rlm, "q", "some text", save=tmp_path / "run.jsonl")
    loaded = Trajectory.load(tmp_path / "run.jsonl")
    assert loaded == Trajectory(seen)
    assert loaded.settings == RunSettings.of(rlm.settings)
    assert loaded.context is None


def test_the_context_is_saved_where_that_is_asked_for(make_rlm: Any, tmp_path: Path, save: Callable[..., None]) -> None:
    documents = [Document("some text", id="d", metadata={"page": 1})]
    save(make_rlm(model()), "q", documents, save=str(tmp_path / "run.jsonl"), include_context=True)
    loaded = Trajectory.load(tmp_path / "run.jsonl")
    assert loaded.context is not None
    assert [(item, item.id, item.metadata) for item in loaded.context.value] == [("some text", "d", {"page": 1})]


def test_saved_at_once_and_saved_at_the_end_is_the_same_file(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    result = make_rlm(model()).run("q", "some text", save=tmp_path / "one", include_context=True)
    result.save(tmp_path / "two", include_context=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_each_event_is_in_the_file_when_observers_hear_of_it(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    path, heard, found = tmp_path / "run.jsonl", [], []

    def observer(event: Any) -> None:
        heard.append(event)
        found.append(list(Trajectory.load(path)) == heard)

    make_rlm(model(), observers=[observer]).run("q", "some text", save=path)
    assert found == [True] * len(heard)
    assert len(heard) == 16


def test_an_observer_that_is_empty_hears_too(run: Any, make_rlm: Any) -> None:
    class Heard(list[Any]):
        __call__ = list.append

    heard = Heard()
    assert list(run(make_rlm(model(), observers=[heard]), "q", "text").trajectory) == heard


KILLED = """
import os, signal, sys
from rlm_integrations import RLM
from rlm_integrations.testing import ScriptedModel

def reply(messages):
    turn = sum(message.role == "assistant" for message in messages)
    if turn == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"```python\\nprint({turn})\\n```"

RLM(ScriptedModel(reply)).run("q", "text", save=sys.argv[1])
"""


@pytest.mark.parametrize("turn", [0, 2])
def test_what_a_killed_process_did_is_in_its_file(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "run.jsonl"
    ended = subprocess.run([sys.executable, "-c", KILLED, path, str(turn)], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    done = ["model_call_started", "model_call_ended", "cell_started", "cell_ended"] * turn
    assert [event.kind for event in Trajectory.load(path)] == ["run_started", *done, "model_call_started"]


def test_a_failure_and_a_cancelled_stream_are_saved(make_rlm: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        make_rlm(ScriptedModel([TURNS[0]])).run("q", "text", save=tmp_path / "failed")
    events = make_rlm(model()).stream("q", "text", save=tmp_path / "cancelled")
    next(event for event in events if event.kind == "cell_ended")
    events.close()
    for name in ("failed", "cancelled"):
        assert Trajectory.load(tmp_path / name)[-1].kind == "run_failed"


def test_a_partial_result_can_be_saved_with_its_context(make_rlm: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        make_rlm(ScriptedModel([TURNS[0]])).run("q", "text")
    assert caught.value.partial is not None
    caught.value.partial.save(tmp_path / "run.jsonl", include_context=True)
    assert Trajectory.load(tmp_path / "run.jsonl").context is not None


@pytest.mark.parametrize("name", ["missing/run.jsonl", "", "nul\0"])
def test_a_file_that_can_not_be_written_is_refused_before_any_call(
    make_rlm: Any, tmp_path: Path, save: Callable[..., None], name: str
) -> None:
    scripted = model()
    with pytest.raises(InvalidInput, match="can't be saved to"):
        save(make_rlm(scripted), "q", "text", save=f"{tmp_path}/{name}")
    assert scripted.calls == []


@pytest.mark.parametrize("saving", [{"save": 3}, {"save": b"run.jsonl"}, {"include_context": True}])
def test_a_setting_of_saving_that_can_not_be_used_is_refused(make_rlm: Any, saving: Any) -> None:
    scripted = model()
    with pytest.raises(InvalidInput, match="save="):
        make_rlm(scripted).run("q", "text", **saving)
    assert scripted.calls == []


class Keyless(ScriptedModel):
    """A model that can't be called."""

    def check(self) -> None:
        raise ModelError("no key", model=self.name)

    async def acheck(self) -> None:
        self.check()


def test_what_a_file_held_is_kept_until_the_run_begins(
    make_rlm: Any, tmp_path: Path, save: Callable[..., None]
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("an earlier run")
    with pytest.raises(ModelError):
        save(make_rlm(Keyless(TURNS)), "q", "text", save=path)
    with pytest.raises(InvalidInput):
        save(make_rlm(model()), "q", "", save=path)
    assert path.read_text() == "an earlier run"
    save(make_rlm(model()), "q", "text", save=path)
    assert len(Trajectory.load(path)) == 16


@pytest.mark.parametrize("key", ["path", "source", "file_path"])
def test_a_run_does_not_overwrite_one_of_its_documents(make_rlm: Any, tmp_path: Path, key: str) -> None:
    (tmp_path / "report.txt").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "report.txt")
    sources = ["https://example.org/report", "no such file", "nul\0", 3, str(tmp_path / "link")]
    documents = [Document("text", metadata={key: source}) for source in sources]
    scripted = model()
    with pytest.raises(InvalidInput, match="is one of the documents"):
        make_rlm(scripted).run("q", documents, save=tmp_path / "report.txt")
    assert scripted.calls == []
    assert (tmp_path / "report.txt").read_text() == "text"


def test_a_disk_that_gets_full_is_logged_once_and_stops_no_run(
    run: Any, make_rlm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Saver("/dev/full")
    assert make_rlm(model()).run("q", "some text", save=saver).answer == "9"
    assert [record.getMessage() for record in caplog.records] == [
        "the run goes on, but '/dev/full' is not complete: No space left on device"
    ]
    assert saver.error is not None
    assert saver.error.errno == errno.ENOSPC


FULL_LATER = """
import resource, sys
from rlm_integrations import RLM
from rlm_integrations.testing import ScriptedModel

turns = ["print('x' * 3000)", "print('y' * 3000)", "FINAL(len(context))"]
rlm = RLM(ScriptedModel([f"```python\\n{turn}\\n```" for turn in turns]))
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
print(rlm.run("q", "text", save=sys.argv[1]).answer)
"""


def test_a_disk_that_gets_full_on_the_way_leaves_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    ended = subprocess.run([sys.executable, "-c", FULL_LATER, path], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "4\n", ended.stderr
    assert ended.stderr.count("is not complete: File too large") == 1
    loaded = Trajectory.load(path)
    assert loaded.cut
    assert "cell_ended" in [event.kind for event in loaded]


def test_many_threads_write_whole_lines(make_rlm: Any, tmp_path: Path) -> None:
    turns = [cell(f"llm_query_batched(['{'x' * 9_000} %d' % i for i in range(100)])"), cell("FINAL(len(context))")]
    rlm = make_rlm(ScriptedModel(by_role(turns, lambda prompt: prompt)), max_parallel=16)
    result = rlm.run("q", "some text", save=tmp_path / "run.jsonl")
    # In what order they tell of things that happen at the same time is up to them.
    assert set(map(str, Trajectory.load(tmp_path / "run.jsonl"))) == set(map(str, result.trajectory))


def test_runs_that_fail_or_are_cancelled_leave_no_file_open(make_rlm: Any, tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.exists(link) and str(tmp_path) in os.readlink(link)]

    async def cancelled() -> None:
        task = asyncio.ensure_future(make_rlm(model()).arun("q", "text", save=tmp_path / "one"))
        while not (tmp_path / "one").exists():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(5):
        asyncio.run(cancelled())
        (tmp_path / "one").unlink()
    with pytest.raises(ModelError):
        make_rlm(ScriptedModel([])).run("q", "text", save=tmp_path / "two")
    assert opened() == []


def test_a_file_that_was_closed_while_it_was_being_opened_is_closed_again(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "run.jsonl")
    saver.close()
    saver.begin(RunSettings("m", "m"), Context("text"))
    assert saver._file is None


def test_a_large_context_is_written_outside_of_the_event_loop(make_rlm: Any, tmp_path: Path) -> None:
    class Watched(Saver):
        threads: ClassVar[list[int]] = []

        def begin(self, settings: RunSettings, context: Context) -> None:
            self.threads.append(threading.get_ident())
            super().begin(settings, context)

    asyncio.run(make_rlm(model()).arun("q", "text", save=Watched(tmp_path / "run.jsonl", include_context=True)))
    assert len(Watched.threads) == 1
    assert Watched.threads != [threading.get_ident()]


def test_a_large_context_is_written_in_pieces_that_hold_no_thread_up_for_long() -> None:
    pieces = list(
        context_line(Context(["\0" * 1_000_000, *[Document("text", metadata={"n": n}) for n in range(9_000)]]))
    )
    assert max(map(len, pieces)) < 2_000_000
    assert len(json.loads(b"".join(pieces))["documents"]) == 9_000


def test_going_on_appends_after_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for cut in (b"", b"{", b"x" * 200_000):
        path.write_bytes(b'{"rlm_trajectory": 2}\n' + cut)
        saver = Saver(path, go_on_at=len(b'{"rlm_trajectory": 2}\n'))
        assert path.read_bytes().endswith(cut or b"\n")
        saver.begin(RunSettings("m", "m"), Context("text"))
        saver.close()
        assert path.read_bytes() == b'{"rlm_trajectory": 2}\n'


def test_what_another_run_wrote_meanwhile_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for held, read in ((b"{}\n{}\n", 3), (b"{}\n", 6)):
        path.write_bytes(held)
        with pytest.raises(InvalidInput, match="by another run just now"):
            Saver(path, go_on_at=read).begin(RunSettings("m", "m"), Context("text"))
        assert path.read_bytes() == held


@pytest.mark.skipif(sys.platform == "win32", reason="needs fcntl")
def test_a_second_run_is_refused_the_file_of_one_that_goes_on(make_rlm: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    told: list[str] = []

    def meanwhile(messages: Sequence[Message]) -> str:
        if not told:
            told.append("")
            for again in (lambda: rlm.run("q", "text", save=path), lambda: rlm.resume(path, "text")):
                with pytest.raises(InvalidInput, match="another run is being saved") as caught:
                    again()
                told.append(str(caught.value))
        return TURNS[sum(message.role == "assistant" for message in messages)]

    rlm = make_rlm(ScriptedModel(meanwhile))
    result = rlm.run("q", "text", save=path)
    assert len(told) == 3
    assert Trajectory.load(path) == result.trajectory
    # Then it is free, and any number may write to a device.
    assert rlm.run("q", "text", save=path).answer == result.answer
    savers = [Saver(os.devnull), Saver(os.devnull)]
    for saver in savers:
        saver.begin(RunSettings("m", "m"), Context("text"))
    for saver in savers:
        saver.close()
        assert saver.error is None


def test_a_file_is_free_again_although_a_process_that_was_forked_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    saver = Saver(path)
    saver.begin(RunSettings("m", "m"), Context("text"))
    assert saver._file is not None
    other = os.dup(saver._file.fileno())  # what a fork does
    saver.close()
    second = Saver(path)
    second.begin(RunSettings("m", "m"), Context("text"))
    second.close()
    os.close(other)


def test_a_stream_that_is_closed_leaves_a_file_that_is_ended_and_free(make_rlm: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for _ in range(5):
        events = make_rlm(model()).stream("q", "text", save=path)
        next(event for event in events if event.kind == "cell_ended")
        events.close()
        assert Trajectory.load(path)[-1].kind == "run_failed"


@pytest.fixture
def echo(socket_enabled: None) -> Iterator[OpenAIServer]:
    """A server that refuses every sub-call and says with which key it was asked."""

    def answer(messages: Sequence[dict[str, Any]]) -> str:
        if messages[0]["role"] != "system":
            raise Refused(401, message=f"Incorrect API key provided: {KEY}")
        if len(messages) > 2:
            raise Refused(400, message=f"the key {KEY} is used up")
        return cell(
            "try:\n    llm_query('hi')\nexcept Exception as error:\n    print('it failed:', error)\n"
            "print(llm_query_batched(['a', 'b']))"
        )

    server = OpenAIServer(answer)
    yield server
    server.close()


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_a_key_that_a_server_echoes_is_in_no_file(
    make_rlm: Any, tmp_path: Path, echo: OpenAIServer, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY if given == "environment" else "another")
    settings = {"api_key": KEY} if given == "argument" else {}
    with pytest.raises(ModelError) as caught:
        make_rlm("openai/m", api_base=echo.url, **settings).run("q", "text", save=tmp_path / "one")
    assert caught.value.partial is not None
    caught.value.partial.save(tmp_path / "two")
    for name in ("one", "two"):
        text = (tmp_path / name).read_text()
        assert KEY not in text
        assert text.count("Incorrect API key provided: [key]") >= 3
        assert text.count("the key [key] is used up") == 2


def test_a_key_in_what_a_users_model_or_tool_raises_is_in_no_file(
    run: Any, make_rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", KEY)
    monkeypatch.setenv("SHORT_API_KEY", "error")
    turns = [
        cell(f"for ask in (look, lambda: {call}):\n try:\n  ask()\n except Exception as error:\n  print(error)")
        for call in ("llm_query('x')", "llm_query_batched(['x', 'y'])", "rlm_query('x', 'y')")
    ]

    def look() -> str:
        raise RuntimeError(f"an error with {KEY}")

    def sub_call(prompt: str) -> str:
        raise RuntimeError(f"an error with {KEY}")

    def script(messages: Sequence[Message]) -> str:
        return by_role([*turns, cell("llm_query_batched(['z', 'FINE'])"), cell("FINAL(1)")], sub_call)(messages)

    result = run(make_rlm(ScriptedModel(script), tools=[look], max_depth=0), "q", "text")
    result.save(tmp_path / "run.jsonl")
    text = (tmp_path / "run.jsonl").read_text()
    assert KEY not in text
    assert text.count("an error with [key]") >= 10
