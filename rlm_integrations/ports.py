"""What the engine needs from a model and from a sandbox. Any class with these methods will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from rlm_integrations.messages import Message, Reply

__all__ = [
    "Cache",
    "CellOutput",
    "Final",
    "IsolationReport",
    "LanguageModel",
    "Resume",
    "Run",
    "Sandbox",
    "Session",
    "SubCall",
    "Tool",
]

Tool = Callable[..., Any]


@runtime_checkable
class LanguageModel(Protocol):
    """Answers a list of messages.

    ``options`` may hold ``stop`` (list of str), ``temperature``, ``max_tokens``, ``timeout`` (seconds), ``on_text``
    (called with each piece of text as it comes) and ``event_id`` (the id of the call's event, for a framework that
    hangs its own trace under it). A model ignores what it does not know. Failures are raised as ``ModelError``.

    A model may also have ``window_tokens: int | None``, the size of its context window, which lets the engine refuse
    a sub-call that can't fit before it costs anything; and ``check()`` with its async twin ``acheck()``, which raise
    ``ModelError`` at the start of a run where it is certain that no call can succeed, say for want of a key; and
    ``has_price``, False where its replies will not say what they cost, so that ``max_cost_usd`` is refused at once.

    ``identity``, made of JSON values, is all that its answers depend on besides its name and a call's options, say
    the server it asks: it tells its replies from those of others in a ``Cache``. With None, they are not cached.
    """

    @property
    def name(self) -> str:
        """The name that usage is reported under."""
        ...

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply; blocks until it is there."""
        ...

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply, without blocking the event loop."""
        ...


class Cache(Protocol):
    """Keeps texts by key, for any number of runs, and of threads at once. What it raises is logged, and no run ends."""

    def get(self, key: str) -> str | None:
        """The text kept under ``key``; None where there is none. Blocks."""
        ...

    def set(self, key: str, value: str) -> object:
        """Keep ``value`` under ``key``. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """Run ``code`` as a cell, for at most ``timeout_s`` and at most as long as the sandbox allows."""

    code: str
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a cell that stopped at a sub-call: the call returns ``value``, or raises with ``error``.

    What is left of the cell's time is at most ``timeout_s``.
    """

    value: Any = None
    error: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class SubCall:
    """Model code called a host function and waits. Arguments are JSON values; a ``Document`` stays one."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Final:
    """What model code gave to ``FINAL``: a JSON value, and the quotes that are said to bear it out."""

    value: Any
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellOutput:
    """A cell has ended.

    ``stdout`` is what it printed, with the echo of a trailing expression, already cut to the output limit. ``error``
    is the exception as model code should see it. ``restarted`` means that variables were lost and why stands in
    ``error``: the cell was killed, or the worker was lost before it and the cell ran in a new one. Either way the
    session goes on with the first variables in place.
    """

    stdout: str
    error: str | None = None
    final: Final | None = None
    restarted: bool = False


class Session(Protocol):
    """One REPL: a state machine that is given a step and stops at a sub-call or at the end of the cell.

    Steps come one at a time. ``Run`` is due at first and after a ``CellOutput``, ``Resume`` after a ``SubCall``.

    A session that may have to wait for room may also have ``waiting: str | None``, which says why it has none yet, and
    ``settle(limit_s)`` with its async twin ``asettle(limit_s)``, which return once it has room, or after ``limit_s``
    seconds (None: no limit). The engine tells of it with ``SessionWaiting`` and waits before it runs a cell.
    """

    def advance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step; blocks. ``SandboxError`` if the session can't go on."""
        ...

    async def aadvance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step without blocking the event loop; cancelling it kills the cell."""
        ...

    def close(self) -> None:
        """End the session at once. May be called from any thread, and twice."""
        ...


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """Which layers of confinement are in force on this machine, by name, and why the missing ones are missing."""

    platform: str
    layers: Mapping[str, bool]
    missing: Mapping[str, str]

    @property
    def strict(self) -> bool:
        """True where every layer is in force."""
        return all(self.layers.values())


class Sandbox(Protocol):
    """Opens sessions. One sandbox serves any number of threads and tasks at once.

    It may also have ``open_below(below, variables, functions)`` with its async twin ``aopen_below``: ``below`` is the
    session whose cell made the sub-call that the new one is for, or called the tool that begins a run, and which waits
    for it; it may be one of another sandbox. A sandbox with little room needs to know, or sessions that hold all of it
    would wait for others that get none.

    ``variables`` are text and JSON values; but a context on disk (``Context.from_files(..., lazy=True)``) is given as
    it is, ``context.DocumentsOnDisk``: a sandbox has its sessions read one document at a time, or raises
    ``InvalidInput`` at once. A sub-call may have such documents among its arguments.
    """

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Session:
        """A session whose namespace holds ``variables`` and, by name, ``functions`` served by the host."""
        ...

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Session:
        """The same without blocking the event loop."""
        ...

    def report(self) -> IsolationReport:
        """Which layers are in force here."""
        ...
