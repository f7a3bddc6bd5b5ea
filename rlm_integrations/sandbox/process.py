"""``ProcessSandbox``: model code runs in locked processes of its own."""

from __future__ import annotations

import os
import socket
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.ports import IsolationReport
from rlm_integrations.sandbox import confine
from rlm_integrations.sandbox.launcher import Launcher, Starter
from rlm_integrations.sandbox.on_disk import refuse
from rlm_integrations.sandbox.pool import PoolLauncher
from rlm_integrations.sandbox.session import ProcessSession, warn_of
from rlm_integrations.sandbox.settings import check_limits, check_names, memory_bytes
from rlm_integrations.sandbox.waiting import Steps, Wait, adrive, drive

__all__ = ["ProcessSandbox"]

FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")


class ProcessSandbox:
    """Runs model code in a locked process for each session.

    ``timeout_s`` limits one cell; of the time the host takes to serve a sub-call, no more than a millisecond counts.
    ``memory_mb`` limits the memory of one process (512 plus four times the context, by default; of a context on disk,
    four times its largest document).
    ``max_output_chars`` is how much of a cell's output is kept. ``isolation="strict"`` refuses to start without
    Landlock and seccomp; ``"auto"`` runs with what there is and logs what is missing, once.

    What confines the process depends on the system, and ``report`` says what was found in force. Linux has all of it.
    macOS has Seatbelt and resource limits, and the host bounds memory by looking at the process every 20 ms. Windows
    has a Job Object, which bounds memory and processes: what keeps model code from files and the network there is the
    language layer alone. Tested on Linux; the parts for macOS and Windows have never run there.

    Serves any number of threads and tasks. ``close`` ends all its sessions; so does the end of the host, in any way.
    """

    def __init__(
        self,
        timeout_s: float = 30,
        memory_mb: int | None = None,
        max_output_chars: int = 10_000,
        isolation: Literal["auto", "strict"] = "auto",
    ) -> None:
        check_limits(timeout_s, memory_mb, max_output_chars)
        if isolation not in ("auto", "strict"):
            raise InvalidInput(f"isolation is {isolation!r}: pass 'auto' or 'strict'")
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self.max_output_chars, self.isolation = max_output_chars, isolation
        self._launcher: Starter = Launcher() if FORKS else PoolLauncher()
        self._policy = True
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[ProcessSession] = weakref.WeakSet()

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> ProcessSession:
        """A session whose namespace holds ``variables`` and ``functions``. Does not wait for its process."""
        return drive(self._open(variables, functions))

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> ProcessSession:
        """The same without blocking the event loop."""
        return await adrive(self._open(variables, functions))

    def _open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Steps[ProcessSession]:
        self._check_isolation()
        check_names((*variables, *functions))
        if not self._launcher.takes_packs:
            refuse(variables, f"ProcessSandbox on {sys.platform}")
        session = ProcessSession(
            self._launcher,
            variables,
            functions,
            timeout_s=self.timeout_s,
            memory_bytes=(yield from memory_bytes(self.memory_mb, variables)),
            max_output_chars=self.max_output_chars,
            strict=self.isolation == "strict",
            policy=self._policy,
        )
        with self._lock:
            self._sessions.add(session)
        # Where many runs start at once, the event loop gets a turn between them.
        yield Wait()
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
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
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
        warn_of(missing)
