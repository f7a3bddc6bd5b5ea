"""Runs that are carried out again from their record: replayed, or resumed where the record ends."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from rlm_integrations.context import Context
from rlm_integrations.engine.record import Record
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    RunEnded,
    RunFailed,
    RunStarted,
)
from rlm_integrations.prompts import Prompts
from rlm_integrations.result import RLMResult
from rlm_integrations.saved_run import SavedRun, read_run
from rlm_integrations.saving import Saver
from rlm_integrations.trajectory import Trajectory

__all__ = ["Replay", "Resumption", "Sequel"]


@dataclass(frozen=True, slots=True)
class Replay:
    """What a run needs to be carried out again."""

    query: str
    context: Context
    record: Record

    @classmethod
    def of(cls, trajectory: Trajectory | str | os.PathLike[str], context: Any, from_turn: int | None) -> Replay:
        """The replay of a trajectory, or of the one that a file holds; see ``RLM.replay``."""
        if not isinstance(trajectory, Trajectory):
            trajectory = Trajectory.load(trajectory)
        record = Record.to_replay(trajectory, from_turn)
        return cls(record.start.query, _same_context(record.start, trajectory, context), record)


@dataclass(frozen=True, slots=True)
class Resumption(Replay):
    """What a run needs to go on, and the file that it goes on in."""

    saver: Sequel

    @classmethod
    def load(cls, path: str | os.PathLike[str], context: Any, prompts: Prompts) -> Resumption | RLMResult:
        """How the run in the file at ``path`` goes on, or its result where it has its answer; see ``RLM.resume``."""
        saved = read_run(path)
        trajectory = Trajectory(saved.events, settings=saved.settings, context=saved.context, cut=saved.cut)
        record = Record.to_resume(trajectory, prompts)
        start = record.start
        end = next(event for event in reversed(trajectory) if event.id == start.id)
        if isinstance(end, RunEnded) and end.status == "complete":
            if context is not None:
                _same_context(start, trajectory, context)
            return RLMResult.from_events(trajectory)
        context = _same_context(start, trajectory, context)
        return cls(start.query, context, record, Sequel(path, saved))


class Sequel(Saver):
    """Writes on in the file of a run that is resumed: all but what the file has already, ``saved``."""

    def __init__(self, path: str | os.PathLike[str], saved: SavedRun) -> None:
        super().__init__(path, go_on_at=saved.size)
        self._started: set[tuple[str, str]] = set()
        self._last: dict[str, Event] = {}
        for event in saved.events:
            self._started.add((event.kind, event.id))
            self._last[event.id] = event

    def __call__(self, event: Event) -> None:
        if not self._is_written(event):
            super().__call__(event)

    def _is_written(self, event: Event) -> bool:
        match event:
            case RunStarted() | CellStarted() | ModelCallStarted() | ModelCallEnded():
                return (event.kind, event.id) in self._started
            case RunEnded(parent_id=None) | RunFailed(parent_id=None):
                return False  # It ends what begins anew with the ``RunResumed``.
            case CellEnded() | CellFailed() | ModelCallFailed() | RunEnded() | RunFailed():
                last = self._last.get(event.id)
                return last is not None and replace(event, time=last.time) == last
            case _:
                return False


def _same_context(start: RunStarted, trajectory: Trajectory, context: Any) -> Context:
    """``context``, or the recorded one. Raises ``InvalidInput`` where it is not what the record was made of."""
    if context is None:
        context = trajectory.context
    if context is None:
        raise InvalidInput("the record does not hold the context (include_context=True keeps it): pass it")
    given = Context.of(context)
    was, now_is = start.context, given.summary
    if was.sha256 != now_is.sha256:
        raise InvalidInput(
            f"the context is not that of the record, which is a {was.type} of {was.chars:,} characters and begins "
            f"{was.head[:60]!r}; given is a {now_is.type} of {now_is.chars:,}, which begins {now_is.head[:60]!r}"
        )
    return given
