"""RLMRunnable as a step of chains and graphs, with every kind of model, tool and context."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, Field

from rlm_integrations import RLM, Context, RLMResult
from rlm_integrations import Document as OwnDocument
from rlm_integrations.errors import InvalidInput, ModelError
from rlm_integrations.langchain import CitedDocument, RLMRunnable, RLMTool, create_rlm_documents_chain
from rlm_integrations.testing import ScriptedModel
from tests.langchain import ways
from tests.langchain.langsmith_server import LangSmith
from tests.langchain.plays import CALLS, CELLS, CHILDREN, WRITTEN, deep, tooled
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell

Make = Callable[..., RLMRunnable]
ASK = {"query": "root?", "context": "one two three " * 300}
TEXT = {"query": "q", "context": "some text"}
WAYS = pytest.mark.parametrize("way", ways.WAYS)
FIRST_WORD = [cell("FINAL(context[:4])")] * 20
SAME = cell("FINAL(rlm_query('child?', context) if query != 'child?' else 'at depth 1')")


class Shelf(BaseRetriever):
    """Finds documents that hold the last word of a question, ``k`` at most."""

    documents: list[Document]
    asked: list[str] = Field(default_factory=list)

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 2) -> list[Document]:
        self.asked.append(query)
        word = query.split()[-1].strip("?")
        return [document for document in self.documents if word in document.page_content][:k]


SHELF = [
    Document("The cat sat on the mat.", id="d1", metadata={"source": "cats.txt", "page": 3}),
    Document("The dog ate the cat food.", metadata={"source": "dogs.txt"}),
    Document("A cat is no dog.", metadata={"source": "dogs.txt"}),
    Document("No cat has a source."),
]


@WAYS
def test_it_stands_between_a_retriever_and_a_parser(way: ways.Way, make: Make) -> None:
    shelf = Shelf(documents=SHELF)
    rlm = make(ScriptedChat(lambda messages: cell("FINAL(f'{query} {len(context)} {context[0][:7]}')")))
    chain = {"context": shelf, "query": RunnablePassthrough()} | rlm | StrOutputParser()
    assert set(way(chain, "Where is the cat?", None)) == {"Where is the cat? 2 The cat"}


@WAYS
def test_it_is_a_node_of_a_graph(way: ways.Way, make: Make) -> None:
    answers = way(ways.in_graph(make(ScriptedChat(deep), max_depth=2)), ASK, None)
    assert {str(answer) for answer in answers} <= {WRITTEN, str({"answer": WRITTEN})}


@pytest.mark.parametrize("way", [ways.stream, ways.astream])
def test_it_streams_on_inside_a_chain(way: ways.Way, make: Make) -> None:
    seen: list[str] = []

    def shouted(pieces: Any) -> Any:
        for piece in pieces:
            seen.append(piece)
            yield piece.upper()

    async def ashouted(pieces: Any) -> Any:
        async for piece in pieces:
            seen.append(piece)
            yield piece.upper()

    from langchain_core.runnables import RunnableGenerator

    before = RunnableLambda(lambda asked: dict(asked))
    chain = before | make(ScriptedChat(deep), max_depth=2) | RunnableGenerator(shouted, ashouted)
    assert way(chain, ASK, None) == [WRITTEN.upper()]
    assert len(seen) == 4


def test_transform_takes_the_input_in_pieces(make: Make) -> None:
    rlm = make(ScriptedChat(FIRST_WORD))
    assert list(rlm.transform(iter([TEXT]))) == ["some"]

    async def read() -> list[Any]:
        async def pieces() -> Any:
            yield TEXT

        return [piece async for piece in rlm.atransform(pieces())]

    assert asyncio.run(read()) == ["some"]


def test_events_show_the_steps_and_the_answer_as_it_is_written(make: Make) -> None:
    rlm = make(ScriptedChat(deep), max_depth=2)

    async def read() -> list[Any]:
        return [event async for event in rlm.astream_events(ASK, version="v2")]

    events = asyncio.run(read())
    root = events[0]["run_id"]
    steps = [event for event in events if event["event"] == "on_custom_event"]
    assert {event["run_id"] for event in steps} == {root}
    counted = {name: sum(event["name"] == name for event in steps) for name in {event["name"] for event in steps}}
    both = {"run": 1 + CHILDREN, "cell": CELLS, "model_call": CALLS}
    assert counted == {f"rlm_{kind}_{end}": n for kind, n in both.items() for end in ("started", "ended")}
    pieces = [e["data"]["chunk"] for e in events if e["event"] == "on_chain_stream" and e["run_id"] == root]
    assert ("".join(pieces), len(pieces)) == (WRITTEN, 4)
    (code,) = [event["data"]["code"] for event in steps if event["name"] == "rlm_cell_started"][:1]
    assert code.startswith("found = rlm_query_batched")


def test_a_batch_keeps_its_order_and_runs_no_more_at_once_than_it_may(make: Make) -> None:
    rlm = make(ScriptedChat(lambda messages: cell("FINAL(context[:4])")))
    asked = [{"query": "q", "context": f"{n:04} text"} for n in range(12)]
    wanted = [f"{n:04}" for n in range(12)]
    assert rlm.batch(asked, {"max_concurrency": 3}) == wanted
    assert asyncio.run(rlm.abatch(asked, {"max_concurrency": 3})) == wanted
    assert rlm.map().invoke(asked[:2]) == wanted[:2]
    assert dict(rlm.batch_as_completed(asked[:2])) == {0: "0000", 1: "0001"}


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke])
def test_a_failed_batch_can_hand_the_errors_back(way: ways.Way, make: Make) -> None:
    def say(messages: Any) -> str:
        if "bad" in messages[1].content:
            raise ValueError("no")
        return cell("FINAL(context[:4])")

    rlm = make(ScriptedChat(say))
    asked = [TEXT, {"query": "bad", "context": "some text"}]
    if way is ways.invoke:
        answers = rlm.batch(asked, return_exceptions=True)
    else:
        answers = asyncio.run(rlm.abatch(asked, return_exceptions=True))
    assert answers[0] == "some"
    assert isinstance(answers[1], ModelError)
    assert answers[1].partial is not None


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke])
def test_retries_and_fallbacks(way: ways.Way, make: Make) -> None:
    failing = ScriptedChat([ValueError("no"), *FIRST_WORD])
    assert way(make(failing).with_retry(wait_exponential_jitter=False), TEXT, None) == ["some"]
    assert len(failing.calls) == 2
    broken = make(ScriptedChat([ValueError("no")]))
    assert way(broken.with_fallbacks([make(ScriptedChat(FIRST_WORD))]), TEXT, None) == ["some"]
    broken = make(ScriptedChat([ValueError("no")] * 3))
    with pytest.raises(ModelError, match="no"):
        way(broken.with_retry(stop_after_attempt=2, wait_exponential_jitter=False), TEXT, None)


@WAYS
def test_a_setting_that_is_configured_is_the_setting_that_counts(way: ways.Way, make: Make) -> None:
    rlm = make(ScriptedChat(lambda messages: SAME if messages[0].type == "system" else "a plain call"), max_depth=0)
    rlm = rlm.configurable_fields(max_depth=ConfigurableField(id="max_depth"))
    assert set(way(rlm, ASK, None)) == {"a plain call"}
    assert set(way(rlm, ASK, {"configurable": {"max_depth": 1}})) == {"at depth 1"}
    assert set(way(rlm.with_config(configurable={"max_depth": 1}), ASK, None)) == {"at depth 1"}
    assert set(way(rlm, ASK, None)) == {"a plain call"}


def test_a_model_that_is_configured_is_the_one_asked(make: Make) -> None:
    chats = {name: ScriptedChat(FIRST_WORD, model_name=name) for name in ("one", "two")}
    rlm = make(chats["one"]).configurable_alternatives(
        ConfigurableField(id="which"), default_key="one", two=make(chats["two"])
    )
    assert rlm.with_config(configurable={"which": "two"}).invoke(TEXT) == "some"
    assert [len(chat.calls) for chat in chats.values()] == [0, 1]


@WAYS
def test_what_is_bound_counts_as_a_setting(way: ways.Way, make: Make) -> None:
    rlm = make(ScriptedChat(lambda messages: SAME if messages[0].type == "system" else "a plain call"), max_depth=0)
    assert set(way(rlm.bind(max_depth=1), ASK, None)) == {"at depth 1"}
    with pytest.raises(InvalidInput, match="no setting max_dept"):
        way(rlm.bind(max_dept=1), ASK, None)


@WAYS
def test_a_setting_that_is_changed_is_the_setting_that_counts(way: ways.Way, make: Make) -> None:
    rlm = make(ScriptedChat(lambda messages: SAME if messages[0].type == "system" else "a plain call"), max_depth=0)
    copied = rlm.model_copy(update={"max_depth": 1})
    assert [set(way(one, ASK, None)) for one in (rlm, copied)] == [{"a plain call"}, {"at depth 1"}]
    rlm.max_depth = 1
    assert set(way(rlm, ASK, None)) == {"at depth 1"}
    with pytest.raises(InvalidInput, match="max_depth=-1"):
        rlm.max_depth = -1
    assert set(way(rlm, ASK, None)) == {"at depth 1"}


def test_showing_sub_calls_is_a_setting_of_each_copy(make: Make) -> None:
    rlm = make(ScriptedChat([]))
    copied = copy.copy(rlm)
    copied.stream_sub_calls = True
    assert [one._engine._is_streamed("sub_call") for one in (rlm, copied)] == [False, True]


@WAYS
def test_it_can_be_copied_and_pickled(way: ways.Way) -> None:
    rlm = RLMRunnable(FakeListChatModel(responses=FIRST_WORD[:1]), max_depth=0)
    for copied in (copy.copy(rlm), copy.deepcopy(rlm), pickle.loads(pickle.dumps(rlm))):
        assert vars(copied) == vars(rlm)
        assert copied._engine.rlm.settings.max_depth == 0
        assert set(way(copied, TEXT, None)) == {"some"}


def test_what_is_made_of_it_can_be_copied_and_pickled() -> None:
    llm = FakeListChatModel(responses=[cell("FINAL(len(context))")])
    asking = (RLMTool(llm, context="some text"), {"query": "q"}, "9")
    chain = (create_rlm_documents_chain(llm), {"question": "q", "context": [Document("some text")]}, "1")
    for made, input, answer in (asking, chain):
        for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert copied.invoke(input) == answer


def test_a_deep_copy_shares_what_can_not_be_copied(sandbox: Any) -> None:
    rlm = RLM(ScriptedModel(FIRST_WORD), sandbox=sandbox)
    assert copy.deepcopy(RLMRunnable(rlm)).invoke(TEXT) == "some"


def test_documents_are_no_part_of_its_repr(make: Make) -> None:
    shelf = Shelf(documents=SHELF)
    assert SHELF[0].page_content in repr(shelf)
    rlm = make(ScriptedChat([]), max_depth=2, retriever=shelf, tools=[shelf.invoke], observers=[shelf.invoke])
    assert "max_depth" in repr(rlm)
    assert SHELF[0].page_content not in repr(rlm)
    told = repr(RLMTool(ScriptedChat([]), context=SHELF))
    assert told.startswith("RLMTool(")
    assert SHELF[0].page_content not in told


def test_its_name_tags_and_metadata_are_those_of_its_run(make: Make, langsmith: LangSmith) -> None:
    rlm = make(ScriptedChat(FIRST_WORD)).with_config(run_name="Ask", tags=["t"], metadata={"m": 1})
    assert rlm.invoke(TEXT) == "some"
    (root,) = langsmith.roots()
    assert (root.name, root.tags, root.extra["metadata"]["m"]) == ("Ask", ["t"], 1)


def test_two_at_once_in_a_parallel_step(make: Make) -> None:
    first, second = make(ScriptedChat(FIRST_WORD)), make(ScriptedChat([cell("FINAL(len(context))")] * 9))
    both = RunnableParallel(first=first, second=second)
    assert both.invoke(TEXT) == asyncio.run(both.ainvoke(TEXT)) == {"first": "some", "second": "9"}


@pytest.mark.filterwarnings("ignore:This API is in beta")
def test_it_is_a_tool(make: Make) -> None:
    asked = make(ScriptedChat(FIRST_WORD)).as_tool(name="ask", description="asks")
    assert asked.args_schema is not None
    assert set(asked.args) == {"query", "context"}
    assert asked.invoke(TEXT) == asyncio.run(asked.ainvoke(TEXT)) == "some"
    chat = ScriptedChat([cell("FINAL(context[0].id)")] * 2)
    found = make(chat, retriever=Shelf(documents=SHELF)).as_tool(arg_types={"query": str}, name="find")
    assert set(found.args) == {"query"}
    assert found.invoke({"query": "a cat"}) == asyncio.run(found.ainvoke({"query": "a cat"})) == "d1"


def test_its_graph_and_schemas_say_what_goes_in_and_out(make: Make) -> None:
    class Count(BaseModel):
        n: int

    rlm = make(ScriptedChat([]))
    schema = rlm.get_input_jsonschema()["$defs"]["RLMInput"]
    assert set(schema["properties"]) == {"query", "context"}
    assert schema["required"] == ["query"]
    assert {part.get("type") for part in schema["properties"]["context"]["anyOf"]} == {"string", "array", "object"}
    assert rlm.get_output_jsonschema()["type"] == "string"
    assert make(ScriptedChat([]), output_type=int).get_output_jsonschema()["type"] == "integer"
    assert "n" in make(ScriptedChat([]), output_type=Count).get_output_jsonschema()["properties"]
    assert "type" not in make(ScriptedChat([]), output="result").get_output_jsonschema()
    assert rlm.get_input_schema().model_validate(TEXT)
    drawn = (RunnablePassthrough() | rlm | StrOutputParser()).get_graph()
    assert [node.name for node in drawn.nodes.values()][2] == "RLMRunnable"
    assert "RLMRunnable" in drawn.draw_mermaid()


@WAYS
def test_sub_calls_go_to_the_recursive_model(way: ways.Way, make: Make) -> None:
    root = ScriptedChat(deep, model_name="root")
    below = ScriptedChat(deep, model_name="below")
    answers = way(make(root, recursive_llm=below, max_depth=2), ASK, None)
    assert set(answers) == {WRITTEN}
    assert (len(root.calls), len(below.calls)) == (3 * len(answers), (CALLS - 3) * len(answers))


def _deep_model() -> ScriptedModel:
    from langchain_core.messages import HumanMessage, SystemMessage

    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    return ScriptedModel(lambda messages: deep([kinds[message.role](message.content) for message in messages]))


@WAYS
def test_the_model_calls_of_an_rlm_are_reported_by_us(way: ways.Way, sandbox: Any, langsmith: LangSmith) -> None:
    from langchain_core.callbacks import get_usage_metadata_callback

    model = _deep_model()
    rlm = RLMRunnable(RLM(model, sandbox=sandbox, max_depth=2, final_write=True))
    with get_usage_metadata_callback() as usage:
        answers = way(rlm, ASK, None)
    assert set(answers) == {WRITTEN}
    assert len(model.calls) == CALLS * len(answers)
    for root in langsmith.roots():
        runs = list(root.walk())
        assert all(run.end_time and run.posts == 1 for run in runs)
        models = [run for run in runs if run.run_type == "llm"]
        assert len(models) == CALLS
        assert len(runs) == 1 + CALLS + CELLS + CHILDREN
        assert all(run.extra["metadata"]["usage_metadata"]["total_tokens"] > 0 for run in models)
    total = sum((sum(len(message.content) for message in call.messages) // 4 + 1) for call in model.calls)
    assert usage.usage_metadata["scripted"]["input_tokens"] == total


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke, ways.stream, ways.astream])
def test_a_model_may_be_bound_configured_retried_and_have_fallbacks(way: ways.Way, make: Make) -> None:
    chat = ScriptedChat(FIRST_WORD)
    assert way(make(chat.bind(stop=["x"], top_k=3)), TEXT, None) == ["some"]
    assert chat.options[-1]["top_k"] == 3
    assert way(make(chat.with_config(tags=["t"])), TEXT, None) == ["some"]
    failing = ScriptedChat([ValueError("no"), ValueError("no")])
    assert way(make(failing.with_fallbacks([chat])), TEXT, None) == ["some"]
    assert way(make(failing.with_retry(stop_after_attempt=1).with_fallbacks([chat])), TEXT, None) == ["some"]
    assert way(make(chat | RunnableLambda(lambda message: message.text)), TEXT, None) == ["some"]


def test_an_rlm_has_its_own_settings(sandbox: Any) -> None:
    rlm = RLM(ScriptedModel([]), sandbox=sandbox)
    for settings, named in (
        ({"max_depth": 2}, "max_depth"),
        ({"recursive_llm": ScriptedChat([])}, "recursive_llm"),
        ({"temperature": 0.5, "output_type": int}, "output_type, temperature"),
    ):
        with pytest.raises(InvalidInput, match=f"has its own {named}: set them there"):
            RLMRunnable(rlm, **settings)


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke, ways.stream, ways.astream])
def test_temperature_reaches_the_model(way: ways.Way, make: Make) -> None:
    chat = ScriptedChat(FIRST_WORD)
    way(make(chat, temperature=0.25), TEXT, None)
    assert chat.options[0]["temperature"] == 0.25


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


@WAYS
def test_an_answer_is_of_the_type_asked_for(way: ways.Way, make: Make) -> None:
    assert set(way(make(ScriptedChat([cell("FINAL(len(context))")] * 2), output_type=int), TEXT, None)) == {9}
    person = cell("FINAL({'name': context[:4], 'age': len(context)})")
    answers = way(make(ScriptedChat([person] * 2), output_type=Person), TEXT, None)
    assert answers[0] == Person(name="some", age=9)


def add(left: int, right: int = 10) -> int:
    """Their sum."""
    return left + right


async def aadd(left: int, right: int = 10) -> int:
    """Their sum, later."""
    await asyncio.sleep(0)
    return left + right


class AddInput(BaseModel):
    left: int
    right: int = 10


@tool
def add_tool(left: int, right: int = 10) -> int:
    """Their sum."""
    return left + right


@tool("add-by-schema", args_schema=AddInput)
def add_by_schema(left: int, right: int = 10) -> int:
    """Their sum."""
    return left + right


@tool
async def aadd_tool(left: int, right: int = 10) -> int:
    """Their sum, later."""
    await asyncio.sleep(0)
    return left + right


SYNC_TOOLS = {"add": add, "add_tool": add_tool, "add_by_schema": add_by_schema}
ASYNC_TOOLS = {"aadd": aadd, "aadd_tool": aadd_tool}


@pytest.mark.parametrize("name", [*SYNC_TOOLS, *ASYNC_TOOLS])
@WAYS
def test_tools_are_called_by_position_and_by_name(way: ways.Way, name: str, make: Make) -> None:
    calls = f"[{name}(1, 2), {name}(1), {name}(left=1, right=3), {name}(5, right=1)]"
    chat = ScriptedChat(tooled(calls))
    rlm = make(chat, tools=[{**SYNC_TOOLS, **ASYNC_TOOLS}[name]], output_type=list[int])
    if name in ASYNC_TOOLS and way in (ways.invoke, ways.stream, ways.batch):
        with pytest.raises(InvalidInput, match=f"the tool {name} is async: use ainvoke, astream or abatch"):
            way(rlm, TEXT, None)
        assert chat.calls == []
        return
    assert way(rlm, TEXT, None)[0] == [3, 11, 4, 6]
    assert f"{name}(left" in chat.calls[0][0].content
    assert "right" in chat.calls[0][0].content.partition(f"{name}(left")[2][:30]
    assert "=10" in chat.calls[0][0].content.replace(" ", "")


@tool
def picky(word: str) -> str:
    """Takes no short words."""
    if len(word) < 3:
        raise ValueError(f"{word} is short")
    return word.upper()


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke])
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("picky('ab')", "ab is short"),
        ("picky(word=[])", "word"),
        ("picky('a', 'b')", "picky takes 1 arguments, not 2"),
        ("picky(wort='abc')", "word"),
    ],
)
def test_a_tool_that_fails_tells_model_code_why(way: ways.Way, call: str, said: str, make: Make) -> None:
    chat = ScriptedChat([cell(call), cell("FINAL(picky(context[:4]))")])
    assert way(make(chat, tools=[picky]), TEXT, None) == ["SOME"]
    assert said in chat.calls[1][-1].content


def found(word: str) -> Any:
    """Things of LangChain's."""
    return {"documents": [Document("text of it", id="i", metadata={"page": 2})], "person": Person(name="n", age=1)}


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke])
def test_what_tools_give_can_be_worked_with(way: ways.Way, make: Make) -> None:
    code = cell("f = found('x')\nd = f['documents'][0]\nFINAL([d[:4], d.id, d.metadata['page'], f['person']['name']])")
    assert way(make(ScriptedChat([code]), tools=[found], output_type=list[Any]), TEXT, None) == [["text", "i", 2, "n"]]


