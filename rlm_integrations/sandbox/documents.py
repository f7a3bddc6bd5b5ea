"""What model code sees of documents on disk: a sequence that reads a document when it is touched, and lets it go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, overload

from rlm_integrations.context import Document
from rlm_integrations.stored.pack import Pack, Row

__all__ = ["Documents"]


class Documents(Sequence[Document]):
    """Documents on disk, in order. A slice is of the same kind and reads nothing."""

    __slots__ = ("_numbers", "_pack")

    def __init__(self, pack: Pack, numbers: range | tuple[int, ...]) -> None:
        self._pack, self._numbers = pack, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Documents: ...
    def __getitem__(self, index: Any) -> Any:
        try:
            numbers = self._numbers[index]
        except IndexError:
            raise IndexError(f"there are {len(self):,} documents, the first is number 0") from None
        except TypeError:
            told = "context[context.ids.index(id)] is the one with an id" if isinstance(index, str) else "pass an int"
            raise TypeError(
                f"documents have numbers from 0, and no {type(index).__name__} for a name: {told}"
            ) from None
        if isinstance(numbers, int):
            return _read(self._pack, numbers, self._pack.row(numbers))
        return Documents(self._pack, numbers)

    def __iter__(self) -> Iterator[Document]:
        for number, row in zip(self._numbers, self._rows(), strict=True):
            yield _read(self._pack, number, row)

    def __add__(self, other: Any) -> Documents:
        if not isinstance(other, Documents):
            raise TypeError(
                f"documents on disk and a {type(other).__name__} can't be added: use itertools.chain, or add another "
                "slice of `context`"
            )
        return Documents(self._pack, (*self._numbers, *other._numbers))

    __radd__ = __add__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"documents on disk have no {name!r}: they are a sequence that can't be changed, of which each is a str "
            "with .id and .metadata; for doc in context: ... reads one at a time"
        )

    def __repr__(self) -> str:
        what = "1 document" if len(self) == 1 else f"{len(self):,} documents"
        return f"<{what} on disk, {_told(self._bytes())}>"

    def __copy__(self) -> Documents:
        return self

    def __deepcopy__(self, memo: object) -> Documents:
        # It never changes; and the memo would hold the file, with documents that are not among these.
        return self

    @property
    def ids(self) -> list[str | None]:
        """The ids of all documents, in order, of which no text is read."""
        return [self._pack.head(number)[0] for number in self._numbers]

    def _has_at_most(self, chars: int) -> bool:
        for row in self._rows():
            chars -= row.chars
            if chars < 0:
                return False
        return True

    def _rows(self) -> Iterator[Row]:
        numbers = self._numbers
        if type(numbers) is range and numbers.step == 1 and numbers:
            return self._pack.rows(numbers.start, numbers.stop)
        return map(self._pack.row, numbers)

    def _bytes(self) -> int:
        return sum(row.text_end - row.text_start for row in self._rows())


def _read(pack: Pack, number: int, row: Row) -> Document:
    document = None
    try:
        head, text = pack.read(row)
        id, metadata = head or (None, {})
        document = Document(text, id=id, metadata=metadata)
    except MemoryError:
        # What was read of it is held by this error, and would be by the next one.
        text = ""
    if document is None:
        raise MemoryError(
            f"a document of {row.chars:,} characters does not fit into the memory that is left: del what is not needed "
            "any more and keep no documents in lists; search(words) shows passages of it"
        )
    document._number = number  # type: ignore[attr-defined]
    return document


def _told(size: float) -> str:
    if size < 1000:
        return f"{size} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} GB"
