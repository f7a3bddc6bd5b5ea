"""The record of a tree: its events in order, kept as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, overload

from rlm_integrations.events import Event, RunEnded, TextDelta

__all__ = ["Trajectory", "event_json"]

VERSION = 1


class Trajectory(Sequence[Event]):
    """All events of a tree but the text deltas, whose text stands whole in the events that end their calls."""

    __slots__ = ("_events",)

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self._events = tuple(event for event in events if not isinstance(event, TextDelta))

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Trajectory: ...
    def __getitem__(self, index: int | slice) -> Event | Trajectory:
        return Trajectory(self._events[index]) if isinstance(index, slice) else self._events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trajectory) and self._events == other._events

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Trajectory of {len(self)} events>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON lines: one that says the format's version, then one for each event. Overwrites ``path``."""
        with Path(path).open("w", encoding="utf-8") as file:
            write_header(file)
            for event in self._events:
                file.write(event_json(event) + "\n")


def write_header(file: TextIO) -> None:
    """Write the line that opens a saved trajectory."""
    file.write(json.dumps({"rlm_trajectory": VERSION}) + "\n")


def event_json(event: Event) -> str:
    """One line of JSON; ASCII, so that text no encoding could write (lone surrogates) survives."""
    plain = asdict(event)
    if isinstance(event, RunEnded):
        plain["answer"] = _plain(event.answer)
    return json.dumps(plain)


def _plain(answer: Any) -> Any:
    """An answer may be anything that the caller's ``output_type`` makes."""
    if isinstance(answer, str):
        return answer
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(answer, fallback=str)
