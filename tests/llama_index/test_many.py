"""Many questions of one query engine at once: few runs are under way, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import Document
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rlm_integrations import RLM, InvalidInput, Message, ModelError, Reply
from rlm_integrations.engine.conversation import Conversation
from rlm_integrations.engine.tree import Tree
from rlm_integrations.llama_index import RLMQueryEngine
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.sandbox.session import ProcessSession
from tests.scripts import cell

ROWS = 40
EXPECTED = [ModelError if i % 10 == 0 else "9" for i in range(ROWS)]
QUERIES = [f"{'fails' if i % 10 == 0 else 'answers'} {i}" for i in range(ROWS)]


class Crowd:
    """Says how long the context is, or fails; ``most`` calls were under way together."""

    name = "crowd"

    def __init__(self) -> None:
        self._now = self.most = 0

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        if "fails" in messages[1].content:
            raise ModelError("the provider said no", model="crowd")
        return Reply(cell("FINAL(len(context[0]))"))

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.01)
        self._now -= 1
        return self.complete(messages)


class Counting(BaseRetriever):
    """Finds one node; ``found`` says how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.found += 1
        return [NodeWithScore(node=TextNode(text="some text"), score=1.0)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._retrieve(query_bundle)


def aqueries(engine: RLMQueryEngine) -> list[Any]:
    async def ask() -> list[Any]:
        return await asyncio.gather(*map(engine.aquery, QUERIES), return_exceptions=True)

    return asyncio.run(ask())


def queries_from_threads(engine: RLMQueryEngine) -> list[Any]:
    def ask(query: str) -> Any:
        try:
            return engine.query(query)
        except ModelError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, QUERIES))


def kinds(rows: list[Any]) -> list[Any]:
    return [type(row) if isinstance(row, Exception) else str(row) for row in rows]


def left(*types: type) -> list[str]:
    gc.collect()
    return [type(one).__name__ for one in gc.get_objects() if isinstance(one, types)]


@pytest.mark.parametrize("ask", [aqueries, queries_from_threads])
def test_failures_stay_in_their_rows_and_nothing_is_left_behind(
    sandbox: ProcessSandbox, ask: Callable[[RLMQueryEngine], list[Any]]
) -> None:
    assert left(Tree, Conversation) == []
    rows = ask(RLMQueryEngine.from_documents([Document(text="some text")], RLM(Crowd(), sandbox=sandbox)))
    assert kinds(rows) == EXPECTED
    assert left(Tree, Conversation, ProcessSession) == []


def test_no_more_than_max_runs_are_under_way(sandbox: ProcessSandbox) -> None:
    model = Crowd()
    engine = RLMQueryEngine.from_documents([Document(text="some text")], RLM(model, sandbox=sandbox, max_runs=3))
    assert kinds(aqueries(engine)) == EXPECTED
    assert model.most == 3


def test_nothing_is_retrieved_for_questions_that_wait(sandbox: ProcessSandbox) -> None:
    model = Crowd()
    retriever = Counting()
    answered, most = 0, 0

    def watch(event: Any) -> None:
        nonlocal answered, most
        if event.parent_id is None and event.kind in ("run_ended", "run_failed"):
            answered += 1
        most = max(most, retriever.found - answered)

    rlm = RLM(model, sandbox=sandbox, max_runs=3, observers=[watch])
    assert kinds(aqueries(RLMQueryEngine.from_retriever(retriever, rlm))) == EXPECTED
    assert retriever.found == ROWS
    assert most <= 3


def test_streaming_answers_are_read_later_than_others_begin(sandbox: ProcessSandbox) -> None:
    model = Crowd()
    engine = RLMQueryEngine.from_documents("some text", RLM(model, sandbox=sandbox, max_runs=2), streaming=True)

    async def ask() -> list[str]:
        responses = await asyncio.gather(*(engine.aquery(f"q{i}") for i in range(8)))
        texts = []
        for response in responses:
            texts.append("".join([piece async for piece in response.async_response_gen()]))  # type: ignore[union-attr]
        return texts

    assert asyncio.run(ask()) == ["1"] * 8
    assert model.most == 2


def test_max_runs_is_a_setting_and_is_checked(sandbox: ProcessSandbox) -> None:
    from tests.llama_index.scripted import ScriptedLLM

    with pytest.raises(InvalidInput, match="max_runs=0"):
        RLMQueryEngine.from_documents("text", ScriptedLLM([]), sandbox=sandbox, max_runs=0)
