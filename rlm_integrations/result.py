"""What a run brings back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlm_integrations.events import (
    Citation,
    Event,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunStarted,
    Status,
)
from rlm_integrations.messages import UsageReport
from rlm_integrations.trajectory import Trajectory

__all__ = ["RLMResult"]


@dataclass(frozen=True, slots=True)
class RLMResult:
    """An answer and all about it.

    ``status`` is ``"complete"`` for an answer the model gave with ``FINAL``, ``"extracted"`` for one drawn from what
    had been seen when turns or budget ran out, and ``"failed"`` in the ``.partial`` of an error, whose answer is None.
    ``citations`` were each checked to stand in the context word for word. ``usage`` counts the whole tree.
    """

    answer: Any
    status: Status | Literal["failed"]
    citations: tuple[Citation, ...] = ()
    usage: UsageReport = UsageReport()
    trajectory: Trajectory = field(default_factory=Trajectory, repr=False)
    run_id: str = ""

    @property
    def turns(self) -> int:
        """Turns of the root run, an extraction at the end not counted."""
        return sum(
            isinstance(event, ModelCallStarted) and event.parent_id == self.run_id and event.purpose == "turn"
            for event in self.trajectory
        )

    @property
    def parted(self) -> ReplayParted | None:
        """Where a replay, or a run that was resumed, first came to something else than its record says."""
        return next((event for event in self.trajectory if isinstance(event, ReplayParted)), None)

    def save(self, path: str | os.PathLike[str], include_context: bool = False) -> None:
        """Write the trajectory to ``path`` as JSON lines, with the whole context if told to; see ``Trajectory``."""
        self.trajectory.save(path, include_context)

    @classmethod
    def from_events(cls, events: Sequence[Event]) -> RLMResult:
        """The result that a root run's events tell, also when they stop before its end."""
        start = next(event for event in events if isinstance(event, RunStarted))
        end = next((event for event in reversed(events) if event.id == start.id), start)
        trajectory = events if isinstance(events, Trajectory) else Trajectory(events)
        match end:
            case RunEnded():
                return cls(end.answer, end.status, end.citations, end.usage, trajectory, start.id)
            case RunFailed():
                return cls(None, "failed", (), end.usage, trajectory, start.id)
            case _:
                return cls(None, "failed", (), UsageReport(), trajectory, start.id)
