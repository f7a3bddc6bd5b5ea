"""What a record gives back, call by call, without a run."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from rlm_integrations import InvalidInput, Message, ModelError, RateLimited, RLMResult, Usage
from rlm_integrations.engine.effects import EndRun
from rlm_integrations.engine.record import Record
from rlm_integrations.engine.recorded import Call, RecordedTree
from rlm_integrations.errors import ReplayError
from rlm_integrations.events import (
    Event,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunResumed,
    RunStarted,
)
from rlm_integrations.ports import CellOutput
from rlm_integrations.prompts import Prompts
from rlm_integrations.testing import ScriptedModel
from tests.again import CONTEXT, QUERY, say


@pytest.fixture
def told(make_rlm: Any) -> list[Event]:
    """The events of a run with turns, sub-calls and a child run."""
    result: RLMResult = make_rlm(ScriptedModel(say), max_parallel=1).run(QUERY, CONTEXT)
    return list(result.trajectory)


def of(told: list[Event], kind: type[Any], **fields: Any) -> list[Any]:
    """The events of a kind with these fields."""
    return [
        event
        for event in told
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
    ]


def test_a_record_without_events_knows_nothing() -> None:
    record = Record()
    id = record.run_id(None, "q", "sha")
    assert id != record.run_id(None, "q", "sha")
    place = record.place(id, id, "turn", [Message("user", "q")])
    assert (place.call, place.parted) == (None, None)
    assert record.cell_id(id, "1") != record.cell_id(id, "1")
    assert record.parted(id, "cell", CellOutput("")) is None
    assert (record.uncounted(), record.unused(), list(record.sub_calls())) == ([], [], [])
    record.check_live("turn", [Message("user", "q")])


def test_equal_sub_calls_are_given_out_once_each_in_order(told: list[Event]) -> None:
    asked = of(told, ModelCallStarted, purpose="sub-call")
    equal = [replace(event, new_messages=asked[0].new_messages) if event in asked else event for event in told]
    record = Record.to_replay(equal)
    root, cell = playing(record, equal, turn=2)
    places: list[str | None] = []

    def ask() -> None:
        place = record.place(root, cell, "sub-call", asked[0].new_messages)
        places.append(place.id if place.call else None)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filter(None, places)) == sorted(event.id for event in asked)
    assert places.count(None) == 2


def playing(record: Record, told: list[Event], turn: int) -> tuple[str, str]:
    """Carries the root run on to the cell of a turn; returns the ids of both."""
    start = told[0]
    assert isinstance(start, RunStarted)
    root = record.run_id(None, start.query, start.context.sha256)
    turns = of(told, ModelCallStarted, purpose="turn", parent_id=root)
    cells = [event for event in told if event.kind == "cell_started" and event.parent_id == root]
    for number in range(turn):
        assert record.place(root, root, "turn", turns[number].new_messages).call
    code: str = cells[turn - 1].code  # type: ignore[union-attr]
    return root, record.cell_id(root, code)


def test_a_cell_with_other_code_is_a_new_one_without_sub_calls(told: list[Event]) -> None:
    record = Record.to_replay(told)
    root, cell = playing(record, told, turn=2)
    other = record.cell_id(root, "print('other')")
    assert other != cell
    asked = of(told, ModelCallStarted, purpose="sub-call")[0]
    assert record.place(root, other, "sub-call", asked.new_messages).call is None


def test_a_child_run_is_known_by_its_question_and_context(told: list[Event]) -> None:
    child = of(told, RunStarted, depth=1)[0]
    record = Record.to_replay(told)
    playing(record, told, turn=3)
    other = record.run_id(child.parent_id, "another question", child.context.sha256)
    same = record.run_id(child.parent_id, child.query, child.context.sha256)
    again = record.run_id(child.parent_id, child.query, child.context.sha256)
    assert (other != child.id, same, again != child.id) == (True, child.id, True)


def test_what_the_record_does_not_hold_ends_the_tree(told: list[Event]) -> None:
    record = Record.to_replay(told)
    playing(record, told, turn=2)
    with pytest.raises(EndRun) as caught:
        record.check_live("sub-call", [Message("user", "what?")])
    assert isinstance(caught.value.error, ReplayError)
    assert caught.value.error.turn == 2


def test_only_the_failures_of_models_happen_again(told: list[Event]) -> None:
    started = of(told, ModelCallStarted)[0]

    def failing(error: str) -> ModelError | None:
        return Call(started, ModelCallFailed(started.id, started.parent_id, 0.0, error)).failure()

    refused = failing("RateLimited: 429: too many")
    assert (type(refused), str(refused), refused and refused.model) == (RateLimited, "429: too many", started.model)
    for error in ("cancelled", "RunCancelled: stopped", "KeyboardInterrupt", "BudgetExceeded: used up", "RLMError: x"):
        assert failing(error) is None
    assert failing("__doc__: x") is None


def test_what_was_paid_for_is_counted_once_and_what_was_of_no_use_is_told(told: list[Event]) -> None:
    record = Record.to_resume(told, Prompts())
    playing(record, told, turn=1)
    unused = record.unused()
    assert len(unused) == 8
    assert len(record.uncounted(unused[:3])) == 3
    assert len(record.uncounted()) == 6
    assert record.uncounted() == []


def test_calls_to_be_made_again_are_left_out_where_their_run_had_not_gone_on(told: list[Event]) -> None:
    end = told.index(of(told, ModelCallStarted, purpose="sub-call")[1])
    root = told[0].id
    cut = [*told[: end + 1], RunResumed(root, None, 0.0)]
    tree = RecordedTree(cut)
    (cell,) = [cell for cell in tree.cells.values() if cell.calls]
    assert [call.is_answered for call in cell.calls] == [True]
    assert len(tree.calls) == 4


def test_turns_after_the_one_where_a_run_parted_count_no_more(told: list[Event]) -> None:
    parted = ReplayParted("id", told[0].id, 0.0, 2, "", "")
    tree = RecordedTree([*told, parted])
    assert tree.root
    assert len(tree.root.turns) == 2
    assert sum((call.usage or Usage()).output_tokens > 0 for call in tree.calls.values()) == 9


def test_what_the_two_outputs_share_is_not_told(told: list[Event]) -> None:
    record = Record.to_resume(told, Prompts())
    root, cell = playing(record, told, turn=1)
    shown = next(event for event in told if event.id == cell and event.kind == "cell_ended").stdout  # type: ignore[union-attr]
    assert record.parted(root, cell, CellOutput(shown)) is None
    parted = record.parted(root, cell, CellOutput(shown + "y" * 9_000))
    assert parted
    assert (parted.turn, parted.parent_id) == (1, root)
    assert len(parted.found) == 2_000
    assert parted.recorded == shown[-200:]
    assert record.parted(root, cell, CellOutput("again")) is None


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_events_that_are_no_tree_are_refused(lost: int, told: list[Event]) -> None:
    with pytest.raises(InvalidInput, match="not whole"):
        Record.to_replay(told[:lost] + told[lost + 1 :])


def test_two_trees_in_one_record_are_refused(told: list[Event]) -> None:
    with pytest.raises(InvalidInput, match="two root runs"):
        Record.to_replay([*told, replace(of(told, RunStarted)[0], id="another")])
