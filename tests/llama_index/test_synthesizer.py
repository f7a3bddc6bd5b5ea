"""``RLMSynthesizer`` answers from whole documents, in the place of the synthesizer of any index's query engine."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import Document, ImageNode, NodeWithScore, TextNode
from llama_index.retrievers.bm25 import BM25Retriever
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field

from rlm_integrations import InvalidInput
from rlm_integrations.llama_index import RLMQueryEngine, RLMSynthesizer
from rlm_integrations.llama_index.given import FOREIGN
from rlm_integrations.sandbox import ProcessSandbox
from tests.llama_index.conftest import Ask
from tests.llama_index.scripted import ScriptedLLM
from tests.llama_index.telemetry import exporting
from tests.scripts import cell

BOOK = "\n\n".join(f"Day {day}. The crow came at noon, and it left at dusk." for day in range(60))
COUNT = "sum(str(text).count('crow') for text in context)"
COUNTING = [
    cell(f"len(context), {COUNT}"),
    cell(f"FINAL({COUNT}, quotes=['Day 7. The crow came at noon'])"),
]
WRITING = [cell("len(context)"), cell("FINAL_WRITE('short', quotes=['Day 7. The crow'])"), "It came every day."]


class Count(BaseModel):
    """How many."""

    crows: int


Make = Callable[..., RLMSynthesizer]


@pytest.fixture
def make_synthesizer(sandbox: ProcessSandbox) -> Make:
    return lambda llm, **settings: RLMSynthesizer(llm, sandbox=sandbox, **settings)


@pytest.fixture(autouse=True)
def no_llm_of_openais(llm_setting: Any) -> None:
    """LlamaIndex's engines make the default LLM also where it is never asked."""
    llm_setting.llm = ScriptedLLM([])


@pytest.fixture
def book() -> Document:
    return Document(text=BOOK, id_="book", metadata={"author": "Ada"})


@pytest.fixture(params=["vector", "summary"])
def index(request: pytest.FixtureRequest, book: Document) -> Any:
    """An index of overlapping nodes, which keeps no whole document."""
    transformations = [SentenceSplitter(chunk_size=100, chunk_overlap=40)]
    if request.param == "summary":
        return SummaryIndex.from_documents([book], transformations=transformations)
    embedding = MockEmbedding(embed_dim=4)
    return VectorStoreIndex.from_documents([book], embed_model=embedding, transformations=transformations)


def test_what_is_counted_is_right_though_nodes_overlap(make_synthesizer: Make, ask: Ask, index: Any) -> None:
    llm = ScriptedLLM(COUNTING)
    engine = index.as_query_engine(response_synthesizer=make_synthesizer(llm, docstore=index.docstore))
    response = ask(engine, "How often did a crow come?")
    assert type(response) is Response
    assert (str(response), BOOK.count("crow")) == ("60", 60)
    assert response.metadata["status"] == "complete"
    assert response.metadata["usage"]["calls"] == 2
    (found,) = response.source_nodes
    assert BOOK[found.node.start_char_idx : found.node.end_char_idx] == "Day 7. The crow came at noon"
    assert found.node.ref_doc_id == "book"
    assert found.node.metadata == {"author": "Ada"}


def test_the_same_count_over_nodes_as_they_are_is_wrong(make: Any, index: Any) -> None:
    nodes = list(index.docstore.docs.values())
    assert int(str(make(ScriptedLLM(COUNTING), [node.get_content() for node in nodes]).query("How often?"))) > 60


def test_any_retriever_will_do(make_synthesizer: Make, ask: Ask, index: Any, book: Document) -> None:
    retriever = BM25Retriever.from_defaults(nodes=list(index.docstore.docs.values()), similarity_top_k=3)
    synthesizer = make_synthesizer(ScriptedLLM(COUNTING), docstore=index.docstore)
    engine = RetrieverQueryEngine.from_args(retriever, response_synthesizer=synthesizer)
    assert str(ask(engine, "How often did a crow come on day 7?")) == "60"


