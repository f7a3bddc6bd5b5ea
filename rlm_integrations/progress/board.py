"""Follows the events of any number of trees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, assert_never

from rlm_integrations.cli.text import flat
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
    SessionWaiting,
    TextDelta,
)
from rlm_integrations.progress.so_far import Line, RunSoFar

__all__ = ["Board"]

QUERY_CHARS = 60
REASON_CHARS = 200
# More of them would bury the other lines; all are counted.
FAILURES_TOLD = 3
LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What has started and not ended. ``in_batch``: a sub-call of the root run's present cell."""

    run: RunSoFar
    in_batch: bool = False
    model: str = ""
    depth: int = 0
    is_sub_call: bool = False


class Board:
    """Follows any number of trees at once. ``runs`` are the root runs under way, by id."""

    def __init__(self, max_iterations: int | None = None) -> None:
        self.runs: dict[str, RunSoFar] = {}
        self._max_iterations = max_iterations
        self._under_way: dict[str, _Task] = {}
        self._root_cells: set[str] = set()

    def tell(self, event: Event) -> list[Line]:
        """Count ``event``; the lines that tell of it."""
        return list(self._tell(event))

    def _tell(self, event: Event) -> Iterator[Line]:
        match event:
            case TextDelta():
                pass
            case RunStarted(parent_id=None):
                run = self.runs[event.id] = RunSoFar(flat(event.query, QUERY_CHARS), self._max_iterations)
                self._under_way[event.id] = _Task(run)
                about = f"{event.context.type}, {event.context.chars:,} characters, {event.model}"
                yield Line("started", f"{run.query}: started ({flat(about)})")
            case RunResumed():
                if (of := self._under_way.get(event.id)) is not None:
                    yield Line("started", f"{of.run.query}: resumed")
            case ReplayParted():
                if (of := self._under_way.get(event.parent_id)) is not None:
                    whose = "" if event.parent_id in self.runs else " of a child run"
                    yield Line("parted", f"{of.run.query}: not as recorded after turn {event.turn}{whose}")
            case SessionWaiting():
                # Of a child run, the batch that it is part of shows how far it is.
                if (waits := self.runs.get(event.parent_id)) is not None:
                    waits.doing = "waiting for room"
                    yield Line("going on", f"{waits.query}: waits for room: {flat(event.reason, REASON_CHARS)}")
            case RunStarted():
                self._start_sub_call(event)
            case ModelCallStarted(purpose="sub-call"):
                self._start_sub_call(event)
            case ModelCallStarted():
                yield from self._start_turn(event)
            case ModelCallEnded():
                yield from self._end(event, event)
            case ModelCallFailed():
                yield from self._end(event, None, "call", event.error)
            case CellStarted():
                self._start_cell(event)
            case CellEnded():
                self._root_cells.discard(event.id)
                yield from self._end(event, None)
            case CellFailed():
                self._root_cells.discard(event.id)
                yield from self._end(event, None, "cell", event.error)
            case RunEnded(parent_id=None):
                yield from self._end_root(event, event.status, event.status)
            case RunFailed(parent_id=None):
                yield from self._end_root(event, "failed", f"failed, {flat(event.error, REASON_CHARS)}")
            case RunEnded():
                yield from self._end(event, None)
            case RunFailed():
                yield from self._end(event, None, "child run", event.error)
            case _:
                assert_never(event)

    def _start_sub_call(self, event: RunStarted | ModelCallStarted) -> None:
        if (cell := self._under_way.get(event.parent_id or "")) is None:
            return
        run, in_batch = cell.run, event.parent_id in self._root_cells
        run.batch += in_batch
        run.child_runs += isinstance(event, RunStarted)
        self._under_way[event.id] = _Task(run, in_batch, event.model, event.depth, is_sub_call=True)

    def _start_turn(self, event: ModelCallStarted) -> Iterator[Line]:
        if (of := self._under_way.get(event.parent_id)) is None:
            return
        run = of.run
        self._under_way[event.id] = _Task(run, model=event.model, depth=event.depth)
        if event.depth == 0:
            run.turns += event.purpose == "turn"
            run.doing = {"turn": "asking the model", "extraction": "drawing an answer"}.get(
                event.purpose, "writing the answer"
            )
            if event.purpose != "answer":
                run.batch = run.batch_done = 0
            yield self._going_on(run)

    def _start_cell(self, event: CellStarted) -> None:
        if (of := self._under_way.get(event.parent_id)) is None:
            return
        of.run.cells += 1
        self._under_way[event.id] = _Task(of.run)
        if event.parent_id in self.runs:
            of.run.doing = "running code"
            self._root_cells.add(event.id)

    def _end(self, event: Event, reply: ModelCallEnded | None, what: str = "", error: str = "") -> Iterator[Line]:
        """Something below a root run is through; ``what`` has failed, if anything."""
        if (task := self._under_way.pop(event.id, None)) is None:
            return
        run = task.run
        if reply is not None and reply.source in ("memo", "cache"):
            run.reused += 1
        elif reply is not None:
            run.tally.add(task.model, task.depth, reply.usage)
        run.sub_calls += task.is_sub_call
        run.batch_done += task.in_batch
        run.child_runs -= isinstance(event, RunEnded | RunFailed)
        if what:
            run.failures[what] += 1
            run.failure = flat(error, REASON_CHARS)
            if run.failures[what] <= FAILURES_TOLD:
                yield Line("failure", f"{run.query}: a {what} failed: {run.failure}")
        elif task.in_batch and time.monotonic() - run.told >= LINE_EVERY_S:
            yield self._going_on(run)

    def _going_on(self, run: RunSoFar) -> Line:
        run.told = time.monotonic()
        below = f", {run.calls_below}" if run.batch else ""
        return Line("going on", f"{run.query}: {run.place}: {run.used}{below}")

    def _end_root(
        self, event: RunEnded | RunFailed, kind: Literal["complete", "extracted", "failed"], status: str
    ) -> Iterator[Line]:
        if (run := self.runs.pop(event.id, None)) is None:
            return
        # What an interrupted run left behind will not be heard of again.
        self._under_way = {id: task for id, task in self._under_way.items() if task.run is not run}
        self._root_cells &= self._under_way.keys()
        yield Line(kind, f"{run.query}: {run.total(status, event.usage)}")
