"""One call is one trace: whole, ended and small, whatever way it was asked and however it came to its end."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langsmith import traceable

from rlm_integrations import Budget, Context
from rlm_integrations.errors import BudgetExceeded, ModelError
from rlm_integrations.langchain import RLMRunnable
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain import ways
from tests.langchain.langsmith_server import LangSmith, Traced
from tests.langchain.plays import CALLS, CELLS, CHILDREN, WRITTEN, deep, tooled
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat, Stuck
from tests.scripts import cell

Make = Callable[..., RLMRunnable]
# 2 MB; what stands in the middle is in no excerpt that a model is shown.
DOCUMENT = "word " * 200_000 + "CANARY-IN-THE-DOCUMENT" + " word" * 200_000
ASK = {"query": "root?", "context": DOCUMENT}
SYNC, ASYNC = (ways.invoke, ways.stream, ways.batch), (ways.ainvoke, ways.astream, ways.abatch, ways.astream_events)


def assert_whole(root: Traced, *, nested: bool = True) -> None:
    """Every run of the tree was posted once, ended, and lies within its parent."""
    for run in root.walk():
        assert (run.kind, run.posts, bool(run.end_time)) == (run.kind, 1, True)
        assert run.trace_id == root.id
    for run in root.walk():
        for child in run.children:
            assert child.dotted_order.startswith(run.dotted_order + ".")
            in_time = _time(child.end_time) <= _time(run.end_time)
            assert in_time or not nested, f"{child.kind} ended after {run.kind}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _rlm(root: Traced) -> Traced:
    return next(run for run in root.walk() if run.name == "RLMRunnable")


def _counted(root: Traced) -> Counter[str]:
    return Counter(run.kind for run in root.walk())


@pytest.mark.parametrize("place", ways.PLACES)
@pytest.mark.parametrize("way", ways.WAYS)
def test_a_call_is_one_tree_with_each_model_call_in_it_once(
    way: ways.Way, place: Callable[..., Runnable[Any, Any]], make: Make, langsmith: LangSmith
) -> None:
    chat = ScriptedChat(deep)
    # What a chain hands on, its own runs hold too: as a Context it is not written out.
    asked = ASK if place is ways.alone else {**ASK, "context": Context.of(DOCUMENT)}
    with get_usage_metadata_callback() as usage:
        answers = way(place(make(chat, max_depth=2)), asked, None)
    assert {str(answer) for answer in answers} <= {WRITTEN, str({"answer": WRITTEN})}
    roots = langsmith.roots()
    assert len(roots) == len(answers)
    for root in roots:
        assert_whole(root)
        counted = _counted(_rlm(root))
        assert counted == {
            "chain:RLMRunnable": 1,
            "chain:RLM": CHILDREN,
            "tool:python": CELLS,
            "llm:ScriptedChat": CALLS,
        }
        assert all(run.extra["metadata"]["usage_metadata"]["total_tokens"] == 15 for run in _models(root))
        assert not any(run.error for run in root.walk())
    calls = CALLS * len(answers)
    assert len(chat.calls) == calls
    counts = usage.usage_metadata["scripted-chat"]
    assert (counts["input_tokens"], counts["output_tokens"], counts["total_tokens"]) == tuple(
        calls * each for each in (10, 5, 15)
    )
    assert b"CANARY" not in langsmith.raw
    assert langsmith.broken == []


def _models(root: Traced) -> list[Traced]:
    return [run for run in root.walk() if run.run_type == "llm"]


def test_a_tree_shows_what_asked_for_what(make: Make, langsmith: LangSmith) -> None:
    make(ScriptedChat(deep), max_depth=2).invoke(ASK)
    (root,) = langsmith.roots()
    model, python = "llm:ScriptedChat", "tool:python"
    leaf = ("chain:RLM", model, python)
    child = ("chain:RLM", model, (python, leaf, model, model))
    assert root.shape() == ("chain:RLMRunnable", model, (python, child, child, child), model, (python, model))


def test_what_a_trace_says_of_the_context_is_a_description(make: Make, langsmith: LangSmith) -> None:
    make(ScriptedChat(deep), max_depth=2).invoke(ASK)
    (root,) = langsmith.roots()
    assert root.inputs["query"] == "root?"
    assert root.inputs["context"] == {
        "type": "str",
        "chars": len(DOCUMENT),
        "documents": 1,
        "sha256": Context.of(DOCUMENT).sha256,
        "head": DOCUMENT[:200],
    }


def test_long_questions_and_answers_between_runs_are_cut(make: Make, langsmith: LangSmith) -> None:
    ask = cell("x = rlm_query('child: ' + context, 'some text')\nFINAL(len(x))")

    def say(messages: Any) -> str:
        return ask if "Question: root?" in messages[1].content else cell("FINAL([query])")

    assert make(ScriptedChat(say), max_depth=1).invoke({"query": "root?", "context": "word " * 4000}) == "1"
    (root,) = langsmith.roots()
    (child,) = [run for run in root.walk() if run.name == "RLM"]
    for text in (child.inputs["query"], child.outputs["output"]):
        assert 4000 < len(text) < 4050
        assert text.endswith("more characters]")


@pytest.mark.parametrize("compressed", [True, False])
def test_fifty_runs_over_two_megabytes_are_a_small_trace(
    compressed: bool, make: Make, langsmith: LangSmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compressed:
        monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    rlm = make(ScriptedChat([cell("print(context[:20])"), cell("FINAL(len(context))")] * 50))
    for _ in range(50):
        rlm.invoke({"query": "How long is it?", "context": DOCUMENT})
    assert len(langsmith.roots()) == 50
    assert len(langsmith.runs) == 250
    assert b"CANARY" not in langsmith.raw
    assert langsmith.posted < (100_000 if compressed else 2_000_000)


def _ends(root: Traced) -> dict[str, str]:
    """What each kind of run that failed failed with."""
    return {run.kind: run.error for run in root.walk() if run.error}


@pytest.mark.parametrize("way", ways.WAYS)
def test_a_failing_model_ends_its_run_and_all_above_it(way: ways.Way, make: Make, langsmith: LangSmith) -> None:
    rlm = make(ScriptedChat(lambda messages: _raise() if len(messages) > 2 else cell("print(context[:20])")))
    with pytest.raises(ModelError, match="no more"):
        way(rlm, ASK, None)
    ends = []
    for root in langsmith.roots():
        assert_whole(root)
        ends.append(set(_ends(root)))
    # The first failure of a batch may cancel the others wherever they are.
    assert {"chain:RLMRunnable", "llm:ScriptedChat"} in ends


def test_a_run_whose_end_a_closing_loop_keeps_from_being_told_is_ended_all_the_same(make: Make) -> None:
    recorder = Recorder()

    async def ask() -> None:
        told: list[Any] = []

        def as_the_loop_does(loop: Any, coroutine: Any, **settings: Any) -> Any:
            task = asyncio.Task(coroutine, loop=loop, **settings)
            if "on_chain_error" in coroutine.__qualname__ and not told:
                told.append(task)
                # It cancels all tasks: this one before its first step, and the one that waits for it.
                task.cancel()
                asking.cancel()
            return task

        asking = asyncio.create_task(make(ScriptedChat([ValueError("no")])).ainvoke(ASK, {"callbacks": [recorder]}))
        asyncio.get_running_loop().set_task_factory(as_the_loop_does)
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert told

    asyncio.run(ask())
    assert recorder.shape() == [["chain", ["llm"]]]
    assert recorder.open == set()


def _raise() -> str:
    raise ValueError("no more")


@pytest.mark.parametrize("way", [*SYNC, *ASYNC])
def test_a_failing_sub_call_is_a_failed_run_in_a_tree_that_goes_on(
    way: ways.Way, make: Make, langsmith: LangSmith
) -> None:
    play = tooled("llm_query_batched(['good', 'bad'])")
    bad = "bad"
    chat = ScriptedChat(lambda messages: play(messages) if messages[0].type == "system" else _said(messages, bad))
    answers = way(make(chat, output_type=list[Any]), {"query": "root?", "context": "some text"}, None)
    assert answers[0] == ["said", None]
    for root in langsmith.roots():
        assert_whole(root)
        (failed,) = [run for run in root.walk() if run.error]
        assert (failed.kind, "no more" in failed.error) == ("llm:ScriptedChat", True)


def _said(messages: Any, bad: str) -> str:
    return _raise() if messages[0].content == bad else "said"


@tool
def broken(word: str) -> str:
    """Breaks."""
    raise OSError("the tool is broken")


@pytest.mark.parametrize("way", [*SYNC, *ASYNC])
def test_a_failing_tool_is_a_failed_run_below_its_cell(way: ways.Way, make: Make, langsmith: LangSmith) -> None:
    chat = ScriptedChat(
        lambda messages: cell("broken('x')") if len(messages) == 2 else cell("FINAL(context[:4])"),
    )
    assert set(way(make(chat, tools=[broken]), {"query": "root?", "context": "some text"}, None)) == {"some"}
    for root in langsmith.roots():
        assert_whole(root)
        assert root.shape()[2] == ("tool:python", "tool:broken")
        assert set(_ends(root)) == {"tool:broken"}


@pytest.mark.parametrize("way", [ways.invoke, ways.stream, ways.ainvoke, ways.astream])
def test_a_cell_that_is_stopped_is_a_failed_run(way: ways.Way, make: Make, langsmith: LangSmith) -> None:
    with ProcessSandbox(timeout_s=0.5) as sandbox:
        chat = ScriptedChat([cell("while True: pass"), cell("FINAL(context[:4])")])
        assert way(make(chat, sandbox=sandbox), {"query": "root?", "context": "some text"}, None) == ["some"]
    (root,) = langsmith.roots()
    assert_whole(root)
    (failed,) = [run for run in root.walk() if run.error]
    assert failed.kind == "tool:python"


@pytest.mark.parametrize("way", [ways.invoke, ways.stream, ways.ainvoke, ways.astream, ways.astream_events])
def test_a_budget_of_seconds_ends_every_run(way: ways.Way, make: Make, langsmith: LangSmith) -> None:
    chat = ScriptedChat(tooled("llm_query_batched(['p', 'q', 'r'])"), latency_s=0.4)
    with pytest.raises(BudgetExceeded):
        way(make(chat, budget=Budget(max_seconds=0.6)), {"query": "root?", "context": "some text"}, None)
    (root,) = langsmith.roots()
    assert_whole(root)
    assert "chain:RLMRunnable" in _ends(root)


# What the root, its children and theirs have asked when the caller loses patience; None: the cell calls a tool.
MOMENTS = {"in the first call": 1, "in child runs": 1 + 3, "in their child runs": 1 + 3 + 3, "in a tool": None}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("place", ways.PLACES)
@pytest.mark.parametrize("way", ["ainvoke", "astream", "astream_events"])
def test_a_cancelled_task_ends_every_run(
    way: str, place: Callable[..., Runnable[Any, Any]], moment: str, make: Make, langsmith: LangSmith
) -> None:
    reached = asyncio.Event()

    @tool
    async def waiting(word: str) -> str:
        """Never returns."""
        reached.set()
        await asyncio.Event().wait()
        return word

    calls = MOMENTS[moment]
    if calls is None:
        rlm = make(ScriptedChat(tooled("waiting('x')")), tools=[waiting])
    else:
        rlm = make(Stuck(deep, stuck_at=calls, reached=reached), max_depth=2)
    asked = place(rlm)

    async def ask() -> None:
        if way == "ainvoke":
            await asked.ainvoke(ASK)
        elif way == "astream":
            async for _ in asked.astream(ASK):
                pass
        else:
            async for _ in asked.astream_events(ASK, version="v2"):
                pass

    async def lose_patience() -> None:
        task = asyncio.create_task(ask())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(lose_patience())
    (root,) = langsmith.roots()
    assert_whole(root)
    assert {"chain:RLMRunnable", "tool:waiting" if calls is None else "llm:Stuck"} <= set(_ends(root))


@pytest.mark.parametrize("way", [ways.ainvoke, ways.astream])
def test_a_timeout_around_the_call_ends_every_run(way: Any, make: Make, langsmith: LangSmith) -> None:
    rlm = make(Stuck(deep, stuck_at=4, reached=asyncio.Event()), max_depth=2)

    async def ask() -> None:
        async with asyncio.timeout(0.5):
            if way is ways.ainvoke:
                await rlm.ainvoke(ASK)
            else:
                async for _ in rlm.astream(ASK):
                    pass

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    (root,) = langsmith.roots()
    assert_whole(root)
    assert {"chain:RLMRunnable", "chain:RLM", "llm:Stuck"} <= set(_ends(root))


def test_a_cancelled_retriever_is_ended_too(make: Make, langsmith: LangSmith) -> None:
    class Waiting(BaseRetriever):
        """Never finds anything."""

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            raise NotImplementedError

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            return await asyncio.Event().wait()

    async def ask() -> None:
        async with asyncio.timeout(0.2):
            await make(ScriptedChat(deep), retriever=Waiting()).ainvoke({"query": "root?"})

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    (root,) = langsmith.roots()
    assert_whole(root)
    assert set(_ends(root)) == {"chain:RLMRunnable", "retriever:Waiting"}


class Held(ScriptedChat):
    """Holds its answer after the first piece until ``go`` is set."""

    go: Any

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for chunk in super()._stream(*args, **kwargs):
            yield chunk
            if chunk.text == WRITTEN[:8]:
                self.go.wait(10)


def test_a_stream_closed_half_way_ends_every_run(make: Make, langsmith: LangSmith) -> None:
    go = threading.Event()
    stream = make(Held(deep, go=go), max_depth=2).stream(ASK)
    assert next(stream) == WRITTEN[:8]
    stream.close()
    (root,) = langsmith.roots()
    (written,) = [run for run in root.walk() if not run.end_time]
    assert written.run_type == "llm"
    assert root.children[-1].error.startswith("RunCancelled")
    # A blocking call of a model ends when it brings its next piece.
    go.set()
    _wait_for("rlm-stream")
    (root,) = langsmith.roots()
    assert_whole(root, nested=False)


def test_a_chain_whose_stream_is_closed_half_way_runs_to_its_end(make: Make, langsmith: LangSmith) -> None:
    stream = ways.in_chain(make(ScriptedChat(deep), max_depth=2)).stream(ASK)
    assert next(stream) == WRITTEN[:8]
    stream.close()
    (root,) = langsmith.roots()
    assert_whole(root, nested=False)
    # LangChain reads on for the sake of its own trace, and knows no way to stop the steps before.
    assert not any(run.error for run in root.walk())


def _wait_for(name: str) -> None:
    """Wait for threads that a closed stream left behind."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)


