"""``ChatRLM``: an RLM in the place of a chat model."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from typing import Any, ClassVar, NoReturn

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableMap
from langchain_core.runnables import RunnablePassthrough as Passthrough
from pydantic import ConfigDict, PrivateAttr, SecretStr

from rlm_integrations.budget import Budget
from rlm_integrations.engine.answer import AnswerType
from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Purpose
from rlm_integrations.langchain.answering import Answering
from rlm_integrations.langchain.face import Face
from rlm_integrations.langchain.identity import identity, is_told
from rlm_integrations.langchain.model import chat_model
from rlm_integrations.langchain.refusal import made
from rlm_integrations.langchain.schema import answer_type, read
from rlm_integrations.langchain.under import Under, children_of
from rlm_integrations.rlm import RLM

__all__ = ["ChatRLM"]


class ChatRLM(Face, BaseChatModel):
    """A chat model that answers the last human message, however long the conversation before it is.

    ``llm``: a chat model, a name for ``init_chat_model``, or an ``RLM``; ``recursive_llm`` takes the sub-calls. Tool
    messages, attached text files and long messages become the context; short messages before the question go with it;
    system messages are instructions for the answer. ``retriever``, ``tools`` and all other settings are those of
    ``RLMRunnable``, and a retriever finds the context of a question that comes without one.

    ``max_tokens`` is for each reply of the inner model, ``timeout`` (seconds) for the whole answer, ``stop`` for the
    answer's text; ``api_key`` and ``max_retries`` are for models given by name: a chat model has its own. Where a call
    blocks, a model call under way is not cut at the ``timeout``: it ends the answer when that call is back.
    ``stream_sub_calls``: show the tokens of inner model calls in LangGraph's ``stream_mode="messages"`` too.

    Answers carry ``response_metadata["rlm"]``: status, run id, citations, and the usage of all calls. They carry no
    ``usage_metadata``: the inner model reports its calls itself, and they would be counted twice. An ``output_type``
    other than ``str`` is answered as JSON text; see ``with_structured_output``. Tools of an agent can't be bound.

    Raises ``InvalidInput`` for a setting or messages that can't be used, and what ``RLM.run`` raises.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    max_tokens: int | None = None
    timeout: float | None = None
    stop: list[str] | None = None
    api_key: SecretStr | None = None
    max_retries: int | None = None
    streaming: bool = False

    _own: str = PrivateAttr(default="")
    _own_settings: ClassVar[frozenset[str]] = frozenset({"max_tokens", "timeout", "api_key", "max_retries"})

    def __init__(self, llm: Any, **settings: Any) -> None:
        made(type(self), super().__init__, {"llm": llm, **settings})

    def _make(self) -> None:
        super()._make()
        settings = self._engine.rlm.settings
        # What tools and a retriever find can't be told from their settings: no other model shares these answers.
        self._own = uuid.uuid4().hex if settings.tools or not is_told(settings) else ""

    def _passed(self, names: list[str]) -> dict[str, Any]:
        settings = super()._passed([*names, "max_tokens"])
        if self.timeout is not None:
            budget = self.budget or Budget()
            seconds = self.timeout if budget.max_seconds is None else min(self.timeout, budget.max_seconds)
            settings["budget"] = dataclasses.replace(budget, max_seconds=seconds)
        return settings

    def _streamed(self) -> Callable[[Purpose], bool]:
        shows_all = self.stream_sub_calls
        return lambda _: shows_all

    def _model(self, llm: Any) -> Any:
        """The chat model of a name; what is none, as it is."""
        given = {"api_key": self.api_key, "max_retries": self.max_retries}
        settings = {name: value for name, value in given.items() if value is not None}
        return chat_model(llm, **settings) if isinstance(llm, str) else llm

    @property
    def model_name(self) -> str:
        """The name of the inner model."""
        return self._engine.rlm.settings.model.name

    @property
    def _llm_type(self) -> str:
        return "rlm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**identity(self._engine.rlm.settings, self._own), "default_stop": self.stop}

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        kwargs.pop("under", None)
        return super()._get_invocation_params(stop, **kwargs)

    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        # LangChain streams without the run manager, below which the inner calls belong: ``_generate`` streams itself.
        return run_manager is None and super()._should_stream(async_api=async_api, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """The answer as it is written."""
        if self._should_stream(async_api=False, **{**kwargs, "stream": True}):
            kwargs["under"], config = Under.of(CallbackManager, config)
        yield from super().stream(input, config, stop=stop, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """The same, without blocking the event loop."""
        async with AsyncExitStack() as opened:
            if self._should_stream(async_api=True, **{**kwargs, "stream": True}):
                kwargs["under"], config = Under.of(AsyncCallbackManager, config, opened)
            # Closed early, what is innermost ends first; an async generator that is let go of ends later.
            pieces = aclosing(super().astream(input, config, stop=stop, **kwargs))  # type: ignore[type-var]
            async for chunk in await opened.enter_async_context(pieces):
                yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answering = Answering(self, messages, stop, run_manager, kwargs)
        config = children_of(CallbackManager, run_manager, self._traced(kwargs))
        if not super()._should_stream(async_api=False, run_manager=run_manager, **kwargs):
            result = answering.engine.run(answering.query, answering.found(config), config["callbacks"], config)
            return answering.result(result)
        with closing(answering.stream(config)) as stream:  # type: ignore[type-var]
            for chunk in stream:
                answering.chunks.append(chunk)
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        return answering.whole()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        try:
            # Thousands at once would take a thread each, and have their documents, long before they begin.
            async with self._engine.rlm.settings.room.place():
                return await self._answered(messages, stop, run_manager, kwargs)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if run_manager and task and task.cancelling():
                # LangChain gathers, and reports no end of what is cancelled while it does.
                await run_manager.on_llm_error(error, response=LLMResult(generations=[]))
            raise

    async def _answered(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: AsyncCallbackManagerForLLMRun | None,
        kwargs: dict[str, Any],
    ) -> ChatResult:
        answering = await in_thread(lambda: Answering(self, messages, stop, run_manager, kwargs))
        config = children_of(AsyncCallbackManager, run_manager, self._traced(kwargs))
        if not super()._should_stream(async_api=True, run_manager=run_manager, **kwargs):
            context = await answering.afound(config)
            result = await answering.engine.arun(answering.query, context, config["callbacks"], config)
            return answering.result(result)
        async with aclosing(answering.astream(config)) as stream:  # type: ignore[type-var]
            async for chunk in stream:
                answering.chunks.append(chunk)
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        return answering.whole()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        under: Under | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answering = Answering(self, messages, stop, run_manager, kwargs)
        yield from answering.stream(
            under.config if under else children_of(CallbackManager, run_manager, self._traced(kwargs))
        )

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        under: Under | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answering = await in_thread(lambda: Answering(self, messages, stop, run_manager, kwargs))
        async with AsyncExitStack() as opened:
            config = under.config if under else children_of(AsyncCallbackManager, run_manager, self._traced(kwargs))
            stream = aclosing(answering.astream(config))  # type: ignore[type-var]
            async for chunk in await (under.opened if under and under.opened else opened).enter_async_context(stream):
                yield chunk

    def _traced(self, kwargs: dict[str, Any]) -> list[str]:
        """The names of what traces hold of a call."""
        return [*self._identifying_params, "_type", "stop", *kwargs]

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any) -> NoReturn:
        """Not there: an RLM calls functions in code. Raises ``NotImplementedError``."""
        raise NotImplementedError(
            "ChatRLM can't bind tools, nor a schema as one, as an agent's response_format does: pass "
            "ChatRLM(tools=[...]) functions that its code may call, use with_structured_output for a schema, or give "
            "an agent of another model an RLMTool"
        )

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers of a schema: a pydantic class (instances are given), a TypedDict or a JSON schema (dicts).

        The model is told what an answer lacks, and asked again. ``include_raw``: give a dict with "raw" (the message),
        "parsed" and "parsing_error". There is one way to do it: ``method`` and ``strict`` are taken and change nothing.
        """
        if unknown := sorted(kwargs.keys() - {"method", "strict"}):
            raise InvalidInput(f"with_structured_output takes no {', '.join(unknown)}")
        wanted = answer_type(schema)
        if isinstance(self.llm, RLM):
            model = self._with({"llm": self.llm.replace(answer_type=AnswerType(wanted))})
        else:
            model = self._with({"output_type": wanted})
        shown = {"kwargs": {"method": kwargs.get("method") or "json_schema"}, "schema": schema}
        bound = model.bind(ls_structured_output_format=shown)
        parse: Runnable[Any, Any] = RunnableLambda(lambda message: read(schema, message.text), name="read")
        if not include_raw:
            return bound | parse

        def parsed(message: dict[str, Any]) -> dict[str, Any]:
            try:
                return {"parsed": read(schema, message["raw"].text), "parsing_error": None}
            except ValueError as error:
                return {"parsed": None, "parsing_error": error}

        both = Passthrough.assign(read=RunnableLambda(parsed))
        return RunnableMap(raw=bound) | both | RunnableLambda(lambda value: {"raw": value["raw"], **value["read"]})
