"""``RLMTool``: an RLM as a tool of an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, ToolException
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from rlm_integrations import Context, InvalidInput, RLMResult, TurnsExhausted
from rlm_integrations.langchain import CitedDocument, RLMTool
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain.marks import run_async_tests
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat, Stuck
from tests.scripts import cell

TEXT = "The cat sat on the mat."
COUNT = cell("FINAL(sum(map(len, context)))")


@pytest.fixture
def make_tool(sandbox: ProcessSandbox) -> Callable[..., RLMTool]:
    """An RLMTool in the shared sandbox."""
    return lambda script, **settings: RLMTool(ScriptedChat(script), **{"sandbox": sandbox, **settings})


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a tool, in one way and in the other."""
    if request.param == "sync":
        return lambda tool, *args: tool.invoke(*args)
    return lambda tool, *args: asyncio.run(tool.ainvoke(*args))


def call(**args: Any) -> dict[str, Any]:
    """A model's call of the tool."""
    return {"name": "ask_documents", "args": args, "id": "1", "type": "tool_call"}


@pytest.mark.parametrize(
    "context", [TEXT, [TEXT], [Document(TEXT)], Context.of([TEXT]), {"a": TEXT}], ids=lambda value: type(value).__name__
)
def test_it_answers_about_the_context_it_was_made_with(ask: Any, make_tool: Any, context: Any) -> None:
    tool = make_tool([cell("FINAL('cat' in str(context))")], context=context)
    assert list(tool.args) == ["query"]
    assert ask(tool, {"query": "Is there a cat?"}) == "true"


def test_it_answers_about_files(ask: Any, make_tool: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert ask(make_tool([COUNT], context=Context.from_files(tmp_path)), "How long?") == "23"


def test_a_retriever_finds_the_context(ask: Any, make_tool: Any) -> None:
    tool = make_tool([COUNT], retriever=RunnableLambda(lambda query: [Document(query)]))
    assert list(tool.args) == ["query"]
    assert ask(tool, {"query": "four"}) == "4"


def test_without_a_context_each_call_brings_one(ask: Any, make_tool: Any) -> None:
    tool = make_tool([cell("FINAL(len(context))")])
    assert list(tool.args) == ["query", "context"]
    assert ask(tool, {"query": "How long?", "context": TEXT}) == "23"


def test_the_result_is_the_artifact_if_asked_for(ask: Any, make_tool: Any) -> None:
    script = [cell("FINAL('a cat', quotes=['The cat sat'])")] * 2
    documents = [Document(TEXT, id="a", metadata={"page": 7})]
    tool = make_tool(script, context=documents, response_format="content_and_artifact")
    message = ask(tool, call(query="Who?"))
    assert isinstance(message, ToolMessage)
    assert (message.content, message.tool_call_id) == ("a cat", "1")
    assert isinstance(message.artifact, RLMResult)
    (cited,) = message.artifact.citations
    assert isinstance(cited, CitedDocument)
    assert cited.metadata == {"page": 7, "start_index": 0, "end_index": 11}


def test_a_cited_document_without_an_id_keeps_its_metadata(ask: Any, make_tool: Any) -> None:
    documents = [Document("A dog."), Document(TEXT, metadata={"page": 7})]
    script = [cell("FINAL('a cat', quotes=['The cat sat'])")] * 2
    tool = make_tool(script, context=documents, response_format="content_and_artifact")
    (cited,) = ask(tool, call(query="Who?")).artifact.citations
    assert (cited.metadata, cited.id) == ({"page": 7, "start_index": 0, "end_index": 11}, None)


def test_the_context_is_the_one_it_was_made_with(ask: Any, make_tool: Any) -> None:
    texts = [TEXT]
    tool = make_tool([COUNT], context=texts)
    texts.append("added later")
    assert ask(tool, "How long?") == "23"


def test_a_cancelled_tool_is_ended(make_tool: Any) -> None:
    recorder, reached = Recorder(), asyncio.Event()

    async def lose_patience() -> None:
        tool = make_tool([], context=TEXT)
        tool._runnable = tool._runnable._with({"llm": Stuck([COUNT], stuck_at=1, reached=reached)})
        asking = asyncio.create_task(tool.ainvoke("?", {"callbacks": [recorder]}))
        await reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(lose_patience())
    assert recorder.shape() == [["tool", ["chain", ["llm"]]]]
    assert recorder.open == set()


def test_the_run_is_below_the_tool(ask: Any, make_tool: Any) -> None:
    recorder = Recorder()
    ask(make_tool([COUNT], context=[TEXT]), {"query": "?"}, {"callbacks": [recorder]})
    assert recorder.shape() == [["tool", ["chain", ["llm"], ["tool"]]]]
    assert recorder.open == set()


def test_an_error_is_raised_or_told_to_the_agent(ask: Any, make_tool: Any) -> None:
    settings = {"context": [TEXT], "max_iterations": 1, "on_exhausted": "raise"}
    with pytest.raises(TurnsExhausted):
        ask(make_tool([cell("1")], **settings), call(query="Who?"))
    message = ask(make_tool([cell("1")], handle_tool_error=True, **settings), call(query="Who?"))
    assert message.status == "error"
    assert "turn" in message.content
    assert not issubclass(TurnsExhausted, ToolException)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"context": ""}, "context is empty"),
        ({"context": 5}, "context can't be a int"),
        ({"max_depth": -1}, "max_depth"),
        ({"max_dept": 1}, "RLMTool has no setting max_dept"),
        ({"output": "result"}, "no setting output"),
        ({"return_direct": "perhaps"}, "return_direct"),
    ],
)
def test_a_setting_that_can_not_be_used_is_refused_at_once(make_tool: Any, settings: Any, error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        make_tool([], **settings)


run_async_tests(ToolsIntegrationTests)


class _Suite:
    @pytest.fixture(autouse=True)
    def _sandbox(self, sandbox: ProcessSandbox) -> None:
        self.sandbox = sandbox

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return RLMTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"llm": ScriptedChat([COUNT]), "context": [TEXT], "sandbox": self.sandbox}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": "How long is it?"}


class _Artifact(_Suite):
    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {**super().tool_constructor_params, "response_format": "content_and_artifact"}


class TestUnit(_Suite, ToolsUnitTests):
    pass


class TestIntegration(_Suite, ToolsIntegrationTests):
    pass


class TestIntegrationWithArtifact(_Artifact, ToolsIntegrationTests):
    pass