@pytest.mark.parametrize("closing", ["aclose", "left alone"])
@pytest.mark.parametrize("place", ways.PLACES[:2])
def test_an_async_stream_left_half_way_ends_every_run(
    place: Any, closing: str, make: Make, langsmith: LangSmith
) -> None:
    asked = place(make(Stuck(deep, stuck_at=CALLS, reached=asyncio.Event()), max_depth=2))
    kept = []

    async def read() -> None:
        stream = asked.astream({**ASK, "context": Context.of(DOCUMENT)})
        async for piece in stream:
            assert piece == WRITTEN[:8]
            break
        if closing == "aclose":
            await stream.aclose()
        else:
            kept.append(stream)  # so that it is closed with the loop, after all tasks

    asyncio.run(read())
    (root,) = langsmith.roots()
    # A chain of LangChain's ends before its steps are closed.
    assert_whole(root, nested=place is ways.alone)
    assert {"chain:RLMRunnable", "tool:python", "llm:Stuck"} <= set(_ends(root))


@traceable(run_type="tool")
def looked_up(word: str) -> str:
    """What the test's register says of a word."""
    return inner(word) + "!"


@traceable
def inner(word: str) -> str:
    return word.upper()


@traceable(run_type="tool")
async def alooked_up(word: str) -> str:
    """The same, to be awaited."""
    await asyncio.sleep(0)
    return inner(word) + "!"


