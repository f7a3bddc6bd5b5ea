"""Every way to ask, and every way to ask wrongly."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import (
    RLM,
    Budget,
    BudgetExceeded,
    Context,
    Document,
    InvalidInput,
    ModelError,
    Reply,
    RunEnded,
    TextDelta,
    Usage,
)
from rlm_integrations.sandbox import CellOutput, Final
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell

TEXT = "Ada paid 12 dollars.\n" * 10
ANSWERS = (cell("FINAL(len(context))"),)


def test_completion_and_acompletion_return_the_answer_alone(make_rlm: Any) -> None:
    assert make_rlm(ScriptedModel(ANSWERS)).completion("q", TEXT) == "210"
    assert asyncio.run(make_rlm(ScriptedModel(ANSWERS)).acompletion("q", TEXT)) == "210"


def test_a_sync_run_works_inside_a_running_event_loop(make_rlm: Any) -> None:
    async def inside() -> Any:
        return make_rlm(ScriptedModel(ANSWERS)).completion("q", TEXT)

    assert asyncio.run(inside()) == "210"


def test_one_rlm_serves_many_threads_and_tasks_at_once(make_rlm: Any) -> None:
    rlm = make_rlm(ScriptedModel(by_role([cell("n = len(context)\nprint(n)"), cell("FINAL(n)")], lambda _: "")))
    texts = ["x" * size for size in range(1, 21)]
    answers: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda text=text: answers.update({len(text): rlm.completion("q", text)}))
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {size: str(size) for size in range(1, 21)}

    async def together() -> list[Any]:
        return await asyncio.gather(*(rlm.acompletion("q", text) for text in texts))

    assert asyncio.run(together()) == [str(size) for size in range(1, 21)]


def collect(rlm: RLM, way: str) -> list[Any]:
    """All events of a stream."""
    if way == "sync":
        return list(rlm.stream("q", TEXT))

    async def gather() -> list[Any]:
        return [event async for event in rlm.astream("q", TEXT)]

    return asyncio.run(gather())


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_stream_brings_text_as_it_is_written_and_the_end_of_the_run_last(make_rlm: Any, way: str) -> None:
    events = collect(make_rlm(ScriptedModel(ANSWERS)), way)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == ANSWERS[0]
    assert sum(isinstance(event, TextDelta) for event in events) > 2
    assert isinstance(events[-1], RunEnded)
    assert events[-1].answer == "210"
    assert events[-1].usage.calls == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_stream_raises_what_the_run_raises_after_its_last_event(make_rlm: Any, way: str) -> None:
    rlm = make_rlm(ScriptedModel([ModelError("no", model="scripted")]))
    with pytest.raises(ModelError) as caught:
        collect(rlm, way)
    assert caught.value.partial is not None
    assert caught.value.partial.trajectory[-1].kind == "run_failed"


def test_closing_a_stream_cancels_the_run_and_leaves_no_thread(make_rlm: Any) -> None:
    before = set(threading.enumerate())
    failed = threading.Event()
    rlm = make_rlm(
        ScriptedModel([cell("while True: pass")]),
        observers=[lambda event: failed.set() if event.kind == "run_failed" else None],
    )
    stream = rlm.stream("q", TEXT)
    for event in stream:
        if event.kind == "cell_started":
            break
    stream.close()
    assert failed.wait(5)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


def test_cancelling_a_task_kills_the_cell_and_tells_observers(make_rlm: Any) -> None:
    seen: list[str] = []

    async def cancel() -> None:
        started = asyncio.Event()

        def watch(event: Any) -> None:
            seen.append(event.kind)
            if event.kind == "cell_started":
                started.set()

        rlm = make_rlm(ScriptedModel([cell("while True: pass")]), observers=[watch])
        task = asyncio.create_task(rlm.arun("q", TEXT))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel(), 5))
    assert seen[-2:] == ["cell_failed", "run_failed"]


def test_cancelling_a_task_ends_all_sub_calls_below_it(make_rlm: Any) -> None:
    seen: list[str] = []

    async def cancel() -> None:
        three = asyncio.Semaphore(0)

        def watch(event: Any) -> None:
            seen.append(event.kind)
            if event.kind == "model_call_started" and event.depth == 2:
                three.release()

        root = ScriptedModel([cell("rlm_query_batched(['a', 'b', 'c'], ['x', 'y', 'z'])")])
        child = ScriptedModel(by_role([cell("llm_query(context + ' wait')")], lambda _: "never"), latency_s=0)
        slow = _Hanging(child)
        task = asyncio.create_task(make_rlm(root, recursive_model=slow, observers=[watch]).arun("q", TEXT))
        for _ in range(3):
            await three.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel(), 10))
    assert seen.count("run_started") == seen.count("run_failed") == 4
    assert seen.count("cell_started") == seen.count("cell_failed") == 4


class _Hanging:
    """Never answers a plain sub-call."""

    name = "hanging"

    def __init__(self, inner: ScriptedModel) -> None:
        self.inner = inner

    def complete(self, messages: Any, **options: Any) -> Any:
        raise NotImplementedError

    async def acomplete(self, messages: Any, **options: Any) -> Any:
        if messages[0].role == "user":
            await asyncio.Event().wait()
        return await self.inner.acomplete(messages, **options)


def test_an_observer_that_raises_is_logged_and_does_not_stop_the_run(run: Any, make_rlm: Any, caplog: Any) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("tracer down")

    kinds: list[str] = []
    rlm = make_rlm(ScriptedModel(ANSWERS), observers=[broken, lambda event: kinds.append(event.kind)])
    assert run(rlm, "q", TEXT).answer == "210"
    assert "tracer down" in caplog.text
    assert kinds[-1] == "run_ended"


@pytest.mark.parametrize("query", ["", "  \n", None, 7])
def test_an_empty_question_is_refused_before_any_call(run: Any, make_rlm: Any, query: Any) -> None:
    model = ScriptedModel([])
    with pytest.raises(InvalidInput, match="the question is"):
        run(make_rlm(model), query, TEXT)
    assert model.calls == []


@pytest.mark.parametrize("context", ["", [], {}, ["", ""], b"bytes", object(), [object()], {1: 2}, None, 3.5])
def test_a_context_that_can_not_be_used_is_refused_before_any_call(run: Any, make_rlm: Any, context: Any) -> None:
    model = ScriptedModel([])
    with pytest.raises(InvalidInput, match="context"):
        run(make_rlm(model), "q", context)
    assert model.calls == []


def builtin_name() -> None:
    """Has an ordinary name until the test renames it."""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_depth": -1}, "max_depth=-1"),
        ({"max_depth": True}, "max_depth=True"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"max_parallel": 0}, "max_parallel=0"),
        ({"on_exhausted": "guess"}, "on_exhausted='guess'"),
        ({"budget": 5}, "pass a Budget"),
        ({"observers": [3]}, "functions of one Event"),
        ({"tools": [lambda: 1]}, "named functions"),
        ({"tools": [builtin_name, builtin_name]}, "two tools are called builtin_name"),
        ({"output_type": object()}, "output_type"),
        ({"recursive_model": 7}, "without name, complete, acomplete"),
        ({"api_key": "k"}, "for models given by name"),
    ],
)
def test_a_setting_that_can_not_be_used_is_refused_at_once(settings: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        RLM(ScriptedModel([]), **settings)


@pytest.mark.parametrize("output_type", [Callable, "NoSuchType", object()])
def test_a_type_that_can_not_be_described_is_refused_at_once(output_type: Any) -> None:
    with pytest.raises(InvalidInput, match="output_type"):
        RLM(ScriptedModel([]), output_type=output_type)


def test_a_setting_that_is_misspelt_is_refused_with_the_right_name() -> None:
    with pytest.raises(InvalidInput, match="did you mean max_iterations"):
        RLM(ScriptedModel([]), max_itterations=2)


@pytest.mark.parametrize("usage", [None, {"input_tokens": 1}, Usage(-5, 0), Usage(None, None)])
def test_a_usage_that_can_not_be_counted_is_a_model_error(run: Any, make_rlm: Any, usage: Any) -> None:
    with pytest.raises(ModelError, match="whole numbers"):
        run(make_rlm(ScriptedModel([Reply("x", usage)])), "q", TEXT)


def test_a_limit_of_cost_is_refused_before_any_call_where_a_model_knows_it_has_no_price(
    run: Any, make_rlm: Any
) -> None:
    model = ScriptedModel([])
    model.has_price = False  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="no price is known for scripted"):
        run(make_rlm(model, budget=Budget(max_cost_usd=1.0)), "q", TEXT)
    assert model.calls == []


def test_documents_as_loaders_make_them_are_taken(run: Any, make_rlm: Any) -> None:
    metadata = {"day": datetime.date(2026, 1, 2), 3: {"a"}, "path": Path("x")}
    documents = [Document("one", id=7, metadata=metadata), Document("two", id="a"), Document("three", id="a")]
    rlm = make_rlm(
        ScriptedModel([cell("FINAL([context[0].metadata['day'], [d.id for d in context]])")]), output_type=Any
    )
    assert run(rlm, "q", documents).answer == ["2026-01-02", ["7", "a", "a#2"]]


def test_a_stream_runs_in_the_context_of_its_caller(make_rlm: Any) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []
    rlm = make_rlm(ScriptedModel(ANSWERS), observers=[lambda event: seen.append(variable.get())])
    variable.set("set")
    list(rlm.stream("q", TEXT))
    assert set(seen) == {"set"}


def test_text_that_a_model_brings_from_a_thread_comes_at_once(make_rlm: Any) -> None:
    class Threaded(ScriptedModel):
        async def acomplete(self, messages: Any, **options: Any) -> Any:
            await asyncio.to_thread(options["on_text"], "piece")
            await waiting.wait()
            return await super().acomplete(messages, **{**options, "on_text": None})

    async def read() -> None:
        nonlocal waiting
        waiting = asyncio.Event()
        async for event in make_rlm(Threaded(ANSWERS)).astream("q", TEXT):
            if event.kind == "text_delta":
                waiting.set()

    waiting: Any = None
    asyncio.run(asyncio.wait_for(read(), 5))


def test_any_object_with_the_methods_of_the_port_is_a_sandbox(run: Any) -> None:
    @dataclass
    class Calculator:
        """A session that answers any cell with a final value."""

        closed: bool = False

        def advance(self, step: Any) -> CellOutput:
            return CellOutput("", None, Final("42"))

        async def aadvance(self, step: Any) -> CellOutput:
            return self.advance(step)

        def close(self) -> None:
            self.closed = True

    class Desk:
        def __init__(self) -> None:
            self.sessions: list[Calculator] = []

        def open(self, variables: Any, functions: Any) -> Calculator:
            self.sessions.append(Calculator())
            return self.sessions[-1]

        async def aopen(self, variables: Any, functions: Any) -> Calculator:
            return self.open(variables, functions)

        def report(self) -> Any:
            raise NotImplementedError

    desk = Desk()
    assert run(RLM(ScriptedModel([cell("print(6 * 7)")]), sandbox=desk), "q", TEXT).answer == "42"
    assert desk.sessions[0].closed


@pytest.mark.parametrize("name", ["llm_query", "context", "FINAL", "print", "json", "search", "_hidden", "class"])
def test_a_tool_with_a_reserved_name_is_refused(name: str) -> None:
    def tool() -> None:
        """Takes any name."""

    tool.__name__ = name
    with pytest.raises(InvalidInput, match=rf"{name}"):
        RLM(ScriptedModel([]), tools=[tool])


def test_a_coroutine_tool_is_refused_by_a_sync_run() -> None:
    async def wait() -> None:
        """Waits."""

    with pytest.raises(InvalidInput, match="use acompletion, arun or astream"):
        RLM(ScriptedModel([]), tools=[wait]).run("q", TEXT)


@pytest.mark.parametrize("limits", [{"max_calls": 0}, {"max_calls": 1.5}, {"max_cost_usd": -1}, {"max_seconds": "x"}])
def test_a_budget_that_makes_no_sense_is_refused(limits: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(limits))):
        Budget(**limits)


ODD = "nul \0 and\r\n lone \ud83d surrogate \udc00, 4 bytes \U0001f600, bom \ufeff, sep \u2028 end"


@pytest.mark.parametrize("context", [ODD, [ODD, ODD], {"key": ODD}, Document(ODD, id="odd"), [{"a": [ODD]}]])
def test_every_character_of_a_context_arrives_unchanged(run: Any, make_rlm: Any, context: Any) -> None:
    code = """
