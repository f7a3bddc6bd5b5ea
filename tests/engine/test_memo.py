"""Equal sub-calls of one tree are paid for once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import Budget, InvalidInput, Message, ModelError, RLMResult, Usage
from rlm_integrations.engine.drivers import adrive
from rlm_integrations.engine.effects import Branch, CallModel, Wait
from rlm_integrations.engine.memo import CALL_CHARS, Memo
from rlm_integrations.messages import Reply
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell, events

TEXT = "some text to look at\n" * 10
MESSAGES = (Message("user", "hi"),)


def prompts(model: ScriptedModel) -> list[str]:
    """What was really asked in plain sub-calls."""
    return [call.messages[0].content for call in model.calls if call.messages[0].role == "user"]


def sources(result: RLMResult) -> list[str]:
    """Where the answers to sub-calls were taken from."""
    ids = {event.id for event in events(result, "model_call_started") if event.purpose == "sub-call"}
    return [event.source for event in events(result, "model_call_ended") if event.id in ids]


def numbered(latency_s: float = 0.0, root: Sequence[str] = ()) -> ScriptedModel:
    """A model that tells how often it was asked by sub-calls."""
    numbers = iter(range(1_000))
    return ScriptedModel(by_role(root, lambda prompt: f"{prompt}{next(numbers)}"), latency_s=latency_s)


def test_equal_prompts_of_one_batch_are_asked_once_though_they_are_in_flight_together(run: Any, make_rlm: Any) -> None:
    code = "FINAL(llm_query_batched(['a', 'b', 'a', 'a', 'b']))"
    model = numbered(latency_s=0.05, root=[cell(code)])
    result = run(make_rlm(model, output_type=list[str]), "q", TEXT)
    assert sorted(prompts(model)) == ["a", "b"]
    a, b = result.answer[:2]
    assert result.answer == [a, b, a, a, b]
    assert {a, b} in ({"a0", "b1"}, {"a1", "b0"})


def test_what_was_asked_in_an_earlier_cell_is_known_in_a_later_one(run: Any, make_rlm: Any) -> None:
    model = numbered(root=[cell("a = llm_query('a')\nprint(a)"), cell("FINAL([a, llm_query('a'), llm_query('a ')])")])
    result = run(make_rlm(model, output_type=list[str]), "q", TEXT)
    assert result.answer == ["a0", "a0", "a 1"]
    assert sources(result) == ["model", "memo", "model"]


def test_parallel_child_runs_share_what_they_ask(run: Any, make_rlm: Any) -> None:
    def say(messages: Sequence[Message]) -> str:
        if messages[0].role != "system":
            return "said"
        if "child" in messages[1].content:
            return cell("FINAL(llm_query('same') + context)")
        return cell("FINAL(rlm_query_batched('child', ['1', '2', '3']))")

    model = ScriptedModel(say, latency_s=0.02)
    result = run(make_rlm(model, output_type=list[str]), "q", TEXT)
    assert result.answer == ["said1", "said2", "said3"]
    assert prompts(model) == ["same"]


def test_a_reused_answer_is_told_as_a_call_that_cost_nothing(run: Any, make_rlm: Any) -> None:
    model = numbered(root=[cell("FINAL(llm_query_batched(['a', 'a']))")])
    result = run(make_rlm(model, output_type=list[str]), "q", TEXT)
    first, second = [event for event in events(result, "model_call_started") if event.purpose == "sub-call"]
    assert (second.parent_id, second.model, second.depth, second.new_messages) == (
        first.parent_id,
        first.model,
        first.depth,
        (Message("user", "a"),),
    )
    assert (first.source, second.source) == ("model", "memo")
    ended = {event.id: event for event in events(result, "model_call_ended")}
    assert (ended[second.id].text, ended[second.id].source) == ("a0", "memo")
    assert ended[second.id].usage == Usage(0, 0, 0, 0.0)
    assert result.usage.calls == 2


def test_a_reused_answer_takes_nothing_of_the_budget(run: Any, make_rlm: Any) -> None:
    code = "FINAL(llm_query_batched(['a'] * 5) + [llm_query('a') for _ in range(5)])"
    # The turn, one sub-call, and the call that is kept for the root run.
    rlm = make_rlm(numbered(root=[cell(code)]), budget=Budget(max_calls=3), output_type=list[str])
    result = run(rlm, "q", TEXT)
    assert result.answer == ["a0"] * 10
    assert result.usage.calls == 2


def test_text_that_is_not_sent_again_does_not_count_as_sent(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel(by_role([cell("FINAL(len(set(llm_query_batched(['a' * 300_000] * 5))))")], lambda _: "yes"))
    assert run(make_rlm(model), "q", TEXT).answer == "1"


def test_where_the_first_call_fails_the_next_one_asks_for_itself(run: Any, make_rlm: Any) -> None:
    failures = [ModelError("refused for once", model="scripted")]

    def sub_call(prompt: str) -> str:
        if failures:
            raise failures.pop()
        return prompt

    code = "r = llm_query_batched(['a'] * 4)\nprint(r)"
    model = ScriptedModel(by_role([cell(code), cell("FINAL(r)")], sub_call), latency_s=0.02)
    result = run(make_rlm(model, output_type=list[Any]), "q", TEXT)
    assert sorted(result.answer, key=str) == [None, "a", "a", "a"]
    assert len(prompts(model)) == 2
    assert sources(result) == ["model", "memo", "memo"]


def test_one_that_waits_for_another_works_with_one_sub_call_in_flight(run: Any, make_rlm: Any) -> None:
    model = numbered(root=[cell("FINAL(llm_query_batched(['a', 'b', 'a', 'a']))")])
    assert run(make_rlm(model, max_parallel=1, output_type=list[str]), "q", TEXT).answer == ["a0", "b1", "a0", "a0"]


def test_those_that_wait_do_not_take_the_place_of_calls_that_could_be_made(run: Any, make_rlm: Any) -> None:
    both, aboth = threading.Barrier(2), asyncio.Barrier(2)

    class Meeting(ScriptedModel):
        def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
            if messages[0].role != "system":
                both.wait(10)
            return super().complete(messages, **options)

        async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
            if messages[0].role != "system":
                await asyncio.wait_for(aboth.wait(), 10)
            return await super().acomplete(messages, **options)

    model = Meeting(by_role([cell("FINAL(llm_query_batched(['a', 'a', 'a', 'b']))")], str.upper))
    assert run(make_rlm(model, max_parallel=2, output_type=list[str]), "q", TEXT).answer == ["A", "A", "A", "B"]


def test_a_stream_that_is_closed_leaves_no_thread_waiting(make_rlm: Any) -> None:
    asked, release = threading.Event(), threading.Event()

    def sub_call(prompt: str) -> str:
        asked.set()
        release.wait(10)
        return prompt

    model = ScriptedModel(by_role([cell("FINAL(llm_query_batched(['a'] * 4))")], sub_call))
    before = set(threading.enumerate())
    stream = make_rlm(model).stream("q", TEXT)
    while not asked.is_set():
        next(stream)
    stream.close()
    release.set()
    end = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        for thread in left:
            if thread.ident:  # one that is only just being started can't be joined
                thread.join(10)
    assert not left
    assert len(prompts(model)) == 1


def test_no_thread_is_parked_in_an_async_run(make_rlm: Any) -> None:
    names: list[str] = []

    class Watching(ScriptedModel):
        async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
            for _ in range(10):
                await asyncio.sleep(0)
            names.extend(thread.name for thread in threading.enumerate())
            return await super().acomplete(messages, **options)

    model = Watching(by_role([cell("FINAL(len(llm_query_batched(['a'] * 200)))")], str.upper))
    assert asyncio.run(make_rlm(model, max_parallel=200).arun("q", TEXT)).answer == "200"
    assert not [name for name in names if name.startswith("rlm-")]


def ask(reply: str) -> Branch[Reply]:
    """One call that is really made."""
    answer: Reply = yield CallModel(ScriptedModel([reply]), MESSAGES)
    return answer


@pytest.mark.parametrize("error", [GeneratorExit(), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
def test_where_the_first_caller_is_cancelled_the_next_one_asks_for_itself(error: BaseException) -> None:
    memo = Memo()
    first, second, third = (memo.once("p", lambda: ask("x")) for _ in range(3))
    assert isinstance(next(first), CallModel)
    waits = [next(second), next(third)]
    assert all(isinstance(effect, Wait) and not effect.future.done() for effect in waits)
    with pytest.raises(type(error)):
        first.throw(error)
    assert [effect.future.result(0) for effect in waits] == [None, None]
    assert isinstance(second.send(None), CallModel)
    assert isinstance(third.send(None), Wait)


def test_one_that_stops_waiting_does_not_stop_the_others() -> None:
    async def main() -> list[tuple[Reply, bool]]:
        memo, release = Memo(), asyncio.Event()

        class Held(ScriptedModel):
            async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
                await release.wait()
                return await super().acomplete(messages, **options)

        def held() -> Branch[Reply]:
            answer: Reply = yield CallModel(Held(["x"]), MESSAGES)
            return answer

        tasks = [asyncio.ensure_future(adrive(memo.once("p", held))) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        release.set()
        return [await tasks[0], await tasks[2]]

    replies = asyncio.run(main())
    assert [(reply.text, is_known) for reply, is_known in replies] == [("x", False), ("x", True)]


def test_the_oldest_replies_are_dropped_when_there_is_too_much_text() -> None:
    memo = Memo(max_chars=10)

    def asked(prompt: str, reply: str) -> tuple[str, bool]:
        found, is_known = asyncio.run(adrive(memo.once(prompt, lambda: ask(reply))))
        return found.text, is_known

    for prompt in "abc":
        assert asked(prompt, prompt * 4) == (prompt * 4, False)
    assert asked("c", "?") == ("cccc", True)
    assert asked("b", "?") == ("bbbb", True)
    assert asked("a", "?") == ("?", False)
    assert asked("long", "x" * 100) == ("x" * 100, False)
    assert asked("long", "?") == ("x" * 100, True)
    assert asked("b", "?") == ("?", False)


def test_a_loop_that_asks_the_same_for_ever_is_told_to_stop() -> None:
    memo = Memo(max_reused_chars=2 * CALL_CHARS + 10)

    def asked(prompt: str) -> str:
        return asyncio.run(adrive(memo.once(prompt, lambda: ask("x"))))[0].text

    assert [asked("a") for _ in range(3)] == ["x"] * 3
    with pytest.raises(InvalidInput, match="asked too often"):
        asked("a")
    assert asked("b") == "x"


def test_a_resumed_run_may_send_as_much_as_it_could_have_sent(make_rlm: Any, tmp_path: Path) -> None:
    root = [cell("r = llm_query_batched(['a' * 300_000] * 3)"), cell("FINAL(llm_query(context + 'b' * 600_000))")]
    model = ScriptedModel(by_role(root[:1], lambda _: "yes"))
    with pytest.raises(ModelError):
        make_rlm(model).run("q", TEXT, save=tmp_path / "run.jsonl")
    model = ScriptedModel(by_role(root, lambda _: "yes"))
    assert make_rlm(model).resume(tmp_path / "run.jsonl", TEXT).answer == "yes"
