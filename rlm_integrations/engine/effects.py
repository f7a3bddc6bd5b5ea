"""What the algorithm asks for. It never waits itself: a driver carries the effect out and sends the result back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlm_integrations.messages import Message
from rlm_integrations.ports import LanguageModel, Resume, Run, Sandbox, Session, Tool

__all__ = [
    "Advance",
    "Branch",
    "CallModel",
    "CallTool",
    "Calling",
    "CheckModel",
    "Effect",
    "EndRun",
    "Failure",
    "Gather",
    "Open",
    "Settle",
    "Wait",
    "Work",
    "calling_session",
]


@dataclass(frozen=True, slots=True)
class CheckModel:
    """Ask a model that can tell whether its calls can succeed at all; raises ``ModelError`` where they can't."""

    model: LanguageModel


@dataclass(frozen=True, slots=True)
class CallModel:
    """One completion; the result is a ``Reply``. Given up after ``limit_s``, as far as the driver can.

    Meanwhile ``session`` is the ``calling_session``, since a model may be an RLM too.
    """

    model: LanguageModel
    messages: Sequence[Message]
    options: Mapping[str, Any] = field(default_factory=dict)
    limit_s: float | None = None
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """A new sandbox session; the result is the ``Session``, which the algorithm closes.

    ``below`` is the session of the run whose cell asks for this one, and waits for it.
    """

    sandbox: Sandbox
    variables: Mapping[str, Any]
    functions: Sequence[str]
    below: Session | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait until a session that is ``waiting`` has room, for at most ``limit_s``."""

    session: Session
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """One step of a session; the result is a ``SubCall`` or a ``CellOutput``."""

    session: Session
    step: Run | Resume


@dataclass(frozen=True, slots=True)
class CallTool:
    """One call of a user's function; the result is what it returned, or a ``Failure`` with what it raised.

    Given up after ``limit_s``, as far as the driver can. Meanwhile ``session``, whose cell calls it, is the
    ``calling_session``.
    """

    tool: Tool
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    limit_s: float | None = None
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Gather:
    """Carry out ``branches``, at most ``width`` at once; the result is their outcomes in order.

    A branch that raised an ``RLMError`` has a ``Failure`` as its outcome; any other exception ends the whole.
    """

    branches: Sequence[Branch[Any]]
    width: int


@dataclass(frozen=True, slots=True)
class Work:
    """Something to compute on the host; the result is what ``function`` returns. ``is_long``: not in an event loop."""

    function: Callable[[], Any]
    is_long: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for what another branch of the tree brings; the result is that of ``future``, which is never cancelled."""

    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a branch or a tool that raised."""

    error: Exception


class EndRun(BaseException):
    """Raised by a tool, a model or an observer to end the whole tree: ``error`` is what the caller of the run gets.

    Not an ``Exception``, since those of tools are told to model code, and those of observers are logged.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class Calling:
    """The ``session`` that waits for a call; None when that is over, since tasks begun in it keep their context."""

    session: Session | None


calling_session: ContextVar[Calling | None] = ContextVar("rlm_calling_session", default=None)
"""The session that waits for the tool or model which this code is part of: a run begun here stands below it."""

Effect = CheckModel | CallModel | Open | Settle | Advance | CallTool | Gather | Work | Wait

T = TypeVar("T")
Branch = Generator[Effect, Any, T]
"""A part of the algorithm: yields effects, is sent their results, returns a ``T``."""
