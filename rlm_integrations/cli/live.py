"""The view on a terminal: what is done stays and scrolls up, what is being done shows below it and changes."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.segment import Segment
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.text import Text

from rlm_integrations.cli.narrator import LIVE, LOOKED_UP, Detail, Entry, Kind, Narrator, Task, describe
from rlm_integrations.cli.text import flat, tail
from rlm_integrations.events import Event

__all__ = ["LiveView", "TerminalView", "terminal"]

WRITTEN_LINES = 8
STYLES: Mapping[Kind, str] = {
    "context": "",
    "asking": "",
    "reply": "dim",
    "code": "",
    "output": "green",
    "sub-call": "cyan",
    "failure": "yellow",
    "note": "magenta",
}
# With the lexer itself, since to look it up takes longer than to use it.
PYTHON = Syntax("", Syntax("", "python").lexer or "python", theme="ansi_dark", word_wrap=True)


def terminal(stream: TextIO) -> Console:
    """A console that takes all text as text: no markup, no emoji codes, no highlighting by guess."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


class TerminalView:
    """Shows what has happened on a terminal, each thing once."""

    wants_text = False

    def __init__(self, stream: TextIO, leave_out: Collection[Kind] = (), detail: Detail = LIVE) -> None:
        self.narrator = Narrator(detail)
        self._console = terminal(stream)
        self._leave_out = {"asking", *leave_out}

    def __call__(self, event: Event) -> None:
        for entry in self.narrator.tell(event):
            if entry.kind not in self._leave_out:
                self._console.print(_rendered(entry))

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(flat(text, 500), "dim"))

    def waiting(self, text: str) -> None:
        """Not shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class LiveView(TerminalView):
    """Shows a run on a terminal while it goes on."""

    wants_text = True

    def __init__(self, stream: TextIO, leave_out: Collection[Kind] = (), detail: Detail = LIVE) -> None:
        super().__init__(stream, leave_out, detail)
        self._waiting = ""
        self._start = time.time()
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._under_way,
            console=self._console,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def waiting(self, text: str) -> None:
        """Shown below, until there is something else to show."""
        self._waiting = text

    def _under_way(self) -> RenderableType:
        """The text that is being written, and a line that says what is going on and what it took so far."""
        # The event loop's thread goes on while rich's thread asks for this.
        tasks = list(self.narrator.under_way.values())
        used = self.narrator.tally.report()
        shown: list[RenderableType] = []
        writing = next((task for task in tasks if task.kind == "turn" and task.text), None)
        if writing:
            shown.append(Padding(Text(tail(writing.text, WRITTEN_LINES), "dim"), (0, 0, 0, 4)))
        start = next((task.start for task in tasks if task.kind == "run" and not task.place), self._start)
        seconds = time.time() - max(start, self.narrator.resumed)
        so_far = f"{describe(used)}, {max(0.0, seconds):.0f} s"
        self._spinner.update(text=Text.assemble(_doing(tasks) or self._waiting, ("  " + so_far, "dim")))
        return Group(*shown, self._spinner)


def _doing(tasks: list[Task]) -> str:
    """What is going on, in a few words: the innermost thing, and how many like it."""
    busy = [task for task in tasks if task.kind != "run"]
    calls = [task for task in busy if task.kind != "cell"]
    if len(calls) > 1:
        return f"{len(calls)} calls under way"
    return next((f"{task.place}: {task.doing}" for task in (*calls, *reversed(busy))), "")


@dataclass(frozen=True, slots=True)
class _Indented:
    """``text`` so far from the left; half as far at most as a terminal is wide, however deep in the tree it stands."""

    text: Text
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = min(self.left, options.max_width // 2)
        width = options.max_width - left
        # Not by ``Padding``, which takes thrice as long and fills every line up with spaces.
        fits = all(cell_len(line) <= width for line in self.text.plain.split("\n"))
        for line in self.text.split(allow_blank=True) if fits else self.text.wrap(console, width):
            yield Segment(" " * left)
            yield from line.render(console, "\n")


def _rendered(entry: Entry) -> RenderableType:
    above, arrow, own = entry.place.rpartition(" > ")
    style, left = STYLES[entry.kind], 2 * entry.depth
    heading = Text.assemble((above + arrow, "dim"), (own, "bold"), "  " if own else "", entry.title)
    if entry.kind in ("failure", "reply", "note"):
        heading.stylize(style)
    if entry.kind == "code":
        code = _Indented(_highlighted(entry.body), left + 4)
        heading = Text.styled(f"  {entry.title}", "dim")
        return Group(_Indented(heading, left), code) if entry.title == LOOKED_UP else code
    if entry.kind == "output":
        heading = Text.styled("  the code printed", "dim")
    if not entry.body:
        return _Indented(heading, left)
    return Group(_Indented(heading, left), _Indented(Text.styled(entry.body, style), left + 4))


def _highlighted(code: str) -> Text:
    text = PYTHON.highlight(code)
    text.rstrip()
    return text
