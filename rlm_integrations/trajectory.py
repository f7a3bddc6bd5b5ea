"""The record of a tree: its events in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import overload

from rlm_integrations.context import Context
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event, TextDelta
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saved_run import NEVER_KEPT, context_line, event_line, header_line, read_run

__all__ = ["Trajectory"]


class Trajectory(Sequence[Event]):
    """All events of a tree but the text deltas, whose text stands whole in the events that end their calls.

    ``settings`` are what the run was asked with, and ``context`` is what it was asked about, each None where it is not
    known. ``cut``: the file that it was loaded from ended in the middle of a line, as one does that a killed process
    wrote, and that line was left out. Two trajectories are equal when their events are.
    """

    __slots__ = ("_events", "context", "cut", "settings")

    def __init__(
        self,
        events: Sequence[Event] = (),
        *,
        settings: RunSettings | None = None,
        context: Context | None = None,
        cut: bool = False,
    ) -> None:
        self._events = tuple(event for event in events if not isinstance(event, TextDelta))
        self.settings = settings
        self.context = context
        self.cut = cut

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Trajectory: ...
    def __getitem__(self, index: int | slice) -> Event | Trajectory:
        if isinstance(index, int):
            return self._events[index]
        return Trajectory(self._events[index], settings=self.settings, context=self.context, cut=self.cut)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trajectory) and self._events == other._events

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Trajectory of {len(self)} events>"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """What ``save``, or a run that was given ``save=``, wrote: the same events, one of any version before this.

        An answer of the caller's own ``output_type`` comes back as its JSON value. A file that was cut off is read up
        to there, which ``cut`` says. Raises ``InvalidInput`` for a file that can't be read, that is no saved run or a
        newer one, and for a broken line.
        """
        saved = read_run(path)
        return cls(saved.events, settings=saved.settings, context=saved.context, cut=saved.cut)

    def save(self, path: str | os.PathLike[str], include_context: bool = False) -> None:
        """Write JSON lines: the format's version and the settings, then one line for each event. Overwrites ``path``.

        ``include_context``: also write the whole context, metadata included, of which there is else a description only.
        """
        if include_context and self.context is None:
            raise InvalidInput("include_context: the context of this trajectory is not known")
        if include_context and self.context and self.context.is_on_disk:
            raise InvalidInput(NEVER_KEPT)
        with open(path, "wb") as file:
            file.write(header_line(self.settings))
            if include_context and self.context:
                file.writelines(context_line(self.context))
            file.writelines(map(event_line, self._events))
