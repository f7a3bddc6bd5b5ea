"""The view on a terminal: what is done stays and scrolls up, what is being done shows below it and changes."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TextIO, assert_never

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.text import Text

from rlm_integrations.cli.narrator import Entry, Kind, Narrator, Task, describe
from rlm_integrations.cli.text import flat, tail
from rlm_integrations.events import Event

__all__ = ["LiveView", "terminal"]

WRITTEN_LINES = 8
CODE_THEME = "ansi_dark"


def terminal(stream: TextIO) -> Console:
    """A console that takes all text as text: no markup, no emoji codes, no highlighting by guess."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


class LiveView:
    """Shows a run on a terminal."""

    wants_text = True

    def __init__(self, stream: TextIO, leave_out: Collection[Kind] = ()) -> None:
        self._console = terminal(stream)
        self._leave_out = {"asking", *leave_out}
        self._narrator = Narrator()
        self._waiting = ""
        self._start = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._under_way,
            console=self._console,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        for entry in self._narrator.tell(event):
            if entry.kind not in self._leave_out:
                self._console.print(_rendered(entry))

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(flat(text, 500), "dim"))

    def waiting(self, text: str) -> None:
        """Shown below, until there is something else to show."""
        self._waiting = text

    def _under_way(self) -> RenderableType:
        """The text that is being written, and a line that says what is going on and what it took so far."""
        # The event loop's thread goes on while rich's thread asks for this.
        tasks = list(self._narrator.under_way.values())
        used = self._narrator.tally.report()
        shown: list[RenderableType] = []
        writing = next((task for task in tasks if task.kind == "turn" and task.text), None)
        if writing:
            shown.append(Padding(Text(tail(writing.text, WRITTEN_LINES), "dim"), (0, 0, 0, 4)))
        so_far = f"{describe(used)}, {time.monotonic() - self._start:.0f} s"
        self._spinner.update(text=Text.assemble(_doing(tasks) or self._waiting, ("  " + so_far, "dim")))
        return Group(*shown, self._spinner)


def _doing(tasks: list[Task]) -> str:
    """What is going on, in a few words: the innermost thing, and how many like it."""
    busy = [task for task in tasks if task.kind != "run"]
    calls = [task for task in busy if task.kind != "cell"]
    if len(calls) > 1:
        return f"{len(calls)} calls under way"
    return next((f"{task.place}: {task.doing}" for task in (*calls, *reversed(busy))), "")


def _rendered(entry: Entry) -> RenderableType:
    heading = Text.assemble((entry.place, "bold"), "  " if entry.place else "", entry.title)
    match entry.kind:
        case "code":
            code = Syntax(entry.body, "python", theme=CODE_THEME, background_color="default", word_wrap=True)
            shown: RenderableType = Padding(code, (0, 0, 0, 4))
        case "output":
            shown = Group(Text("  the code printed", "dim"), Padding(Text(entry.body, "green"), (0, 0, 0, 4)))
        case "failure":
            heading.stylize("yellow")
            body = Padding(Text(entry.body, "yellow"), (0, 0, 0, 4))
            shown = Group(heading, body) if entry.body else heading
        case "reply":
            heading.stylize("dim")
            shown = heading
        case "context" | "asking" | "sub-call":
            shown = heading
        case _:
            assert_never(entry.kind)
    return Padding(shown, (0, 0, 0, 2 * entry.depth))
