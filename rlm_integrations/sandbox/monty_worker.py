"""One worker of pydantic-monty: cells go in, and an error comes out as model code should see it."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rlm_integrations.errors import SandboxError

MAX_MESSAGE_CHARS = 2_000


class Worker:
    """One checkout from Monty's pool: a process of its own, never used for another session."""

    def __init__(self, session: Any) -> None:
        import pydantic_monty

        self.monty: Any = pydantic_monty
        self.names: dict[str, None] = {}
        self.uses_answer = False
        self._sources: dict[str, tuple[int, list[str]]] = {}
        self._feeds = self._cells = 0
        self._session = session
        try:
            session.__enter__()
        except (OSError, RuntimeError, TimeoutError, pydantic_monty.MontyError) as error:
            raise SandboxError(f"no worker of pydantic-monty can be started: {error}") from error
        self._pid: int | None = session.worker_pid
        self._handle: int | None = None
        if self._pid is not None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._handle = os.pidfd_open(self._pid)
        self._lock = threading.Lock()

    def feed(
        self,
        source: str,
        inputs: Mapping[str, Any] | None = None,
        write: Callable[[str], Any] = len,
        shown: str | None = None,
    ) -> Any:
        """Start ``source``. ``shown`` is what the model wrote of it, if it is a cell."""
        if shown is not None:
            self._cells += 1
            self._sources[f"<python-input-{self._feeds}>"] = self._cells, shown.split("\n")
        self._feeds += 1
        return self._session.feed_start(
            source, inputs=dict(inputs or {}), print_callback=lambda stream, text: write(text)
        )

    def described(self, error: Any, given: Mapping[str, Any]) -> str:
        """``error`` with the lines of model code that led to it."""
        lines = []
        for frame in getattr(error, "traceback", list)():
            cell, source = self._sources.get(frame.filename, (0, []))
            if cell and frame.line <= len(source):
                where = f"line {frame.line}" if cell == self._cells else f"cell {cell}, line {frame.line}"
                if frame.function_name and not frame.function_name.startswith("<"):
                    where += f", in {frame.function_name}"
                lines.append(f"{where}: {source[frame.line - 1].strip()[:200]}")
        if len(lines) > 8:
            lines = [*lines[:4], f"... {len(lines) - 8} more lines ...", *lines[-4:]]
        message = error.display("type-msg") if hasattr(error, "display") else str(error)
        if missing := re.search(r"name '(\w+)' is not defined", message):
            near = difflib.get_close_matches(missing[1], [*self.names, *given], 1)
            message += f"; did you mean {near[0]!r}?" if near else ""
        if len(message) > MAX_MESSAGE_CHARS:
            message = f"{message[:MAX_MESSAGE_CHARS]}... [{len(message) - MAX_MESSAGE_CHARS:,} more characters]"
        return "\n".join([*lines, message])

    def is_lost(self) -> bool:
        """Whether its process has ended."""
        if self._handle is None:
            return False
        import select

        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self) -> None:
        """End the process at once."""
        with self._lock, contextlib.suppress(OSError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self._pid is not None and not hasattr(os, "pidfd_open"):
                os.kill(self._pid, signal.SIGTERM)

    def close(self) -> None:
        """End the process and have it reaped."""
        self.kill()
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
            self._handle = self._pid = None
        with contextlib.suppress(Exception):
            self._session.__exit__(None, None, None)