def test_what_no_docstore_has_is_put_together_of_the_nodes(make_synthesizer: Make, ask: Ask, index: Any) -> None:
    nodes = list(index.docstore.docs.values())
    llm = ScriptedLLM(COUNTING)
    engine = RetrieverQueryEngine.from_args(
        SummaryIndex(nodes).as_retriever(), response_synthesizer=make_synthesizer(llm)
    )
    response = ask(engine, "How often?")
    assert str(response) == "60"
    assert response.source_nodes[0].node.ref_doc_id == "book"


def test_a_response_streams(make_synthesizer: Make, index: Any) -> None:
    synthesizer = make_synthesizer(ScriptedLLM(WRITING), docstore=index.docstore, streaming=True)
    response = index.as_query_engine(response_synthesizer=synthesizer).query("When?")
    assert type(response) is StreamingResponse
    assert response.metadata == {"status": "streaming"}
    pieces = list(response.response_gen)
    assert len(pieces) > 1
    assert "".join(pieces) == "It came every day."
    assert response.source_nodes[0].node.ref_doc_id == "book"
    assert response.metadata["status"] == "complete"


def test_a_response_streams_in_an_event_loop(make_synthesizer: Make, index: Any) -> None:
    synthesizer = make_synthesizer(ScriptedLLM(WRITING), docstore=index.docstore, streaming=True)
    engine = index.as_query_engine(response_synthesizer=synthesizer)

    async def read() -> tuple[Any, list[str]]:
        response = await engine.aquery("When?")
        return response, [piece async for piece in response.async_response_gen()]

    response, pieces = asyncio.run(read())
    assert type(response) is AsyncStreamingResponse
    assert len(pieces) > 1
    assert "".join(pieces) == "It came every day."
    assert response.source_nodes[0].node.ref_doc_id == "book"
    assert response.metadata["usage"]["calls"] == 3


def test_a_response_can_be_an_instance_of_a_class(make_synthesizer: Make, ask: Ask, index: Any) -> None:
    llm = ScriptedLLM([cell("len(context)"), cell(f"FINAL({{'crows': {COUNT}}}, quotes=['Day 7.'])")])
    synthesizer = make_synthesizer(llm, docstore=index.docstore, output_cls=Count)
    response = ask(index.as_query_engine(response_synthesizer=synthesizer), "How often?")
    assert type(response) is PydanticResponse
    assert response.response == Count(crows=60)
    assert response.source_nodes[0].node.ref_doc_id == "book"


@pytest.mark.parametrize("streaming", [False, True])
def test_where_nothing_is_found_there_is_an_empty_response(make_synthesizer: Make, streaming: bool) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([]), streaming=streaming, empty_response="Nothing there.")
    response = synthesizer.synthesize("how?", [])
    assert type(response) is (StreamingResponse if streaming else Response)
    assert str(response) == "Nothing there."
    assert response.metadata["status"] == "empty"

    async def ask() -> tuple[Any, str]:
        response = await synthesizer.asynthesize("how?", [])
        if streaming:
            return response, "".join([piece async for piece in response.async_response_gen()])
        return response, str(response)

    response, text = asyncio.run(ask())
    assert type(response) is (AsyncStreamingResponse if streaming else Response)
    assert text == "Nothing there."
    assert response.metadata["status"] == "empty"


def test_where_nothing_is_found_for_an_instance_nothing_streams(make_synthesizer: Make) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([]), streaming=True, output_cls=Count)
    assert type(synthesizer.synthesize("how?", [])) is Response
    assert type(asyncio.run(synthesizer.asynthesize("how?", []))) is Response
    assert synthesizer.get_response("how?", []) == "Empty Response"


@pytest.mark.parametrize("text", [3, ["Nothing."]])
def test_an_empty_response_that_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput, match=r"empty_response=.*: pass a str"):
        RLMSynthesizer(ScriptedLLM([]), empty_response=text)


def test_nodes_without_text_are_nothing_to_answer_from(make_synthesizer: Make) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([]))
    images = [NodeWithScore(node=ImageNode(image_url="image.png"))]
    assert str(synthesizer.synthesize("how?", images)) == "Empty Response"
    assert str(asyncio.run(synthesizer.asynthesize("how?", images))) == "Empty Response"


