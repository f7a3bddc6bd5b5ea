"""What LangSmith is told of a ``ChatRLM``: one tree, in which each run has its own model's settings."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from rlm_integrations.langchain import ChatRLM
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain import ways
from tests.langchain.langsmith_server import LangSmith
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell


def say(messages: list[BaseMessage]) -> str:
    """A cell with a child run and a plain sub-call, and an answer written as text."""
    last = str(messages[-1].content)
    if messages[0].type != "system" or "How to write it" in last:
        return "said"
    if "child?" in str(messages[1].content):
        return cell("FINAL(len(context[0]))")
    return cell("FINAL_WRITE('one line', [rlm_query('child?', context), llm_query('sub?')])")


WAYS = (ways.invoke, ways.ainvoke, ways.stream, ways.astream, ways.astream_events)


@pytest.mark.parametrize("way", WAYS)
def test_one_answer_is_one_tree_with_every_run_ended(langsmith: LangSmith, sandbox: ProcessSandbox, way: Any) -> None:
    model = ChatRLM(ScriptedChat(say), sandbox=sandbox)
    way(model, [HumanMessage("word " * 2_000), HumanMessage("root?")], None)
    (root,) = langsmith.roots()
    runs = list(root.walk())
    assert root.run_type == "llm"
    assert sum(run.run_type == "llm" for run in runs) == 1 + 4
    assert all(run.end_time and run.posts == 1 for run in runs)
    below = runs[1:]
    assert root.extra["metadata"]["_type"] == "rlm"
    assert "under" not in {**root.extra["metadata"], **root.extra["invocation_params"]}
    assert all("max_depth" not in run.extra["metadata"] for run in below)
    models = [run.extra["metadata"] for run in below if run.run_type == "llm"]
    assert {(metadata["_type"], metadata["ls_model_name"]) for metadata in models} == {("scripted", "scripted-chat")}
    assert {metadata["ls_provider"] for metadata in models} == {"scripted"}
