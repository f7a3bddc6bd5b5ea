"""Sub-calls: plain ones, child runs, tools; what is refused before it costs anything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from rlm_integrations import Budget, BudgetExceeded, Document, InvalidInput, Message, ModelError
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell, events

TEXT = "some text to look at\n" * 10


def last_output(model: ScriptedModel) -> str:
    """What the root was told before its last turn."""
    return [call for call in model.calls if call.messages[0].role == "system"][-1].messages[-1].content


def test_a_plain_sub_call_gets_its_prompt_alone_and_returns_text(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel(by_role([cell("FINAL(llm_query('say hi'))")], lambda prompt: f"<{prompt}>"))
    assert run(make_rlm(model), "q", TEXT).answer == "<say hi>"
    assert model.calls[1].messages == (Message("user", "say hi"),)


def test_a_batch_returns_its_results_in_order(run: Any, make_rlm: Any) -> None:
    code = "FINAL(llm_query_batched([str(i) for i in range(40)]))"
    model = ScriptedModel(by_role([cell(code)], lambda prompt: prompt * 2))
    assert run(make_rlm(model, output_type=list[str]), "q", TEXT).answer == [str(i) * 2 for i in range(40)]


def test_a_batch_is_carried_out_in_parallel_and_no_wider_than_allowed(run: Any, make_rlm: Any) -> None:
    model = _Counting(by_role([cell("FINAL(len(llm_query_batched(list('abcdefghijkl'))))")], lambda _: "ok"))
    assert run(make_rlm(model, max_parallel=4), "q", TEXT).answer == "12"
    assert model.peak == 4


def test_one_failure_does_not_fail_the_rest_of_a_batch(run: Any, make_rlm: Any) -> None:
    def sub_call(prompt: str) -> str:
        if prompt == "bad":
            raise ModelError("refused for once", model="scripted")
        return prompt

    code = "r = llm_query_batched(['a', 'bad', 'c'])\nprint(r)"
    model = ScriptedModel(by_role([cell(code), cell("FINAL(r)")], sub_call))
    run(make_rlm(model), "q", TEXT)
    assert "['a', None, 'c']" in last_output(model)
    assert "1 of 3 sub-calls failed" in last_output(model)
    assert "refused for once" in last_output(model)


def test_a_failed_sub_call_is_an_exception_in_model_code(run: Any, make_rlm: Any) -> None:
    def refuse(prompt: str) -> str:
        raise ModelError("refused", model="scripted")

    code = "try:\n    llm_query('x')\nexcept Exception as error:\n    FINAL(f'{error}' + context[:0])"
    assert run(make_rlm(ScriptedModel(by_role([cell(code)], refuse))), "q", TEXT).answer == "refused"


@pytest.mark.parametrize("name", ["rlm_query", "recursive_llm"])
def test_below_max_depth_a_query_is_a_child_run_on_the_recursive_model(run: Any, make_rlm: Any, name: str) -> None:
    root = ScriptedModel([cell(f"FINAL({name}('how long?', context[:8]))")], name="root")
    child = ScriptedModel([cell("print(query, len(context))"), cell("FINAL(len(context))")], name="child")
    result = run(make_rlm(root, recursive_model=child), "q", TEXT)
    assert result.answer == "8"
    assert {model: usage.calls for model, usage in result.usage.by_model.items()} == {"root": 1, "child": 2}
    assert {depth: usage.calls for depth, usage in result.usage.by_depth.items()} == {0: 1, 1: 2}
    runs = events(result, "run_started")
    assert [(event.depth, event.model) for event in runs] == [(0, "root"), (1, "child")]
    assert runs[1].parent_id == events(result, "cell_started")[0].id
    assert "how long? 8" in child.calls[1].messages[-1].content


def test_at_max_depth_a_query_is_one_plain_call_with_the_text(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("FINAL(rlm_query('who?', 'Ada was here'))")])
    sub = ScriptedModel(["Ada"])
    result = run(make_rlm(root, recursive_model=sub, max_depth=0), "q", TEXT)
    assert result.answer == "Ada"
    assert "who?" in sub.calls[0].messages[0].content
    assert "Ada was here" in sub.calls[0].messages[0].content
    assert len(events(result, "run_started")) == 1


def test_child_runs_recurse_to_max_depth_and_no_deeper(run: Any, make_rlm: Any) -> None:
    def say(messages: Sequence[Message]) -> str:
        if messages[0].role != "system":
            return "bottom"
        return cell("FINAL(rlm_query(query + '!', context[:-1]) + str(len(context)))")

    result = run(make_rlm(ScriptedModel(say), max_depth=3), "q", "12345678")
    assert result.answer == "bottom5678"
    assert [event.depth for event in events(result, "run_started")] == [0, 1, 2, 3]
    assert result.usage.by_depth.keys() == {0, 1, 2, 3, 4}


def test_child_runs_have_sessions_of_their_own(run: Any, make_rlm: Any) -> None:
    def say(messages: Sequence[Message]) -> str:
        if "child" in messages[1].content:
            return cell(
                "FINAL('secret' in globals() if False else 'secret' in str(SHOW_VARS()) and context or context)"
            )
        return cell("secret = 1\nFINAL(rlm_query_batched(['child', 'child'], ['a', 'b']))")

    assert run(make_rlm(ScriptedModel(say), output_type=list[str]), "q", TEXT).answer == ["a", "b"]


def test_one_query_may_be_asked_of_many_contexts(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("FINAL(rlm_query_batched('len?', ['a', 'bb', 'ccc']))")])
    child = ScriptedModel(lambda _: cell("FINAL(len(context))"))
    assert run(make_rlm(root, recursive_model=child, output_type=list[int]), "q", TEXT).answer == [1, 2, 3]


def test_documents_stay_documents_in_a_child(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("FINAL(rlm_query('which?', context[1:]))")])
    child = ScriptedModel([cell("FINAL([context[0].id, context[0].metadata, len(context[0])])")])
    documents = [Document("one", id="a"), Document("three", id="b", metadata={"page": 7})]
    result = run(make_rlm(root, recursive_model=child, output_type=list[Any]), "q", documents)
    assert result.answer == ["b", {"page": 7}, 5]


def test_a_child_out_of_turns_says_so_to_its_parent(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("r = rlm_query('q', 'part')\nprint(r)"), cell("FINAL(r)")])
    child = ScriptedModel([cell("print(1)"), "a guess"])
    assert run(make_rlm(root, recursive_model=child, max_iterations=1), "q", TEXT).status == "extracted"
    assert "no turns or budget left" in root.calls[1].messages[-1].content


def test_a_prompt_too_large_for_the_window_is_refused_and_costs_nothing(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("llm_query('word ' * 4000)"), cell("FINAL(len(context))")])
    sub = ScriptedModel([], window_tokens=1000)
    run(make_rlm(root, recursive_model=sub), "q", TEXT)
    assert sub.calls == []
    told = root.calls[1].messages[-1].content
    assert "1,000" in told
    assert "split the text into pieces of at most 2,700 characters" in told


def test_a_prompt_too_large_for_the_budget_is_refused_and_costs_nothing(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("llm_query('word ' * 40000)"), cell("FINAL(len(context))")])
    run(make_rlm(model, budget=Budget(max_tokens=20_000)), "q", TEXT)
    assert len(model.calls) == 2
    assert "the budget has" in model.calls[1].messages[-1].content


def test_a_batch_of_more_than_256_is_refused(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("llm_query_batched(['x'] * 257)"), cell("FINAL(len(context))")])
    run(make_rlm(model), "q", TEXT)
    assert "at most 256" in model.calls[1].messages[-1].content


def test_text_sent_to_sub_models_is_bounded(run: Any, make_rlm: Any) -> None:
    code = "for i in range(9):\n    llm_query(str(i) * 150_000)"
    model = ScriptedModel(by_role([cell(code), cell("FINAL(len(context))")], lambda _: "ok"))
    run(make_rlm(model), "q", TEXT)
    sent = [call for call in model.calls if call.messages[0].role == "user"]
    assert len(sent) == 6
    assert "too much text" in last_output(model)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("llm_query()", "llm_query() missing"),
        ("llm_query(7)", "prompt must be a str, not int"),
        ("llm_query('a', voice='deep')", "unexpected keyword argument 'voice'"),
        ("llm_query_batched('abc')", "prompts must be a list, not str"),
        ("rlm_query_batched(['a'], ['b', 'c'])", "1 queries do not go with 2 contexts"),
        ("rlm_query('q', '')", "the context is empty"),
        ("rlm_query(' ', 'x')", "the query is empty"),
    ],
)
def test_a_call_that_makes_no_sense_is_an_error_in_model_code(run: Any, make_rlm: Any, code: str, reason: str) -> None:
    model = ScriptedModel([cell(code), cell("FINAL(len(context))")])
    run(make_rlm(model), "q", TEXT)
    assert reason in model.calls[1].messages[-1].content


def test_a_batch_never_overshoots_max_calls(run: Any, make_rlm: Any) -> None:
    code = "r = llm_query_batched([str(i) for i in range(8)])\nprint(sum(x is not None for x in r))"
    model = ScriptedModel(by_role([cell(code), cell("FINAL(len(context))")], lambda _: "ok"))
    result = run(make_rlm(model, budget=Budget(max_calls=6)), "q", TEXT)
    assert (result.usage.calls, result.status) == (6, "complete")
    assert len(model.calls) == 6
    assert "4 of 8 sub-calls failed" in last_output(model)
    assert "max_calls is 6" in last_output(model)


def test_swallowing_the_error_of_a_budget_gains_nothing(run: Any, make_rlm: Any) -> None:
    code = "for i in range(50):\n    try:\n        llm_query(str(i))\n    except BaseException:\n        pass"
    model = ScriptedModel(by_role([cell(code), "Ada"], lambda _: "ok"))
    result = run(make_rlm(model, budget=Budget(max_calls=5)), "q", TEXT)
    assert (len(model.calls), result.answer, result.status) == (5, "Ada", "extracted")


def test_no_child_run_is_begun_once_the_budget_has_refused_one(run: Any, make_rlm: Any) -> None:
    code = "for i in range(50):\n    try:\n        rlm_query('child', 'x')\n    except BaseException:\n        pass"
    child = ScriptedModel(lambda _: cell("FINAL(len(context))"))
    rlm = make_rlm(ScriptedModel([cell(code), "Ada"]), recursive_model=child, budget=Budget(max_calls=5))
    result = run(rlm, "q", TEXT)
    assert (len(child.calls), result.answer) == (3, "Ada")
    assert [len(events(result, kind)) for kind in ("run_ended", "run_failed")] == [4, 1]


def test_a_limit_of_cost_ends_a_tree_whose_sub_calls_have_no_price(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel([cell("print(llm_query_batched(['a', 'b']))")] * 3, usd_per_token=1e-6)
    sub = ScriptedModel(lambda _: "paid", name="sub")
    with pytest.raises(InvalidInput, match="sub reports no price") as caught:
        run(make_rlm(root, recursive_model=sub, budget=Budget(max_cost_usd=1.0)), "q", TEXT)
    assert len(root.calls) == 1
    assert caught.value.partial is not None
    assert caught.value.partial.usage.by_model["sub"].calls == len(sub.calls) <= 2


def test_seconds_are_up_for_a_cell_that_goes_on_after_a_sub_call(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel(by_role([cell("llm_query('x')\nwhile True: pass")], lambda _: "ok"), latency_s=0.2)
    started = time.monotonic()
    with pytest.raises(BudgetExceeded, match="max_seconds"):
        run(make_rlm(model, budget=Budget(max_seconds=0.8)), "q", TEXT)
    assert time.monotonic() - started < 2


def test_an_empty_prompt_is_refused_and_costs_nothing(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("llm_query(' ')"), cell("FINAL(len(context))")])
    assert run(make_rlm(model), "q", TEXT).usage.calls == 2


def test_an_object_with_a_coroutine_call_is_awaited(make_rlm: Any) -> None:
    class Tool:
        """Waits, as an object."""

        __name__ = "wait"

        async def __call__(self) -> str:
            await asyncio.sleep(0)
            return "waited"

    rlm = make_rlm(ScriptedModel([cell("FINAL(wait())")]), tools=[Tool()])
    assert asyncio.run(rlm.acompletion("q", TEXT)) == "waited"


def test_a_tool_ends_with_the_seconds_of_the_budget_when_async(make_rlm: Any) -> None:
    async def wait() -> None:
        """Never ends."""
        await asyncio.Event().wait()

    rlm = make_rlm(ScriptedModel([cell("wait()")]), tools=[wait], budget=Budget(max_seconds=0.3))
    with pytest.raises(BudgetExceeded):
        asyncio.run(asyncio.wait_for(rlm.arun("q", TEXT), 5))


def test_a_tool_is_called_with_what_model_code_gave_it(run: Any, make_rlm: Any) -> None:
    def price(item: str, *, currency: str = "EUR") -> dict[str, Any]:
        """Looks up a price."""
        return {"item": item, "currency": currency}

    model = ScriptedModel([cell("FINAL(price('tea', currency='USD'))")])
    answer = run(make_rlm(model, tools=[price], output_type=dict[str, str]), "q", TEXT).answer
    assert answer == {"item": "tea", "currency": "USD"}
    assert "price(item: " in model.calls[0].messages[0].content
    assert "Looks up a price." in model.calls[0].messages[0].content


def test_what_a_tool_raises_is_told_to_model_code_and_logged(run: Any, make_rlm: Any, caplog: Any) -> None:
    def broken() -> None:
        """Never works."""
        raise OSError("disk on fire")

    code = "try:\n    broken()\nexcept Exception as error:\n    FINAL(str(error) + context[:0])"
    result = run(make_rlm(ScriptedModel([cell(code)]), tools=[broken]), "q", TEXT)
    assert result.answer == "OSError: disk on fire"
    assert "a tool raised OSError" in caplog.text


def test_a_coroutine_tool_is_awaited(make_rlm: Any) -> None:
    async def wait() -> str:
        """Waits a moment."""
        await asyncio.sleep(0)
        return "waited"

    rlm = make_rlm(ScriptedModel([cell("FINAL(wait())")]), tools=[wait])
    assert asyncio.run(rlm.acompletion("q", TEXT)) == "waited"


def test_a_blocking_tool_does_not_block_the_event_loop(make_rlm: Any) -> None:
    done = threading.Event()

    def block() -> str:
        """Waits until the loop has gone on."""
        return "loop went on" if done.wait(10) else "loop was blocked"

    async def both() -> Any:
        rlm = make_rlm(ScriptedModel([cell("FINAL(block())")]), tools=[block])
        task = asyncio.create_task(rlm.acompletion("q", TEXT))
        while not any(thread.name == "rlm-tool" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        done.set()
        return await task

    assert asyncio.run(both()) == "loop went on"


class _Counting(ScriptedModel):
    """Knows how many calls were in flight at most."""

    peak = 0
    _now = 0
    _counting = threading.Lock()

    def _count(self, step: int) -> None:
        with self._counting:
            self._now += step
            self.peak = max(self.peak, self._now)

    def complete(self, messages: Any, **options: Any) -> Any:
        self._count(1)
        time.sleep(0.02)
        self._count(-1)
        return super().complete(messages, **options)

    async def acomplete(self, messages: Any, **options: Any) -> Any:
        self._count(1)
        await asyncio.sleep(0.02)
        self._count(-1)
        return await super().acomplete(messages, **options)
