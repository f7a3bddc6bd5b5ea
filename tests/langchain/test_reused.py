"""Answers that are used again are no calls of an LLM to LangChain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from rlm_integrations import RLM, Message
from rlm_integrations.engine.reply_cache import ReplyCache
from rlm_integrations.langchain import RLMRunnable
from rlm_integrations.langchain.model import ChatModelPort
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat
from tests.scripts import by_role, cell
from tests.test_cache import Store

ASKED = {"query": "q", "context": "some text"}
SCRIPT = by_role([cell("FINAL(''.join(llm_query_batched(['p', 'q', 'p'])) + llm_query('q'))")], str.upper)
ROLES = {"system": "system", "human": "user", "ai": "assistant"}


def say(messages: list[BaseMessage]) -> str:
    return SCRIPT([Message(ROLES[message.type], str(message.content)) for message in messages])  # type: ignore[arg-type]


def ask(rlm: RLMRunnable, is_async: bool, *handlers: BaseCallbackHandler) -> Any:
    """The answer, in one way or in the other."""
    config: Any = {"callbacks": list(handlers)}
    return asyncio.run(rlm.ainvoke(ASKED, config)) if is_async else rlm.invoke(ASKED, config)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_model_that_does_not_report_itself_is_reported_for_what_it_was_asked(
    is_async: bool, sandbox: ProcessSandbox
) -> None:
    rlm = RLMRunnable(RLM(ScriptedModel(SCRIPT), sandbox=sandbox, cache=Store()))
    for shape in ([["chain", ["llm"], ["tool", ["llm"], ["llm"]]]], [["chain", ["tool"]]]):
        recorder = Recorder()
        assert ask(rlm, is_async, recorder) == "PQPQ"
        assert (recorder.shape(), recorder.open) == (shape, set())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_chat_model_is_asked_once_for_equal_prompts_and_reports_that(is_async: bool, sandbox: ProcessSandbox) -> None:
    recorder, usage, chat = Recorder(), UsageMetadataCallbackHandler(), ScriptedChat(say)
    assert ask(RLMRunnable(chat, sandbox=sandbox), is_async, recorder, usage) == "PQPQ"
    assert len(chat.calls) == 3
    assert recorder.shape() == [["chain", ["llm"], ["tool", ["llm"], ["llm"]]]]
    assert [counts["input_tokens"] for counts in usage.usage_metadata.values()] == [30]


def test_a_chat_model_is_known_by_its_settings() -> None:
    cache = ReplyCache(Store())

    def key(llm: Any) -> str | None:
        return cache.key(ChatModelPort(llm), [Message("user", "hi")], {})

    def openai(**settings: Any) -> ChatOpenAI:
        return ChatOpenAI(**{"model": "m", "api_key": "sk-1", **settings})

    warm, bound = openai(temperature=1.0), openai().bind(seed=7)
    assert key(openai()) == key(openai(api_key="sk-2"))
    assert len({key(llm) for llm in (openai(), warm, bound, openai(base_url="http://here"))}) == 4
    assert key(openai() | RunnableLambda(lambda message: message)) is None
