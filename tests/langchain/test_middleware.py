"""``OffloadMiddleware``: long outputs of an agent's tools are put aside and asked about."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import Field

import rlm_integrations.langchain
from rlm_integrations import InvalidInput, ModelError
from rlm_integrations.langchain import OffloadMiddleware
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat, Stuck
from tests.scripts import cell

COUNT = cell("FINAL(context.count('line'))")


class Agent(GenericFakeChatModel):
    """Calls tools and answers as a script says; ``told`` is what it was sent."""

    told: list[Any] = Field(default_factory=list)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.told.append(messages)
        return super()._generate(messages, *args, **kwargs)


def calls(*asked: tuple[str, dict[str, Any]]) -> AIMessage:
    """A message that calls tools."""
    made: Any = [{"name": name, "args": args, "id": f"id-{at}"} for at, (name, args) in enumerate(asked)]
    return AIMessage("", tool_calls=made)


@tool
def read_log(lines: int) -> str:
    """Read the log."""
    return "line of the log\n" * lines


@tool
def read_both(lines: int) -> Any:
    """Read the log, and say so in the state."""
    message = ToolMessage("line of the log\n" * lines, tool_call_id="id-0")
    return Command(update={"messages": [message]})


@tool(return_direct=True)
def read_out(lines: int) -> str:
    """Read the log to the user."""
    return "line of the log\n" * lines


@tool
def look() -> list[Any]:
    """A picture, with a long text."""
    return [{"type": "text", "text": "x" * 20_000}, {"type": "image", "url": "https://example.org/a.png"}]


TOOLS = [read_log, read_both, read_out, look]


@pytest.fixture
def make_agent(sandbox: ProcessSandbox) -> Callable[..., tuple[Any, Agent]]:
    """An agent that offloads in the shared sandbox, and its model."""

    def make(said: list[Any], script: Any = (), *, saver: Any = None, **settings: Any) -> tuple[Any, Agent]:
        middleware = OffloadMiddleware(**{"llm": ScriptedChat(script), "sandbox": sandbox, **settings})
        model = Agent(messages=iter(said))
        return create_agent(model, TOOLS, middleware=[middleware], checkpointer=saver), model

    return make


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks an agent, in one way and in the other."""

    def given(agent: Any, query: str, config: Any = None) -> Any:
        input: Any = {"messages": [HumanMessage(query)]}
        return agent.invoke(input, config) if request.param == "sync" else asyncio.run(agent.ainvoke(input, config))

    return given


def handle(lines: int, name: str = "read_log") -> str:
    """The handle of an output."""
    return f"{name}-{hashlib.sha256(('line of the log' + chr(10)).encode() * lines).hexdigest()[:8]}"


def test_a_long_output_is_put_aside_and_asked_about(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "How many lines?"}))
    agent, model = make_agent([calls(("read_log", {"lines": 1000})), asked, "There are 1000."], [COUNT])
    result = ask(agent, "How many lines has the log?")
    note, answer = (message for message in result["messages"] if isinstance(message, ToolMessage))
    assert len(note.content) < 1_000
    assert "16,000 characters" in note.content
    assert handle(1000) in note.content
    assert "It begins:\nline of the log" in note.content
    assert answer.content == "1000"
    assert all(len(str(message.content)) < 1_000 for message in model.told[-1])
    assert "offloaded" not in result


def test_a_short_output_stays_where_it_is(ask: Any, make_agent: Any) -> None:
    agent, _ = make_agent([calls(("read_log", {"lines": 10})), "Ten."], max_chars=160)
    assert ask(agent, "?")["messages"][-2].content == "line of the log\n" * 10
    agent, _ = make_agent([calls(("read_log", {"lines": 10})), "Ten."], max_chars=159)
    assert "put aside" in ask(agent, "?")["messages"][-2].content


def test_outputs_of_tools_called_at_once_are_all_kept(ask: Any, make_agent: Any) -> None:
    first = calls(("read_log", {"lines": 1000}), ("read_log", {"lines": 2000}))
    second = calls(*(("ask_offloaded", {"handle": handle(lines), "query": "?"}) for lines in (1000, 2000)))
    agent, _ = make_agent([first, second, "Done."], [COUNT, COUNT])
    assert {message.content for message in ask(agent, "?")["messages"][-3:-1]} == {"1000", "2000"}


