"""Texts of many documents in one file, read piece by piece by whoever has its descriptor.

For each document its head (JSON: id and metadata, or ``null`` for a plain ``str``) and its text (UTF-8, lone surrogates
kept), one after the other; then the table: for each document four numbers of 64 bits, little endian. How many documents
there are and where the table starts is told apart from the file.
"""

from __future__ import annotations

import codecs
import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from rlm_integrations.context import Document

__all__ = ["ROW", "Head", "Pack", "PackSize", "PackWriter", "Row", "write_pack"]

PIECE_BYTES = 1 << 20
ROWS_AT_ONCE = 1_000

ROW = struct.Struct("<4Q")
# Of the bytes of a character in UTF-8, all but the first.
_CONTINUATION = bytes(range(0x80, 0xC0))

Head = tuple[str | None, dict[str, Any]]


class Row(NamedTuple):
    """Where a document stands in the file, in bytes, and how many characters its text has."""

    head_start: int
    text_start: int
    text_end: int
    chars: int


@dataclass(frozen=True, slots=True)
class PackSize:
    """What was written: how many documents, where the table starts, characters, and bytes of memory of the largest."""

    documents: int
    table: int
    chars: int
    largest: int


class Pack:
    """Reads the documents of a pack by their number, from 0; owns nothing, and any number of threads may use one.

    Raises ``IndexError`` for a number that is not there and ``OSError`` for a file that is cut short.
    """

    __slots__ = ("documents", "fd", "table")

    def __init__(self, fd: int, documents: int, table: int) -> None:
        self.fd, self.documents, self.table = fd, documents, table

    def __len__(self) -> int:
        return self.documents

    def row(self, number: int) -> Row:
        """Where a document stands."""
        return next(self.rows(number, number + 1))

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Where the documents from ``start`` up to ``stop`` stand; read a thousand at a time."""
        if not 0 <= start <= stop <= self.documents:
            raise IndexError(f"there are {self.documents:,} documents, from 0; asked for {start} up to {stop}")
        for first in range(start, stop, ROWS_AT_ONCE):
            begin, end = (self.table + number * ROW.size for number in (first, min(stop, first + ROWS_AT_ONCE)))
            yield from map(Row._make, ROW.iter_unpack(self.read_bytes(begin, end)))

    def chars(self, number: int) -> int:
        """Characters of a document's text."""
        return self.row(number).chars

    def head(self, number: int) -> tuple[str | None, dict[str, Any]]:
        """Id and metadata of a document."""
        return self.head_at(self.row(number)) or (None, {})

    def head_at(self, row: Row) -> Head | None:
        """Id and metadata of the document that stands at ``row``; None for a plain ``str``."""
        return _head(self.read_bytes(row.head_start, row.text_start))

    def text(self, number: int) -> str:
        """The text of a document; while it is read, there is no second copy of it."""
        row = self.row(number)
        return self._text(row.text_start, row.text_end)

    def document(self, number: int) -> Document:
        """A document: text, id and metadata."""
        item = self.item(number)
        return item if isinstance(item, Document) else Document(item)

    def item(self, number: int) -> str:
        """What was written: a ``Document``, or the plain ``str`` that it was."""
        return self.item_at(self.row(number))

    def items(self, start: int, stop: int) -> Iterator[str]:
        """The documents from ``start`` up to ``stop`` in order, each let go before the next is read."""
        for row in self.rows(start, stop):
            yield self.item_at(row)

    def item_at(self, row: Row) -> str:
        """What was written at ``row``."""
        head, text = self.read(row)
        return Document(text, id=head[0], metadata=head[1]) if head else text

    def read(self, row: Row) -> tuple[Head | None, str]:
        """Id and metadata of the document that stands at ``row``, if it is no plain ``str``, and its text."""
        if row.text_end - row.head_start <= PIECE_BYTES:
            data = self.read_bytes(row.head_start, row.text_end)
            size = row.text_start - row.head_start
            return _head(data[:size]), str(memoryview(data)[size:], "utf-8", "surrogatepass")
        return self.head_at(row), self._text(row.text_start, row.text_end)

    def piece(self, number: int, start: int, end: int) -> str:
        """The text of a document from byte ``start`` up to byte ``end`` of it; a character cut in two is left out."""
        row = self.row(number)
        if not 0 <= start <= end <= row.text_end - row.text_start:
            raise IndexError(f"document {number} has no bytes {start} to {end}")
        data = self.read_bytes(row.text_start + start, row.text_start + end)
        return codecs.getincrementaldecoder("utf-8")("surrogatepass").decode(data.lstrip(_CONTINUATION))

    def offset(self, number: int, byte: int) -> int:
        """How many characters of a document's text come before byte ``byte`` of it."""
        row = self.row(number)
        if not 0 <= byte <= row.text_end - row.text_start:
            raise IndexError(f"document {number} has no byte {byte}")
        if row.chars == row.text_end - row.text_start:
            return byte
        end = row.text_start + byte
        return sum(
            len(self.read_bytes(start, min(end, start + PIECE_BYTES)).translate(None, _CONTINUATION))
            for start in range(row.text_start, end, PIECE_BYTES)
        )

    def read_bytes(self, start: int, end: int) -> bytes:
        """The bytes of the file from ``start`` up to ``end``."""
        data = os.pread(self.fd, end - start, start)
        while len(data) < end - start:
            more = os.pread(self.fd, end - start - len(data), start + len(data))
            if not more:
                raise OSError(f"a file of documents ends at byte {start + len(data):,}, before {end:,}: it was cut")
            data += more
        return data

    def _text(self, start: int, end: int) -> str:
        if end - start <= PIECE_BYTES:
            return self.read_bytes(start, end).decode("utf-8", "surrogatepass")
        decode = codecs.getincrementaldecoder("utf-8")("surrogatepass").decode
        text = ""
        for begin in range(start, end, PIECE_BYTES):
            stop = min(end, begin + PIECE_BYTES)
            # It grows in place, as long as nothing else holds it.
            text += decode(self.read_bytes(begin, stop), stop == end)
        return text


