"""Reads a saved run while another process writes it."""

from __future__ import annotations

import contextlib
import os
import time

from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event
from rlm_integrations.saved_run import CONTEXT_START, SavedRun, read_event, read_run

__all__ = ["Followed"]

POLL_S = 0.2
MARK_BYTES = 1_000


class Followed:
    """The file at ``path``, a line of which counts once it is whole.

    Raises ``InvalidInput`` for a file that can't be read or holds no run, and for a broken line.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines = self._bytes = 0
        self._mark = b""

    def start(self) -> SavedRun:
        """What the file holds now; waits for the first line of an empty one."""
        with contextlib.suppress(OSError):  # which ``read_run`` puts into words
            while not os.path.getsize(self._path):
                time.sleep(POLL_S)
        saved = read_run(self._path)
        self._take(1 + (saved.context is not None) + len(saved.events))
        return saved

    def more(self) -> list[Event]:
        """What was added since; waits a moment where there is nothing."""
        number = self._lines
        lines = self._take()
        if not lines:
            time.sleep(POLL_S)
        return [
            self._event(line, at)
            for at, line in enumerate(lines, number + 1)
            if not (at == 2 and line.startswith(CONTEXT_START))
        ]

    def _take(self, limit: int | None = None) -> list[bytes]:
        """The next whole lines, ``limit`` at most."""
        lines: list[bytes] = []
        try:
            with open(self._path, "rb") as file:
                file.seek(self._bytes - len(self._mark))
                if file.read(len(self._mark)) != self._mark:
                    raise InvalidInput(f"{self._path!r} was written anew while it was followed: show it again")
                while len(lines) != limit and (line := file.readline()).endswith(b"\n"):
                    lines.append(line)
        except OSError as error:
            raise InvalidInput(f"{self._path!r} can't be read: {error.strerror or error}") from error
        if lines:
            self._mark = lines[-1][-MARK_BYTES:]
        self._lines += len(lines)
        self._bytes += sum(map(len, lines))
        return lines

    def _event(self, line: bytes, number: int) -> Event:
        try:
            return read_event(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"line {number} of {self._path!r} can't be read: {error}") from error
