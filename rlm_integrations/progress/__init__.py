"""``Progress``: an observer that shows what runs are doing while they do it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Protocol, TextIO

from rlm_integrations.cli.views import is_terminal
from rlm_integrations.events import Event, TextDelta
from rlm_integrations.progress.board import Board
from rlm_integrations.progress.plain import PlainLines
from rlm_integrations.progress.so_far import Line, RunSoFar

__all__ = ["Progress"]


class Progress:
    """Shows turns, cells, sub-calls, tokens, cost and time of every run it observes, and a line of totals at its end.

    >>> with Progress() as progress:
    ...     rlm = RLM("openai/gpt-5-mini", observers=[progress])
    ...     result = rlm.run(query, context)

    Inside the ``with`` block this changes in its place, in a notebook and on a terminal that takes UTF-8; elsewhere,
    and outside of the block, it is a few plain lines. Serves any number of runs, threads and tasks at once, and any
    number of blocks, one at a time. ``max_iterations`` is that of the RLM, where the limit of turns should show ("turn
    2 of 20"). ``stream``: where to write; by default the notebook, or else ``sys.stderr``.
    """

    def __init__(self, *, max_iterations: int | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._max_iterations = max_iterations
        self._board = Board(max_iterations)
        # Two locks: a display's own thread asks for the runs while a line is being printed.
        self._counting = threading.Lock()
        self._showing = threading.Lock()
        self._display: _Display = PlainLines(stream)

    def __enter__(self) -> Progress:
        with self._showing:
            self._display.close()
            # A run that was given up without a word should not show for ever.
            self._board = Board(self._max_iterations)
            self._display = self._fitting()
        return self

    def __exit__(self, *error: object) -> None:
        with self._showing:
            display, self._display = self._display, PlainLines(self._stream)
            display.close()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, TextDelta):
            return
        with self._counting:
            lines = self._board.tell(event)
        with self._showing:
            self._display.show(lines, bool(self._board.runs))

    def _runs(self) -> Sequence[RunSoFar]:
        with self._counting:
            return list(self._board.runs.values())

    def _fitting(self) -> _Display:
        stream = self._stream or sys.stderr
        if self._stream is None and _in_notebook():
            from rlm_integrations.progress.live import NotebookDisplay

            return NotebookDisplay(self._runs)
        if is_terminal(stream) and (stream.encoding or "").lower().startswith("utf"):
            from rlm_integrations.progress.live import TerminalDisplay

            return TerminalDisplay(stream, self._runs)
        return PlainLines(self._stream)


class _Display(Protocol):
    def show(self, lines: list[Line], busy: bool) -> None: ...
    def close(self) -> None: ...


def _in_notebook() -> bool:
    """Whether this code was sent by a notebook: its shell has a kernel, that of a terminal has none."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None
