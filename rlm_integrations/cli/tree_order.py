"""Puts the events of a saved run in the order of its tree: each thing whole, where its parent started it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlm_integrations.events import Event, RunResumed

__all__ = ["in_tree_order", "sessions"]

Part = Event | str  # an event, or the id of something below it


def in_tree_order(events: Sequence[Event]) -> Iterator[Event]:
    """``events``, so that what happened side by side is told one after the other.

    What a resumed run did comes after all that was done before.
    """
    # Only a parent that was seen before counts: a record may hold anything, circles too.
    parents: dict[str, str | None] = {}
    for session in sessions(events):
        yield from _ordered(session, parents)


def sessions(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """``events``, cut where the run was resumed."""
    starts = [index for index, event in enumerate(events) if isinstance(event, RunResumed)]
    for start, end in zip([0, *starts], [*starts, len(events)], strict=True):
        if start < end:
            yield events[start:end]


def _ordered(events: Sequence[Event], parents: dict[str, str | None]) -> Iterator[Event]:
    parts: dict[str | None, list[Part]] = {None: []}
    for event in events:
        if event.id not in parents:
            parents[event.id] = event.parent_id if event.parent_id in parents else None
        # What an earlier session began has its place again, too.
        missing: list[str] = []
        place: str | None = event.id
        while place not in parts:
            assert place is not None
            missing.append(place)
            place = parents[place]
        for below in reversed(missing):
            parts[place].append(below)
            parts[below] = []
            place = below
        parts[event.id].append(event)
    # Not by recursion: how deep a record goes is up to whoever wrote it.
    walks = [iter(parts[None])]
    while walks:
        part = next(walks[-1], None)
        if part is None:
            walks.pop()
        elif isinstance(part, str):
            walks.append(iter(parts[part]))
        else:
            yield part
