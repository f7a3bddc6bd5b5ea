"""``ChatRLM``: an RLM in the place of a chat model."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.documents import Document
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableConfig, RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from rlm_integrations import RLM, BudgetExceeded, InvalidInput, ModelError
from rlm_integrations.langchain import ChatRLM
from rlm_integrations.langchain.asked import Asked
from rlm_integrations.langchain.stops import UpToStop
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell

LOOK, WRITE = cell("print(str(context)[:100])"), cell("FINAL_WRITE('one line')")
WRITTEN = "The answer is forty-two, as the log says."
FIND = cell("FINAL(max(context, key=len)[-6:-1])")
LOG = "line of the log\n" * 400 + "port 8443."


@pytest.fixture
def make_chat(sandbox: ProcessSandbox) -> Callable[..., ChatRLM]:
    """A ChatRLM in the shared sandbox."""
    return lambda llm, **settings: ChatRLM(llm=llm, **{"sandbox": sandbox, **settings})


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks a model, in one way and in the other."""
    if request.param == "sync":
        return lambda model, *args, **kwargs: model.invoke(*args, **kwargs)
    return lambda model, *args, **kwargs: asyncio.run(model.ainvoke(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Streams from a model to the end, in one way and in the other."""
    if request.param == "sync":
        return lambda model, *args, **kwargs: list(model.stream(*args, **kwargs))

    async def astream(model: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return [chunk async for chunk in model.astream(*args, **kwargs)]

    return lambda *args, **kwargs: asyncio.run(astream(*args, **kwargs))


def asked(llm: ScriptedChat) -> str:
    """The first user message that the inner model was sent."""
    return str(llm.calls[0][1].content)


def show(*expressions: str) -> ScriptedChat:
    """A model whose answer is the value of some expressions, as JSON."""
    return ScriptedChat([cell(f"FINAL([{', '.join(expressions)}])")])


IDS = "[[d.id, str(d)] for d in context]"


# What is asked


def test_a_lone_question_is_its_own_context(ask: Any, make_chat: Any) -> None:
    llm = show(IDS, "query")
    message = ask(make_chat(llm, output_type=list), "What is it?")
    assert message.content == '[[["message 1 (user)","What is it?"]],"What is it?"]'


def test_tool_messages_are_documents_named_by_place_and_tool(ask: Any, make_chat: Any) -> None:
    llm = show(IDS)
    messages = [
        HumanMessage("What does x say?"),
        AIMessage("", tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "1"}]),
        ToolMessage("x says 3", tool_call_id="1"),
    ]
    message = ask(make_chat(llm, output_type=list), messages)
    assert message.content == '[[["message 3 (tool: search)","x says 3"]]]'
    assert "called search(q='x')" in asked(llm)
    assert "document 'message 3 (tool: search)' of the context" in asked(llm)
    assert "What does x say?" in asked(llm)


def test_a_long_message_is_a_document_and_short_ones_go_with_the_question(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([FIND])
    messages = [HumanMessage(LOG), AIMessage("I read it."), HumanMessage("Which port?")]
    assert ask(make_chat(llm), messages).content == " 8443"
    assert "assistant: I read it." in asked(llm)
    assert "user: (document 'message 1 (user)' of the context)" in asked(llm)
    assert len(asked(llm)) < 3_000


def test_a_short_conversation_is_the_context_all_the_same(ask: Any, make_chat: Any) -> None:
    llm = show(IDS, "query.splitlines()[0]")
    messages = [HumanMessage("I am Ada."), AIMessage("Hello Ada."), HumanMessage("Who am I?")]
    message = ask(make_chat(llm, output_type=list), messages)
    shown = '[[["message 1 (user)","I am Ada."],["message 2 (assistant)","Hello Ada."]],"Who am I?"]'
    assert message.content == shown
    assert "user: I am Ada.\nassistant: Hello Ada." in asked(llm)


def test_of_a_long_conversation_the_newest_goes_with_the_question(ask: Any, make_chat: Any) -> None:
    llm = show("[d.id for d in context]")
    turns = [HumanMessage(f"turn {number} " + "x" * 1_500) for number in range(10)]
    message = ask(make_chat(llm, output_type=list), [*turns, HumanMessage("And?")])
    assert "turn 9" in asked(llm)
    assert "turn 5" in asked(llm)
    assert "user: turn 4" not in asked(llm)
    assert '"message 1 (user)"' in message.content
    assert '"message 10 (user)"' not in message.content


@pytest.mark.parametrize("chars", range(1_580, 1_620, 2))
def test_nothing_of_a_conversation_is_lost_where_the_prompt_is_full(chars: int) -> None:
    turns = [HumanMessage(f"turn-{number} " + "x" * chars) for number in range(8)]
    asked = Asked.of([*turns, HumanMessage("And?")])
    for number in range(8):
        assert (f"turn-{number} " in asked.query) != any(f"turn-{number} " in text for text in asked.documents)
    assert len(asked.query) < 8_200


def test_a_long_question_is_shown_by_its_ends(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([cell("FINAL(context[0].count('line of'))")])
    assert ask(make_chat(llm), f"Count the lines.\n{LOG}\nHow many lines?").content == "400"
    assert "Count the lines." in asked(llm)
    assert "How many lines?" in asked(llm)
    assert "all of it is document 'message 1 (user)'" in asked(llm)


def test_attached_texts_are_documents(ask: Any, make_chat: Any) -> None:
    llm = show(IDS)
    encoded = base64.b64encode("ünïcode".encode()).decode()
    content = [
        {"type": "text", "text": "What is in them?"},
        {"type": "text-plain", "text": "first", "mime_type": "text/plain", "title": "a.txt"},
        {"type": "file", "base64": encoded, "mime_type": "text/csv", "extras": {"filename": "b.csv"}},
        {"type": "document", "source": {"type": "text", "data": "fourth"}, "title": "d"},
    ]
    message = ask(make_chat(llm, output_type=list), [HumanMessage(content)])
    for shown in ('message 1: a.txt","first"', 'b.csv","ünïcode"', 'message 1: d","fourth"'):
        assert shown in message.content


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([{"type": "image", "url": "https://example.org/a.png"}], "block of type image"),
        ([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}], "block of type image_url"),
        ([{"type": "file", "base64": "AAAA", "mime_type": "application/pdf"}], "file of type application/pdf"),
        ([{"type": "file", "base64": "/w==", "mime_type": "text/plain"}], "no text in UTF-8"),
        ([{"type": "file", "url": "https://example.org/a.txt"}], "a file that is no text"),
    ],
)
def test_what_is_no_text_is_refused(ask: Any, make_chat: Any, content: Any, error: str) -> None:
    llm = ScriptedChat([])
    with pytest.raises(InvalidInput, match=f"message 1 holds .*{error}"):
        ask(make_chat(llm), [HumanMessage([{"type": "text", "text": "What is it?"}, *content])])
    assert llm.calls == []


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([SystemMessage("Be brief.")], "no human message"),
        ([HumanMessage(" ")], "has no text"),
        ([HumanMessage([{"type": "text-plain", "text": "x", "mime_type": "text/plain"}])], "message 1 is the question"),
    ],
)
def test_messages_without_a_question_are_refused(ask: Any, make_chat: Any, messages: Any, error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        ask(make_chat(ScriptedChat([])), messages)


def test_system_messages_are_instructions_for_the_model_that_answers(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([cell("v = llm_query('sub')\nFINAL(v)"), "said"])
    messages = [SystemMessage("Be brief."), SystemMessage("Be French."), HumanMessage("What?")]
    assert ask(make_chat(llm), messages).content == "said"
    assert llm.calls[0][0].content.endswith("follow these instructions:\nBe brief.\n\nBe French.")
    assert "Be French." not in str(llm.calls[1])


def test_documents_stuffed_into_a_system_message_become_the_context(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([FIND])
    prompt = ChatPromptTemplate([("system", "Answer from these documents:\n{context}"), ("human", "{input}")])
    chain = prompt | make_chat(llm) | StrOutputParser()
    assert ask(chain, {"context": LOG, "input": "Which port?"}) == " 8443"
    assert "Answer from these documents:" in str(llm.calls[0][0].content)
    assert len(str(llm.calls[0])) < 8_000


def test_a_retriever_finds_the_context_of_a_question_that_has_none(ask: Any, make_chat: Any) -> None:
    retriever = RunnableLambda(lambda query: [Document("found: " + query, id="a")])
    llm = ScriptedChat([cell("FINAL(context[0])")])
    recorder = Recorder()
    model = make_chat(llm, retriever=retriever)
    assert ask(model, "What?", {"callbacks": [recorder]}).content == "found: What?"
    ((root, *below),) = recorder.shape()
    assert (root, [kind for kind, *_ in below]) == ("llm", ["chain", "llm", "tool"])


# What comes back


def test_the_answer_carries_status_usage_and_citations(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([cell("print(context)"), cell("FINAL('8443', quotes=['port 8443.'])")])
    message = ask(make_chat(llm), [HumanMessage(LOG), HumanMessage("Which port?")])
    about = message.response_metadata["rlm"]
    assert (message.content, about["status"], about["usage"]["calls"]) == ("8443", "complete", 2)
    assert about["usage"]["input_tokens"] == 20
    assert about["citations"] == [
        {"document_id": "message 1 (user)", "quote": "port 8443.", "start": 6400, "end": 6410}
    ]


def test_usage_is_counted_once(ask: Any, read: Any, make_chat: Any) -> None:
    model = make_chat(ScriptedChat(lambda messages: [LOOK, WRITE, WRITTEN][min(2, len(messages) // 2 - 1)]))
    with get_usage_metadata_callback() as usage:
        message = ask(model, "What?")
        read(model, "What?")
    assert message.usage_metadata is None
    assert usage.usage_metadata["scripted-chat"]["total_tokens"] == 2 * 3 * 15
    assert list(usage.usage_metadata) == ["scripted-chat"]


def test_the_answer_streams_as_it_is_written(read: Any, make_chat: Any) -> None:
    chunks = read(make_chat(ScriptedChat([LOOK, WRITE, WRITTEN])), "What?")
    assert "".join(chunk.text for chunk in chunks) == WRITTEN
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.response_metadata["rlm"]["usage"]["calls"] == 3
    assert len({chunk.id for chunk in chunks}) == 1


def test_text_ends_before_a_stop(ask: Any, read: Any, make_chat: Any) -> None:
    def model(**settings: Any) -> ChatRLM:
        return make_chat(ScriptedChat([LOOK, WRITE, WRITTEN]), **settings)

    assert ask(model(), "What?", stop=["forty-three", "two, as"]).content == "The answer is forty-"
    assert ask(model(stop=["two, as"]), "What?").content == "The answer is forty-"
    chunks = read(model(), "What?", stop=["two, as"])
    assert "".join(chunk.text for chunk in chunks) == "The answer is forty-"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stop_is_found_however_the_text_is_cut(size: int) -> None:
    def cut(text: str, stops: list[str]) -> str:
        reader = UpToStop(stops)
        return "".join(reader.add(text[at : at + size]) for at in range(0, len(text), size)) + reader.rest()

    assert cut("aabaabaac", ["aabaac"]) == "aab"
    assert cut("one two", ["two!"]) == "one two"
    assert cut("one two", ["", "zzz"]) == "one two"
    assert cut("one two three", ["three", "two"]) == "one "


# Structured output


class Port(BaseModel):
    """A port."""

    number: int
    service: str = "none"


class PortDict(TypedDict):
    """A port."""

    number: Annotated[int, ..., "the number"]


GIVE = cell("FINAL({'number': len(context[0])})")


def test_a_pydantic_schema_gives_an_instance(ask: Any, read: Any, make_chat: Any) -> None:
    structured = make_chat(ScriptedChat([GIVE, GIVE])).with_structured_output(Port)
    assert ask(structured, "Which port?") == Port(number=11)
    assert read(structured, "Which port?") == [Port(number=11)]


@pytest.mark.parametrize("schema", [PortDict, {**Port.model_json_schema(), "title": "Port"}], ids=["typed", "json"])
def test_another_schema_gives_a_dict_that_has_its_keys(ask: Any, make_chat: Any, schema: Any) -> None:
    llm = ScriptedChat([cell("FINAL({'wrong': len(context[0])})"), GIVE])
    assert ask(make_chat(llm).with_structured_output(schema, method="json_schema", strict=True), "Which?") == {
        "number": 6
    }
    assert '"number"' in asked(llm)
    assert "the keys number are missing" in str(llm.calls[1][-1].content)


def test_the_raw_message_comes_with_the_parsed_answer(ask: Any, make_chat: Any) -> None:
    structured = make_chat(ScriptedChat([GIVE])).with_structured_output(Port, include_raw=True)
    given = ask(structured, "Which port?")
    assert (given["parsed"], given["parsing_error"]) == (Port(number=11), None)
    assert given["raw"].content == '{"number":11,"service":"none"}'


def test_traces_are_told_the_schema(ask: Any, make_chat: Any) -> None:
    seen: list[Any] = []

    class Options(Recorder):
        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            seen.append(kwargs["options"].get("ls_structured_output_format"))

    ask(make_chat(ScriptedChat([GIVE])).with_structured_output(Port), "Which?", {"callbacks": [Options()]})
    assert seen[0]["schema"]["title"] == "Port"
    assert seen[1] is None


def test_what_can_not_be_done_is_refused(make_chat: Any) -> None:
    model = make_chat(ScriptedChat([]))
    with pytest.raises(NotImplementedError, match="RLMTool"):
        model.bind_tools([])
    with pytest.raises(InvalidInput, match="schema="):
        model.with_structured_output(5)
    with pytest.raises(InvalidInput, match="takes no top_p with a call"):
        model.invoke("What?", top_p=1)
    with pytest.raises(InvalidInput, match="takes no tools"):
        model.with_structured_output(Port, tools=[])
    with pytest.raises(InvalidInput, match="max_depth"):
        make_chat(ScriptedChat([]), max_depth=-1)
    with pytest.raises(InvalidInput, match="ChatRLM has no setting max_dept"):
        make_chat(ScriptedChat([]), max_dept=1)
    with pytest.raises(InvalidInput, match="pass a chat model"):
        make_chat(5)
    with pytest.raises(InvalidInput, match="llm is an RLM"):
        make_chat(RLM(ScriptedModel([])), temperature=1.0)


def test_an_rlm_in_the_place_of_the_model_gives_structured_output_too(sandbox: Any) -> None:
    rlm = RLM(ScriptedModel(["```python\nFINAL({'number': len(context[0])})\n```"] * 2), sandbox=sandbox)
    assert ChatRLM(rlm).with_structured_output(Port).invoke("What?") == Port(number=len("What?"))


def test_an_agents_response_format_is_refused_with_what_to_do_instead(ask: Any, make_chat: Any) -> None:
    agent = create_agent(make_chat(ScriptedChat([])), tools=[], response_format=Port)
    with pytest.raises(NotImplementedError, match=r"response_format.*with_structured_output"):
        ask(agent, {"messages": [HumanMessage("Port 8443.")]})


# Cache


@pytest.fixture
def cache() -> Iterator[InMemoryCache]:
    """LangChain's cache for all models."""
    before, cache = get_llm_cache(), InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(before)


def test_a_cached_answer_is_asked_for_once(ask: Any, make_chat: Any, cache: InMemoryCache) -> None:
    llm = ScriptedChat([FIND])
    first, second = (ask(make_chat(llm), "The port is 8443.").content for _ in range(2))
    assert first == second == " 8443"
    assert len(llm.calls) == 1


def same_tool() -> int:
    """A tool."""
    return 1


@pytest.mark.parametrize(
    "other",
    [
        {"llm": ScriptedChat([], model_name="other")},
        {"llm": ScriptedChat([]).bind(seed=1)},
        {"recursive_llm": ScriptedChat([], model_name="other")},
        {"max_depth": 0},
        {"temperature": 1.0},
        {"stop": ["x"]},
        {"output_type": int},
        {"output_type": float},
        {"tools": [same_tool]},
        {"timeout": 5},
    ],
)
def test_models_that_differ_do_not_share_answers(make_chat: Any, other: Any) -> None:
    def same(**settings: Any) -> ChatRLM:
        return make_chat(settings.pop("llm", ScriptedChat([])), **settings)

    assert same()._get_llm_string() == same()._get_llm_string()
    assert same()._get_llm_string() != same(**other)._get_llm_string()


def test_models_that_differ_in_the_kind_of_answer_alone_do_not_share_answers(make_chat: Any) -> None:
    kinds = [make_chat(ScriptedChat([]), output_type=kind)._get_llm_string() for kind in (int, float)]
    assert kinds[0] != kinds[1]


def test_the_cache_keeps_models_of_two_depths_apart(ask: Any, make_chat: Any, cache: InMemoryCache) -> None:
    # Models of one name: that of the inner calls would give the one's reply to the other.
    shallow, deep = (ScriptedChat([reply], cache=False) for reply in (cell("FINAL(context[0][:1])"), FIND))
    assert ask(make_chat(shallow, max_depth=0), "The port is 8443.").content == "T"
    assert ask(make_chat(deep, max_depth=2), "The port is 8443.").content == " 8443"


def test_secrets_are_no_part_of_what_traces_hold(make_chat: Any) -> None:
    from langchain_openai import ChatOpenAI

    model = make_chat(ChatOpenAI(model="gpt-5-mini", api_key="sk-secret", base_url="http://localhost:1"))
    assert "sk-secret" not in str(model._identifying_params)
    assert model._identifying_params["model_params"]["model_name"] == "gpt-5-mini"
    elsewhere = make_chat(ChatOpenAI(model="gpt-5-mini", api_key="sk-secret", base_url="http://localhost:2"))
    assert model._get_llm_string() != elsewhere._get_llm_string()


HOME = "http://localhost:1/v1"


def of_rlm(**options: Any) -> ChatRLM:
    """A ChatRLM over an RLM over a model by name."""
    return ChatRLM(RLM("openai/m", **{"api_base": HOME, "api_key": "sk-one", **options}))


@pytest.mark.parametrize(
    "other",
    [
        {"api_base": "http://localhost:2/v1"},
        {"temperature": 1.0},
        {"seed": 7},
        {"max_completion_tokens": 9},
        {"window_tokens": 9_000},
        {"recursive_model": LiteLLMModel("openai/m", api_base=HOME, seed=7)},
        {"instructions": "Be brief."},
    ],
)
def test_rlms_that_differ_do_not_share_answers(other: dict[str, Any]) -> None:
    assert of_rlm()._get_llm_string() == of_rlm()._get_llm_string()
    assert of_rlm()._get_llm_string() != of_rlm(**other)._get_llm_string()


@pytest.mark.parametrize("secret", [{"api_key": "sk-two"}, {"aws_secret_access_key": "x"}, {"hf_token": "x"}])
def test_secrets_of_an_rlm_do_not_tell_models_apart(secret: dict[str, Any]) -> None:
    assert of_rlm()._get_llm_string() == of_rlm(**secret)._get_llm_string()


def test_models_of_ones_own_do_not_share_answers(
    ask: Any, make_chat: Any, sandbox: ProcessSandbox, cache: InMemoryCache
) -> None:
    first, second = (RLM(ScriptedModel([cell(f"FINAL(context[0][{n}])")]), sandbox=sandbox) for n in range(2))
    assert [ask(ChatRLM(rlm), "Port").content for rlm in (first, second)] == ["P", "o"]
    for change in (str, lambda message: message):  # Runnables whose settings say nothing of what they do.
        llm = ScriptedChat([FIND], cache=False) | RunnableLambda(change)
        assert make_chat(llm)._get_llm_string() != make_chat(llm)._get_llm_string()


def test_what_is_made_of_chat_models_is_told_by_them(make_chat: Any) -> None:
    one, two = (ScriptedChat([], model_name=name) for name in ("one", "two"))
    for make in (
        lambda: one.with_retry(),
        lambda: one.with_fallbacks([two]),
        lambda: one.with_fallbacks([one]),
        lambda: two.with_retry().with_fallbacks([one]),
    ):
        assert make_chat(make())._get_llm_string() == make_chat(make())._get_llm_string()
    ways = [one, one.with_fallbacks([two]), one.with_fallbacks([two.bind(seed=1)])]
    assert len({make_chat(llm)._get_llm_string() for llm in ways}) == 3


# Settings that change


def test_a_setting_that_is_changed_is_the_setting_that_counts(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([FIND] * 4)
    model = make_chat(llm, temperature=0.5)
    ask(model.model_copy(update={"temperature": 0.25}), "Port 8443.")
    model.temperature, model.max_tokens = 0.75, 99
    ask(model, "Port 8443.")
    assert [(options["temperature"], options.get("max_tokens")) for options in llm.options] == [
        (0.25, None),
        (0.75, 99),
    ]


def test_a_change_that_can_not_be_used_is_refused_and_changes_nothing(make_chat: Any) -> None:
    model = make_chat(ScriptedChat([]), max_depth=2)
    with pytest.raises(InvalidInput, match="max_depth=-1"):
        model.max_depth = -1
    with pytest.raises(InvalidInput, match="max_depth"):
        model.model_copy(update={"max_depth": "deep"})
    with pytest.raises(InvalidInput, match="no setting max_dept"):
        model.model_copy(update={"max_dept": 1})
    assert (model.max_depth, model._engine.rlm.settings.max_depth) == (2, 2)


def test_it_can_be_copied_and_pickled(ask: Any) -> None:
    model = ChatRLM(FakeListChatModel(responses=[FIND]), max_depth=0, stop=["4"])
    assert ask(model.model_copy(deep=True, update={"stop": None}), "Port 8443.").content == " 8443"
    for copied in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert vars(copied) == vars(model)
        assert copied._get_llm_string() == model._get_llm_string()
        assert ask(copied, "Port 8443.").content == " 8"


def test_documents_are_no_part_of_its_repr(make_chat: Any) -> None:
    class Holder(RunnableLambda[Any, Any]):
        def __repr__(self) -> str:
            return "SECRET"

        __name__ = "hold"

    held = Holder(lambda _: [])
    model = make_chat(ScriptedChat([]), max_depth=2, tools=[held.invoke], retriever=held, observers=[held.invoke])
    assert "max_depth" in repr(model)
    assert "SECRET" not in repr(model)


# Callbacks


DEEP = cell("FINAL(rlm_query('child?', context))")


def play(messages: list[BaseMessage]) -> str:
    """A cell that asks a child, which answers at once, then an answer written as text."""
    turn = sum(message.type == "ai" for message in messages)
    if "child?" in str(messages[1].content):
        return cell("FINAL(len(context[0]))")
    return [cell("found = rlm_query('child?', context)\nprint(found)"), WRITE, WRITTEN][
        2 if "How to write" in str(messages[-1].content) else turn
    ]


TREE = [["llm", ["llm"], ["tool", ["chain", ["llm"], ["tool"]]], ["llm"], ["tool", ["llm"]]]]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "astream_events", "batch", "abatch"])
def test_the_inner_calls_are_below_the_models_own_run(make_chat: Any, way: str) -> None:
    recorder, model = Recorder(), make_chat(ScriptedChat(play))
    config: Any = {"callbacks": [recorder], "metadata": {"mine": 1}, "tags": ["my-tag"]}
    run(model, way, "What?", config)
    assert recorder.shape() == TREE
    assert recorder.open == set()
    assert all(metadata["mine"] == 1 for metadata in recorder.metadata.values())
    cells = [id for id, (kind, *_) in recorder.runs.items() if kind == "tool"]
    assert all("ls_model_name" not in recorder.metadata[id] for id in cells)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_in_a_chain_the_model_is_below_the_chain(make_chat: Any, way: str) -> None:
    recorder = Recorder()
    chain = ChatPromptTemplate([("human", "{q}")]) | make_chat(ScriptedChat(play)) | StrOutputParser()
    assert run(chain, way, {"q": "What?"}, {"callbacks": [recorder]}) == WRITTEN
    ((root, *below),) = recorder.shape()
    assert root == "chain"
    assert TREE[0] in below
    assert recorder.open == set()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_every_run_ends_once_on_an_error(make_chat: Any, way: str) -> None:
    recorder = Recorder()
    model = make_chat(ScriptedChat([LOOK, ModelError("no more", model="m")]))
    with pytest.raises(ModelError, match="no more"):
        run(model, way, "What?", {"callbacks": [recorder]})
    assert len(recorder.runs) == 4
    assert recorder.open == set()


def test_a_closed_stream_ends_its_runs_from_the_inside_out(make_chat: Any) -> None:
    recorder = Recorder()
    stream = make_chat(ScriptedChat(play)).stream("What?", {"callbacks": [recorder]})
    next(stream)
    stream.close()
    assert recorder.open == set()
    assert recorder.runs[recorder.order[-1]][2] is None


def test_a_closed_async_stream_ends_its_runs_from_the_inside_out(make_chat: Any) -> None:
    recorder = Recorder()

    async def begin() -> None:
        stream = make_chat(ScriptedChat(play)).astream("What?", {"callbacks": [recorder]})
        await anext(stream)
        await stream.aclose()

    asyncio.run(begin())
    assert recorder.open == set()
    assert recorder.runs[recorder.order[-1]][2] is None


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
def test_a_cancelled_answer_ends_its_runs(make_chat: Any, way: str) -> None:
    recorder = Recorder()
    llm = ScriptedChat(play, latency_s=60)

    async def begin() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await arun(make_chat(llm), way, "What?", {"callbacks": [recorder]})

    asyncio.run(begin())
    assert len(recorder.runs) == 2
    assert recorder.open == set()


def test_a_timeout_limits_the_whole_answer(ask: Any, make_chat: Any) -> None:
    model = make_chat(ScriptedChat([cell("while True: pass")]), timeout=0.5, on_exhausted="raise")
    with pytest.raises(BudgetExceeded, match=r"max_seconds is 0\.5"):
        ask(model, "What?")


def test_an_rlm_can_be_the_inner_model(ask: Any, make_chat: Any, sandbox: ProcessSandbox) -> None:
    recorder = Recorder()
    rlm = RLM(ScriptedModel([FIND]), sandbox=sandbox, instructions="Be brief.")
    with get_usage_metadata_callback() as usage:
        message = ask(
            ChatRLM(llm=rlm), [SystemMessage("Be kind."), HumanMessage("Port 8443.")], {"callbacks": [recorder]}
        )
    assert message.content == " 8443"
    assert recorder.shape() == [["llm", ["llm"], ["tool"]]]
    assert list(usage.usage_metadata) == [rlm.settings.model.name]
    assert "Be brief.\n\nBe kind." in rlm.settings.model.calls[0].messages[0].content


def test_its_fields_can_be_configured_and_its_failures_caught(ask: Any, make_chat: Any) -> None:
    llm = ScriptedChat([cell("FINAL(str(context[0])[:1])")] * 2)
    model = make_chat(llm).configurable_fields(stop=ConfigurableField(id="stop"))
    assert ask(model, "What?").content == "W"
    assert ask(model, "What?", {"configurable": {"stop": ["W"]}}).content == ""
    broken = make_chat(ScriptedChat([ModelError("no", model="m")]))
    assert ask(broken.with_fallbacks([make_chat(ScriptedChat([FIND]))]), "Port 8443.").content == " 8443"


def test_what_is_configured_reaches_the_inner_model(ask: Any, read: Any, make_chat: Any) -> None:
    inner = ScriptedChat([FIND]).configurable_alternatives(
        ConfigurableField(id="which"), other=ScriptedChat([cell("FINAL(context[0][:4])")] * 2)
    )
    model = RunnableLambda(lambda text: text) | make_chat(inner)
    config: Any = {"configurable": {"which": "other"}}
    assert ask(model, "Port 8443.", config).content == "Port"
    assert read(model, "Port 8443.", config)[0].text == "Port"


def test_an_agent_without_tools_can_use_it(ask: Any, make_chat: Any) -> None:
    agent = create_agent(make_chat(ScriptedChat([FIND])), system_prompt="Be brief.")
    assert ask(agent, {"messages": [HumanMessage("Port 8443.")]})["messages"][-1].content == " 8443"


# LangGraph


@pytest.mark.parametrize("streams_sub_calls", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("inside", ["invoke", "stream"])
def test_messages_mode_shows_the_answer_and_no_inner_calls_unless_asked(
    make_chat: Any, streams_sub_calls: bool, way: str, inside: str
) -> None:
    model = make_chat(ScriptedChat(play), stream_sub_calls=streams_sub_calls)

    def node(state: MessagesState, config: RunnableConfig) -> Any:
        if inside == "invoke":
            return {"messages": [model.invoke(state["messages"], config)]}
        chunks = list(model.stream(state["messages"], config))
        return {"messages": [sum(chunks[1:], chunks[0])]}

    async def anode(state: MessagesState, config: RunnableConfig) -> Any:
        if inside == "invoke":
            return {"messages": [await model.ainvoke(state["messages"], config)]}
        chunks = [chunk async for chunk in model.astream(state["messages"], config)]
        return {"messages": [sum(chunks[1:], chunks[0])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("node", node if way == "sync" else anode)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    compiled = graph.compile()
    state: Any = {"messages": [HumanMessage("What?")]}
    if way == "sync":
        parts = list(compiled.stream(state, stream_mode="messages"))
    else:

        async def astream() -> list[Any]:
            return [part async for part in compiled.astream(state, stream_mode="messages")]

        parts = asyncio.run(astream())
    texts: dict[str, str] = {}
    for message, _ in parts:
        texts[message.id] = texts.get(message.id, "") + message.text
    shown = sorted(text for text in texts.values() if text)
    assert shown.count(WRITTEN) == (2 if streams_sub_calls else 1)
    assert len(shown) == (5 if streams_sub_calls else 1)
    pieces = [message for message, _ in parts if message.text]
    assert len(pieces) > 3


def run(runnable: Any, way: str, input: Any, config: Any) -> Any:
    """Calls a runnable in one of its ways."""
    match way:
        case "invoke":
            return runnable.invoke(input, config)
        case "stream":
            chunks = list(runnable.stream(input, config))
            return sum(chunks[1:], chunks[0]) if not isinstance(chunks[0], str) else "".join(chunks)
        case "batch":
            return runnable.batch([input], config)[0]
        case _:
            return asyncio.run(arun(runnable, way, input, config))


async def arun(runnable: Any, way: str, input: Any, config: Any) -> Any:
    match way:
        case "ainvoke":
            return await runnable.ainvoke(input, config)
        case "astream":
            chunks = [chunk async for chunk in runnable.astream(input, config)]
            return sum(chunks[1:], chunks[0]) if not isinstance(chunks[0], str) else "".join(chunks)
        case "abatch":
            return (await runnable.abatch([input], config))[0]
        case _:
            return [event async for event in runnable.astream_events(input, config, version="v2")]
