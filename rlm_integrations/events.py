"""Everything that happens in a tree, as a closed union of frozen events.

A run, a model call and a cell each start and then either end or fail; all events of one carry the same ``id``. A
cell's and a turn's ``parent_id`` is their run; a sub-call's (a model call or a child run) is the cell that made it.
So the ids alone give the tree. ``time`` is seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rlm_integrations.context import ContextSummary
from rlm_integrations.messages import Message, Usage, UsageReport

__all__ = [
    "CellEnded",
    "CellFailed",
    "CellStarted",
    "Citation",
    "Event",
    "ModelCallEnded",
    "ModelCallFailed",
    "ModelCallStarted",
    "Purpose",
    "RunEnded",
    "RunFailed",
    "RunStarted",
    "Status",
    "TextDelta",
]

Status = Literal["complete", "extracted"]
Purpose = Literal["turn", "sub-call", "extraction", "answer"]


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote that stands word for word in document ``document_id``, from ``start`` up to ``end`` (characters)."""

    document_id: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has begun: the root (depth 0), or a child that a cell asked for."""

    id: str
    parent_id: str | None
    time: float
    query: str
    context: ContextSummary
    model: str
    depth: int
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has its answer. ``usage`` counts this run and everything below it."""

    id: str
    parent_id: str | None
    time: float
    answer: Any
    status: Status
    citations: tuple[Citation, ...]
    usage: UsageReport
    kind: Literal["run_ended"] = "run_ended"


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A run has ended without an answer. ``error`` is the exception's class and message."""

    id: str
    parent_id: str | None
    time: float
    error: str
    usage: UsageReport
    kind: Literal["run_failed"] = "run_failed"


@dataclass(frozen=True, slots=True)
class ModelCallStarted:
    """A model is being asked.

    ``new_messages`` are those added since the run's last turn, all of them at its first: together they are the
    conversation, since messages are only ever appended.
    """

    id: str
    parent_id: str
    time: float
    model: str
    depth: int
    purpose: Purpose
    new_messages: tuple[Message, ...]
    kind: Literal["model_call_started"] = "model_call_started"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the reply to model call ``id``, as it came."""

    id: str
    parent_id: str
    time: float
    text: str
    kind: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True)
class ModelCallEnded:
    """A model has answered."""

    id: str
    parent_id: str
    time: float
    text: str
    usage: Usage
    kind: Literal["model_call_ended"] = "model_call_ended"


@dataclass(frozen=True, slots=True)
class ModelCallFailed:
    """A model call was made and brought no reply."""

    id: str
    parent_id: str
    time: float
    error: str
    kind: Literal["model_call_failed"] = "model_call_failed"


@dataclass(frozen=True, slots=True)
class CellStarted:
    """Model code is being run."""

    id: str
    parent_id: str
    time: float
    code: str
    kind: Literal["cell_started"] = "cell_started"


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell is through; ``error`` is the exception its code raised, if any, and ``stdout`` what it showed."""

    id: str
    parent_id: str
    time: float
    stdout: str
    error: str | None
    kind: Literal["cell_ended"] = "cell_ended"


@dataclass(frozen=True, slots=True)
class CellFailed:
    """A cell was stopped: killed at a limit, lost with its worker, or cancelled."""

    id: str
    parent_id: str
    time: float
    error: str
    kind: Literal["cell_failed"] = "cell_failed"


Event = (
    RunStarted
    | RunEnded
    | RunFailed
    | ModelCallStarted
    | TextDelta
    | ModelCallEnded
    | ModelCallFailed
    | CellStarted
    | CellEnded
    | CellFailed
)
