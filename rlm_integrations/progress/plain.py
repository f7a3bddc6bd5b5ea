"""Progress as plain lines, where there is neither a terminal nor a notebook."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from rlm_integrations.progress.so_far import Line

__all__ = ["PlainLines"]


class PlainLines:
    """Writes every line; to the ``sys.stderr`` of the moment, where no stream was given."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def show(self, lines: list[Line], busy: bool) -> None:
        """Write ``lines``."""
        stream = self._stream or sys.stderr
        encoding = getattr(stream, "encoding", None) or "utf-8"
        # Where nobody reads along any more, the answer may still be wanted.
        with contextlib.suppress(BrokenPipeError):
            for line in lines:
                print(line.text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)

    def close(self) -> None:
        """Nothing is open."""
