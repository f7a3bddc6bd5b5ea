"""Documents in one file, read in place."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from rlm_integrations import Document
from rlm_integrations.stored import Pack, PackSize, write_pack
from rlm_integrations.stored.pack import PIECE_BYTES

TEXTS = ["", "plain", "Grüße \U0001f600", "half \ud800 of a character", "ü" * PIECE_BYTES + "x" * PIECE_BYTES]
MIXED = [
    Document("one", id="a", metadata={"n": 1, "none": None}),
    "plain",
    Document("", id="empty"),
    Document("two", metadata={"x": [1.5]}),
]


@pytest.fixture
def packed(tmp_path: Path) -> Iterator[Callable[[list[str]], Pack]]:
    """Writes texts to a file and reads them from there."""
    fds = []

    def pack(documents: list[str]) -> Pack:
        with (tmp_path / "pack").open("wb") as file:
            size = write_pack(file, iter(documents))
        fds.append(os.open(tmp_path / "pack", os.O_RDONLY))
        return Pack(fds[-1], size.documents, size.table)

    yield pack
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("text", TEXTS, ids=["empty", "ascii", "four bytes", "surrogate", "long"])
def test_a_text_is_read_as_it_was_written(packed: Callable[[list[str]], Pack], text: str) -> None:
    pack = packed(["before", text, "behind"])
    assert (pack.text(1), pack.chars(1)) == (text, len(text))
    assert [pack.text(number) for number in (0, 2)] == ["before", "behind"]


def test_documents_keep_id_and_metadata_and_plain_text_stays_plain(packed: Callable[[list[str]], Pack]) -> None:
    pack = packed(MIXED)
    read = list(pack.items(0, len(pack)))
    assert read == MIXED
    assert [type(item) for item in read] == [type(item) for item in MIXED]
    assert [(d.id, d.metadata) for d in map(pack.document, range(4))] == [
        ("a", {"n": 1, "none": None}),
        (None, {}),
        ("empty", {}),
        (None, {"x": [1.5]}),
    ]


def test_many_documents_are_read_in_any_order(packed: Callable[[list[str]], Pack]) -> None:
    texts = [f"text {number}" for number in range(2_500)]
    pack = packed(list(texts))
    assert list(pack.items(0, len(pack))) == texts
    assert list(pack.items(999, 1_001)) == texts[999:1_001]
    assert [pack.item(number) for number in (2_499, 0, 1_000)] == ["text 2499", "text 0", "text 1000"]


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_that_is_not_there_is_refused(packed: Callable[[list[str]], Pack], number: int) -> None:
    pack = packed(["a", "b"])
    for read in (pack.row, pack.text, pack.item, pack.head, pack.chars):
        with pytest.raises(IndexError, match="there are 2 documents"):
            read(number)


def test_every_byte_of_a_text_has_the_character_that_begins_there(packed: Callable[[list[str]], Pack]) -> None:
    text = "a\u00fc\u20ac\U0001f600z" * 3
    pack = packed(["ü", text])
    at = 0
    for number, char in enumerate(text):
        size = len(char.encode())
        assert pack.offset(1, at) == number
        assert pack.piece(1, at, at + size) == char
        at += size
    assert pack.offset(1, at) == len(text)
    for start, end in ((-1, 2), (2, 1), (0, at + 1)):
        with pytest.raises(IndexError, match="has no bytes"):
            pack.piece(1, start, end)


def test_an_offset_far_into_a_long_text_is_exact(packed: Callable[[list[str]], Pack]) -> None:
    pack = packed(["ü" * PIECE_BYTES + "needle"])
    assert pack.offset(0, 2 * PIECE_BYTES) == PIECE_BYTES


def test_a_piece_leaves_out_the_characters_that_it_cuts_in_two(packed: Callable[[list[str]], Pack]) -> None:
    assert packed(["üabcü"]).piece(0, 1, 6) == "abc"


def test_a_file_that_was_cut_is_an_error_and_no_shorter_text(tmp_path: Path) -> None:
    file = BytesIO()
    size = write_pack(file, ["text " * 1_000])
    path = tmp_path / "pack"
    path.write_bytes(b"null" + b"text " * 10)
    with path.open("rb") as cut:
        pack = Pack(cut.fileno(), size.documents, size.table)
        with pytest.raises(OSError, match="was cut"):
            pack.text(0)


def test_what_was_written_is_told() -> None:
    file = BytesIO()
    assert write_pack(file, ["üü", "abc"]) == PackSize(2, 4 + 4 + 4 + 3, 5, sys.getsizeof("üü"))
    assert write_pack(BytesIO(), []) == PackSize(0, 0, 0, 0)
