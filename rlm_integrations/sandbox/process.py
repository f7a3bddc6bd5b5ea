"""``ProcessSandbox``: model code runs in locked processes of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.ports import IsolationReport
from rlm_integrations.sandbox import confine
from rlm_integrations.sandbox.launcher import Launcher
from rlm_integrations.sandbox.session import ProcessSession
from rlm_integrations.sandbox.waiting import drive

__all__ = ["ProcessSandbox"]

logger = logging.getLogger(__name__)

BASE_MEMORY_MB = 512
MIN_MEMORY_MB, MAX_MEMORY_MB = 64, 1 << 20
MAX_TIMEOUT_S = 1_000_000
MAX_OUTPUT_CHARS = 1_000_000
_warned: set[str] = set()


class ProcessSandbox:
    """Runs model code in a locked process for each session.

    ``timeout_s`` limits one cell, not counting the time the host takes to serve its sub-calls. ``memory_mb`` limits
    the address space of one process (512 plus four times the context, by default). ``max_output_chars`` is how much
    of a cell's output is kept. ``isolation="strict"`` refuses to start without Landlock and seccomp; ``"auto"`` runs
    with what there is and logs what is missing, once.

    Serves any number of threads and tasks. ``close`` ends all its sessions; so does the end of the host, in any way.
    """

    def __init__(
        self,
        timeout_s: float = 30,
        memory_mb: int | None = None,
        max_output_chars: int = 10_000,
        isolation: Literal["auto", "strict"] = "auto",
    ) -> None:
        if not _is_number(timeout_s) or not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise InvalidInput(f"timeout_s is {timeout_s!r}: pass seconds above 0, at most {MAX_TIMEOUT_S:,}")
        if memory_mb is not None and (not _is_number(memory_mb) or not MIN_MEMORY_MB <= memory_mb <= MAX_MEMORY_MB):
            raise InvalidInput(
                f"memory_mb is {memory_mb!r}: pass {MIN_MEMORY_MB} to {MAX_MEMORY_MB:,}, or None (512 + 4 x context)"
            )
        if type(max_output_chars) is not int or not 1 <= max_output_chars <= MAX_OUTPUT_CHARS:
            raise InvalidInput(f"max_output_chars is {max_output_chars!r}: pass an int from 1 to {MAX_OUTPUT_CHARS:,}")
        if isolation not in ("auto", "strict"):
            raise InvalidInput(f"isolation is {isolation!r}: pass 'auto' or 'strict'")
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self.max_output_chars, self.isolation = max_output_chars, isolation
        self._launcher = Launcher()
        self._policy = True
        self._sessions: weakref.WeakSet[ProcessSession] = weakref.WeakSet()

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> ProcessSession:
        """A session whose namespace holds ``variables`` and ``functions``. Does not wait for its process."""
        self._check_isolation()
        for name in (*variables, *functions):
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
                raise InvalidInput(f"{name!r} can't name a variable or function of model code: pass a plain identifier")
        session = ProcessSession(
            self._launcher,
            variables,
            functions,
            timeout_s=self.timeout_s,
            memory_bytes=self._memory_bytes(variables),
            max_output_chars=self.max_output_chars,
            strict=self.isolation == "strict",
            policy=self._policy,
        )
        self._sessions.add(session)
        return session

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> ProcessSession:
        """The same; opening never blocks."""
        session = self.open(variables, functions)
        # Where many runs start at once, the event loop gets a turn between them.
        await asyncio.sleep(0)
        return session

    def report(self) -> IsolationReport:
        """Which layers are in force here, as a worker found them when it locked itself."""
        session = self.open({}, ())
        try:
            drive(session.start())
            reasons = session.layers
        finally:
            session.close()
        layers = {"process": True, "policy": self._policy} | {name: reason is None for name, reason in reasons.items()}
        missing = {name: reason for name, reason in reasons.items() if reason is not None}
        return IsolationReport(sys.platform, layers, missing)

    def close(self) -> None:
        """End all sessions and the process that starts them. A later ``open`` starts afresh."""
        for session in list(self._sessions):
            session.close()
        self._launcher.close()

    def __enter__(self) -> ProcessSandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check_isolation(self) -> None:
        missing = confine.unavailable()
        if missing and self.isolation == "strict":
            reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise SandboxError(
                f"isolation='strict' needs Landlock and seccomp ({reasons}): isolation='auto' runs without"
            )
        for name in missing.keys() - _warned:
            _warned.add(name)
            logger.warning("the sandbox runs without %s: %s", name, missing[name])

    def _memory_bytes(self, variables: Mapping[str, Any]) -> int:
        if self.memory_mb is not None:
            return int(self.memory_mb * (1 << 20))
        return (BASE_MEMORY_MB << 20) + 4 * sum(_size(value) for value in variables.values())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _size(value: Any) -> int:
    """Bytes of memory ``value`` takes up, all in all."""
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(_size, value))
    return sys.getsizeof(value)
