"""Every notebook in cookbooks/ runs over recorded replies, and prints what is stored with it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.response.schema import PydanticResponse
from llama_index.core.schema import BaseNode, NodeWithScore
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

from tests import cassettes
from tests.cookbooks.conftest import CASSETTES, COOKBOOKS
from tests.cookbooks.notebooks import Notebook
from tests.cookbooks.tool_calls import tool_call_reader

Play = Callable[[str], tuple[list[str], dict[str, Any]]]
SERVER = "http://127.0.0.1:8089"
pytestmark = [pytest.mark.timeout(3600)] if cassettes.RECORDING else []


@pytest.fixture
def play(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Play:
    """``play(name)`` runs ``cookbooks/<name>.ipynb``; with RECORD=1 its outputs are stored in it."""
    for variable in ("OPENAI_API_BASE", "LANGSMITH_TRACING", "LANGSMITH_API_KEY", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{SERVER}/v1")
    monkeypatch.setenv("RLM_MODEL", "qwen")

    def play(name: str) -> tuple[list[str], dict[str, Any]]:
        notebook = Notebook(COOKBOOKS / f"{name}.ipynb")
        with cassettes.cassette(request, CASSETTES / f"{name}.yaml", place="path"), contextlib.ExitStack() as stack:
            if cassettes.RECORDING:
                monkeypatch.setenv("OPENAI_BASE_URL", stack.enter_context(tool_call_reader(SERVER)) + "/v1")
            printed, names = notebook.run()
        if cassettes.RECORDING:
            notebook.save(printed)
        assert printed == notebook.outputs
        return printed, names

    return play


def test_every_notebook_has_a_test() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in COOKBOOKS.glob("*.ipynb")} <= tested


def test_langchain_chain(play: Play) -> None:
    printed, names = play("langchain_chain")
    truth = sum(document.page_content.count("status=503") for document in names["documents"])
    assert f"The logs say: {truth}" in printed[2]
    (line,) = [line for line in names["documents"][0].page_content.splitlines() if line.startswith("00042")]
    assert line.split()[1].removeprefix("status=") in names["result"].answer


def test_langchain_retriever(play: Play) -> None:
    printed, _ = play("langchain_retriever")
    assert "copper" in printed[2]
    assert "baker" in printed[3]


def test_langgraph_agent(play: Play) -> None:
    _, names = play("langgraph_agent")
    assert [message.type for message in names["state"]["messages"]] == ["human", "ai", "tool", "ai"]
    assert str(names["log"].count("city=Oslo")) in names["state"]["messages"][-1].text


def test_langsmith_tracing(play: Play) -> None:
    printed, names = play("langsmith_tracing")
    assert printed[2].startswith(str(names["log"].count("user=bo")))
    assert "chain: RLMRunnable\n  llm: ChatOpenAI\n  tool: python\n" in printed[2]
    assert printed[3] == "True True\n"


def test_observers(play: Play) -> None:
    printed, names = play("observers")
    result, events = names["result"], names["result"].trajectory
    *_, log, figures, tree = printed
    lines = log.splitlines()
    assert lines[0] == f"run at depth 0 over {sum(map(len, names['reviews']))} characters"
    assert lines.count("turn: asking openai/qwen") == result.turns
    assert lines[-1] == f"run ended: complete, {result.usage.calls} calls"
    assert figures.startswith("3 of 6 (complete)\ndepth 0, turn: ")
    assert f"depth 1, sub-call: {result.usage.by_depth[1].tokens:,} tokens\nas the result has it: True\n" in figures
    assert len(names["spans"]) == sum(event.kind.endswith("_started") for event in events)
    assert tree.splitlines().count("    chat sub-call") == result.usage.by_depth[1].calls
    assert tree.endswith("\nno text of a review in any attribute: True\n")


def test_offloading(play: Play) -> None:
    _, names = play("offloading")
    messages = names["state"]["messages"]
    assert all(len(message.text) < 3_000 for message in messages)
    answers = {message.text for message in messages if message.name == "ask_offloaded"}
    assert answers == {str(names["EVENTS"].count("level=error"))}


def assert_cited(sources: Sequence[NodeWithScore], documents: Sequence[BaseNode], file: str) -> None:
    """Each source node stands where it says in its file, and ``file`` is among these."""
    texts = {document.metadata["file_name"]: document.get_content() for document in documents}
    assert file in {source.node.metadata["file_name"] for source in sources}
    for source in sources:
        text = texts[source.node.metadata["file_name"]]
        assert text[source.node.start_char_idx : source.node.end_char_idx] == source.node.text != ""


def test_llamaindex_documents(play: Play) -> None:
    printed, names = play("llamaindex_documents")
    documents = names["documents"]

    def truth(city: str, status: str) -> int:
        return sum(document.text.startswith(f"city: {city}\nstatus: {status}\n") for document in documents)

    assert printed[2].splitlines()[:2] == [f"{truth('Oslo', 'late')}", f"in truth: {truth('Oslo', 'late')}"]
    assert printed[2].splitlines()[2].startswith("complete ")
    (line,) = re.findall(rf"van KX-{names['plates'][41]} was driven by (.+)\.", documents[41].text)
    assert printed[3].startswith(f"{line}\ndelivery-41.txt ")
    assert_cited(names["fact"].source_nodes, documents, "delivery-41.txt")
    assert printed[4] == f"{truth('Pune', 'early')}\nin truth: {truth('Pune', 'early')}\n"


def test_llamaindex_router(play: Play) -> None:
    printed, names = play("llamaindex_router")
    texts = {document.id_: document.text for document in names["documents"]}
    red, white = (sum(f"painted {colour}" in text for text in texts.values()) for colour in ("red", "white"))
    chosen, answers = zip(*(line.split(": ", 1) for line in printed[3].splitlines()), strict=True)
    assert chosen == ("index", "rlm", "rlm")
    assert texts["Heron Ness"].rpartition("keeper is ")[2].rstrip(".") in answers[0]
    assert answers[1:] == (str(red), str(red - white))


def test_llamaindex_structured(play: Play) -> None:
    _, names = play("llamaindex_structured")
    (document,) = (document for document in names["documents"] if document.metadata["file_name"] == "lease-3.txt")
    ((tenant, rent, year),) = re.findall(r"\n(.+) rents the flat in .+ for (\d+) EUR, from (\d+) on", document.text)
    assert isinstance(names["response"], PydanticResponse)
    lease = names["Lease"](tenant=tenant, rent_eur=int(rent), first_year=int(year))
    assert names["response"].response == lease
    assert_cited(names["response"].source_nodes, names["documents"], "lease-3.txt")


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """No thread outlives the test but OpenInference's own, which looks after streams and is ended here."""
    before = set(threading.enumerate())
    yield
    LlamaIndexInstrumentor()._span_handler._export_queue.queue.put(None)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


# OpenInference calls what pydantic has deprecated.
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_llamaindex_opentelemetry(play: Play, no_thread_left: None) -> None:
    printed, names = play("llamaindex_opentelemetry")
    assert len(names["log"]) > 2_000_000
    assert printed[2].startswith(f"{names['log'].count('user=bo')}, in ")
    assert printed[3].startswith("CHAIN: RLMQueryEngine.query\n  CHAIN: RLMQueryEngine._query\n    CHAIN: RLM.run\n")
    assert "      LLM: OpenAILike.chat\n" in printed[3]
    assert "      TOOL: python\n" in printed[3]
    assert printed[3].endswith("\ntraces: 1\nlargest attribute below 10 KB: True\n")
    usage = names["response"].metadata["usage"]
    tokens = f"prompt {usage['input_tokens']} tokens\ncompletion {usage['output_tokens']} tokens\n"
    assert printed[4] == f"OK complete\n{tokens}"
    shown = len(printed[3].splitlines()) - 2
    assert shown == len(names["spans"])
