"""Sessions that have to wait for room: told to everyone who listens, and no sandbox has to know of it."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, Budget, BudgetExceeded, Message, Reply, SessionWaiting, Trajectory
from rlm_integrations.cli.narrator import Narrator
from rlm_integrations.engine.effects import calling_session
from rlm_integrations.page.data import page_data
from rlm_integrations.ports import CellOutput, IsolationReport, Resume, Run, Session, SubCall
from rlm_integrations.progress import Progress
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell

REASON = "the hall is full"
ANSWER = cell("FINAL(len(context) * 2)")


class Queued:
    """A session of a ``ProcessSandbox`` that has room once it was waited for."""

    def __init__(self, session: Session, needed_s: float) -> None:
        self._session, self._needed_s = session, needed_s
        self.waiting: str | None = REASON
        self.limits: list[float | None] = []

    def settle(self, limit_s: float | None) -> None:
        threading.Event().wait(self._pause_s(limit_s))

    async def asettle(self, limit_s: float | None) -> None:
        await asyncio.sleep(self._pause_s(limit_s))

    def _pause_s(self, limit_s: float | None) -> float:
        self.limits.append(limit_s)
        if limit_s is not None and limit_s < self._needed_s:
            return limit_s
        self.waiting = None
        return self._needed_s

    def advance(self, step: Run | Resume) -> SubCall | CellOutput:
        assert self.waiting is None or isinstance(step, Resume)
        return self._session.advance(step)

    async def aadvance(self, step: Run | Resume) -> SubCall | CellOutput:
        assert self.waiting is None or isinstance(step, Resume)
        return await self._session.aadvance(step)

    def close(self) -> None:
        self._session.close()


class Hall:
    """A sandbox whose sessions wait; ``below`` are the sessions below which others were opened."""

    def __init__(self, sandbox: ProcessSandbox, needed_s: float = 0.0) -> None:
        self._sandbox, self._needed_s = sandbox, needed_s
        self.sessions: list[Queued] = []
        self.below: list[Session] = []

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Queued:
        self.sessions.append(Queued(self._sandbox.open(variables, functions), self._needed_s))
        return self.sessions[-1]

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Queued:
        return self.open(variables, functions)

    def open_below(self, below: Session, variables: Mapping[str, Any], functions: Sequence[str]) -> Queued:
        self.below.append(below)
        return self.open(variables, functions)

    async def aopen_below(self, below: Session, variables: Mapping[str, Any], functions: Sequence[str]) -> Queued:
        return self.open_below(below, variables, functions)

    def report(self) -> IsolationReport:
        return self._sandbox.report()


def test_a_run_says_that_it_waits_and_why_before_its_first_cell(run: Any, sandbox: ProcessSandbox) -> None:
    hall = Hall(sandbox)
    result = run(RLM(ScriptedModel([ANSWER]), sandbox=hall), "How long?", "four")
    assert result.answer == "8"
    kinds = [event.kind for event in result.trajectory]
    assert kinds[:3] == ["run_started", "session_waiting", "model_call_started"]
    assert kinds.count("session_waiting") == 1
    waiting = result.trajectory[1]
    assert (waiting.parent_id, waiting.reason) == (result.run_id, REASON)
    assert hall.sessions[0].limits == [None]


def test_waiting_ends_with_the_time_of_the_budget(run: Any, sandbox: ProcessSandbox) -> None:
    hall = Hall(sandbox, needed_s=100)
    rlm = RLM(ScriptedModel([ANSWER]), sandbox=hall, budget=Budget(max_seconds=0.2))
    with pytest.raises(BudgetExceeded, match="max_seconds"):
        run(rlm, "How long?", "four")
    first = hall.sessions[0].limits[0]
    assert first is not None
    assert 0 < first <= 0.2


def test_a_session_that_has_lost_its_room_is_waited_for_before_the_next_cell(run: Any, sandbox: ProcessSandbox) -> None:
    hall = Hall(sandbox)

    def evict() -> None:
        hall.sessions[0].waiting = "moved out"

    model = ScriptedModel([cell("evict()\nprint('out')"), ANSWER])
    result = run(RLM(model, sandbox=hall, tools=[evict]), "How long?", "four")
    assert result.answer == "8"
    told = [event.reason for event in result.trajectory if isinstance(event, SessionWaiting)]
    assert told == [REASON, "moved out"]


def test_a_sandbox_is_told_below_which_session_that_of_a_child_run_stands(run: Any, sandbox: ProcessSandbox) -> None:
    def reply(messages: Sequence[Message]) -> str:
        asked = messages[1].content
        if "leaf?" in asked:
            return ANSWER
        below = "leaf?" if "child?" in asked else "child?"
        return cell(f"FINAL(rlm_query('{below}', context))")

    hall = Hall(sandbox)
    result = run(RLM(ScriptedModel(reply), sandbox=hall, max_depth=2), "root?", "four")
    assert result.answer == "8"
    assert hall.below == hall.sessions[:2]


def test_a_sandbox_is_told_below_which_session_the_run_of_a_tool_stands(run: Any, sandbox: ProcessSandbox) -> None:
    hall = Hall(sandbox)
    inner = RLM(ScriptedModel([ANSWER]), sandbox=hall)

    def measure(text: str) -> int:
        return int(inner.completion("How long?", text))

    rlm = RLM(ScriptedModel([cell("FINAL(measure(context) + 1)")]), sandbox=hall, tools=[measure])
    assert run(rlm, "root?", "four").answer == "9"
    assert hall.below == [hall.sessions[0]]
    assert calling_session.get() is None


@pytest.mark.parametrize("asked", ["for a turn", "by a cell"])
def test_a_sandbox_is_told_below_which_session_the_run_of_a_model_stands(
    run: Any, sandbox: ProcessSandbox, asked: str
) -> None:
    class Inner:
        name = "inner"

        def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
            return Reply(self._said(inner.completion("How long?", "four")))

        async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
            return Reply(self._said(await inner.acompletion("How long?", "four")))

        def _said(self, answer: str) -> str:
            return cell(f"FINAL(len(context) + {answer} - 3)") if asked == "for a turn" else answer

    hall = Hall(sandbox)
    inner = RLM(ScriptedModel([ANSWER]), sandbox=hall)
    model = Inner() if asked == "for a turn" else ScriptedModel([cell("FINAL(int(llm_query('How long?')) + 1)")])
    rlm = RLM(model, recursive_model=Inner(), sandbox=hall)
    assert run(rlm, "root?", "four").answer == "9"
    assert hall.below == [hall.sessions[0]]
    assert calling_session.get() is None


def test_a_task_that_a_tool_leaves_behind_keeps_no_session(sandbox: ProcessSandbox) -> None:
    hall = Hall(sandbox)
    inner = RLM(ScriptedModel([ANSWER]), sandbox=hall)

    async def ask() -> Any:
        over, tasks = asyncio.Event(), list[asyncio.Task[Any]]()

        async def later() -> Any:
            await over.wait()
            return await inner.acompletion("How long?", "four")

        async def begin() -> int:
            tasks.append(asyncio.create_task(later()))
            return 9

        rlm = RLM(ScriptedModel([cell("FINAL(begin())")]), sandbox=hall, tools=[begin])
        await rlm.acompletion("root?", "four")
        over.set()
        return await tasks[0]

    assert asyncio.run(ask()) == "8"
    assert hall.below == []


def test_all_who_are_told_of_a_run_are_told_that_it_waits(sandbox: ProcessSandbox, tmp_path: Path) -> None:
    shown, path = io.StringIO(), tmp_path / "run.jsonl"
    with Progress(stream=shown) as progress:
        rlm = RLM(ScriptedModel([ANSWER]), sandbox=Hall(sandbox), observers=[progress])
        result = rlm.run("How long?", "four", save=path)
    assert f"How long?: waits for room: {REASON}\n" in shown.getvalue()
    narrator = Narrator()
    told = [entry for event in result.trajectory for entry in narrator.tell(event)]
    assert ("note", "", f"waits for room: {REASON}") in [(entry.kind, entry.place, entry.title) for entry in told]
    assert [step["kind"] for step in page_data(result.trajectory, None)["steps"]] == ["run", "turn"]
    loaded = Trajectory.load(path)
    assert loaded == result.trajectory
    assert isinstance(loaded[1], SessionWaiting)
    assert rlm.replay(path, "four").answer == "8"