@WAYS
def test_a_retriever_finds_the_context_and_is_a_function_for_more(way: ways.Way, make: Make) -> None:
    shelf = Shelf(documents=SHELF)
    code = cell("more = retrieve('any dog', 1)\nFINAL([len(context), context[0].id, len(more), more[0].metadata])")
    rlm = make(ScriptedChat(lambda messages: code), retriever=shelf, output_type=list[Any])
    assert way(rlm, {"query": "Where is the cat?"}, None)[0] == [2, "d1", 1, {"source": "dogs.txt"}]
    assert way(rlm, "Where is the cat?", None)[0] == [2, "d1", 1, {"source": "dogs.txt"}]
    assert set(shelf.asked) == {"Where is the cat?", "any dog"}
    with pytest.raises(InvalidInput, match="found nothing for 'Where is the cow"):
        way(rlm, "Where is the cow?", None)


@WAYS
def test_a_retriever_finds_as_many_as_it_was_told_unless_model_code_says(way: ways.Way, make: Make) -> None:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts([f"text {n}" for n in range(30)])
    code = cell("FINAL([len(retrieve('x')), len(retrieve('x', 7)), len(retrieve('x', k=12)), len(context)])")
    chat = ScriptedChat(lambda messages: code)
    rlm = make(chat, retriever=store.as_retriever(search_kwargs={"k": 10}), output_type=list[Any])
    assert way(rlm, "Which?", None)[0] == [10, 7, 12, 10]
    plain = RunnableLambda(lambda query: [Document(query)] * 20)
    assert way(make(chat, retriever=plain, output_type=list[Any]), "Which?", None)[0] == [20, 7, 12, 20]


