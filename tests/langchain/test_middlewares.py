"""More than one ``OffloadMiddleware`` in an agent."""

from __future__ import annotations

from langchain.agents import create_agent

from rlm_integrations.langchain import OffloadMiddleware
from tests.langchain.scripted import ScriptedChat


def test_an_agent_may_have_two_that_differ_in_their_tool() -> None:
    names = ("ask_logs", "ask_pages")
    middleware = [OffloadMiddleware(ScriptedChat([]), tool_name=name) for name in names]
    assert set(create_agent(ScriptedChat([]), middleware=middleware).nodes["tools"].bound.tools_by_name) == set(names)