@pytest.mark.parametrize("place", ways.PLACES)
@pytest.mark.parametrize(
    ("way", "function"),
    [*((way, looked_up) for way in ways.WAYS), *((way, alooked_up) for way in ASYNC)],
)
def test_a_users_traceable_function_is_a_child_of_the_cell_that_called_it(
    way: ways.Way, function: Any, place: Any, make: Make, langsmith: LangSmith
) -> None:
    name = function.__name__
    rlm = make(ScriptedChat(tooled(f"{name}('word')")), tools=[function])
    way(place(rlm), {"query": "root?", "context": "some text"}, None)
    roots = langsmith.roots()
    assert len(roots) == (2 if way in (ways.batch, ways.abatch) else 1)
    for root in roots:
        assert_whole(root)
        python = next(run for run in root.walk() if run.kind == "tool:python")
        assert python.shape() == ("tool:python", (f"tool:{name}", "chain:inner"))


def test_a_call_inside_a_traceable_function_is_a_part_of_its_trace(make: Make, langsmith: LangSmith) -> None:
    rlm = make(ScriptedChat(deep), max_depth=2)

    @traceable
    def ask(query: str) -> Any:
        return rlm.invoke({"query": query, "context": DOCUMENT})

    @traceable
    async def aask(query: str) -> Any:
        return await rlm.ainvoke({"query": query, "context": DOCUMENT})

    assert ask("root?") == asyncio.run(aask("root?")) == WRITTEN
    roots = langsmith.roots()
    assert [root.kind for root in roots] == ["chain:ask", "chain:aask"]
    for root in roots:
        assert_whole(root)
        assert len(list(root.walk())) == 2 + CALLS + CELLS + CHILDREN