def test_what_was_asked_about_an_output_is_not_put_aside_itself(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    agent, _ = make_agent([calls(("read_log", {"lines": 1000})), asked, "Done."], [COUNT], max_chars=3)
    assert ask(agent, "?")["messages"][-2].content == "1000"


def test_an_output_lives_as_long_as_its_conversation_and_in_no_other(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    said = [calls(("read_log", {"lines": 1000})), "Read.", asked, "1000", asked, "Unknown."]
    agent, _ = make_agent(said, [COUNT], saver=InMemorySaver())
    one: Any = {"configurable": {"thread_id": "one"}}
    ask(agent, "Read it.", one)
    assert ask(agent, "How many?", one)["messages"][-2].content == "1000"
    other = ask(agent, "How many?", {"configurable": {"thread_id": "two"}})["messages"][-2]
    assert (other.status, other.content) == (
        "error",
        f"nothing was put aside as {handle(1000)!r}: nothing was put aside yet",
    )


def test_an_unknown_handle_is_answered_with_those_there_are(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": "log", "query": "?"}))
    agent, _ = make_agent([calls(("read_log", {"lines": 1000})), asked, "Well."])
    message = ask(agent, "?")["messages"][-2]
    assert message.status == "error"
    assert f"there are {handle(1000)}" in message.content


def test_a_question_that_ran_out_of_turns_is_told_to_the_agent(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    said = [calls(("read_log", {"lines": 1000})), asked, "Well."]
    agent, _ = make_agent(said, [cell("1")], max_iterations=1, on_exhausted="raise")
    message = ask(agent, "?")["messages"][-2]
    assert message.status == "error"
    assert "could not be answered" in message.content


def test_an_error_of_the_model_is_raised(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    agent, _ = make_agent([calls(("read_log", {"lines": 1000})), asked], [ModelError("no key", model="m")])
    with pytest.raises(ModelError, match="no key"):
        ask(agent, "?")


def test_messages_that_a_tool_puts_into_the_state_are_offloaded_too(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_offloaded", {"handle": handle(1000, "read_both"), "query": "?"}))
    agent, _ = make_agent([calls(("read_both", {"lines": 1000})), asked, "Done."], [COUNT])
    assert ask(agent, "?")["messages"][-2].content == "1000"


def test_what_goes_to_the_user_at_once_stays_whole(ask: Any, make_agent: Any) -> None:
    agent, _ = make_agent([calls(("read_out", {"lines": 1000}))])
    assert len(ask(agent, "?")["messages"][-1].content) == 16_000


def test_a_picture_stays_beside_the_note(ask: Any, make_agent: Any) -> None:
    agent, _ = make_agent([calls(("look", {})), "A picture."])
    content = ask(agent, "?")["messages"][-2].content
    assert [block["type"] for block in content] == ["text", "image"]
    assert re.search("put aside as 'look-[0-9a-f]{8}'", content[0]["text"])


def test_the_question_is_below_the_tool_that_asked_it(ask: Any, make_agent: Any) -> None:
    recorder = Recorder()
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    agent, _ = make_agent([calls(("read_log", {"lines": 1000})), asked, "Done."], [COUNT])
    ask(agent, "?", {"callbacks": [recorder]})
    (asking,) = [id for id, (_, name, _) in recorder.runs.items() if name == "ask_offloaded"]
    assert recorder.shape(asking) == [["chain", ["llm"], ["tool"]]]
    assert len(recorder.children(None)) == 1
    assert recorder.open == set()


def test_a_cancelled_question_is_ended(make_agent: Any) -> None:
    recorder, reached = Recorder(), asyncio.Event()
    asked = calls(("ask_offloaded", {"handle": handle(1000), "query": "?"}))
    agent, _ = make_agent(
        [calls(("read_log", {"lines": 1000})), asked], llm=Stuck([COUNT], stuck_at=1, reached=reached)
    )

    async def lose_patience() -> None:
        asking = asyncio.create_task(agent.ainvoke({"messages": [HumanMessage("?")]}, {"callbacks": [recorder]}))
        await reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(lose_patience())
    assert "ask_offloaded" in {name for _, name, _ in recorder.runs.values()}
    assert recorder.open == set()


def test_the_agents_tool_has_the_name_that_was_given(ask: Any, make_agent: Any) -> None:
    asked = calls(("ask_log", {"handle": handle(1000), "query": "?"}))
    agent, _ = make_agent([calls(("read_log", {"lines": 1000})), asked, "Done."], [COUNT], tool_name="ask_log")
    messages = ask(agent, "?")["messages"]
    assert "call ask_log with" in messages[-4].content
    assert messages[-2].content == "1000"


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"max_chars": 0}, "max_chars=0"), ({"max_dept": 1}, "max_dept"), ({"max_depth": -1}, "max")],
)
def test_a_setting_that_can_not_be_used_is_refused(settings: Any, error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        OffloadMiddleware(ScriptedChat([]), **settings)


def test_all_but_the_middleware_needs_langchain_core_alone() -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("langchain", "langgraph"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "langchain" else find(name, *rest)
import rlm_integrations.langchain as face
print(face.ChatRLM.__name__, face.RLMTool.__name__)
try:
    face.OffloadMiddleware
except ImportError as error:
    print(type(error).__name__, error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "ChatRLM RLMTool",
        "MissingExtra OffloadMiddleware needs an extra: pip install 'rlm-integrations[langchain]'",
    ]


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = rlm_integrations.langchain.Nothing