def test_an_engine_over_a_retriever_streams_that_it_found_nothing(sandbox: ProcessSandbox) -> None:
    retriever = SummaryIndex([]).as_retriever()
    engine = RLMQueryEngine.from_retriever(retriever, llm=ScriptedLLM([]), streaming=True, sandbox=sandbox)
    assert list(engine.query("how?").response_gen) == ["Empty Response"]  # type: ignore[union-attr]

    async def read() -> list[str]:
        return [piece async for piece in (await engine.aquery("how?")).response_gen]  # type: ignore[union-attr]

    assert asyncio.run(read()) == ["Empty Response"]


def test_nodes_beside_those_asked_about_go_with_the_citations(make_synthesizer: Make, index: Any) -> None:
    nodes = [NodeWithScore(node=node, score=0.5) for node in index.docstore.docs.values()]
    more = [NodeWithScore(node=TextNode(text="beside", id_="beside"), score=0.1)]
    made = lambda: make_synthesizer(ScriptedLLM(COUNTING), docstore=index.docstore)  # noqa: E731
    for response in (
        made().synthesize("How often?", nodes, additional_source_nodes=more),
        asyncio.run(made().asynthesize("How often?", nodes, additional_source_nodes=more)),
    ):
        assert str(response) == "60"
        assert [found.node.get_content() for found in response.source_nodes] == [
            "Day 7. The crow came at noon",
            "beside",
        ]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_texts_alone_are_answered_from(make_synthesizer: Make, way: str) -> None:
    def ask(synthesizer: RLMSynthesizer, chunks: list[str]) -> Any:
        if way == "sync":
            return synthesizer.get_response("How often?", chunks)
        return asyncio.run(synthesizer.aget_response("How often?", chunks))

    script = [cell(f"len(context), {COUNT}"), cell(f"FINAL({COUNT})")]
    assert ask(make_synthesizer(ScriptedLLM(script)), ["a crow", "crow, crow"]) == "3"
    typed = [cell(f"len(context), {COUNT}"), cell(f"FINAL({{'crows': {COUNT}}})")]
    assert ask(make_synthesizer(ScriptedLLM(typed), output_cls=Count), ["a crow", "crow"]) == Count(crows=2)
    assert ask(make_synthesizer(ScriptedLLM([])), []) == "Empty Response"


def test_one_text_is_not_taken_for_a_list_of_characters(make_synthesizer: Make) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([]))
    with pytest.raises(InvalidInput, match="text_chunks is a str: pass a list"):
        synthesizer.get_response("how?", "one text")
    with pytest.raises(InvalidInput, match="text_chunks is a str: pass a list"):
        asyncio.run(synthesizer.aget_response("how?", "one text"))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_texts_alone_are_in_no_span(make_synthesizer: Make, way: str) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([cell("FINAL(len(context))")]))
    with exporting() as exported:
        if way == "sync":
            synthesizer.get_response("how?", ["word " * 100_000])
        else:
            asyncio.run(synthesizer.aget_response("how?", ["word " * 100_000]))
    assert [span.name for span in exported.roots] == ["RLM.run"]
    assert exported.largest()[0] < 10_000


def test_a_copy_of_a_synthesizer_has_prompts_of_its_own_and_shares_the_rest(make_synthesizer: Make) -> None:
    synthesizer = make_synthesizer(ScriptedLLM([cell("FINAL(len(context))")]))
    copied = copy.deepcopy(synthesizer)
    copied.update_prompts({"sub_call_prompt": PromptTemplate("New: {query} {text}")})
    assert synthesizer.get_prompts()["sub_call_prompt"].get_template() != "New: {query} {text}"
    assert copied.get_response("how?", ["text"]) == "1"


