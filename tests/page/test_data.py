"""What the page is made of, without a browser: the tree, its bounds, the passages."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_integrations import Context, Document, InvalidInput
from rlm_integrations.events import CellStarted, Citation, ModelCallStarted, ReplayParted, RunResumed, RunStarted
from rlm_integrations.page import data as page_data_module
from rlm_integrations.page.code import highlighted
from rlm_integrations.page.data import page_data
from rlm_integrations.page.evidence import evidence
from rlm_integrations.page.render import render_page
from rlm_integrations.page.text import Texts
from rlm_integrations.trajectory import Trajectory
from tests.page.plays import BEGAN, DOCUMENTS, QUOTE, TEXT, Story, told


def test_a_step_stands_under_the_one_that_made_it() -> None:
    steps = page_data(told(), None)["steps"]
    assert [(step["name"], step["parent"]) for step in steps] == [
        ("Run", None), ("Turn 1", 0), ("Turn 2", 0), ("Sub-call 1", 2), ("Sub-call 2", 2), ("Sub-call 3", 2),
        ("Child run 1", 2), ("Turn 1", 6), ("Turn 3", 0),
    ]  # fmt: skip


def test_a_turn_that_is_asked_again_keeps_its_number() -> None:
    story = Story()
    story.call(story.root, "q", None, 0.0, 1.0)
    story.call(story.root, "q", "r", 1.0, 2.0)
    story.call(story.root, "q", "r", 2.0, 3.0)
    assert [step["name"] for step in page_data(story.trajectory, None)["steps"]] == [
        "Run",
        "Turn 1",
        "Turn 1",
        "Turn 2",
    ]


def steps_of(story: Story, *facts: str) -> list[tuple[object, ...]]:
    """The steps in the order of the events, the root run left out, each by some of its ``facts``."""
    steps = page_data(Trajectory(story.events), None)["steps"][1:]
    return [tuple(step[fact] for fact in facts) for step in steps]


def test_code_that_the_model_did_not_write_is_a_step_of_its_own() -> None:
    story = Story()
    story.call(story.root, "q", "It is 8443.", 0.0, 1.0)
    story.look_up(story.root, "search(query)", 1.0, 2.0)
    story.call(story.root, "q", "```python\nprint(0)\n```", 2.0, 3.0)
    story.cell(story.root, "print(0)", 3.0, 4.0)
    story.look_up(story.root, "search('port')", 4.0, 5.0)
    assert steps_of(story, "name", "title") == [
        ("Turn 1", "It is 8443."), ("Look-up", "search(query)"), ("Turn 2", "print(0)"), ("Look-up", "search('port')"),
    ]  # fmt: skip


def test_a_call_that_a_process_left_behind_is_lost_and_not_under_way_for_ever() -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0)
    cell = story.cell(story.root, "x", 1.0, None)
    story.sub_call(cell, "p", None, 2.0, 2.0)
    story.events.append(RunResumed(story.root, None, BEGAN + 900.0))
    story.sub_call(cell, "p", "r", 901.0, 905.0)
    assert steps_of(story, "name", "state", "ended") == [
        ("Turn 1", "open", 1.0), ("Sub-call 1", "failed", 2.0), ("Sub-call 2", "complete", 7.0),
    ]  # fmt: skip


def test_turns_are_counted_on_from_where_a_run_parts_from_its_record() -> None:
    story = Story()
    for at in range(3):
        story.call(story.root, "q", "r", at, at + 1.0)
    story.events.append(RunResumed(story.root, None, BEGAN + 10.0))
    story.events.append(ReplayParted("p", story.root, BEGAN + 10.0, 1, "1\n", "2\n"))
    story.call(story.root, "q", "r", 11.0, 12.0)
    assert [name for (name,) in steps_of(story, "name")] == ["Turn 1", "Turn 2", "Turn 3", "Turn 2"]


def test_a_run_that_goes_on_where_the_clock_is_behind_goes_on_after_its_end() -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 5.0)
    story.events.append(RunResumed(story.root, None, BEGAN - 3_600.0))
    story.call(story.root, "q", "r", -3_599.0, -3_598.0)
    assert steps_of(story, "began", "ended") == [(0.0, 5.0), (6.0, 7.0)]


def test_ids_that_go_round_in_a_circle_still_make_a_tree() -> None:
    summary = DOCUMENTS.summary
    first = RunStarted("a", "b", BEGAN, "q", summary, "m", 1)
    events = [
        first,
        CellStarted("b", "a", BEGAN, "x"),
        RunStarted("c", "c", BEGAN, "q", summary, "m", 0),
        ModelCallStarted("d", "nowhere", BEGAN, "m", 0, "turn", ()),
        first,
    ]
    steps = page_data(Trajectory(events), None)["steps"]
    assert [step["parent"] for step in steps] == [None, 0, None, None]


def test_a_record_without_a_run_is_refused() -> None:
    with pytest.raises(InvalidInput, match="holds no run"):
        render_page(Trajectory())


def test_a_text_that_comes_again_is_held_once() -> None:
    story = Story()
    for number in range(50):
        story.call(story.root, "the same long prompt", "the same reply", number, number + 1)
    texts = page_data(story.trajectory, None)["texts"]
    assert len(texts) == len({str(text) for text in texts})
    assert texts.count("the same long prompt") == 1


def test_texts_are_cut_to_fit_and_that_is_said() -> None:
    texts = Texts(max_chars=10_000)
    texts.add("short")
    texts.add("a" * 50_000 + "b" * 50_000)
    texts.add("c" * 50_000, code=True)
    short, long, code = texts.all()
    assert short == "short"
    assert (texts.cut, texts.limit) == (2, 4_997)
    assert isinstance(long, str)
    assert long.startswith("a" * 3_332 + "\n[… 95,003 characters left out …]\nb")
    assert len("".join(code[1::2])) < 5_100
    assert sum(map(len, [short, long])) < 10_100


def test_steps_past_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_data_module, "MAX_STEPS", 4)
    data = page_data(told(), None)
    assert len(data["steps"]) == 4
    assert "5 steps past the first 4 are not shown." in data["notices"]


def test_documents_that_are_not_those_of_the_run_are_noticed() -> None:
    assert page_data(told(), DOCUMENTS)["notices"] == []
    other = Context([Document("x" + TEXT, id="servers.txt")])
    data = page_data(told(), other)
    assert data["notices"] == ["The documents given now are not those that the run was asked about."]
    assert data["citations"][0]["document"] is None


def test_the_record_s_own_documents_are_taken_where_none_are_given() -> None:
    piece = '["The staging server ", []], ["listens on port 8443", [1]]'
    assert piece in render_page(Trajectory(told(), context=DOCUMENTS))
    assert piece not in render_page(told())


def test_an_answer_of_the_caller_s_own_type_is_shown_as_its_json() -> None:
    story = Story()
    story.end(1.0, Citation("a", 1, 2, "\ud800"))
    assert '"quote": "\\ud800"' in page_data(story.trajectory, None)["answer"]
    story.end(2.0, {"when": date(2026, 1, 2)})
    assert page_data(story.trajectory, None)["answer"] == '{\n  "when": "2026-01-02"\n}'


def test_metadata_of_documents_comes_along() -> None:
    documents = Context([Document("text", id="a", metadata={"author": "Ann", "year": 1999}), Document("b")])
    assert evidence((), documents)["documents"][0]["about"] == "author: Ann, year: 1999"


spans = st.lists(st.tuples(st.integers(0, 120_000), st.integers(1, 5_000)), max_size=6)


@given(spans=spans, chars=st.integers(1, 120_000))
def test_the_pieces_of_a_document_are_the_document(spans: list[tuple[int, int]], chars: int) -> None:
    text = "".join(chr(97 + number % 26) for number in range(chars))
    citations = tuple(Citation("0", a, a + n, text[a : a + n]) for a, n in spans if a + n <= chars)
    document = evidence(citations, Context([text]))["documents"][0]
    at = 0
    cited: dict[int, str] = {}
    for piece in document["pieces"]:
        if isinstance(piece, int):
            assert piece > 0
            at += piece
            continue
        part, numbers = piece
        assert part == text[at : at + len(part)]
        at += len(part)
        for number in numbers:
            cited[number] = cited.get(number, "") + part
    assert at == chars
    assert cited == {number: citation.quote for number, citation in enumerate(citations, 1)}


def test_many_long_documents_stay_in_bounds() -> None:
    documents = [Document(f"{number} " + "x" * 29_000, id=str(number)) for number in range(2_000)]
    data: dict[str, Any] = evidence((Citation("1999", 0, 4, "1999"),), Context(documents))
    assert len(data["documents"]) == 1_000
    assert data["documents_left_out"] == 1_000
    assert data["documents"][0]["id"] == "1999"
    shown = sum(
        len(piece[0]) for document in data["documents"] for piece in document["pieces"] if isinstance(piece, list)
    )
    assert shown <= 4_000_000


@given(st.text())
def test_coloured_code_is_the_code(code: str) -> None:
    assert "".join(highlighted(code)[1::2]) == code.replace("\r\n", "\n").replace("\r", "\n")


def test_the_cited_quote_is_found_in_its_document() -> None:
    data = page_data(told(), DOCUMENTS)
    assert data["documents"][0]["pieces"][1] == [QUOTE, [1]]
