"""What a worker says of documents on disk is not believed: which ones it means, and which words it looks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlm_integrations.context import Context
from rlm_integrations.errors import WireError
from rlm_integrations.sandbox import CellOutput, Run, SubCall, wire
from rlm_integrations.sandbox.session import ProcessSession
from rlm_integrations.stored import StoredDocuments
from tests.sandbox.test_wire import Peer, Stage, Worker, honest

GIVEN = range(2, 20, 3)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> StoredDocuments:
    folder = tmp_path_factory.mktemp("files")
    for number in range(30):
        (folder / f"{number:02}").write_text(f"document number {number}")
    value = Context.from_files(folder, lazy=True).value
    assert isinstance(value, StoredDocuments)
    return value


@pytest.fixture
def play(documents: StoredDocuments) -> Iterator[Callable[..., ProcessSession]]:
    """A session over every third document, or over a context of another kind, with played workers."""
    played: list[tuple[ProcessSession, Stage]] = []

    def play(*workers: Worker, context: Any = None) -> ProcessSession:
        stage = Stage(*workers)
        variables = {"context": StoredDocuments(documents.store, GIVEN) if context is None else context}
        limits = {"timeout_s": 2, "memory_bytes": 1 << 30, "max_output_chars": 100, "strict": False}
        session = ProcessSession(stage, variables, ["f"], **limits)  # type: ignore[arg-type]
        played.append((session, stage))
        return session

    yield play
    for session, stage in played:
        session.close()
        for thread in stage.threads:
            thread.join(5)
            assert not thread.is_alive()


def reference(many: Any = True, **numbers: Any) -> dict[str, Any]:
    return {"$": "stored", "many": many, **numbers}


GOOD = {
    "one": (reference(False, numbers=[5]), 5),
    "one as a range": (reference(False, range=[5, 6, 1]), 5),
    "several": (reference(numbers=[17, 2, 2]), (17, 2, 2)),
    "all": (reference(range=[2, 20, 3]), range(2, 20, 3)),
    "some of them backwards": (reference(range=[17, 0, -6]), range(17, 0, -6)),
    "none": (reference(numbers=[]), ()),
}
FORGED = {
    "of a document that is not the session's": reference(False, numbers=[3]),
    "of one that is not the session's among others": reference(numbers=[2, 5, 4]),
    "of one that is not there": reference(False, numbers=[32]),
    "of a negative number": reference(False, numbers=[-28]),
    "of a number without end": reference(False, numbers=[10**4000]),
    "of a range that is too wide": reference(range=[2, 21, 3]),
    "of a range between": reference(range=[2, 20, 2]),
    "of a range of neighbours": reference(range=[2, 20, 1]),
    "of a range without end": reference(range=[2, 1 << 62, 3]),
    "of a range without steps": reference(range=[2, 20, 0]),
    "of half a range": reference(range=[2, 20]),
    "of a range of truths": reference(range=[True, 20, 3]),
    "of truths": reference(numbers=[True]),
    "of fractions": reference(numbers=[2.0]),
    "of text": reference(numbers="2"),
    "of no numbers": reference(),
    "of numbers twice": reference(numbers=[2], range=[2, 5, 3]),
    "of one that is two": reference(False, numbers=[2, 5]),
    "of one that is none": reference(False, numbers=[]),
    "of one or many": reference(1, numbers=[2]),
    "with something more": reference(numbers=[2], store="/"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_reference_becomes_documents_of_the_session(name: str, play: Any, documents: StoredDocuments) -> None:
    forged, numbers = GOOD[name]
    session = play(lambda peer: peer.begin().call(args=[{"deep": [forged]}], kwargs={"k": forged}))
    call = session.advance(Run("1"))
    expected = documents[numbers] if isinstance(numbers, int) else StoredDocuments(documents.store, numbers)
    assert call == SubCall("f", ({"deep": [expected]},), {"k": expected})


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_reference_costs_the_worker_its_place(name: str, play: Any, run_in: Any) -> None:
    session = play(lambda peer: peer.begin().call(args=[[FORGED[name]]]), honest)
    output = run_in(session, "1")
    assert output.restarted
    assert "the worker sent" in output.error
    assert run_in(session, "1") == CellOutput("honest\n")


def test_a_reference_is_no_final_value(play: Any, run_in: Any) -> None:
    final = {"value": reference(numbers=[2]), "quotes": []}
    assert "malformed tag" in run_in(play(lambda peer: peer.begin().done(final=final)), "1").error


@pytest.mark.parametrize("context", ["text", [{"a": 1}]])
def test_a_session_without_documents_on_disk_takes_no_references_and_no_searches(
    context: Any, play: Any, run_in: Any
) -> None:
    session = play(
        lambda peer: peer.begin().call(args=[reference(numbers=[])]),
        lambda peer: peer.begin().call(name=wire.CANDIDATES, args=[["x"], 1]),
        context=context,
    )
    assert "malformed tag" in run_in(session, "1").error
    assert "not offered" in run_in(session, "1").error


FORGED_WORDS: dict[str, dict[str, Any]] = {
    "nothing": {"args": []},
    "words that are a text": {"args": ["words", 1]},
    "no words": {"args": [[], 1]},
    "too many words": {"args": [["x"] * (wire.MAX_TERMS + 1), 1]},
    "a word that is too long": {"args": [["x" * (wire.MAX_TERM_CHARS + 1)], 1]},
    "words that are numbers": {"args": [[1], 1]},
    "documents for words": {"args": [[reference(False, numbers=[2])], 1]},
    "many documents for words": {"args": [reference(numbers=[2]), 1]},
    "no number of places": {"args": [["x"]]},
    "no places": {"args": [["x"], 0]},
    "too many places": {"args": [["x"], wire.MAX_PLACES + 1]},
    "a truth for places": {"args": [["x"], True]},
    "more than places": {"args": [["x"], 1, 1]},
    "places by name": {"args": [["x"], 1], "kwargs": {"seconds": 10**9}},
}


@pytest.mark.parametrize("name", FORGED_WORDS)
def test_a_forged_search_costs_the_worker_its_place(name: str, play: Any, run_in: Any) -> None:
    session = play(lambda peer: peer.begin().call(name=wire.CANDIDATES, **FORGED_WORDS[name]), honest)
    output = run_in(session, "1")
    assert output.restarted
    assert "a malformed question for words" in output.error
    assert run_in(session, "1") == CellOutput("honest\n")


def test_a_search_is_answered_by_the_session_itself_and_for_its_own_documents_only(play: Any, run_in: Any) -> None:
    answers: list[Any] = []

    def worker(peer: Peer) -> None:
        peer.begin()
        for words in (["number"], ["number", "17"], ["3"], ['a" OR "number', "NEAR(", "☃", "*"]):
            peer.call(name=wire.CANDIDATES, args=[words, 50])
            answers.append(peer.take())
        peer.done(stdout="done\n")

    assert run_in(play(worker), "1") == CellOutput("done\n")
    found = [[number for number, _, _ in answer["value"]] for answer in answers]
    assert all(answer["error"] is None for answer in answers)
    assert sorted(found[0]) == list(GIVEN)
    assert found[1][0] == 17
    assert found[2] == []
    assert set(found[3]) <= set(GIVEN)


@pytest.mark.parametrize("numbers", [range(5), range(7, 2, -2), (), (3, 1, 1), range(0)])
def test_numbers_come_out_as_they_went_in(numbers: Any) -> None:
    assert wire.numbers_of(wire.numbers(numbers)) == numbers


def test_without_a_check_no_reference_is_read() -> None:
    tag = wire.tagged(wire.Reference((1,), False))
    with pytest.raises(WireError):
        wire.untagged(tag)
    seen: list[wire.Reference] = []
    assert wire.untagged([tag], (), seen.append) == seen == [wire.Reference((1,), False)]