@WAYS
def test_a_context_that_is_given_is_not_looked_for(way: ways.Way, make: Make) -> None:
    shelf = Shelf(documents=SHELF)
    assert set(way(make(ScriptedChat(FIRST_WORD), retriever=shelf), TEXT, None)) == {"some"}
    assert shelf.asked == []


@WAYS
def test_documents_keep_id_metadata_and_text(way: ways.Way, make: Make) -> None:
    code = cell("FINAL([[d.id, d.metadata, d[:5]] for d in context])")
    rlm = make(ScriptedChat([code] * 2), output_type=list[Any])
    (first, second, third, last) = way(rlm, {"query": "q", "context": SHELF}, None)[0]
    assert first == ["d1", {"source": "cats.txt", "page": 3}, "The c"]
    assert second[1:] == [{"source": "dogs.txt"}, "The d"]
    assert third[1:] == [{"source": "dogs.txt"}, "A cat"]
    assert last[1:] == [{}, "No ca"]
    assert len({first[0], second[0], third[0], last[0]}) == 4
    assert second[0] == "dogs.txt"


RESULTS = pytest.mark.parametrize("way", [way for way in ways.WAYS if way is not ways.astream_events])
QUOTES = ["sat on the mat", "cat food", "no dog", "No cat has"]


@RESULTS
def test_citations_are_documents(way: ways.Way, make: Make) -> None:
    rlm = make(ScriptedChat([cell(f"FINAL(context[0][4:7], quotes={QUOTES})")] * 2), output="result")
    result = way(rlm, {"query": "q", "context": SHELF}, None)[0]
    assert isinstance(result, RLMResult)
    assert (result.answer, result.status, result.usage.calls) == ("cat", "complete", 1)
    cited = result.citations
    assert all(isinstance(citation, CitedDocument) for citation in cited)
    assert [citation.page_content for citation in cited] == QUOTES
    assert [citation.id for citation in cited] == ["d1", None, None, None]
    assert [citation.metadata.get("source") for citation in cited] == ["cats.txt", "dogs.txt", "dogs.txt", None]
    assert cited[0].metadata["page"] == 3
    for citation, document in zip(cited, SHELF, strict=True):
        start, end = citation.metadata["start_index"], citation.metadata["end_index"]
        assert document.page_content[start:end] == citation.page_content == citation.quote
        assert (citation.start, citation.end) == (start, end)
    assert "start_index" not in SHELF[0].metadata


