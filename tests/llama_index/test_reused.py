"""Answers that are used again are no calls of an LLM to LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import MockLLM
from llama_index.llms.openai_like import OpenAILike

from rlm_integrations import RLM, Message
from rlm_integrations.engine.reply_cache import ReplyCache
from rlm_integrations.llama_index import RLMQueryEngine
from rlm_integrations.llama_index.model import LLMPort
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.llama_index.recorder import recording
from tests.llama_index.scripted import ScriptedLLM
from tests.scripts import by_role, cell
from tests.test_cache import Store

SCRIPT = by_role([cell("FINAL(''.join(llm_query_batched(['p', 'q', 'p'])) + llm_query('q'))")], str.upper)


def test_a_model_that_does_not_report_itself_is_reported_for_what_it_was_asked(
    ask: Any, sandbox: ProcessSandbox
) -> None:
    rlm = RLM(ScriptedModel(SCRIPT), sandbox=sandbox, cache=Store())
    for calls in (3, 0):
        with recording() as recorder:
            assert str(ask(RLMQueryEngine.from_documents("some text", llm=rlm))) == "PQPQ"
        spans = [span for root in recorder.roots for span in root.walk() if span.name == "LanguageModel.chat"]
        assert len(spans) == len(recorder.of(LLMChatStartEvent)) == len(recorder.of(LLMChatEndEvent)) == calls


def test_an_llm_is_asked_once_for_equal_prompts_and_not_again_with_a_cache(
    ask: Any, make: Callable[..., RLMQueryEngine]
) -> None:
    def say(messages: Any) -> str:
        return SCRIPT([Message(message.role.value, message.content) for message in messages])

    store = Store()
    for calls in (3, 0):
        llm = ScriptedLLM(say)
        response = ask(make(llm, cache=store))
        assert (str(response), len(llm.calls), response.metadata["usage"]["calls"]) == ("PQPQ", calls, calls)


def test_an_llm_is_known_by_its_class_and_settings() -> None:
    cache = ReplyCache(Store())

    class Other(MockLLM):
        """Another class with the same settings."""

    def key(llm: Any) -> str | None:
        return cache.key(LLMPort(llm), [Message("user", "hi")], {})

    def like(**settings: Any) -> OpenAILike:
        return OpenAILike(
            **{"model": "m", "api_base": "http://a", "is_chat_model": True, "api_key": "sk-1", **settings}
        )

    assert key(like()) == key(like(api_key="sk-2", timeout=3.0))
    others = [like(temperature=1.0), like(api_base="http://b"), like(system_prompt="be brief"), MockLLM(), Other()]
    assert len({key(llm) for llm in (like(), *others)}) == 6
