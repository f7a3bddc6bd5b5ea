"""Text up to a stop sequence, as it streams."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["UpToStop"]


class UpToStop:
    """Takes pieces of a text and gives those before the first of ``stops``, as soon as that is certain."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self._stopped = False

    def add(self, piece: str) -> str:
        """What ``piece`` adds."""
        if self._stopped:
            return ""
        text = self._held + piece
        ends = [end for stop in self._stops if (end := text.find(stop)) >= 0]
        if ends:
            self._stopped = True
            return text[: min(ends)]
        # What may turn out to be the beginning of a stop is kept back.
        held = max((n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was kept back, once there is no more to come."""
        return "" if self._stopped else self._held
