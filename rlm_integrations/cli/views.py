"""What a user sees of a run while it goes on: plain lines, or a live view on a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from typing import Protocol, TextIO

from rlm_integrations.cli.narrator import LIVE, Detail, Entry, Kind, Narrator
from rlm_integrations.cli.text import flat, shown
from rlm_integrations.events import Event

__all__ = ["EventView", "NoView", "PlainView", "View", "is_terminal", "say", "view_on", "warnings_to"]


class View(Protocol):
    """An observer that shows events. ``wants_text``: whether it shows replies while they are being written."""

    wants_text: bool

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        ...

    def note(self, text: str) -> None:
        """Show a remark that is no event."""
        ...

    def waiting(self, text: str) -> None:
        """Show what is being done before the first event."""
        ...

    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...


class EventView(View, Protocol):
    """A view that tells what its narrator makes of events."""

    narrator: Narrator


class NoView:
    """Shows nothing."""

    wants_text = False

    def __call__(self, event: Event) -> None:
        pass

    def note(self, text: str) -> None:
        """Not shown."""

    waiting = note

    def __enter__(self) -> NoView:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class PlainView:
    """One line for each thing, each of which says where in the tree it happened, so that it can be grepped."""

    wants_text = False

    def __init__(self, stream: TextIO, leave_out: Collection[Kind] = (), detail: Detail = LIVE) -> None:
        self._stream = stream
        self._leave_out = leave_out
        self.narrator = Narrator(detail)

    def __call__(self, event: Event) -> None:
        for entry in self.narrator.tell(event):
            if entry.kind not in self._leave_out:
                for line in _lines(entry):
                    self._print(line)

    def note(self, text: str) -> None:
        """One more line."""
        self._print(flat(text, 500))

    waiting = note

    def _print(self, line: str) -> None:
        # Where nobody reads along any more, the answer may still be wanted.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _lines(entry: Entry) -> list[str]:
    prefix = f"{entry.place}: " if entry.place else ""
    if not entry.body:
        return [f"{prefix}{entry.title}"]
    return [f"{prefix}{entry.title} | {line}" for line in entry.body.split("\n")]


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def say(stream: TextIO, line: str, style: str = "") -> None:
    """Print one line, on a terminal in ``style``."""
    if is_terminal(stream):
        from rich.text import Text

        from rlm_integrations.cli.live import terminal

        terminal(stream).print(Text(shown(line), style))
    else:
        print(shown(line), file=stream, flush=True)


def view_on(stream: TextIO, leave_out: Collection[Kind] = ()) -> View:
    """The view that fits ``stream``, without some kinds of entries."""
    if not is_terminal(stream):
        return PlainView(stream, leave_out)
    from rlm_integrations.cli.live import LiveView

    return LiveView(stream, leave_out)


@contextlib.contextmanager
def warnings_to(view: View) -> Iterator[None]:
    """Show this package's warnings as lines of ``view``."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            view.note(f"warning: {record.getMessage()}")

    logger, handler = logging.getLogger("rlm_integrations"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