def test_texts_alone_are_answered_from_in_a_stream(make_synthesizer: Make) -> None:
    synthesizer = make_synthesizer(ScriptedLLM(WRITING * 2), streaming=True)
    assert "".join(synthesizer.get_response("When?", [BOOK])) == "It came every day."

    async def read() -> str:
        return "".join([piece async for piece in await synthesizer.aget_response("When?", [BOOK])])  # type: ignore

    assert asyncio.run(read()) == "It came every day."


def test_prompts_are_read_and_replaced_through_the_engine(make_synthesizer: Make, ask: Ask, index: Any) -> None:
    llm = ScriptedLLM(COUNTING)
    engine = index.as_query_engine(response_synthesizer=make_synthesizer(llm, docstore=index.docstore))
    assert "{query}" in engine.get_prompts()["response_synthesizer:question_prompt"].get_template()
    new = PromptTemplate("Asked: {query}\n{shape}\n{view}")
    engine.update_prompts({"response_synthesizer:question_prompt": new})
    assert engine.get_prompts()["response_synthesizer:question_prompt"].get_template() == new.get_template()
    ask(engine, "How often?")
    assert llm.calls[0][1].content.startswith("Asked: How often?")


class Heard(BaseEventHandler):
    """The kinds of LlamaIndex's events, in order."""

    kinds: list[str] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.kinds.append(type(event).__name__)


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, root = Heard(), get_dispatcher("root")
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.mark.parametrize("nothing", [False, True])
def test_an_answer_is_reported_once(
    make_synthesizer: Make, ask: Ask, index: Any, heard: Heard, nothing: bool, llm_setting: Any
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm_setting.callback_manager = CallbackManager([debug])
    index = SummaryIndex([]) if nothing else index
    synthesizer = make_synthesizer(ScriptedLLM(COUNTING), docstore=index.docstore)
    ask(index.as_query_engine(response_synthesizer=synthesizer), "How often?")
    assert heard.kinds.count(SynthesizeStartEvent.__name__) == 1
    assert heard.kinds.count(SynthesizeEndEvent.__name__) == 1
    (pair,) = debug.get_event_pairs(CBEventType.SYNTHESIZE)
    assert len(pair) == 2
    assert len(debug.get_event_pairs(CBEventType.QUERY)) == 1
    assert len(debug.get_event_pairs(CBEventType.LLM)) == (0 if nothing else 2)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("response_mode", "leave it out"),
        ("text_qa_template", "update_prompts"),
        ("chat_content_qa_template", "update_prompts"),
        ("use_async", "max_parallel"),
        ("verbose", "observers"),
        ("multimodal", "leave it out"),
        ("prompt_helper", "leave it out"),
        ("similarity_top_k", "where nodes are found"),
        ("system_prompt", "instructions"),
    ],
)
def test_a_setting_of_other_synthesizers_is_no_option_of_the_model(name: str, instead: str) -> None:
    for make in (RLMSynthesizer, lambda llm, **settings: RLMQueryEngine.from_documents("text", llm, **settings)):
        with pytest.raises(InvalidInput, match=f"{name} has no meaning for an RLM: .*{instead}"):
            make(ScriptedLLM([]), **{name: None})


def test_every_setting_of_llamaindexs_synthesizers_is_known() -> None:
    own = {"llm", "callback_manager", "streaming", "output_cls"}
    assert inspect.signature(get_response_synthesizer).parameters.keys() - own <= FOREIGN.keys()


def test_variables_for_other_prompts_are_refused(make_synthesizer: Make) -> None:
    synthesizer, node = make_synthesizer(ScriptedLLM([])), NodeWithScore(node=TextNode(text="text"))
    with pytest.raises(InvalidInput, match="the prompts have no tone"):
        synthesizer.synthesize("how?", [node], tone="formal")
    with pytest.raises(InvalidInput, match="the prompts have no tone"):
        asyncio.run(synthesizer.asynthesize("how?", [node], tone="formal"))
    with pytest.raises(InvalidInput, match="the prompts have no tone"):
        synthesizer.get_response("how?", ["text"], tone="formal")
    with pytest.raises(InvalidInput, match="the prompts have no tone"):
        asyncio.run(synthesizer.aget_response("how?", ["text"], tone="formal"))
