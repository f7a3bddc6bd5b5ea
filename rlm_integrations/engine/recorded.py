"""A tree as its events tell it: runs, their calls and cells, and what became of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlm_integrations import errors
from rlm_integrations.errors import InvalidInput, ModelError
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
)
from rlm_integrations.messages import Usage

__all__ = ["Call", "Cell", "RecordedTree", "Run"]


@dataclass(eq=False, slots=True)
class Call:
    """A model call; ``outcome`` is None where the record ends before its reply. The rest is for who plays it again."""

    started: ModelCallStarted
    outcome: ModelCallEnded | ModelCallFailed | None = None
    is_used: bool = False
    is_counted: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether it brought a reply."""
        return isinstance(self.outcome, ModelCallEnded)

    @property
    def is_known(self) -> bool:
        """Whether it ended by itself: with a reply, or by the model's own fault."""
        return self.is_answered or self.failure() is not None

    @property
    def is_paid(self) -> bool:
        """Whether a model was asked."""
        return self.started.source in ("model", "record")

    @property
    def usage(self) -> Usage | None:
        """What it cost; None where it brought no reply."""
        return self.outcome.usage if isinstance(self.outcome, ModelCallEnded) else None

    def failure(self) -> ModelError | None:
        """The error that it failed with; None where it did not, or was stopped from outside."""
        if not isinstance(self.outcome, ModelCallFailed):
            return None
        name, _, message = self.outcome.error.partition(": ")
        kind = getattr(errors, name, None)
        if not isinstance(kind, type) or not issubclass(kind, ModelError):
            return None
        return kind(message, model=self.started.model)


@dataclass(eq=False, slots=True)
class Cell:
    """A cell with the calls and the child runs that it made."""

    started: CellStarted
    outcome: CellEnded | CellFailed | None = None
    calls: list[Call] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Run:
    """A run with its turns and extractions, and the cells that followed each of these, by the call's id.

    That is the cell in the reply, and those that the engine runs itself to show what the model misses.
    """

    started: RunStarted
    ended: RunEnded | RunFailed | None = None
    turns: list[Call] = field(default_factory=list)
    extractions: list[Call] = field(default_factory=list)
    cells: dict[str, list[Cell]] = field(default_factory=lambda: defaultdict(list))
    last_call: str = ""
    is_used: bool = False


class RecordedTree:
    """All of a tree, by id; ``root`` is None where there are no events.

    Of a tree that was resumed it holds what counts in the end: calls that had to be made again, and turns that were
    taken another way, are in ``calls`` only. Raises ``InvalidInput`` for events that are no tree.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.root: Run | None = None
        self.runs: dict[str, Run] = {}
        self.cells: dict[str, Cell] = {}
        self.calls: dict[str, Call] = {}
        for event in events:
            try:
                self._read(event)
            except KeyError as error:
                told = f"the record is not whole: {event.kind} {event.id} belongs to {error}, which it does not hold"
                raise InvalidInput(told) from None

    def _read(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._start_run(event)
            case ModelCallStarted():
                self._start_call(event)
            case ModelCallEnded():
                self.calls[event.id].outcome = event
                if run := self.runs.get(event.parent_id):
                    run.last_call = event.id
            case ModelCallFailed():
                self.calls[event.id].outcome = event
            case CellStarted() if event.id not in self.cells:
                run = self.runs[event.parent_id]
                cell = self.cells[event.id] = Cell(event)
                run.cells[run.last_call].append(cell)
            case CellEnded() | CellFailed():
                self.cells[event.id].outcome = event
            case RunEnded() | RunFailed():
                self.runs[event.id].ended = event
            case RunResumed():
                self.forget_unanswered()
            case ReplayParted():
                run = self.runs[event.parent_id]
                del run.turns[event.turn :]
                run.last_call = run.turns[-1].started.id if run.turns else ""
                run.extractions.clear()
            case _:
                pass

    def _start_run(self, event: RunStarted) -> None:
        if event.id in self.runs:
            return
        run = self.runs[event.id] = Run(event)
        if event.parent_id is not None:
            self.cells[event.parent_id].runs.append(run)
        elif self.root is None:
            self.root = run
        else:
            raise InvalidInput(
                f"the record holds two root runs, {self.root.started.id} and {event.id}: take them apart"
            )

    def _start_call(self, event: ModelCallStarted) -> None:
        if event.id in self.calls:
            return
        call = Call(event)
        match event.purpose:
            case "turn":
                self.runs[event.parent_id].turns.append(call)
            case "extraction":
                self.runs[event.parent_id].extractions.append(call)
            case _:
                self.cells[event.parent_id].calls.append(call)
        self.calls[event.id] = call

    def forget_unanswered(self) -> None:
        """Leave out the calls that a resumed run makes again: those without a reply, where their run had not gone on
        from that."""
        for run in self.runs.values():
            if not self._is_settled(run):
                run.turns = [call for call in run.turns if call.is_answered]
                run.extractions = [call for call in run.extractions if call.is_answered]
            for cell in (cell for cells in run.cells.values() for cell in cells):
                if not isinstance(cell.outcome, CellEnded) and not self._is_settled(run):
                    cell.calls = [call for call in cell.calls if call.is_answered]

    def _is_settled(self, run: Run) -> bool:
        """Whether ``run`` is a child whose outcome the cell that asked for it has taken, or is sure to take."""
        if run.started.parent_id is None:
            return False
        cell = self.cells[run.started.parent_id]
        if isinstance(run.ended, RunEnded) or isinstance(cell.outcome, CellEnded):
            return True
        return self._is_settled(self.runs[cell.started.parent_id])
