"""A saved run goes on from wherever it ended, and what was answered is not paid for again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, Budget, BudgetExceeded, InvalidInput, Message, ModelError, Reply, TurnsExhausted
from rlm_integrations.events import CellEnded, ModelCallEnded, ModelCallStarted, RunResumed
from rlm_integrations.result import RLMResult
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory
from tests.again import ANSWER, CALLS, CONTEXT, QUERY, lines, say
from tests.scripts import cell, events

Resume = Callable[..., RLMResult]


@pytest.fixture(params=["sync", "async"])
def resume(request: pytest.FixtureRequest) -> Resume:
    """Resumes a run in one way and in the other."""
    if request.param == "sync":
        return lambda rlm, *args, **options: rlm.resume(*args, **options)
    return lambda rlm, *args, **options: asyncio.run(rlm.aresume(*args, **options))


@pytest.fixture
def whole(tmp_path: Path, make_rlm: Any) -> Path:
    """The file of a run that came to its answer."""
    path = tmp_path / "whole.jsonl"
    model = ScriptedModel(say, usd_per_token=1e-6)
    assert make_rlm(model, max_parallel=1).run(QUERY, CONTEXT, save=path).answer == ANSWER
    assert len(model.calls) == CALLS
    return path


def answered(path: Path) -> int:
    """How many replies a file holds."""
    return sum(isinstance(event, ModelCallEnded) for event in Trajectory.load(path))


@pytest.mark.parametrize("how", ["at a line", "in a line"])
def test_a_file_cut_off_anywhere_goes_on_without_a_call_made_twice(
    how: str, whole: Path, tmp_path: Path, make_rlm: Any
) -> None:
    told = Trajectory.load(whole)
    path = tmp_path / "cut.jsonl"
    for count in range(2, len(lines(whole))):
        kept = lines(whole)
        path.write_bytes(b"".join(kept[:count]) + (kept[count][:40] if how == "in a line" else b""))
        before = answered(path)
        model = ScriptedModel(say, usd_per_token=1e-6)
        result = make_rlm(model, max_parallel=1).resume(path, CONTEXT)
        assert (result.answer, result.parted) == (ANSWER, None), count
        assert len(model.calls) == CALLS - before, count
        assert result.usage.calls == CALLS, count
        again = Trajectory.load(path)
        assert not again.cut
        assert [type(event) for event in again].count(RunResumed) == 1
        ids = [event.id for event in again if isinstance(event, ModelCallEnded)]
        assert len(ids) == len(set(ids)) == CALLS
        # The file reads as the one tree that it is.
        assert make_rlm(ScriptedModel([])).replay(again, CONTEXT).answer == ANSWER
        root = events(result, "run_started")[0].id
        assert root == told[0].id == again[-1].id


def test_a_run_that_has_its_answer_is_returned_as_it_is(resume: Resume, whole: Path, make_rlm: Any) -> None:
    before = whole.read_bytes()
    model = ScriptedModel([])
    result = resume(make_rlm(model), whole)
    assert (result.answer, result.status, result.usage.calls) == (ANSWER, "complete", CALLS)
    assert not model.calls
    assert whole.read_bytes() == before


def test_a_complete_answer_comes_back_as_the_type_that_is_asked_for(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    rlm = make_rlm(ScriptedModel([cell("FINAL([len(context), 2])")]), output_type=tuple[int, int])
    assert rlm.run("q", "x" * 9, save=path).answer == (9, 2)
    assert rlm.resume(path).answer == (9, 2)
    with pytest.raises(InvalidInput, match="output_type"):
        make_rlm(ScriptedModel([]), output_type=bool).resume(path)


def test_a_failed_run_goes_on_with_a_new_call_in_place_of_the_failed(
    resume: Resume, tmp_path: Path, make_rlm: Any
) -> None:
    path = tmp_path / "run.jsonl"
    calls = 0

    def fail_at_the_sixth(messages: Sequence[Message]) -> str:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise ModelError("the server is down", model="scripted")
        return say(messages)

    with pytest.raises(ModelError):
        make_rlm(ScriptedModel(fail_at_the_sixth), max_parallel=1).run(QUERY, CONTEXT, save=path)
    model = ScriptedModel(say)
    result = resume(make_rlm(model), path, CONTEXT)
    assert (result.answer, len(model.calls), result.usage.calls) == (ANSWER, CALLS - 5, CALLS)
    ids = [event.id for event in Trajectory.load(path) if isinstance(event, ModelCallStarted)]
    assert len(ids) == len(set(ids)) == CALLS + 1


def test_a_run_goes_on_with_a_larger_budget_and_only_with_one(resume: Resume, tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    rlm = make_rlm(ScriptedModel(say), max_parallel=1, budget=Budget(max_calls=6), on_exhausted="raise")
    with pytest.raises(BudgetExceeded):
        rlm.run(QUERY, CONTEXT, save=path)
    model = ScriptedModel(say)
    with pytest.raises(BudgetExceeded, match=r"raise Budget\(max_calls") as caught:
        resume(make_rlm(model, max_parallel=1, budget=Budget(max_calls=6), on_exhausted="raise"), path, CONTEXT)
    assert not model.calls
    assert caught.value.partial.usage.calls == 6
    rlm = make_rlm(model, max_parallel=1, on_exhausted="raise")
    result = resume(rlm, path, CONTEXT, budget=Budget(max_calls=CALLS))
    assert (result.answer, len(model.calls), result.usage.calls) == (ANSWER, CALLS - 6, CALLS)


def test_what_was_paid_before_counts_in_tokens_and_cost(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    stop = ModelError("down", model="scripted")
    first = ScriptedModel([Reply(cell("print(1)"), usage(900, 0.5)), stop])
    with pytest.raises(ModelError):
        make_rlm(first).run("q", CONTEXT, save=path)
    for budget in (Budget(max_tokens=1_000), Budget(max_cost_usd=0.5)):
        model = ScriptedModel([])
        with pytest.raises(BudgetExceeded):
            make_rlm(model, on_exhausted="raise").resume(path, CONTEXT, budget=budget)
        assert not model.calls


def usage(tokens: int, cost_usd: float) -> Any:
    from rlm_integrations import Usage

    return Usage(tokens, 0, 0, cost_usd)


def test_an_extracted_run_goes_on_with_more_turns(resume: Resume, tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    script = ScriptedModel([cell("print(1)"), cell("print(2)"), cell("FINAL('a guess')")])
    assert make_rlm(script, max_iterations=2).run("q", CONTEXT, save=path).status == "extracted"
    # As it stands there is nothing to be done, and nothing to pay.
    again = resume(make_rlm(ScriptedModel([]), max_iterations=2), path, CONTEXT)
    assert (again.answer, again.status) == ("a guess", "extracted")
    model = ScriptedModel([cell("FINAL(len(context))")])
    result = resume(make_rlm(model), path, CONTEXT)
    assert (result.answer, result.status) == (str(len(CONTEXT)), "complete")
    assert len(model.calls) == 1
    assert result.usage.calls == 4
    assert Trajectory.load(path)[-1].usage == result.usage
    assert resume(make_rlm(ScriptedModel([])), path).answer == result.answer


def test_from_where_a_cell_gives_other_output_turns_are_asked_anew(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    weather = iter(["rain", "sun"])

    def look() -> str:
        return next(weather)

    script: list[Any] = [
        cell("print(look())\nnote = llm_query('about it')"),
        cell("print(note)"),
        cell("print(llm_query('more'))"),
        ModelError("down", model="scripted"),
    ]
    script[1:1] = ["a note"]
    script[4:4] = ["more of it"]
    with pytest.raises(ModelError):
        make_rlm(ScriptedModel(script), tools=[look]).run("q", CONTEXT, save=path)
    model = ScriptedModel([cell("x = llm_query('more')\nprint(x)"), cell("FINAL(note + x)")])
    result = make_rlm(model, tools=[look]).resume(path, CONTEXT)
    assert result.answer == "a notemore of it"
    # Both sub-calls are from the record, although one is made in another cell now.
    assert len(model.calls) == 2
    parted = result.parted
    assert (parted.turn, parted.recorded.strip(), parted.found.strip()) == (1, "rain", "sun")
    # Five replies were paid for before, two of which were of no use.
    assert result.usage.calls == 7
    weather = iter(["sun"])
    replayed = make_rlm(ScriptedModel([]), tools=[look]).replay(path, CONTEXT)
    assert (replayed.answer, replayed.turns, replayed.parted) == (result.answer, 3, None)


def test_what_was_paid_for_in_vain_counts_too(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    script = [*[cell(f"print({number})") for number in range(4)], ModelError("down", model="scripted")]
    with pytest.raises(ModelError):
        make_rlm(ScriptedModel(script)).run("q", CONTEXT, save=path)
    model = ScriptedModel([cell("print(1)"), cell("FINAL(len(context))")])
    rlm = make_rlm(model, instructions="Answer in French.", on_exhausted="raise")
    with pytest.raises(BudgetExceeded) as caught:
        rlm.resume(path, CONTEXT, budget=Budget(max_calls=6))
    # Five calls were made before, one of them without a reply.
    assert (len(model.calls), caught.value.partial.usage.calls) == (1, 5)


def test_another_prompt_is_said_and_all_turns_are_asked_anew(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    first = ScriptedModel([cell("print(1)"), ModelError("down", model="scripted")])
    with pytest.raises(ModelError):
        make_rlm(first).run("q", CONTEXT, save=path)
    model = ScriptedModel([cell("print(1)"), cell("FINAL(len(context))")])
    result = make_rlm(model, instructions="Answer in French.").resume(path, CONTEXT)
    assert result.parted.turn == 0
    assert "French" in result.parted.found
    assert "French" not in result.parted.recorded
    assert len(model.calls) == 2
    assert make_rlm(ScriptedModel([])).replay(path, CONTEXT).answer == result.answer


def test_a_failed_sub_call_that_its_cell_went_on_from_stays_failed(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    refused, down = ModelError("refused", model="scripted"), ModelError("down", model="scripted")
    script = [cell("print(llm_query_batched(['a', 'b']))"), "re a", refused, cell("print(2)"), down]
    with pytest.raises(ModelError):
        make_rlm(ScriptedModel(script), max_parallel=1).run("q", CONTEXT, save=path)
    model = ScriptedModel([cell("FINAL(len(context))")])
    result = make_rlm(model, max_parallel=1).resume(path, CONTEXT)
    assert (len(model.calls), result.parted) == (1, None)


def test_a_run_that_was_cancelled_goes_on(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    stream = make_rlm(ScriptedModel(say), max_parallel=1).stream(QUERY, CONTEXT, save=path)
    for event in stream:
        if isinstance(event, CellEnded):
            break
    stream.close()
    before = answered(path)
    model = ScriptedModel(say)
    assert make_rlm(model, max_parallel=1).resume(path, CONTEXT).answer == ANSWER
    assert len(model.calls) == CALLS - before


def test_the_context_comes_from_the_file_where_it_was_kept(resume: Resume, tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    script = ScriptedModel([cell("print(1)"), ModelError("down", model="scripted")])
    with pytest.raises(ModelError):
        make_rlm(script).run("q", CONTEXT, save=path, include_context=True)
    model = ScriptedModel([cell("FINAL(len(context))")])
    assert resume(make_rlm(model), path).answer == str(len(CONTEXT))


@pytest.mark.parametrize(
    ("context", "told"),
    [(None, "does not hold the context"), ("another text", "not that of the record"), ("", "empty")],
)
def test_a_missing_or_another_context_is_refused_and_the_file_stays(
    context: Any, told: str, tmp_path: Path, whole: Path, make_rlm: Any
) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"".join(lines(whole)[:-3]))
    before = path.read_bytes()
    model = ScriptedModel([])
    with pytest.raises(InvalidInput, match=told):
        make_rlm(model).resume(path, context)
    assert (path.read_bytes(), model.calls) == (before, [])


@pytest.mark.parametrize("kept", [0, 1])
def test_a_file_without_a_run_is_refused(kept: int, tmp_path: Path, whole: Path, make_rlm: Any) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"".join(lines(whole)[:kept]))
    with pytest.raises(InvalidInput):
        make_rlm(ScriptedModel([])).resume(path, CONTEXT)
    with pytest.raises(InvalidInput):
        make_rlm(ScriptedModel([])).resume(tmp_path / "none.jsonl", CONTEXT)


def test_a_budget_and_observers_are_checked_before_the_file_is_touched(whole: Path, make_rlm: Any) -> None:
    with pytest.raises(InvalidInput, match="budget"):
        make_rlm(ScriptedModel([])).resume(whole, CONTEXT, budget=5)
    with pytest.raises(InvalidInput, match="observers"):
        make_rlm(ScriptedModel([])).resume(whole, CONTEXT, observers=[5])


def test_turns_that_run_out_again_leave_a_file_that_still_goes_on(tmp_path: Path, make_rlm: Any) -> None:
    path = tmp_path / "run.jsonl"
    cells = [cell(f"print({number})") for number in range(6)]
    options = {"max_iterations": 2, "on_exhausted": "raise"}
    with pytest.raises(TurnsExhausted):
        make_rlm(ScriptedModel(cells[:2]), **options).run("q", CONTEXT, save=path)
    with pytest.raises(TurnsExhausted):
        make_rlm(ScriptedModel(cells[2:4]), **options | {"max_iterations": 4}).resume(path, CONTEXT)
    model = ScriptedModel([cell("FINAL(len(context))")])
    result = make_rlm(model).resume(path, CONTEXT)
    assert (result.turns, len(model.calls), result.usage.calls) == (5, 1, 5)
    assert result.parted is None


class Server:
    """Answers as ``say`` does over HTTP, and holds request number ``held`` until the test is over."""

    def __init__(self) -> None:
        self.requests = 0
        self.held = 0
        self.holding, self.over = threading.Event(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests += 1
                if server.requests == server.held:
                    server.holding.set()
                    server.over.wait()
                    return
                reply = say([Message(**message) for message in body]).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(socket_enabled: None) -> Iterator[Server]:
    local = Server()
    yield local
    local.close()


# A process that answers the question, or goes on with it, on the server in its first argument.
PROCESS = """
import json, sys, urllib.request
from dataclasses import asdict
from rlm_integrations import RLM, Reply
from tests.again import CONTEXT, QUERY

class Model:
    name = "served"
    def complete(self, messages, **options):
        body = json.dumps([asdict(message) for message in messages]).encode()
        with urllib.request.urlopen(sys.argv[1], body) as reply:
            return Reply(reply.read().decode())
    async def acomplete(self, messages, **options):
        raise NotImplementedError

rlm = RLM(Model(), max_parallel=1)
path, how = sys.argv[2:]
result = rlm.run(QUERY, CONTEXT, save=path) if how == "run" else rlm.resume(path, CONTEXT)
print(result.answer)
"""


@pytest.mark.parametrize("held", range(1, CALLS + 1))
def test_a_process_killed_at_any_call_has_only_that_one_to_pay_for_again(
    held: int, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    start = [sys.executable, "-c", PROCESS, server.url, str(path)]
    where = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(where)}
    server.held = held
    with subprocess.Popen([*start, "run"], env=environment, cwd=where) as process:
        assert server.holding.wait(60)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert answered(path) == held - 1
    ended = subprocess.run([*start, "resume"], env=environment, cwd=where, capture_output=True, text=True, check=True)
    assert ended.stdout == ANSWER + "\n"
    assert server.requests == CALLS + 1
    assert RLM(ScriptedModel([])).resume(path).usage.calls == CALLS
