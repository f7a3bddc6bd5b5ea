"""What a cell prints: kept head and tail, cut to the limit, cleaned of what a terminal or a log would act on."""

from __future__ import annotations

import re
from typing import Any

MAX_PRINTED_CHARS = 50_000_000

# Control characters but tab and newline, and lone surrogates, which no encoder takes.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """``text`` with control characters and lone surrogates written out as escapes."""
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cut(text: str, limit: int) -> str:
    """``text``, or its head and tail with a note of how much was left out between them."""
    return text if len(text) <= limit else _joined(text, text, len(text), limit)


def _joined(head: str, tail: str, length: int, limit: int) -> str:
    note = f"\n... [{length - limit:,} of {length:,} characters left out: print less at a time] ...\n"
    first = limit - limit // 3
    return head[:first] + note + (tail[len(tail) - limit // 3 :] if limit // 3 else "")


class TooMuchOutput(Exception):
    """A cell printed more than any cell may."""


class Output:
    """A text stream that holds its head and tail in bounded memory."""

    __slots__ = ("_head", "_kept", "_length", "_limit", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._head: str | None = None
        self._length = self._kept = 0

    def write(self, text: str) -> int:
        """Add ``text``. Raises ``TooMuchOutput`` past the limit on everything printed."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._length += len(text)
        if self._length > MAX_PRINTED_CHARS:
            raise TooMuchOutput(f"the cell printed more than {MAX_PRINTED_CHARS:,} characters: print less")
        self._parts.append(text)
        self._kept += len(text) + 1
        # The count of parts is bounded along with their size, since each write counts one more.
        if self._kept > 8 * self._limit + 100_000:
            self._shrink()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: it is all one piece."""

    def _shrink(self) -> None:
        text = "".join(self._parts)
        if len(text) <= 2 * self._limit:
            self._parts, self._kept = [text], len(text)
            return
        if self._head is None:
            self._head = text[: self._limit]
        self._parts = [text[-self._limit :]] if self._limit else []
        self._kept = self._limit

    def text(self) -> str:
        """What was printed, cut to the limit and clean."""
        tail = "".join(self._parts)
        if self._head is None:
            return clean(cut(tail, self._limit))
        return clean(_joined(self._head, tail, self._length, self._limit))


class Streams:
    """Where ``print`` writes: the cell's output, or what ``redirect_stdout`` put in its place."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stdout: Any = Output(limit)

    def fresh(self) -> Output:
        """The output of a new cell."""
        self.stdout = output = Output(self.limit)
        return output
