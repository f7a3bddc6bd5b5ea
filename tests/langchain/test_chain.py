"""``create_rlm_documents_chain``: in the place of ``create_stuff_documents_chain``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import BaseOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from rlm_integrations import InvalidInput, RLMResult
from rlm_integrations.langchain import create_rlm_documents_chain
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell

DOCUMENTS = [Document("Ada has 3 cats.", id="a", metadata={"page": 1}), Document("Bob has 4 dogs.", id="b")]
PROMPT = ChatPromptTemplate([("system", "Answer in {language}, from this:\n\n{context}"), ("human", "{input}")])
SUM = cell("FINAL(sum(int(word) for d in context for word in d.split() if word.isdigit()))")
LOOK, WRITE, WRITTEN = cell("print(context)"), cell("FINAL_WRITE('one line')"), "There are seven pets in all."
ASKED = {"context": DOCUMENTS, "input": "How many pets?", "language": "French"}


@pytest.fixture
def make_chain(sandbox: ProcessSandbox) -> Callable[..., Any]:
    """A documents chain in the shared sandbox."""
    return lambda llm, *args, **settings: create_rlm_documents_chain(llm, *args, **{"sandbox": sandbox, **settings})


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks a chain, in each of its ways."""

    async def astream(chain: Any, *args: Any) -> list[Any]:
        return [piece async for piece in chain.astream(*args)]

    def given(chain: Any, input: Any, config: Any = None) -> Any:
        match request.param:
            case "invoke":
                return chain.invoke(input, config)
            case "ainvoke":
                return asyncio.run(chain.ainvoke(input, config))
            case "batch":
                return chain.batch([input], config)[0]
            case "abatch":
                return asyncio.run(chain.abatch([input], config))[0]
            case "stream":
                pieces = list(chain.stream(input, config))
            case _:
                pieces = asyncio.run(astream(chain, input, config))
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    return given


def test_the_prompt_gives_question_and_instructions_and_no_documents(ask: Any, make_chain: Any) -> None:
    llm = ScriptedChat([SUM])
    assert ask(make_chain(llm, PROMPT), ASKED) == "7"
    system, user = (str(message.content) for message in llm.calls[0])
    assert system.endswith("follow these instructions:\nAnswer in French, from this:\n\n(the documents in `context`)")
    assert "How many pets?" in user
    assert "list of 2 documents" in user
    assert "Bob" not in system + user


def test_settings_that_are_bound_go_with_the_instructions(ask: Any, make_chain: Any) -> None:
    llm = ScriptedChat([SUM])
    assert ask(make_chain(llm, PROMPT).bind(temperature=0.5), ASKED) == "7"
    assert "Answer in French" in str(llm.calls[0][0].content)


@pytest.mark.parametrize("key", ["input", "query", "question"])
def test_without_a_prompt_the_question_stands_under_one_of_three_keys(ask: Any, make_chain: Any, key: str) -> None:
    llm = ScriptedChat([cell("FINAL(query + str(len(context)))")])
    assert ask(make_chain(llm), {"context": DOCUMENTS, key: "How many?"}) == "How many?2"


def test_a_prompt_of_one_text_is_the_question(ask: Any, make_chain: Any) -> None:
    llm = ScriptedChat([cell("FINAL(query + str(len(context)))")])
    prompt = PromptTemplate.from_template("From {context}: {question}")
    asked = {"context": DOCUMENTS, "question": "How many?"}
    assert ask(make_chain(llm, prompt), asked) == "From (the documents in `context`): How many?2"


def test_the_conversation_before_goes_with_the_question(ask: Any, make_chain: Any) -> None:
    prompt = ChatPromptTemplate([("system", "{docs}"), MessagesPlaceholder("chat_history"), ("human", "{input}")])
    llm = ScriptedChat([cell("FINAL([d.id for d in context])")])
    history = [HumanMessage("Who is Ada?"), AIMessage("A cat owner. " * 300)]
    chain = make_chain(llm, prompt, document_variable_name="docs", output_type=list[str])
    assert ask(chain, {"docs": DOCUMENTS, "input": "And Bob?", "chat_history": history}) == [
        *("a", "b", "message 3 (assistant)")
    ]
    assert "user: Who is Ada?" in str(llm.calls[0][1].content)


