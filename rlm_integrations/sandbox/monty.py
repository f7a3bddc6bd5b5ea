"""``MontySandbox``: model code runs in Monty, an interpreter of its own for a part of Python."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from rlm_integrations.errors import MissingExtra, SandboxError
from rlm_integrations.ports import IsolationReport
from rlm_integrations.sandbox.monty_session import MontySession
from rlm_integrations.sandbox.on_disk import refuse
from rlm_integrations.sandbox.settings import check_limits, check_names, memory_bytes
from rlm_integrations.sandbox.waiting import Steps, Wait, adrive, drive

__all__ = ["MontySandbox"]

MAX_WORKERS = 10_000
UNLOCKED = "pydantic-monty starts its workers without it, so that a fault in Monty itself is not contained"
# The threads of Monty's pools do not live on in a fork.
_started_in: int | None = None


class MontySandbox:
    """Runs model code in pydantic-monty (extra ``monty``), an interpreter of its own for a part of Python.

    ``timeout_s`` limits one cell, not counting the time the host takes to serve its sub-calls. ``memory_mb`` limits
    what model code may hold (512 plus four times the context, by default). ``max_output_chars`` is how much of a
    cell's output is kept. Monty starts in milliseconds on Linux, macOS and Windows, and model code has no way to name a
    file, a socket or a process; but its workers are not locked by the kernel (``report()`` says so).

    11 of the 56 everyday snippets of the test suite do not run: those with ``del`` (2), generators (2: ``yield``,
    and ``next`` of a generator expression, which is a list), ``with`` on ``io.StringIO`` (1), the modules ``pprint``,
    ``statistics`` and ``concurrent.futures`` (3), a function as replacement in ``re.sub`` (1), a method of a ``str``
    by ``getattr`` (1) and ``str.maketrans`` (1). Nor is there class inheritance, ``string`` or ``textwrap``. A function
    served by the host can't be the callback of a builtin (``map``, ``sorted``); comprehensions take its place.

    A ``Document`` is a plain ``str`` here; ``document.id`` and ``.metadata`` work on the documents of the variables
    and the passages of ``search``, but not with ``getattr`` or in ``eval``; ``document["key"]`` is not there. Sub-calls
    are given any text that is just a document's as that ``Document``.

    Where the host is killed in the middle of a cell, the worker ends when the cell's time does, not before.

    Serves any number of threads and tasks; a process that was forked needs a start of its own by ``spawn``. ``close``
    ends all sessions.
    """

    def __init__(self, timeout_s: float = 30, memory_mb: int | None = None, max_output_chars: int = 10_000) -> None:
        check_limits(timeout_s, memory_mb, max_output_chars)
        if importlib.util.find_spec("pydantic_monty") is None:
            raise MissingExtra("monty", "MontySandbox")
        self.timeout_s, self.memory_mb, self.max_output_chars = timeout_s, memory_mb, max_output_chars
        self._sessions: weakref.WeakSet[MontySession] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._pool: Any = None
        self._executor: ThreadPoolExecutor | None = None

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> MontySession:
        """A session whose namespace holds ``variables`` and ``functions``. Does not wait for its process."""
        return drive(self._open(variables, functions))

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> MontySession:
        """The same without blocking the event loop."""
        return await adrive(self._open(variables, functions))

    def _open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Steps[MontySession]:
        _check_process()
        check_names((*variables, *functions))
        refuse(variables, "MontySandbox")
        limits = {
            "max_feed_duration_secs": self.timeout_s,
            "max_memory": (yield from memory_bytes(self.memory_mb, variables)),
            "max_suspensions": 1 << 40,
        }
        session = MontySession(
            lambda: self._workers().checkout(
                limits=limits, os_policy={"sleep": "zero"}, assert_message_annotations=False
            ),
            self._threads,
            variables,
            functions,
            timeout_s=self.timeout_s,
            max_output_chars=self.max_output_chars,
        )
        with self._lock:
            self._sessions.add(session)
        # Where many runs start at once, the event loop gets a turn between them.
        yield Wait()
        return session

    def report(self) -> IsolationReport:
        """Which layers are in force: Monty's own; none of the kernel's."""
        held = ("process", "interpreter", "empty_environment", "memory_limit", "time_limit")
        missing = dict.fromkeys(("unprivileged_user", "landlock", "seccomp"), UNLOCKED)
        return IsolationReport(sys.platform, dict.fromkeys(held, True) | dict.fromkeys(missing, False), missing)

    def close(self) -> None:
        """End all sessions and their workers. A later ``open`` starts afresh."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
        with self._lock:
            pool, self._pool = self._pool, None
            executor, self._executor = self._executor, None
        if pool is not None and _started_in == os.getpid():
            pool.__exit__(None, None, None)
        if executor is not None:
            executor.shutdown()

    def __enter__(self) -> MontySandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _workers(self) -> Any:
        import pydantic_monty

        global _started_in
        with self._lock:
            if self._pool is None:
                _started_in = os.getpid()
                pool = pydantic_monty.Monty(max_processes=MAX_WORKERS, max_checkouts_per_worker=1)
                try:
                    self._pool = pool.__enter__()
                except (OSError, RuntimeError, pydantic_monty.MontyError) as error:
                    raise SandboxError(f"pydantic-monty can't start here: {error}") from error
            return self._pool

    def _threads(self) -> ThreadPoolExecutor:
        _check_process()
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(MAX_WORKERS, "rlm-monty")
            return self._executor


def _check_process() -> None:
    if _started_in not in (None, os.getpid()):
        raise SandboxError("pydantic-monty was started before this process was forked: spawn processes instead")
