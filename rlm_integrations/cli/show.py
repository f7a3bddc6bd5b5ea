"""``rlm show``: a saved run, or one that is being saved, as a tree with its cost."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from dataclasses import fields

from rlm_integrations.cli.exits import Exit
from rlm_integrations.cli.follow import Followed
from rlm_integrations.cli.narrator import FULL, SAVED, Detail, Kind
from rlm_integrations.cli.report import print_answer, print_usage
from rlm_integrations.cli.text import clock, flat
from rlm_integrations.cli.tree_order import in_tree_order, sessions
from rlm_integrations.cli.views import EventView, PlainView, is_terminal, say
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event, RunEnded, RunFailed, RunResumed, RunStarted
from rlm_integrations.result import RLMResult
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saved_run import SavedRun, read_run

__all__ = ["show"]

UNDER_WAY_SHOWN = 5
ERROR_CHARS = 2_000


def show(args: argparse.Namespace) -> Exit:
    """Show what ``args.run`` holds, and with ``args.follow`` what is added to it until the run has ended."""
    detail = FULL if args.full else SAVED
    try:
        if args.follow:
            _follow(args.run, detail)
        else:
            saved = read_run(args.run)
            _Shown(args.run, saved, _view(detail, live=False)).end(cut=saved.cut)
    except InvalidInput as error:
        print(f"rlm: {flat(str(error), ERROR_CHARS)}", file=sys.stderr)
        return Exit.USAGE
    return Exit.COMPLETE


def _follow(path: str, detail: Detail) -> None:
    followed = Followed(path)
    view = _view(detail, live=True)
    shown = _Shown(path, followed.start(), view)
    if not shown.has_begun:
        view.waiting("waiting for the first event")
    with view:
        while not shown.has_ended:
            shown.add(followed.more())
    shown.end()


def _view(detail: Detail, *, live: bool) -> EventView:
    if not is_terminal(sys.stdout):
        leave_out: tuple[Kind, ...] = () if live else ("asking",)
        return PlainView(sys.stdout, leave_out, detail)
    from rlm_integrations.cli.live import LiveView, TerminalView

    return (LiveView if live else TerminalView)(sys.stdout, (), detail)


class _Shown:
    """What was shown of a run so far, on stdout."""

    def __init__(self, path: str, saved: SavedRun, view: EventView) -> None:
        self._path = path
        self._saved = saved
        self._view = view
        self._events: list[Event] = []
        self._root: RunStarted | RunResumed | RunEnded | RunFailed | None = None
        if saved.events and not any(map(_is_root, saved.events)):
            raise InvalidInput("none of the events in this file starts a run: it is no whole record of one")
        self.add(in_tree_order(saved.events))

    def add(self, events: Iterable[Event]) -> None:
        """Show more."""
        for event in events:
            self._events.append(event)
            self._view(event)
            if self._root is None and _is_root(event) and self._saved.settings:
                self._view.note(_described(self._saved.settings))
            match event:
                case RunStarted() | RunResumed() | RunEnded() | RunFailed() if event.parent_id is None:
                    self._root = event

    @property
    def has_begun(self) -> bool:
        """Whether there was any event."""
        return bool(self._events)

    @property
    def has_ended(self) -> bool:
        """Whether the root run has ended, and was not resumed since."""
        return isinstance(self._root, RunEnded | RunFailed)

    def end(self, *, cut: bool = False) -> None:
        """Show how the run ended and what it took, or how far it came."""
        out, narrator = sys.stdout, self._view.narrator
        match self._root:
            case RunEnded() as end:
                if end.status == "complete":
                    say(out, "status: complete", "bold")
                print_answer(RLMResult(end.answer, end.status, end.citations, end.usage), out)
            case RunFailed() as end:
                say(out, f"status: failed: {flat(end.error, ERROR_CHARS)}", "bold yellow")
                print_usage(end.usage, out)
            case _:
                say(out, "status: no end in this file: the run is under way, or its process was killed", "bold yellow")
                tasks = [task for task in narrator.under_way.values() if task.kind != "run"]
                for task in tasks[:UNDER_WAY_SHOWN]:
                    say(out, f"under way: {task.place}: {task.doing}, since {clock(task.start)}")
                if len(tasks) > UNDER_WAY_SHOWN:
                    say(out, f"under way: {len(tasks) - UNDER_WAY_SHOWN:,} more")
                print_usage(narrator.tally.report(), out)
        if cut:
            say(out, "cut off: the last line of the file is not whole and was left out", "bold yellow")
        say(out, f"time: {self._took()}")
        if not isinstance(self._root, RunEnded):
            documents = "" if self._saved.context else " PATH..."
            say(out, f"to go on with it: rlm resume {flat(shlex.quote(self._path), ERROR_CHARS)}{documents}", "dim")

    def _took(self) -> str:
        times = [[event.time for event in session] for session in sessions(self._events)]
        seconds = sum(max(session) - min(session) for session in times)
        return f"{seconds:.1f} s" + (f" in {len(times)} sessions" if len(times) > 1 else "")


def _is_root(event: Event) -> bool:
    return isinstance(event, RunStarted) and event.parent_id is None


def _described(settings: RunSettings) -> str:
    limits = {item.name: getattr(settings.budget, item.name) for item in fields(settings.budget)}
    told = {
        "sub-calls by": settings.recursive_model if settings.recursive_model != settings.model else None,
        "max_depth": settings.max_depth,
        "max_iterations": settings.max_iterations,
        **limits,
        "temperature": settings.temperature,
        "tools": " ".join(settings.tools) or None,
    }
    return "settings: " + ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
