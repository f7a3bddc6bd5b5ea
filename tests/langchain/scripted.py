"""A chat model of LangChain's that says what the test tells it to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

Script = Sequence[str | Exception] | Callable[[list[BaseMessage]], str]
PIECE_CHARS = 8


class ScriptedChat(BaseChatModel):
    """Replies in order, or whatever a function makes of the messages; an exception is raised.

    ``calls`` is what was asked. Ten tokens in and five out are reported for each call.
    """

    script: Any
    latency_s: float = 0.0
    model_name: str = "scripted-chat"
    calls: list[Any] = Field(default_factory=list)
    options: list[Any] = Field(default_factory=list)

    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, script: Script, **settings: Any) -> None:
        super().__init__(script=script, **settings)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _next(self, messages: list[BaseMessage], options: dict[str, Any]) -> str:
        with self._lock:
            number = len(self.calls)
            self.calls.append(messages)
            self.options.append(options)
        said = self.script(messages) if callable(self.script) else self.script[number]
        if isinstance(said, Exception):
            raise said
        return str(said)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = self._next(messages, {"stop": stop, **kwargs})
        time.sleep(self.latency_s)
        message = AIMessage(text, usage_metadata=_usage(), response_metadata={"model_name": self.model_name})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = self._next(messages, {"stop": stop, **kwargs})
        await asyncio.sleep(self.latency_s)
        message = AIMessage(text, usage_metadata=_usage(), response_metadata={"model_name": self.model_name})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text = self._next(messages, {"stop": stop, **kwargs})
        time.sleep(self.latency_s)
        yield from self._chunks(text)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        text = self._next(messages, {"stop": stop, **kwargs})
        await asyncio.sleep(self.latency_s)
        for chunk in self._chunks(text):
            yield chunk

    def _chunks(self, text: str) -> Iterator[ChatGenerationChunk]:
        for start in range(0, len(text), PIECE_CHARS):
            yield ChatGenerationChunk(message=AIMessageChunk(text[start : start + PIECE_CHARS]))
        last = AIMessageChunk("", usage_metadata=_usage(), response_metadata={"model_name": self.model_name})
        yield ChatGenerationChunk(message=last)


class Stuck(ScriptedChat):
    """Gives no answer from call number ``stuck_at`` on, and says so."""

    stuck_at: int
    reached: Any

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        result = await super()._agenerate(*args, **kwargs)
        await self._wait()
        return result

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk
            await self._wait()

    async def _wait(self) -> None:
        if len(self.calls) >= self.stuck_at:
            self.reached.set()
            await asyncio.Event().wait()


def _usage() -> UsageMetadata:
    return UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15)