class PackWriter:
    """Writes documents to ``file`` one after the other, from where it stands; ``end`` writes the table."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = file.tell()
        self._table = bytearray()
        self._chars = self._largest = 0

    def add(self, document: str) -> Row:
        """Write a document; where it stands now."""
        head_start = self._at
        self._write(_dumped(document))
        text_start = self._at
        # In pieces, since to encode 1 GB at once would hold it twice. No character stands in two of them.
        for start in range(0, len(document), PIECE_BYTES):
            self._write(str.__getitem__(document, slice(start, start + PIECE_BYTES)).encode("utf-8", "surrogatepass"))
        row = Row(head_start, text_start, self._at, len(document))
        self._table += ROW.pack(*row)
        self._chars += row.chars
        # A character takes one, two or four bytes there: all as many as the widest, which need not be so in the file.
        self._largest = max(self._largest, sys.getsizeof(document))
        return row

    def end(self) -> PackSize:
        """Write the table; nothing may be added any more."""
        table = self._at
        self._write(self._table)
        self._file.flush()
        return PackSize(len(self._table) // ROW.size, table, self._chars, self._largest)

    def _write(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._at += len(data)


def write_pack(file: BinaryIO, documents: Iterable[str]) -> PackSize:
    """Write ``documents`` as a pack to ``file``, which stands at its start; holds no more than one of them."""
    writer = PackWriter(file)
    for document in documents:
        writer.add(document)
    return writer.end()


def _dumped(document: str) -> bytes:
    if not isinstance(document, Document):
        return b"null"
    return json.dumps([document.id, document.metadata]).encode()


def _head(data: bytes) -> Head | None:
    head = json.loads(data)
    return (head[0], head[1]) if head else None
