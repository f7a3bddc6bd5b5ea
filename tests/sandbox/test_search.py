"""``search`` finds passages of the context, word for word."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from rlm_integrations.context import Document
from rlm_integrations.sandbox import CellOutput, ProcessSandbox
from rlm_integrations.sandbox.search import Index, passages
from tests.sandbox.conftest import run_cell

FILLER = "Nothing of note happened on this day, and the log was closed at dusk as usual.\n" * 40


def found(context: Any, call: str, sandbox: ProcessSandbox) -> Any:
    session = sandbox.open({"context": context}, [])
    code = f"import json\nhits = {call}\nprint(json.dumps([[h.id, h.start, str(h)] for h in hits]))"
    output: CellOutput = run_cell(session, code)
    session.close()
    assert output.error is None
    return json.loads(output.stdout)


def test_a_passage_is_exact_text_with_its_document_and_offset(sandbox: ProcessSandbox) -> None:
    docs = [
        Document(FILLER + "The “pump” failed.\r\n" + FILLER, id="log.txt"),
        FILLER,
        {"note": [FILLER, "pumps failing"]},
    ]
    hits = found(docs, "search('pump failure', n=3)", sandbox)
    assert {hit[0] for hit in hits} == {"log.txt", "2.note[1]"}
    texts = {"log.txt": docs[0], "2.note[1]": "pumps failing"}
    for id, start, text in hits:
        assert texts[id][start : start + len(text)] == text


@pytest.mark.parametrize(
    "words", ['a" OR', "NEAR(x", "-pump*", "pump:", "^(", '""', "col : pump", "pump AND NOT", "é ☃"]
)
def test_any_words_are_plain_words(words: str, sandbox: ProcessSandbox) -> None:
    hits = found("the pump failed\n\nall is well", f"search({words!r})", sandbox)
    assert len(hits) == ("pump" in words)


def test_passages_with_all_words_come_before_those_with_any(sandbox: ProcessSandbox) -> None:
    docs = ["red car", "blue car", "red house"]
    assert [hit[2] for hit in found(docs, "search(['red', 'house'])", sandbox)] == ["red house"]
    assert {hit[2] for hit in found(docs, "search('blue house')", sandbox)} == {"blue car", "red house"}
    assert found(docs, "search('')", sandbox) == []
    assert len(found(docs, "search('car', 1)", sandbox)) == 1


def test_the_result_reads_well(cell: Any) -> None:
    assert cell("search('two')").stdout == "[context @ 0] one two three\n"
    assert cell("search('absent')").stdout == "(nothing found)\n"


def test_the_context_is_searched_as_it_was_given(sandbox: ProcessSandbox) -> None:
    session = sandbox.open({"context": ["needle one", "hay"]}, [])
    assert run_cell(session, "context[0] = 'x'\ncontext = 'gone'\nprint(search('needle'))").stdout == (
        "[0 @ 0] needle one\n"
    )
    session.close()


@pytest.mark.parametrize("text", [FILLER, "word " * 500, "x" * 5000, "a.\n\nb" * 700, "", "short"])
def test_passages_make_up_the_text_and_end_where_lines_or_words_end(text: str) -> None:
    pieces = [text[start:end] for start, end in passages(text)]
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 602 for piece in pieces)
    if "\n" in text or " " in text:
        assert all(piece[-1].isspace() for piece in pieces[:-1])


def test_a_context_too_large_to_be_indexed_whole_is_searched_all_the_same(sandbox: ProcessSandbox) -> None:
    docs = [FILLER * 1000, FILLER * 600 + "The İstanbul pumps were failing.\n" + FILLER * 1000]
    ((id, start, text),) = found(docs, "search('pump failure')", sandbox)
    assert id == "1"
    assert docs[1][start : start + len(text)] == text
    assert "pumps were failing" in text
    assert len(found(docs, "search('dusk usual', 7)", sandbox)) == 7


def test_passages_with_the_rarer_words_come_first(sandbox: ProcessSandbox) -> None:
    docs = [f"the weather of the day number {number} was fair" for number in range(200)]
    docs[150] = "the ferry left on the day after"
    docs[170] = "the old ferry of the harbour left on the day before"
    hits = found(docs, "search('when did the old ferry leave on the day of the storm', 3)", sandbox)
    assert [hit[2] for hit in hits[:2]] == [docs[170], docs[150]]


def test_what_is_written_as_one_word_is_found_as_such(sandbox: ProcessSandbox) -> None:
    docs = ["a heavy box and a compass", "compass, heavy", "this is the heavy-compass of the ship, made in 1871"]
    assert [hit[2] for hit in found(docs, "search('heavy-compass')", sandbox)] == [docs[2]]
    assert found(docs, "search('the heavy-compass number')", sandbox)[0][2] == docs[2]


def test_a_document_is_found_by_what_its_metadata_say(sandbox: ProcessSandbox) -> None:
    docs = [
        Document(f"Minutes of a day.\n{FILLER}", id=f"{n}", metadata={"by": name, "year": 1800 + n})
        for n, name in enumerate(["Ada Byron", "Babbage"])
    ]
    for words in ("Byron", "what did Ada write in 1800"):
        id, start, text = found(docs, f"search({words!r})", sandbox)[0]
        assert (id, start) == ("0", 0)
        assert docs[0].startswith(text)


def test_a_document_of_a_large_context_is_found_by_what_its_metadata_say(sandbox: ProcessSandbox) -> None:
    docs = [
        Document(FILLER * 1000, id="a", metadata={"by": "Babbage"}),
        Document(FILLER * 1000, id="b", metadata={"by": "Byron"}),
        Document("", id="c", metadata={"by": "Byron"}),
    ]
    assert [hit[:2] for hit in found(docs, "search('Byron')", sandbox)] == [["b", 0]]


def test_a_passage_says_what_its_documents_metadata_are_unless_they_are_long(sandbox: ProcessSandbox) -> None:
    docs = [
        Document("the pump", id="a", metadata={"by": "Ada", "year": 1843}),
        Document("the lamp", id="b", metadata={"by": "Ada", "note": "x" * 200}),
    ]
    session = sandbox.open({"context": docs}, [])
    assert run_cell(session, "search('pump')").stdout == "[a @ 0, by: Ada, year: 1843] the pump\n"
    assert run_cell(session, "search('lamp')").stdout == "[b @ 0] the lamp\n"
    assert run_cell(session, "search('pump')[0]['year']").stdout == "1843\n"
    session.close()


@pytest.mark.alone
def test_metadata_are_indexed_up_to_a_limit() -> None:
    docs = [
        Document("the pump", metadata={"all": "word " * 2_000_000, "by": "Ada"}),
        Document("the lamp", metadata={"by": "Ada"}),
    ]
    index = Index(docs)
    started = time.monotonic()
    assert [hit.id for hit in index.search("Ada")] == ["1"]
    assert len(repr(index.search("word"))) < 100
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(
    ("text", "words", "part"),
    [
        (
            "One lamp was lit.\nThe pump was mended by Edith.\nAll went home.",
            "who mended pumps",
            "The pump was mended by Edith.",
        ),
        (
            "One lamp was lit. The pump was mended by Edith. All went home.",
            "who mended pumps",
            "The pump was mended by Edith.",
        ),
        ("a lamp\nthe first pump\na lamp\nthe second pump\nthe third pump", "pump", "the first pump the second pump"),
        ("of the day\nan extraordinary pump", "the extraordinary day", "an extraordinary pump"),
        ("no end", "end", "no end"),
    ],
)
def test_a_brief_search_shows_the_line_or_sentence_that_matches_best(
    text: str, words: str, part: str, sandbox: ProcessSandbox
) -> None:
    ((id, start, said),) = found([Document(text, id="a")], f"search({words!r}, 1, brief=True)", sandbox)
    assert (id, said) == ("a", part)
    assert text[start:].startswith(part.split(" the second")[0])
    assert found([Document(text, id="a")], f"search({words!r}, 1)", sandbox) == [["a", 0, text]]