class Counting(BaseCallbackHandler):
    """Counts how often each run was begun and ended."""

    def __init__(self) -> None:
        self.starts: Counter[Any] = Counter()
        self.ends: Counter[Any] = Counter()

    def _start(self, *_: Any, run_id: Any, **__: Any) -> None:
        self.starts[run_id] += 1

    def _end(self, *_: Any, run_id: Any, **__: Any) -> None:
        self.ends[run_id] += 1

    on_chain_start = on_chat_model_start = on_tool_start = _start
    on_chain_end = on_chain_error = on_llm_end = on_llm_error = on_tool_end = on_tool_error = _end


class AsyncCounting(AsyncCallbackHandler):
    """The same, awaited."""

    def __init__(self) -> None:
        self.starts: Counter[Any] = Counter()
        self.ends: Counter[Any] = Counter()

    async def _start(self, *_: Any, run_id: Any, **__: Any) -> None:
        self.starts[run_id] += 1

    async def _end(self, *_: Any, run_id: Any, **__: Any) -> None:
        await asyncio.sleep(0)
        self.ends[run_id] += 1

    on_chain_start = on_chat_model_start = on_tool_start = _start
    on_chain_end = on_chain_error = on_llm_end = on_llm_error = on_tool_end = on_tool_error = _end


