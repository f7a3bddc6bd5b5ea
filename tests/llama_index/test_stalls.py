"""No query of an event loop holds it up: not by its size, nor by what only has blocking methods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool

from rlm_integrations.llama_index import RLMQueryEngine, RLMSynthesizer
from rlm_integrations.sandbox import ProcessSandbox
from tests.llama_index.finding import Finding
from tests.llama_index.scripted import ScriptedLLM
from tests.scripts import cell
from tests.stalls import longest_stall_s

# Of an idle machine the longest is below 50 ms; others may be at work on the one that this runs on.
MAX_STALL_S = 0.3
pytestmark = pytest.mark.alone
SLOW_S = 0.6
TEXT = "0123456789" * 5_000_000
DOCUMENTS = [Document(text=f"document {n} of many", metadata={"n": n}) for n in range(20_000)]
NODES = [TextNode(text=f"node {n} of many", metadata={"n": n}) for n in range(20_000)]
SCRIPT = [cell("print(len(context))"), cell("FINAL(len(context))")]


class Slow(Finding):
    """Blocks for a while."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        time.sleep(SLOW_S)
        return super()._retrieve(query_bundle)


class Large(Document):
    """Takes its time to hash, as only hundreds of megabytes do."""

    @property
    def hash(self) -> str:
        time.sleep(SLOW_S)
        return super().hash


class Blocking(CustomLLM):
    """An LLM that has blocking methods alone, and takes its time."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="blocking")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        time.sleep(SLOW_S)
        return CompletionResponse(text=cell("FINAL(len(context))"))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        def pieces() -> CompletionResponseGen:
            for text in ("```python\nFINAL(", "```python\nFINAL(len(context))", "```python\nFINAL(len(context))\n```"):
                time.sleep(SLOW_S / 3)
                yield CompletionResponse(text=text)

        return pieces()


def slow(word: str) -> str:
    """Takes its time."""
    time.sleep(SLOW_S)
    return word


def documents(llm: Any, **settings: Any) -> RLMQueryEngine:
    return RLMQueryEngine.from_documents(DOCUMENTS, llm=llm, **settings)


def text(llm: Any, **settings: Any) -> RLMQueryEngine:
    return RLMQueryEngine.from_documents(Document(text=TEXT), llm=llm, **settings)


def a_large_document_cited(llm: Any, **settings: Any) -> RLMQueryEngine:
    llm = ScriptedLLM([cell("print(len(context))"), cell("FINAL('nine', quotes=[context[0][-9:]])")])
    return RLMQueryEngine.from_documents(Large(text=f"{TEXT}123456789a"), llm=llm, **settings)


def a_large_node_cited(llm: Any, **settings: Any) -> RetrieverQueryEngine:
    llm = ScriptedLLM([cell("print(len(context))"), cell("FINAL('nine', quotes=[context[0][-9:]])")])
    finding = Finding([Large(text=f"How many {TEXT}123456789a")])
    return RetrieverQueryEngine(finding, response_synthesizer=RLMSynthesizer(llm, **settings))


def retrieved(llm: Any, **settings: Any) -> RLMQueryEngine:
    return RLMQueryEngine.from_retriever(Finding(NODES), llm=llm, **settings)


def synthesized(llm: Any, **settings: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine(Finding(NODES), response_synthesizer=RLMSynthesizer(llm, **settings))


def a_retriever_that_blocks(llm: Any, **settings: Any) -> RLMQueryEngine:
    return RLMQueryEngine.from_retriever(Slow([TextNode(text="many nodes")]), llm=llm, **settings)


def a_retriever_that_blocks_in_a_cell(llm: Any, **settings: Any) -> RLMQueryEngine:
    llm = ScriptedLLM([cell("FINAL(len(retrieve('many')))")])
    retriever = Slow([TextNode(text="many nodes")])
    return RLMQueryEngine.from_retriever(retriever, llm=llm, documents="some text", **settings)


def a_tool_that_blocks(llm: Any, **settings: Any) -> RLMQueryEngine:
    llm = ScriptedLLM([cell("FINAL(slow('x'))")])
    tools = [FunctionTool.from_defaults(slow)]
    return RLMQueryEngine.from_documents("some text", llm=llm, tools=tools, **settings)


def an_llm_that_blocks(llm: Any, **settings: Any) -> RLMQueryEngine:
    return RLMQueryEngine.from_documents("some text", llm=Blocking(), **settings)


MADE: list[Callable[..., Any]] = [
    documents,
    text,
    a_large_document_cited,
    a_large_node_cited,
    retrieved,
    synthesized,
    a_retriever_that_blocks,
    a_retriever_that_blocks_in_a_cell,
    a_tool_that_blocks,
    an_llm_that_blocks,
]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_a_query_does_not_stall_the_loop(
    made: Callable[..., Any], streaming: bool, sandbox: ProcessSandbox, record_property: Callable[[str, Any], None]
) -> None:
    engine = made(ScriptedLLM(SCRIPT), sandbox=sandbox, streaming=streaming)

    async def ask() -> None:
        response = await engine.aquery("How many")
        if streaming:
            response = await response.get_response()
        assert response.metadata["status"] == "complete"
        assert bool(response.source_nodes) == made.__name__.endswith("cited")

    stall_s = longest_stall_s(ask)
    record_property("longest stall (ms)", round(1_000 * stall_s, 1))
    assert stall_s < MAX_STALL_S


def test_twenty_queries_at_once_do_not_stall_the_loop(
    sandbox: ProcessSandbox, record_property: Callable[[str, Any], None]
) -> None:
    llm = ScriptedLLM(lambda messages: SCRIPT[len(messages) > 2], latency_s=0.02)
    engine = RLMQueryEngine.from_documents(DOCUMENTS, llm=llm, sandbox=sandbox)

    async def ask() -> None:
        await asyncio.gather(*(engine.aquery("How many") for _ in range(20)))

    stall_s = longest_stall_s(ask)
    record_property("longest stall (ms)", round(1_000 * stall_s, 1))
    assert stall_s < MAX_STALL_S
