"""Every notebook in cookbooks/ runs over recorded replies, and prints what is stored with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

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


def test_offloading(play: Play) -> None:
    _, names = play("offloading")
    messages = names["state"]["messages"]
    assert all(len(message.text) < 3_000 for message in messages)
    answers = {message.text for message in messages if message.name == "ask_offloaded"}
    assert answers == {str(names["EVENTS"].count("level=error"))}