@pytest.mark.parametrize(
    ("way", "kind"), [*((way, Counting) for way in ways.WAYS), *((way, AsyncCounting) for way in ASYNC)]
)
def test_a_users_callbacks_see_each_run_begin_and_end_once(way: ways.Way, kind: Any, make: Make) -> None:
    handler = kind()
    answers = way(make(ScriptedChat(deep), max_depth=2), ASK, {"callbacks": [handler]})
    assert len(handler.starts) == len(answers) * (1 + CALLS + CELLS + CHILDREN)
    assert set(handler.starts.values()) == set(handler.ends.values()) == {1}
    assert handler.starts.keys() == handler.ends.keys()


@pytest.mark.parametrize("way", [ways.ainvoke, ways.astream])
@pytest.mark.parametrize("function", [broken, looked_up, alooked_up])
def test_callbacks_that_take_their_time_do_not_tear_a_tool_from_its_cell(
    function: Any, way: ways.Way, make: Make, langsmith: LangSmith
) -> None:
    name = function.name if function is broken else function.__name__
    rlm = make(ScriptedChat([cell(f"try: {name}('x')\nexcept Exception: pass\nFINAL(context[:4])")]), tools=[function])
    assert way(rlm, {"query": "root?", "context": "some text"}, {"callbacks": [Lagging()]}) == ["some"]
    (root,) = langsmith.roots()
    assert_whole(root)
    python = next(run for run in root.walk() if run.kind == "tool:python")
    assert [run.kind for run in python.children] == [f"tool:{name}"]