def test_documents_keep_metadata_and_are_cited(ask: Any, make_chain: Any) -> None:
    llm = ScriptedChat([cell("FINAL(str(context[0].metadata), quotes=['3 cats'])")])
    result = ask(make_chain(llm, output="result"), {"context": DOCUMENTS, "input": "How many cats?"})
    assert isinstance(result, RLMResult)
    assert result.answer == "{'page': 1}"
    assert result.citations[0].metadata == {"page": 1, "start_index": 8, "end_index": 14}


def test_a_document_prompt_makes_the_texts(ask: Any, make_chain: Any) -> None:
    llm = ScriptedChat([cell("FINAL(context[0])")])
    chain = make_chain(llm, document_prompt=PromptTemplate.from_template("p. {page}: {page_content}"))
    assert ask(chain, {"context": DOCUMENTS[:1], "input": "?"}) == "p. 1: Ada has 3 cats."


def test_it_stands_in_a_retrieval_chain(ask: Any, make_chain: Any) -> None:
    retriever = RunnableLambda(lambda _: DOCUMENTS)
    chain = RunnablePassthrough.assign(context=lambda asked: asked["input"] and DOCUMENTS).assign(
        answer=make_chain(ScriptedChat([SUM]), PROMPT)
    )
    picked = RunnableLambda(lambda asked: {"input": asked, "language": "French"}) | chain
    assert ask(picked | (lambda given: given["answer"]), "How many?") == "7"
    assert ask(make_chain(ScriptedChat([SUM]), retriever=retriever), {"input": "How many?"}) == "7"


def test_the_answer_streams_also_into_a_parser(make_chain: Any) -> None:
    chain = make_chain(ScriptedChat([LOOK, WRITE, WRITTEN] * 2))
    for streaming in (chain, chain | StrOutputParser()):
        pieces = list(streaming.stream({"context": DOCUMENTS, "input": "How many?"}))
        assert len(pieces) > 2
        assert "".join(pieces) == WRITTEN


class Number(BaseOutputParser[int]):
    """Reads a number."""

    def parse(self, text: str) -> int:
        return int(text)


def test_an_output_parser_reads_the_answer(ask: Any, make_chain: Any) -> None:
    assert ask(make_chain(ScriptedChat([SUM]), PROMPT, output_parser=Number()), ASKED) == 7


def test_one_question_is_one_run_that_holds_no_document(ask: Any, make_chain: Any) -> None:
    inputs: list[Any] = []

    class Inputs(Recorder):
        def on_chain_start(self, serialized: Any, input: Any, **kwargs: Any) -> None:
            inputs.append(input)
            super().on_chain_start(serialized, input, **kwargs)

    recorder = Inputs()
    documents = [Document("x" * 300 + "Ada"), *DOCUMENTS]
    ask(make_chain(ScriptedChat([SUM]), PROMPT), {**ASKED, "context": documents}, {"callbacks": [recorder]})
    assert recorder.shape() == [["chain", ["llm"], ["tool"]]]
    ((_, name, _), *_) = recorder.runs.values()
    assert name == "rlm_documents_chain"
    assert "Ada" not in str(inputs)
    assert recorder.open == set()


@pytest.mark.parametrize(
    ("input", "error"),
    [
        ({"input": "?", "language": "x"}, 'no "context"'),
        ({"context": DOCUMENTS, "input": "?"}, "no language, which the prompt asks for"),
        ("?", "the input is a str"),
    ],
)
def test_an_input_that_can_not_be_used_is_refused(ask: Any, make_chain: Any, input: Any, error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        ask(make_chain(ScriptedChat([]), PROMPT), input)


def test_an_input_without_a_question_is_refused(ask: Any, make_chain: Any) -> None:
    with pytest.raises(InvalidInput, match="one of input, query, question"):
        ask(make_chain(ScriptedChat([])), {"context": DOCUMENTS})


@pytest.mark.parametrize(
    "settings", [{"prompt": "text"}, {"document_prompt": "text"}, {"output_parser": 5}, {"max_dept": 1}]
)
def test_a_setting_that_can_not_be_used_is_refused(make_chain: Any, settings: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        make_chain(ScriptedChat([]), **settings)
