"""Text as it streams, without the reasoning that some models write out before it."""

from __future__ import annotations

from rlm_integrations.engine.reply import spoken

__all__ = ["VisibleText"]

OPENING, CLOSING = ("<think>", "<thinking>"), ("</think>", "</thinking>")


class VisibleText:
    """Takes pieces of a reply and gives those that the reader should see, as soon as that is certain."""

    def __init__(self) -> None:
        self._held = ""
        self._speaks = False

    def add(self, piece: str) -> str:
        """What ``piece`` adds to the visible text."""
        if self._speaks:
            return piece
        self._held += piece
        start = self._held.lstrip()
        if any(tag.startswith(start[: len(tag)]) for tag in OPENING):
            if not any(tag in start for tag in CLOSING):
                return ""
            start = spoken(start).lstrip()
        # Spaces before the first word are no part of the answer.
        self._speaks = bool(start)
        self._held = ""
        return start