@pytest.mark.parametrize("way", [ways.invoke, ways.astream])
@pytest.mark.parametrize(
    ("context", "start"),
    [("a cat sat", 2), (["a dog", "a cat sat"], 2), ({"k": "a cat sat"}, 2), (Document("a cat sat"), 2)],
)
def test_citations_of_other_contexts_say_where_too(way: ways.Way, context: Any, start: int, make: Make) -> None:
    rlm = make(ScriptedChat([cell("FINAL(len(context), quotes=['cat sat'])")]), output="result")
    (result,) = way(rlm, {"query": "q", "context": context}, None)
    (citation,) = result.citations
    assert (citation.page_content, citation.metadata["start_index"]) == ("cat sat", start)


@RESULTS
def test_citations_of_a_context_made_before_are_documents_too(way: ways.Way, make: Make) -> None:
    context = Context.of([OwnDocument("The cat sat.", id="c1", metadata={"page": 3}), "No cat stood."])
    chat = ScriptedChat([cell("FINAL(context[0][4:7], quotes=['cat sat', 'cat stood'])")] * 2)
    first, second = way(make(chat, output="result"), {"query": "q", "context": context}, None)[0].citations
    assert (first.id, first.metadata) == ("c1", {"page": 3, "start_index": 4, "end_index": 11})
    assert (second.id, second.metadata) == (None, {"start_index": 3, "end_index": 12})


