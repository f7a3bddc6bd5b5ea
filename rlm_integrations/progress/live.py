"""Progress that changes in its place: on a terminal, and in a notebook."""

from __future__ import annotations

import importlib
import io
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rlm_integrations.cli.live import terminal
from rlm_integrations.progress.so_far import Line, RunSoFar

__all__ = ["NotebookDisplay", "TerminalDisplay"]

STYLES = {"parted": "yellow", "complete": "green", "extracted": "yellow", "failed": "red"}
LINES_OF_A_RUN = 4
BAR_WIDTH = 30
NOTEBOOK_WIDTH = 400
NOTEBOOK_RUNS = 8
NOTEBOOK_LINES = 50
NOTEBOOK_EVERY_S = 0.25
PRE = "<pre style=\"white-space:pre-wrap;line-height:normal;font-family:Menlo,'DejaVu Sans Mono',consolas,monospace\">"


class Rows:
    """Runs under way as what rich can show; their spinners go on from one time to the next."""

    def __init__(self) -> None:
        self._spinner = Spinner("dots")

    def __call__(self, runs: Sequence[RunSoFar], most: int) -> RenderableType:
        """At most ``most`` of ``runs``, the first ones, and how many more there are."""
        shown: list[RenderableType] = []
        for run in runs[:most]:
            shown.extend(self._rows(run))
        if len(runs) > most:
            shown.append(Text(f"and {len(runs) - most:,} more under way", "dim"))
        return Group(*shown)

    def _rows(self, run: RunSoFar) -> list[RenderableType]:
        heading = Table.grid(padding=(0, 1))
        heading.add_row(self._spinner, _line(f"{run.place}: ", "bold").append(run.query, "not bold"))
        rows: list[RenderableType] = [heading, _indented(Text(run.used))]
        if run.batch:
            batch = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=run.batch, completed=run.batch_done, width=BAR_WIDTH)
            batch.add_row(bar, _line(run.calls_below))
            rows.append(_indented(batch))
        if run.failures:
            rows.append(_indented(_line(run.failed, "yellow")))
        return rows


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _indented(row: RenderableType) -> Padding:
    return Padding(row, (0, 0, 0, 2), expand=False)


def _ended(line: Line) -> Text:
    return Text(line.text, STYLES[line.kind])


class TerminalDisplay:
    """Shows runs below what a terminal holds while there are any; the line of totals of each stays.

    ``runs`` gives those under way, from any thread.
    """

    def __init__(self, stream: TextIO, runs: Callable[[], Sequence[RunSoFar]]) -> None:
        self._console = terminal(stream)
        self._runs = runs
        self._rows = Rows()
        self._live: Live | None = None

    def show(self, lines: list[Line], busy: bool) -> None:
        """Print the lines that stay; ``busy``: whether there are others under way."""
        if busy and self._live is None:
            self._live = Live(
                get_renderable=self._renderable,
                console=self._console,
                transient=True,
                refresh_per_second=8,
                # What is meant for a file or a pipe must get there.
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            self._live.start()
        if not busy:
            self.close()
        for line in lines:
            if line.stays:
                self._console.print(_ended(line), soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._live is not None:
            self._live.stop()
            # After a Ctrl-C in the middle of a first try, the second one does nothing more.
            self._console.show_cursor(True)
            self._live = None

    def _renderable(self) -> RenderableType:
        return self._rows(self._runs(), max(1, (self._console.height - 2) // LINES_OF_A_RUN))


class NotebookDisplay:
    """Shows runs in the output of a notebook's cell, which needs no widgets; also of those that have ended."""

    def __init__(self, runs: Callable[[], Sequence[RunSoFar]]) -> None:
        self._runs = runs
        self._rows = Rows()
        self._ended: deque[Text] = deque(maxlen=NOTEBOOK_LINES)
        self._handle: Any = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def show(self, lines: list[Line], busy: bool) -> None:
        """Keep the lines that stay; ``busy``: whether there are others under way."""
        self._ended.extend(_ended(line) for line in lines if line.stays)
        if busy and self._thread is None:
            self._over = threading.Event()
            self._thread = threading.Thread(target=self._refresh, args=(self._over,), name="rlm-progress", daemon=True)
            self._update()
            self._thread.start()
        if not busy:
            self.close()

    def close(self) -> None:
        """Show the end, and nothing after it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._over.set()
            if thread.is_alive():
                thread.join()
            self._update()

    def _refresh(self, over: threading.Event) -> None:
        while not over.wait(NOTEBOOK_EVERY_S):
            self._update()

    def _update(self) -> None:
        console = Console(
            file=io.StringIO(), record=True, width=NOTEBOOK_WIDTH, force_jupyter=False, markup=False, highlight=False
        )
        console.print(Group(*list(self._ended), self._rows(self._runs(), NOTEBOOK_RUNS)))
        html = console.export_html(inline_styles=True, code_format=PRE + "{code}</pre>", clear=False)
        shown = {"text/plain": console.export_text(), "text/html": html}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