def texts(value):
    if isinstance(value, str):
        return [value]
    return [text for part in (value.values() if isinstance(value, dict) else value) for text in texts(part)]
FINAL([[ord(c) for c in text] for text in texts(context)])
"""
    rlm = make_rlm(ScriptedModel([cell(code)]), output_type=list[list[int]])
    expected = [[ord(c) for c in text] for _, text in Context.of(context).texts()]
    assert run(rlm, "q", context).answer == expected


def test_a_cell_is_stopped_when_the_seconds_of_the_budget_are_over(run: Any, make_rlm: Any) -> None:
    rlm = make_rlm(ScriptedModel([cell("while True: pass")]), budget=Budget(max_seconds=0.5), on_exhausted="raise")
    with pytest.raises(BudgetExceeded, match=r"max_seconds is 0\.5"):
        run(rlm, "q", TEXT)


def test_a_run_leaves_no_cycles_for_the_garbage_collector(run: Any, make_rlm: Any) -> None:
    rlm = make_rlm(ScriptedModel(by_role([cell("print(llm_query('x'))"), cell("FINAL(len(context))")], lambda _: "y")))
    run(rlm, "q", TEXT)
    gc.collect()
    result = run(rlm, "q", TEXT)
    kinds = {type(thing).__module__ for thing in _garbage()}
    assert result.answer == "210"
    assert not any(kind.startswith("rlm_integrations") for kind in kinds)


def _garbage() -> list[Any]:
    """What only the garbage collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
