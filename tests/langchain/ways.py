"""Every way to ask a Runnable, sync and async, and the places it may stand in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph

Way = Callable[[Runnable[Any, Any], Any, RunnableConfig | None], list[Any]]


def _joined(pieces: list[Any]) -> list[Any]:
    return ["".join(pieces)] if all(isinstance(piece, str) for piece in pieces) else pieces[-1:]


def invoke(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    return [runnable.invoke(input, config)]


def ainvoke(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    return [asyncio.run(runnable.ainvoke(input, config))]


def stream(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    return _joined(list(runnable.stream(input, config)))


def astream(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    async def read() -> list[Any]:
        return [piece async for piece in runnable.astream(input, config)]

    return _joined(asyncio.run(read()))


def batch(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    return runnable.batch([input, input], config)


def abatch(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    return asyncio.run(runnable.abatch([input, input], config))


def astream_events(runnable: Runnable[Any, Any], input: Any, config: RunnableConfig | None = None) -> list[Any]:
    async def read() -> list[Any]:
        events = [event async for event in runnable.astream_events(input, config, version="v2")]
        return [event["data"]["output"] for event in events if event["event"] == "on_chain_end"][-1:]

    return asyncio.run(read())


WAYS = (invoke, ainvoke, stream, astream, batch, abatch, astream_events)


class State(TypedDict, total=False):
    """What the graphs hold."""

    query: str
    context: Any
    answer: Any


def alone(rlm: Runnable[Any, Any]) -> Runnable[Any, Any]:
    return rlm


def in_chain(rlm: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """An LCEL chain whose last step gives text."""
    return RunnableLambda(lambda asked: dict(asked)) | rlm | StrOutputParser()


def graph(rlm: Runnable[Any, Any], *, streams: bool = False) -> Any:
    """A LangGraph graph, whose one node asks either way; ``streams``: it reads the answer piece by piece."""

    def answer(state: State, config: RunnableConfig) -> State:
        asked = {"query": state["query"], "context": state["context"]}
        return {"answer": "".join(rlm.stream(asked, config)) if streams else rlm.invoke(asked, config)}

    async def aanswer(state: State, config: RunnableConfig) -> State:
        asked = {"query": state["query"], "context": state["context"]}
        if streams:
            return {"answer": "".join([piece async for piece in rlm.astream(asked, config)])}
        return {"answer": await rlm.ainvoke(asked, config)}

    graph = StateGraph(State)
    graph.add_node("answer", RunnableLambda(answer, aanswer))
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile()


def in_graph(rlm: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """That graph, with the answer alone at its end."""
    return graph(rlm) | RunnableLambda(lambda state: state["answer"])


PLACES = (alone, in_chain, in_graph)
