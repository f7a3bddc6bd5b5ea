"""A quote is found in the bytes of a store where it stands in the texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_integrations import Context
from rlm_integrations.stored import scan

QUOTES = (
    "The staging server listens on port 8443.",
    "The quick fox",
    "Die Ärztin notierte 17,5 Einheiten.\nEnde \u2028\r\n",
    "\U0001f600 aus",
    "production,8444\n",
    "The release is due in May.",
    # What stands in no text, but in the heads, or where a head and a text meet.
    "path",
    '"a.txt"',
    "null",
    "}]The quick",
    "jumps.\nnowhere",
)


@pytest.mark.parametrize("window", [1, 7, 64, 1 << 24])
@pytest.mark.parametrize("numbers", [slice(None), slice(1, None), slice(None, None, 2), slice(None, None, -1)])
def test_a_quote_is_found_where_it_is_in_memory(
    eager: Context, lazy: Context, numbers: slice, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotes = QUOTES if window > 7 else QUOTES[4:9]
    numbers = numbers if window > 7 else slice(3, None, numbers.step if numbers.step != -1 else None)
    monkeypatch.setattr(scan, "WINDOW_BYTES", window)
    here, there = Context.of(lazy.value[numbers]), Context.of(eager.value[numbers])
    places = [there.find(quote) for quote in quotes]
    assert [here.find(quote) for quote in quotes] == places
    # Without a look into the index.
    assert [scan.find(here.value.store.pack, quote, here.value.numbers) for quote in quotes] == places


@pytest.mark.parametrize("window", [1, 3, 64])
def test_a_quote_that_heads_are_full_of_is_found_in_the_text(
    tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "WINDOW_BYTES", window)
    texts = ["", "aa", "", "nul", "l", "", "a path", "path path", ""]
    for number, text in enumerate(texts):
        (tmp_path / f"path{number}").write_text(text)
    eager, lazy = Context.from_files(tmp_path), Context.from_files(tmp_path, lazy=True)
    for quote in ("path", "a", "aa", "aaa", "null", "l", "path path", "path path path", "h", "[", "a path"):
        assert lazy.find(quote) == eager.find(quote), quote


def test_a_quote_of_some_words_is_found_without_reading_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = "Été après été, nothing of note happened.\n" * 5_000
    quote = "of the ship that left last is Ærø and no ot"
    for number in range(5):
        (tmp_path / f"{number}").write_text(filler + (f"The name {quote}her.\n{filler}" if number == 3 else filler))
    eager, lazy = Context.from_files(tmp_path), Context.from_files(tmp_path, lazy=True)
    places = [Context.of(eager.value[part]).find(quote) for part in (slice(None), slice(3, 4), slice(1, None, 2))]
    assert [place and place[0] for place in places] == ["3", "3", "3"]
    monkeypatch.setattr("rlm_integrations.stored.store.find", None)
    parts = [lazy.value, lazy.value[3:4], lazy.value[1::2]]
    assert [part.find(quote) for part in parts] == places


@pytest.mark.parametrize("is_there", [False, True])
def test_a_quote_that_no_block_holds_is_found_by_reading(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "a").write_text("word " * 790 + "that stands across the end of a block of text\n" + "word " * 790)
    context = Context.from_files(tmp_path, lazy=True)
    [*_, (_, _, end), _] = context.value.store.candidates(["word"])
    text = context.value[0]
    quote = text[end - 30 : end + 30]
    if not is_there:
        Path(context.value.store.path, "passages.sqlite").unlink()
    assert context.find(quote) == ("a", text.find(quote))


@pytest.mark.parametrize("numbers", [range(1, 10**15, 7), range(10**15, 0, -7), (3, 1, 2)])
def test_bounds_are_the_ends_of_numbers_however_many(numbers: range | tuple[int, ...]) -> None:
    first, last = scan.bounds(numbers)
    assert sorted((numbers[0], numbers[-1])) == [first, last] or (first, last) == (1, 3)


def test_runs_are_the_numbers_in_order() -> None:
    assert list(scan.runs(range(3, 7))) == [(3, 7)]
    assert list(scan.runs(range(0))) == list(scan.runs(())) == []
    assert list(scan.runs((1, 2, 3, 7, 5, 6, 6))) == [(1, 4), (7, 8), (5, 7), (6, 7)]
    assert list(scan.runs(range(4, 0, -2))) == [(4, 5), (2, 3)]
