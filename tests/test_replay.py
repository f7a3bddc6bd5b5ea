"""A recorded run carried out again: replies come from the record, everything else really happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import (
    Budget,
    BudgetExceeded,
    Context,
    Document,
    InvalidInput,
    ModelError,
    RateLimited,
    ReplayError,
    Usage,
)
from rlm_integrations.events import CellEnded, CellStarted, ModelCallEnded, ModelCallStarted, RunFailed
from rlm_integrations.messages import Reply
from rlm_integrations.result import RLMResult
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory
from tests.again import ANSWER, CALLS, CONTEXT, QUERY, say
from tests.scripts import cell, events

Replay = Callable[..., RLMResult]


@pytest.fixture(params=["sync", "async"])
def replay(request: pytest.FixtureRequest) -> Replay:
    """Replays a run in one way and in the other."""
    if request.param == "sync":
        return lambda rlm, *args, **options: rlm.replay(*args, **options)
    return lambda rlm, *args, **options: asyncio.run(rlm.areplay(*args, **options))


@pytest.fixture
def recorded(make_rlm: Any) -> RLMResult:
    """A run with turns, sub-calls and a child run."""
    return make_rlm(ScriptedModel(say, usd_per_token=1e-6)).run(QUERY, CONTEXT)


def test_a_replay_comes_to_the_same_without_a_call(replay: Replay, recorded: RLMResult, make_rlm: Any) -> None:
    model = ScriptedModel([], name="another")
    seen: list[Any] = []
    result = replay(make_rlm(model), recorded.trajectory, CONTEXT, observers=[seen.append])
    assert (result.answer, result.parted, model.calls) == (ANSWER, None, [])
    assert result.usage == recorded.usage
    assert sorted((event.kind, event.id) for event in seen) == sorted((e.kind, e.id) for e in recorded.trajectory)
    replies = [event for event in seen if isinstance(event, ModelCallEnded)]
    assert {event.source for event in replies} == {"record"}
    assert len(replies) == CALLS


def test_a_replay_reads_a_file_and_the_context_in_it(
    replay: Replay, recorded: RLMResult, tmp_path: Path, make_rlm: Any
) -> None:
    path = tmp_path / "run.jsonl"
    recorded.save(path, include_context=True)
    assert replay(make_rlm(ScriptedModel([])), path).answer == ANSWER
    assert replay(make_rlm(ScriptedModel([])), Trajectory.load(path)).answer == ANSWER
    # What was replayed can be kept and replayed again.
    again = tmp_path / "again.jsonl"
    replay(make_rlm(ScriptedModel([])), path).save(again)
    assert replay(make_rlm(ScriptedModel([])), again, CONTEXT).usage == recorded.usage


def test_a_replay_needs_no_key_and_no_known_model(replay: Replay, recorded: RLMResult, sandbox: Any) -> None:
    class Keyless(ScriptedModel):
        has_price = False

        def check(self) -> None:
            raise ModelError("there is no key", model=self.name)

        async def acheck(self) -> None:
            self.check()

    from rlm_integrations import RLM

    rlm = RLM(Keyless([]), sandbox=sandbox, budget=Budget(max_cost_usd=5))
    assert replay(rlm, recorded.trajectory, CONTEXT).answer == ANSWER


def test_a_cell_that_gives_other_output_is_told_with_its_turn(make_rlm: Any) -> None:
    day = "Monday"

    def today() -> str:
        return day

    script = [cell("print('fine')"), cell("print('x' * 5000 + today())"), cell("print(today())"), cell("FINAL('done')")]
    result = make_rlm(ScriptedModel(script), tools=[today]).run("q", CONTEXT)
    day = "Tuesday"
    again = make_rlm(ScriptedModel([]), tools=[today]).replay(result.trajectory, CONTEXT)
    assert again.answer == "done"
    (parted,) = events(again, "replay_parted")
    assert again.parted == parted
    assert (parted.turn, parted.parent_id) == (2, result.run_id)
    # They are told from shortly before they part, not whole.
    assert parted.recorded == "x" * 200 + "Monday\n"
    assert parted.found == "x" * 200 + "Tuesday\n"
    ended = [event.stdout for event in again.trajectory if isinstance(event, CellEnded)]
    assert ended[2] == "Tuesday\n"


def test_a_cell_after_which_the_engine_looks_by_itself_is_found_with_its_sub_calls(
    replay: Replay, make_rlm: Any
) -> None:
    """Two cells follow one reply."""
    code = "note = llm_query('about it'), rlm_query('what?', context[:9])\nfound = 'Grace' in context"
    script = [cell(code), "a note", cell("FINAL(len(context))"), cell("FINAL(note)")]
    result = make_rlm(ScriptedModel(script)).run("q", CONTEXT)
    codes = [event.code for event in result.trajectory if isinstance(event, CellStarted)]
    assert [code for code in codes if code.startswith("search(")], codes
    again = replay(make_rlm(ScriptedModel([])), result.trajectory, CONTEXT)
    assert (again.answer, again.parted) == (result.answer, None)
    assert {event.id for event in again.trajectory} == {event.id for event in result.trajectory}


def test_what_is_no_record_is_refused(replay: Replay, recorded: RLMResult, make_rlm: Any) -> None:
    with pytest.raises(InvalidInput, match="RLMResult is not the path of a file"):
        replay(make_rlm(ScriptedModel([])), recorded, CONTEXT)


def test_a_sub_call_that_the_record_does_not_hold_ends_the_replay(replay: Replay, make_rlm: Any) -> None:
    name = "Ada"

    def who() -> str:
        return name

    code = "try:\n    print(llm_query_batched(['Who is ' + who(), 'b']))\nexcept Exception as error:\n    print(error)"
    script = ScriptedModel([cell("print(1)"), cell(code), "she", "re b", cell("FINAL(len(context))")])
    result = make_rlm(script, tools=[who], max_parallel=1).run("q", CONTEXT)
    name = "Bob"
    model = ScriptedModel([])
    with pytest.raises(ReplayError, match="Who is Bob") as caught:
        replay(make_rlm(model, tools=[who], max_parallel=1), result.trajectory, CONTEXT)
    assert caught.value.turn == 2
    assert caught.value.partial.turns == 2
    assert not model.calls


def test_a_record_that_ends_before_its_answer_ends_the_replay_there(
    replay: Replay, recorded: RLMResult, make_rlm: Any
) -> None:
    cut = recorded.trajectory[:-4]
    with pytest.raises(ReplayError, match="from_turn=4") as caught:
        replay(make_rlm(ScriptedModel([])), cut, CONTEXT)
    assert caught.value.turn == 4
    assert caught.value.partial.usage.calls == CALLS - 1
    model = ScriptedModel([cell("FINAL(notes[0])")])
    assert replay(make_rlm(model), cut, CONTEXT, from_turn=4).answer == "re note 0"


def test_from_a_turn_on_this_rlm_is_asked_with_its_own_prompts(
    replay: Replay, recorded: RLMResult, make_rlm: Any
) -> None:
    model = ScriptedModel([cell("print(llm_query('note 0'))"), "said anew", cell("FINAL(notes[0])")], name="live")
    rlm = make_rlm(model, instructions="Be brief.")
    result = replay(rlm, recorded.trajectory, CONTEXT, from_turn=3)
    assert result.answer == "re note 0"
    assert len(model.calls) == 3
    said = [message.content for message in model.calls[0].messages]
    assert "Be brief." in said[0]
    assert sum(message.role == "assistant" for message in model.calls[0].messages) == 2
    asked = [event for event in result.trajectory if isinstance(event, ModelCallStarted)]
    assert [(event.model, event.source) for event in asked[-3:]] == [("live", "model")] * 3
    assert {event.source for event in asked[:-3]} == {"record"}
    assert not {event.id for event in asked[-3:]} & {event.id for event in recorded.trajectory}


@pytest.mark.parametrize("turn", [0, 6, -1, True, "2", 1.0])
def test_a_turn_that_the_record_does_not_reach_is_refused(turn: Any, recorded: RLMResult, make_rlm: Any) -> None:
    with pytest.raises(InvalidInput, match="from_turn"):
        make_rlm(ScriptedModel([])).replay(recorded.trajectory, CONTEXT, from_turn=turn)


def test_another_context_is_refused(replay: Replay, recorded: RLMResult, make_rlm: Any) -> None:
    with pytest.raises(InvalidInput, match="not that of the record"):
        replay(make_rlm(ScriptedModel([])), recorded.trajectory, CONTEXT + "!")
    with pytest.raises(InvalidInput, match="does not hold the context"):
        replay(make_rlm(ScriptedModel([])), Trajectory(list(recorded.trajectory)))
    with pytest.raises(InvalidInput, match="no run"):
        replay(make_rlm(ScriptedModel([])), Trajectory(), CONTEXT)


def test_a_recorded_failure_of_a_model_happens_again(replay: Replay, make_rlm: Any) -> None:
    refused = RateLimited("too many requests", model="scripted")
    script = [cell("print(llm_query_batched(['a', 'b']))"), refused, "re b", ModelError("down: for today", model="s")]
    with pytest.raises(ModelError) as first:
        make_rlm(ScriptedModel(script), max_parallel=1).run("q", CONTEXT)
    recorded = first.value.partial.trajectory
    with pytest.raises(ModelError, match=r"^down: for today$") as caught:
        replay(make_rlm(ScriptedModel([]), max_parallel=1), recorded, CONTEXT)
    partial = caught.value.partial
    assert partial.parted is None
    ended = [(e.stdout, e.error) for e in partial.trajectory if isinstance(e, CellEnded)]
    assert ended == [(e.stdout, e.error) for e in recorded if isinstance(e, CellEnded)]
    assert next(e.error for e in partial.trajectory if isinstance(e, RunFailed)) == "ModelError: down: for today"


def test_a_budget_stops_a_replay_where_it_stopped_the_run(replay: Replay, make_rlm: Any) -> None:
    settings = {"budget": Budget(max_calls=5), "max_parallel": 1, "on_exhausted": "raise"}
    with pytest.raises(BudgetExceeded) as first:
        make_rlm(ScriptedModel(say), **settings).run(QUERY, CONTEXT)
    with pytest.raises(BudgetExceeded) as caught:
        replay(make_rlm(ScriptedModel([]), **settings), first.value.partial.trajectory, CONTEXT)
    assert str(caught.value) == str(first.value)
    assert caught.value.partial.usage == first.value.partial.usage


def test_equal_sub_calls_that_were_answered_differently_replay_as_they_were(make_rlm: Any) -> None:
    """As in a record of a version that paid for equal sub-calls each time."""
    script = ScriptedModel([cell("a = llm_query('x')\nb = llm_query('y')\nFINAL(a + b)"), "1", "2"])
    result = make_rlm(script).run("q", CONTEXT)
    from dataclasses import replace

    told = [
        replace(event, new_messages=tuple(replace(m, content="x") for m in event.new_messages))
        if isinstance(event, ModelCallStarted) and event.purpose == "sub-call"
        else replace(event, code=event.code.replace("'y'", "'x'"))
        if event.kind == "cell_started"
        else replace(event, text=event.text.replace("'y'", "'x'"))
        if isinstance(event, ModelCallEnded)
        else event
        for event in result.trajectory
    ]
    assert make_rlm(ScriptedModel([])).replay(Trajectory(told), CONTEXT).answer == "12"


def test_what_a_memo_gave_replays_and_costs_nothing_again(replay: Replay, make_rlm: Any) -> None:
    script = ScriptedModel([cell("FINAL(llm_query_batched(['x', 'x', 'x']))"), Reply("1", Usage(5, 5))])
    result = make_rlm(script, max_parallel=1).run("q", CONTEXT)
    again = replay(make_rlm(ScriptedModel([]), max_parallel=1), result.trajectory, CONTEXT)
    assert again.answer == result.answer
    assert again.usage == result.usage
    assert [e.id for e in again.trajectory] == [e.id for e in result.trajectory]


def test_an_extracted_answer_replays_as_extracted(replay: Replay, make_rlm: Any) -> None:
    script = ScriptedModel([cell("print(1)"), "The answer is 1."])
    result = make_rlm(script, max_iterations=1).run("q", CONTEXT)
    again = replay(make_rlm(ScriptedModel([]), max_iterations=1), result.trajectory, CONTEXT)
    assert (again.answer, again.status) == ("The answer is 1.", "extracted")


def test_an_answer_that_was_written_as_text_replays(replay: Replay, make_rlm: Any) -> None:
    script = ScriptedModel([cell("FINAL_WRITE('two lines', notes=context[:9])"), "Ada paid."])
    result = make_rlm(script, final_write=True).run("q", CONTEXT)
    assert replay(make_rlm(ScriptedModel([]), final_write=True), result.trajectory, CONTEXT).answer == "Ada paid."


def test_documents_are_compared_by_their_text_and_what_is_known_of_them(replay: Replay, make_rlm: Any) -> None:
    documents = [Document("Ada paid.", id="a"), Document("Bob did not.", id="b", metadata={"page": 2})]
    result = make_rlm(ScriptedModel([cell("FINAL(context[1].id)")])).run("q", documents)
    assert replay(make_rlm(ScriptedModel([])), result.trajectory, Context.of(list(documents))).answer == "b"
    with pytest.raises(InvalidInput):
        replay(make_rlm(ScriptedModel([])), result.trajectory, documents[::-1])
