"""The tree of a run as a list of steps, read from its events."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from rlm_integrations.context import ContextSummary
from rlm_integrations.engine.own_cells import holds
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Citation,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    TextDelta,
)
from rlm_integrations.messages import Message, Usage

__all__ = ["LOOK_UP", "Cell", "Step", "Steps"]

# A cell that the engine ran by itself.
LOOK_UP = "Look-up"
LOST = "no reply: the process ended that was waiting for it"


@dataclass(slots=True)
class Cell:
    """Code that was run; ``ended`` is None where nothing tells its end."""

    code: str
    started: float
    ended: float | None = None
    stdout: str = ""
    error: str | None = None


@dataclass(slots=True)
class Step:
    """A run, a turn with its cell, or a sub-call. Times are seconds of work since the first event.

    ``parent`` is the number of the step that made this one. ``state`` is "open" where nothing tells the end.
    """

    kind: Literal["run", "turn", "call"]
    parent: int | None
    started: float
    depth: int = 0
    name: str = ""
    model: str = ""
    ended: float | None = None
    state: Literal["open", "complete", "extracted", "failed"] = "open"
    error: str | None = None
    query: str = ""
    context: ContextSummary | None = None
    answer: Any = None
    citations: tuple[Citation, ...] = ()
    messages: tuple[Message, ...] = ()
    reply: str = ""
    usage: Usage | None = None
    source: str = "model"
    cell: Cell | None = None
    parted: ReplayParted | None = None
    turns: int = 0


@dataclass(slots=True)
class Steps:
    """All steps of a tree in the order they began, each after its parent. ``left_out`` counts those past the limit."""

    all: list[Step] = field(default_factory=list)
    left_out: int = 0
    resumed: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def read(cls, events: Iterable[Event], max_steps: int) -> Steps:
        """The steps that ``events`` tell of, whatever ids and times they have."""
        reader = _Reader(max_steps)
        for event in events:
            reader.take(event)
        return reader.steps


class _Reader:
    def __init__(self, max_steps: int) -> None:
        self.steps = Steps()
        self._max_steps = max_steps
        self._first: float | None = None
        self._pause = 0.0
        # By event id: a run's and a call's step, and the turn that a cell belongs to.
        self._numbers: dict[str, int] = {}
        self._last_turn: dict[str, int] = {}
        self._in_flight: dict[str, Step] = {}
        self._turns: dict[tuple[str, int], int] = {}
        self._named: Counter[tuple[int | None, str]] = Counter()

    def take(self, event: Event) -> None:
        """Add what ``event`` tells."""
        time = self._time(event)
        match event:
            case RunStarted(id=id, parent_id=parent_id):
                self._add(id, parent_id, Step("run", None, time, event.depth, "Run", event.model, query=event.query))
                self._at(id).context = event.context
            case RunEnded():
                step = self._at(event.id)
                step.answer, step.state, step.citations = event.answer, event.status, event.citations
                step.ended, step.error = time, None
            case RunFailed() | ModelCallFailed():
                self._in_flight.pop(event.id, None)
                self._fail(self._at(event.id), time, event.error)
            case RunResumed():
                step = self._at(event.id)
                step.state, step.ended, step.error = "open", None, None
                self.steps.resumed.append(time)
                # They are asked again, as calls of their own.
                for lost in self._in_flight.values():
                    self._fail(lost, time, LOST)
                self._in_flight.clear()
            case ReplayParted():
                self._at(event.parent_id).turns = event.turn
                number = self._turns.get((event.parent_id, event.turn), self._numbers.get(event.parent_id))
                if number is not None:
                    self.steps.all[number].parted = event
            case ModelCallStarted():
                self._start_call(event, time)
            case ModelCallEnded():
                self._in_flight.pop(event.id, None)
                step = self._at(event.id)
                step.reply, step.usage, step.source = event.text, event.usage, event.source
                step.ended, step.state, step.error = time, "complete", None
                if step.parent is not None and step.name.startswith("Turn "):
                    self.steps.all[step.parent].turns = step.turns
            case CellStarted():
                self._start_cell(event, time)
            case CellEnded():
                if cell := self._at(event.id).cell:
                    cell.ended, cell.stdout, cell.error = time, event.stdout, event.error
            case CellFailed():
                if cell := self._at(event.id).cell:
                    cell.ended, cell.error = time, event.error
            case TextDelta() | SessionWaiting():
                pass
            case _:
                assert_never(event)

    def _time(self, event: Event) -> float:
        """Seconds since the first event; the time between a run's end and its going on is not counted."""
        if not math.isfinite(event.time):
            return self.steps.seconds
        if self._first is None:
            self._first = event.time
        time = event.time - self._first - self._pause
        if isinstance(event, RunResumed):
            # Less than nothing, where another machine's clock is behind.
            self._pause += time - self.steps.seconds
            time = self.steps.seconds
        time = max(0.0, time)
        self.steps.seconds = max(self.steps.seconds, time)
        return time

    def _add(self, id: str, parent_id: str | None, step: Step) -> None:
        if id in self._numbers:
            return  # Told again by a run that went on.
        if len(self.steps.all) == self._max_steps:
            self.steps.left_out += 1
            return
        # Only what has begun before can be a parent, so the steps are a tree in any case.
        step.parent = self._numbers.get(parent_id or "")
        if step.parent is not None and step.kind != "turn":
            step.name = "Child run" if step.kind == "run" else step.name
            self._named[step.parent, step.name] += 1
            step.name += f" {self._named[step.parent, step.name]}"
        self._numbers[id] = len(self.steps.all)
        self.steps.all.append(step)

    def _at(self, id: str) -> Step:
        """The step of ``id``; one that nobody sees where there is none."""
        number = self._numbers.get(id)
        return Step("call", None, 0.0) if number is None else self.steps.all[number]

    def _fail(self, step: Step, time: float, error: str) -> None:
        step.ended, step.state, step.error = time, "failed", error

    def _start_call(self, event: ModelCallStarted, time: float) -> None:
        run = self._at(event.parent_id)
        step = Step("call", None, time, event.depth, model=event.model, messages=event.new_messages)
        match event.purpose:
            case "turn":
                # A call that failed is made again for the same turn.
                step.kind, step.turns = "turn", run.turns + 1
                step.name = f"Turn {step.turns}"
            case "extraction":
                step.kind, step.name = "turn", "Last call"
            case "answer":
                step.name = "Answer"
            case "sub-call":
                step.name = "Sub-call"
        self._add(event.id, event.parent_id, step)
        if event.id in self._numbers:
            self._in_flight[event.id] = self._at(event.id)
        if step.kind == "turn" and event.id in self._numbers:
            self._last_turn[event.parent_id] = self._numbers[event.id]
            self._turns[event.parent_id, step.turns] = self._numbers[event.id]

    def _start_cell(self, event: CellStarted, time: float) -> None:
        if event.id in self._numbers or len(self.steps.all) == self._max_steps:
            return  # A cell is part of a turn, which was counted.
        number = self._last_turn.get(event.parent_id)
        turn = None if number is None else self.steps.all[number]
        if number is None or turn is None or turn.cell or (turn.usage and not holds(turn.reply, event.code)):
            name = "Cell" if turn is None else LOOK_UP
            parent = self._at(event.parent_id)
            self._add(event.id, event.parent_id, Step("turn", None, time, parent.depth, name, state="complete"))
        else:
            self._numbers[event.id] = number
        self._at(event.id).cell = Cell(event.code, time)
