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
    "ReplayParted",
    "RunEnded",
    "RunFailed",
    "RunResumed",
    "RunStarted",
    "SessionWaiting",
    "Source",
    "Status",
    "TextDelta",
]

Status = Literal["complete", "extracted"]
Purpose = Literal["turn", "sub-call", "extraction", "answer"]
Source = Literal["model", "memo", "cache", "record"]


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
class RunResumed:
    """A root run goes on from its record: what follows in a saved file was done by a later process.

    What the record has already is not told again; where things of one ``id`` are told anew, the last word counts.
    """

    id: str
    parent_id: None
    time: float
    kind: Literal["run_resumed"] = "run_resumed"


@dataclass(frozen=True, slots=True)
class ReplayParted:
    """What run ``parent_id`` does again is not what its record says: told once, before the event that shows it.

    ``turn`` is the last one whose reply is the recorded one, 0 where the first messages differ already. ``recorded``
    and ``found`` are what its cell gave, or what was to be sent next, then and now, from shortly before they part.
    A run that is resumed asks for all later turns anew.
    """

    id: str
    parent_id: str
    time: float
    turn: int
    recorded: str
    found: str
    kind: Literal["replay_parted"] = "replay_parted"


@dataclass(frozen=True, slots=True)
class SessionWaiting:
    """The session of run ``parent_id`` has no room yet, as ``reason`` says; the run goes on as soon as it has."""

    id: str
    parent_id: str
    time: float
    reason: str
    kind: Literal["session_waiting"] = "session_waiting"


@dataclass(frozen=True, slots=True)
class ModelCallStarted:
    """A model is being asked, or its answer is taken from elsewhere: see ``ModelCallEnded.source``.

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
    source: Source = "model"
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
    """A model has answered.

    ``source`` says where the answer is from: the "model" itself, the "memo" of an equal sub-call of the same tree, a
    "cache" that runs share, or the "record" of a run that is replayed or resumed. From a memo or a cache it cost
    nothing: ``usage`` is all zeros, and no report of a run's usage counts the call.
    """

    id: str
    parent_id: str
    time: float
    text: str
    usage: Usage
    source: Source = "model"
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
    | RunResumed
    | ReplayParted
    | SessionWaiting
    | ModelCallStarted
    | TextDelta
    | ModelCallEnded
    | ModelCallFailed
    | CellStarted
    | CellEnded
    | CellFailed
)