@RESULTS
def test_citations_of_what_a_retriever_found_are_documents_too(way: ways.Way, make: Make) -> None:
    chat = ScriptedChat([cell("FINAL(context[0][4:7], quotes=['sat on the mat'])")] * 2)
    result = way(make(chat, retriever=Shelf(documents=SHELF), output="result"), "Where is the cat?", None)[0]
    assert (result.citations[0].id, result.citations[0].metadata["page"]) == ("d1", 3)


def test_traces_and_events_hold_the_answer_and_not_the_whole_result(make: Make, langsmith: LangSmith) -> None:
    chat = ScriptedChat([cell(f"FINAL(context[0][4:7], quotes={QUOTES})")])
    rlm = make(chat, output="result")

    async def read() -> list[Any]:
        return [event async for event in rlm.astream_events({"query": "q", "context": SHELF}, version="v2")]

    events = asyncio.run(read())
    (root,) = langsmith.roots()
    assert (events[-1]["data"]["output"], root.outputs) == ("cat", {"output": "cat"})
    (ended,) = [event["data"] for event in events if event["name"] == "rlm_run_ended"]
    assert (ended["status"], [citation["quote"] for citation in ended["citations"]]) == ("complete", QUOTES)


@WAYS
@pytest.mark.parametrize(
    ("input", "said"),
    [
        ("just text", "the input is a str"),
        ({"question": "q", "context": "c"}, "the input is a dict with the keys question, context"),
        ({"query": 5, "context": "c"}, "the input is a dict"),
        ({"query": "q"}, 'the input has no "context"'),
        ({"query": "q", "context": ""}, "the context is empty"),
        ({"query": "q", "context": []}, "the context is empty"),
        ({"query": " ", "context": "c"}, "the question is ' '"),
        ({"query": "q", "context": 5}, "a context can't be a int"),
        (None, "the input is a NoneType"),
    ],
)
def test_an_input_that_cant_be_used_is_refused_before_any_call(
    way: ways.Way, input: Any, said: str, make: Make
) -> None:
    chat = ScriptedChat([])
    with pytest.raises(InvalidInput, match=said):
        way(make(chat), input, None)
    assert chat.calls == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_dept": 2}, "no setting max_dept"),
        ({"max_depth": -1}, "max_depth=-1"),
        ({"max_depth": "deep"}, "max_depth"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"max_parallel": 0}, "max_parallel=0"),
        ({"output": "both"}, "output"),
        ({"on_exhausted": "shrug"}, "on_exhausted"),
        ({"budget": 5}, "budget=5"),
        ({"sandbox": 5}, "sandbox=5"),
        ({"tools": add_tool}, "tools is a StructuredTool: pass a list"),
        ({"tools": ["add"]}, "tools holds 'add'"),
        ({"tools": [add, add_tool, add]}, "two tools are called add"),
        ({"tools": [lambda: 1]}, "pass named functions"),
        ({"retriever": "shelf"}, "retriever is a str"),
        ({"observers": 5}, "observers=5"),
        ({"recursive_llm": 5}, "llm is a int"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_a_setting_that_cant_be_used_is_refused_when_it_is_made(settings: Any, said: str, make: Make) -> None:
    with pytest.raises(InvalidInput, match=said):
        make(ScriptedChat([]), **settings)


@pytest.mark.parametrize("llm", [5, None, object(), "no such model at all"])
def test_a_model_that_is_none_is_refused(llm: Any, make: Make) -> None:
    with pytest.raises(InvalidInput, match="llm"):
        make(llm)