class Lagging(AsyncCallbackHandler):
    """Takes its time over every beginning, and keeps the order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def on_chain_start(self, *_: Any, run_id: Any, parent_run_id: Any = None, **__: Any) -> None:
        await asyncio.sleep(0.02)
        self.seen.append((run_id, parent_run_id))

    on_chat_model_start = on_tool_start = on_chain_start


@pytest.mark.parametrize("way", [ways.ainvoke, ways.astream])
def test_callbacks_that_take_their_time_do_not_tear_the_tree(way: ways.Way, make: Make, langsmith: LangSmith) -> None:
    handler = Lagging()
    way(make(ScriptedChat(deep), max_depth=2), ASK, {"callbacks": [handler]})
    (root,) = langsmith.roots()
    assert_whole(root)
    model, python = "llm:ScriptedChat", "tool:python"
    child = ("chain:RLM", model, (python, ("chain:RLM", model, python), model, model))
    assert root.shape() == ("chain:RLMRunnable", model, (python, child, child, child), model, (python, model))
    known = {None}
    for run_id, parent_id in handler.seen:
        assert parent_id in known
        known.add(run_id)


@pytest.mark.parametrize("kind", [Counting, AsyncCounting])
def test_a_users_callbacks_see_a_cancelled_run_end_once(kind: Any, make: Make) -> None:
    handler = kind()
    rlm = make(Stuck(deep, stuck_at=7, reached=asyncio.Event()), max_depth=2)

    async def ask() -> None:
        async with asyncio.timeout(0.5):
            await rlm.ainvoke(ASK, {"callbacks": [handler]})

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert handler.starts == handler.ends
    assert set(handler.starts.values()) == {1}


@pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])
@pytest.mark.parametrize("node", ["invokes", "streams"])
@pytest.mark.parametrize("stream_sub_calls", [False, True])
def test_langgraph_shows_tokens_of_the_answer_and_of_sub_calls_if_asked(
    stream_sub_calls: bool, node: str, is_async: bool, make: Make
) -> None:
    graph = ways.graph(
        make(ScriptedChat(deep), max_depth=2, stream_sub_calls=stream_sub_calls), streams=node == "streams"
    )

    async def read() -> list[Any]:
        return [piece async for piece in graph.astream(ASK, stream_mode="messages")]

    pieces = asyncio.run(read()) if is_async else list(graph.stream(ASK, stream_mode="messages"))
    text = "".join(message.text for message, _ in pieces)
    assert text.count(WRITTEN) == 1
    assert len([message for message, _ in pieces if message.text]) >= len(WRITTEN) / 8
    if stream_sub_calls:
        assert "said" in text
        assert "FINAL" in text
    else:
        assert text == WRITTEN
