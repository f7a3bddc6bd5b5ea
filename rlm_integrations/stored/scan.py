"""Finds a quote in the bytes of a pack, without decoding its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlm_integrations.stored.pack import Pack

__all__ = ["bounds", "find", "runs"]

# While one is searched, no other thread runs: that takes a few milliseconds.
WINDOW_BYTES = 16 << 20


def find(pack: Pack, quote: str, numbers: Sequence[int]) -> tuple[str, int] | None:
    """Document id and character of the first place where ``quote`` stands, in the order of ``numbers``."""
    needle = quote.encode("utf-8", "surrogatepass")
    if not needle:
        raise ValueError("an empty quote stands everywhere")
    index = 0
    for start, stop in runs(numbers):
        if place := _find(pack, needle, start, stop):
            number, byte = place
            id, _ = pack.head(number)
            return id or str(index + number - start), pack.offset(number, byte)
        index += stop - start
    return None


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """``numbers`` as ranges, in order: ``[1, 2, 3, 7]`` is ``(1, 4), (7, 8)``."""
    if isinstance(numbers, range) and numbers.step == 1:
        if numbers:
            yield numbers.start, numbers.stop
        return
    start = stop = None
    for number in numbers:
        if number != stop:
            if start is not None and stop is not None:
                yield start, stop
            start = number
        stop = number + 1
    if start is not None and stop is not None:
        yield start, stop


def bounds(numbers: Sequence[int]) -> tuple[int, int]:
    """The smallest and the largest of ``numbers``, of which there is at least one."""
    if isinstance(numbers, range):
        first, last = sorted((numbers[0], numbers[-1]))
        return first, last
    return min(numbers), max(numbers)


def _find(pack: Pack, needle: bytes, start: int, stop: int) -> tuple[int, int] | None:
    """Number and byte of the first of the documents from ``start`` up to ``stop`` in which ``needle`` stands."""
    rows = iter(enumerate(pack.rows(start, stop), start))
    number, row = next(rows)
    end = pack.row(stop - 1).text_end
    places = _Places(pack, needle, end)
    place = places.next(row.text_start)
    while place is not None:
        while place >= row.text_end:
            number, row = next(rows)
        if row.text_start <= place and place + len(needle) <= row.text_end:
            return number, place - row.text_start
        if place >= row.text_start:
            # It reaches out of this text, and so does all that is left of it.
            number, row = next(rows)
        place = places.next(row.text_start)
    return None


class _Places:
    """Where ``needle`` stands in the bytes of a pack before ``end``."""

    def __init__(self, pack: Pack, needle: bytes, end: int) -> None:
        self._pack, self._needle, self._end = pack, needle, end
        self._window, self._base = b"", 0

    def next(self, at: int) -> int | None:
        """The first place from ``at`` on; ``at`` never gets smaller."""
        size = len(self._needle)
        while self._end - at >= size:
            if not self._base <= at <= self._base + len(self._window) - size:
                self._window = b""
                self._window = self._pack.read_bytes(at, min(self._end, at + WINDOW_BYTES + size - 1))
                self._base = at
            found = self._window.find(self._needle, at - self._base)
            if found >= 0:
                return self._base + found
            at = self._base + len(self._window) - size + 1
        return None
