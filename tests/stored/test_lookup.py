"""Words lead to the blocks that hold them, those with all of them first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from rlm_integrations import Context, InvalidInput
from rlm_integrations.stored import Store, lookup

FILLER = "nothing of note stands in this line of text\n" * 100


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Store]:
    """A store of texts, in which each document has a few blocks."""

    def make(*texts: str) -> Store:
        folder = tmp_path / "texts"
        folder.mkdir()
        for number, text in enumerate(texts):
            (folder / f"{number:03}.txt").write_bytes(text.encode())
        store: Store = Context.from_files(folder, lazy=True).value.store
        return store

    return make


def found(store: Store, words: Sequence[str], numbers: Sequence[int] | None = None, **settings: int) -> list[str]:
    """The text of the blocks that are found."""
    return [store.pack.piece(*place) for place in store.candidates(words, numbers, **settings)]


def test_a_block_is_found_by_any_form_of_its_words(store: Callable[..., Store]) -> None:
    made = store(FILLER * 3 + "The Ärztin measured 17.5 units, e-mail to x_y.\n" + FILLER * 3, FILLER)
    for words in (["measuring"], ["ärztin"], ["ARZTIN"], ["unit"], ["e-mail"], ["x_y"], ["17.5"], ['"units" OR (x']):
        blocks = found(made, words)
        assert "17.5 units" in blocks[0], words
    assert found(made, ["elsewhere"]) == found(made, []) == found(made, ["...", "-"]) == []


def test_a_block_with_all_words_comes_before_those_with_the_rarest(store: Callable[..., Store]) -> None:
    made = store(
        "alpha\n" + FILLER, "alpha beta\n" + FILLER, "beta gamma alpha\n" + FILLER, "gamma\n" + FILLER, "beta\n"
    )
    firsts = [block.partition("\n")[0] for block in found(made, ["alpha", "beta", "gamma"])]
    assert firsts[0] == "beta gamma alpha"
    assert firsts[1] == "alpha beta"
    assert sorted(firsts[2:]) == ["alpha", "beta", "gamma"]
    # A word that stands nowhere is no reason to find nothing.
    assert [b.partition("\n")[0] for b in found(made, ["nowhere", "alpha", "beta"])][:1] == ["alpha beta"]


def test_common_words_are_found_where_they_meet(store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MAX_WEIGHED", 3)
    made = store(*(f"{'alpha' if number % 2 else 'beta'}\n" for number in range(20)), "alpha meets beta\n")
    blocks = found(made, ["alpha", "beta"])
    assert blocks[0] == "alpha meets beta\n"
    assert sorted(blocks[1:]) == ["alpha\n"] * 10 + ["beta\n"] * 10
    assert found(made, ["alpha", "beta"], limit=3)[0] == "alpha meets beta\n"
    assert len(found(made, ["alpha", "beta"], limit=3)) == 3


def test_of_many_blocks_with_all_words_some_are_taken_from_all_over_the_store(store: Callable[..., Store]) -> None:
    made = store(*(FILLER * 3 for _ in range(20)))
    places = made.candidates(["note", "line"], limit=10)
    assert [number for number, _, _ in places] == list(range(0, 20, 2))
    assert len(made.candidates(["note", "line"], limit=1_000)) == len(made.candidates(["text"], limit=1_000)) == 80


@pytest.mark.parametrize("numbers", [range(2, 4), (3,), (4, 1, 3), range(4, 0, -3), ()])
def test_documents_that_were_not_asked_for_are_never_found(store: Callable[..., Store], numbers: Sequence[int]) -> None:
    made = store(*(f"alpha {number}\n" + FILLER for number in range(5)), "")
    assert sorted(place[0] for place in made.candidates(["alpha"], numbers)) == sorted(numbers)
    assert {place[0] for place in made.candidates(["stands", "text"], numbers)} == set(numbers)


def test_metadata_and_names_lead_to_the_first_block(store: Callable[..., Store]) -> None:
    made = store(FILLER * 3, "", FILLER * 3)
    assert made.candidates(["001.txt"])[0][:2] == (1, 0)
    assert made.candidates(["002"])[0][:2] == (2, 0)


def test_blocks_are_all_of_the_text_in_order(store: Callable[..., Store]) -> None:
    texts = ["", "x" * 9_000, "ü\U0001f600 " * 5_000, FILLER * 5, "One. Two. " * 900, "a\n\n" * 4_000]
    made = store(*texts)
    with closing(sqlite3.connect(Path(made.path, "passages.sqlite"))) as database:
        places = database.execute("SELECT document, start, stop FROM blocks ORDER BY number").fetchall()
    for number, text in enumerate(texts):
        own = [(start, stop) for document, start, stop in places if document == number]
        assert own[0][0] == 0
        assert [stop for _, stop in own[:-1]] == [start for start, _ in own[1:]]
        pieces = [made.pack.piece(number, start, stop) for start, stop in own]
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= lookup.BLOCK_CHARS
    assert [document for document, _, _ in places] == sorted(document for document, _, _ in places)


def test_hostile_words_are_only_words(store: Callable[..., Store]) -> None:
    made = store("alpha NEAR beta\n")
    for words in (
        ['"'], ["alpha\0beta"], ["text:alpha"], ["*"], ["alpha*"], ["NOT"], ["^alpha"], ["{"], ["\ud800"], ["'; DROP"],
        ["a" * 1_000_000], ["alpha"] * 100_000, [str(n) for n in range(100_000)],
    ):  # fmt: skip
        assert len(made.candidates(words)) <= 1
    assert made.candidates(["AND", "OR", "near"]) == [(0, 0, 16)]
    terms = lookup._terms(["a" * 1_000_000, *(f"word{n} more{n}" for n in range(1_000))])
    assert len(terms) == lookup.MAX_TERMS
    assert max(map(len, terms.values())) == lookup.MAX_TERM_CHARS


def test_a_search_that_takes_its_time_gives_what_it_has(
    store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store(*(f"alpha {number}" for number in range(3_000)))
    assert len(made.candidates(["alpha"], limit=3_000)) == 3_000
    monkeypatch.setattr(lookup, "STEPS_BETWEEN_LOOKS", 100)
    assert len(made.candidates(["alpha"], limit=3_000, seconds=-1.0)) < 3_000


def test_an_index_that_is_gone_is_told(store: Callable[..., Store]) -> None:
    made = store("alpha")
    Path(made.path, "passages.sqlite").unlink()
    with pytest.raises(InvalidInput, match=r"the index of the documents can't be read .*make the context again"):
        made.candidates(["alpha"])


def test_any_number_of_threads_may_search_at_once(store: Callable[..., Store]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made = store(*(f"alpha w{number}" for number in range(50)))
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda number: made.candidates([f"w{number}"]), range(50)))
    assert [place[0][0] for place in places] == list(range(50))
    assert time.monotonic() - started < 20
