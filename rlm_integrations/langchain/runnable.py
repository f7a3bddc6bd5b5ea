"""``RLMRunnable``: an RLM as a step of LangChain's chains and graphs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from pydantic import ConfigDict
from typing_extensions import TypedDict

from rlm_integrations.context import Context
from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.engine.trace import described
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Purpose
from rlm_integrations.langchain.documents import cited, context_of
from rlm_integrations.langchain.endings import ended, surely_ended
from rlm_integrations.langchain.face import Face
from rlm_integrations.langchain.refusal import made
from rlm_integrations.result import RLMResult

__all__ = ["RLMInput", "RLMRunnable"]


class RLMInput(TypedDict):
    """What an ``RLMRunnable`` is asked. Without a context, its retriever finds one."""

    query: str
    context: NotRequired[str | list[str] | list[Document] | dict[str, Any]]


class RLMRunnable(Face, RunnableSerializable[RLMInput, Any]):
    """Answers ``{"query": ..., "context": ...}``, where the context may be far longer than any prompt.

    ``llm``: a chat model, a name for ``init_chat_model``, or an ``RLM``; ``recursive_llm`` takes the sub-calls
    (default: the same). A context is a ``str``, a list of ``str`` or of ``Document``, or a dict of JSON values.
    ``retriever``: becomes ``retrieve(query, k)`` in model code, and finds the context of a question that comes without
    one. ``tools``: functions or LangChain tools that model code may call by name. ``output``: "answer", or "result"
    for the ``RLMResult`` with ``CitedDocument`` as citations. ``stream_sub_calls``: show the tokens of all model calls
    in LangGraph's ``stream_mode="messages"``, not only those of the answer. All other settings are those of ``RLM``.
    An ``RLM`` has its own; make it with ``final_write=True`` for answers that stream as they are written.

    Its own run, and all below it, trace a description of the context. A chain around it traces what it hands on: a
    ``Context``, such as ``Context.from_files(paths)``, does not show its text there either.

    ``stream`` yields the answer as it is written where the model writes it with ``FINAL_WRITE``, else in one piece.
    Steps are custom events of ``astream_events``: ``rlm_`` and the kind of the event.

    Raises ``InvalidInput`` for a setting or an input that can't be used, and what ``RLM.run`` raises.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    output: Literal["answer", "result"] = "answer"

    def __init__(self, llm: Any, **settings: Any) -> None:
        made(type(self), super().__init__, {"llm": llm, **settings})

    def _streamed(self) -> Callable[[Purpose], bool]:
        shows_all = self.stream_sub_calls
        return lambda purpose: shows_all or purpose == "answer"

    @property
    def InputType(self) -> Any:
        """What it is asked: an ``RLMInput``."""
        return RLMInput

    @property
    def OutputType(self) -> Any:
        """What it answers with; an ``RLMResult`` has no JSON schema."""
        return Any if self.output == "result" else self.output_type

    def invoke(self, input: RLMInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The answer, or the ``RLMResult``. What was bound with ``bind`` counts as settings."""
        if kwargs:
            return self._with(kwargs).invoke(input, config)
        asked = _Asked.of(input, self.retriever)
        results: list[RLMResult] = []

        def run(_: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig) -> Any:
            children = run_manager.get_child()
            context = asked.found(self.retriever, patch_config(config, callbacks=children))
            results.append(self._engine.run(asked.query, context, children, config))
            return results[0].answer

        # Traces hold a description of the context, never the context.
        self._call_with_config(cast(Any, run), asked.description, config)
        return self._output(results[0], asked)

    async def ainvoke(self, input: RLMInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same, without blocking the event loop."""
        if kwargs:
            return await self._with(kwargs).ainvoke(input, config)
        # Thousands at once would check and hash their contexts, and be told of as begun, long before they are.
        async with self._engine.rlm.settings.room.place():
            return await self._answered(input, config)

    async def _answered(self, input: RLMInput, config: RunnableConfig | None) -> Any:
        asked = await _Asked.aof(input, self.retriever)
        results: list[RLMResult] = []

        async def run(_: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig) -> Any:
            ending.watch(run_manager)
            children = run_manager.get_child()
            context = await asked.afound(self.retriever, patch_config(config, callbacks=children))
            results.append(await self._engine.arun(asked.query, context, children, config))
            return results[0].answer

        async with surely_ended() as ending:
            await self._acall_with_config(cast(Any, run), asked.description, config)
        return self._output(results[0], asked)

    def stream(self, input: RLMInput, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The answer piece by piece, or the ``RLMResult`` when it is there."""
        if kwargs:
            yield from self._with(kwargs).stream(input, config)
            return
        asked = _Asked.of(input, self.retriever)
        results: list[RLMResult] = []

        def run(
            descriptions: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig
        ) -> Iterator[Any]:
            list(descriptions)
            children = run_manager.get_child()
            context = asked.found(self.retriever, patch_config(config, callbacks=children))
            for piece in opened.enter_context(closing(self._engine.stream(asked.query, context, children, config))):  # type: ignore[type-var]
                if isinstance(piece, RLMResult):
                    results.append(piece)
                elif self.output_type is str:
                    yield piece
            if self.output_type is not str:
                yield results[0].answer

        with ExitStack() as opened:
            pieces = self._transform_stream_with_config(iter([asked.description]), cast(Any, run), config)
            # Closed early, what is innermost ends first.
            for piece in opened.enter_context(closing(pieces)):  # type: ignore[type-var]
                if self.output == "answer":
                    yield piece
        if self.output == "result" and results:
            yield self._output(results[0], asked)

    async def astream(self, input: RLMInput, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The same, without blocking the event loop."""
        if kwargs:
            async with aclosing(self._with(kwargs).astream(input, config)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
            return
        asked = await _Asked.aof(input, self.retriever)
        results: list[RLMResult] = []

        async def run(
            descriptions: AsyncIterator[Any], run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig
        ) -> AsyncIterator[Any]:
            async for _ in descriptions:
                pass
            children = run_manager.get_child()
            context = await asked.afound(self.retriever, patch_config(config, callbacks=children))
            stream = self._engine.astream(asked.query, context, children, config)
            opened.push_async_callback(_closed, stream)
            async for piece in stream:
                if isinstance(piece, RLMResult):
                    results.append(piece)
                elif self.output_type is str:
                    yield piece
            if self.output_type is not str:
                yield results[0].answer

        async def descriptions() -> AsyncIterator[Any]:
            yield asked.description

        async with AsyncExitStack() as opened:
            pieces = self._atransform_stream_with_config(descriptions(), cast(Any, run), config)
            opened.push_async_callback(_closed, pieces)
            async for piece in pieces:
                if self.output == "answer":
                    yield piece
        if self.output == "result" and results:
            yield self._output(results[0], asked)

    def _output(self, result: RLMResult, asked: _Asked) -> Any:
        return cited(result, asked.given) if self.output == "result" else result.answer


@dataclass(slots=True)
class _Asked:
    """One input, checked."""

    query: str
    context: Context | None
    given: Any

    @classmethod
    def of(cls, input: Any, retriever: Any) -> _Asked:
        if isinstance(input, str) and retriever is not None:
            input = {"query": input}
        if not isinstance(input, dict) or not isinstance(query := input.get("query"), str):
            raise InvalidInput(f'the input is {_short(input)}: pass {{"query": a str, "context": text or documents}}')
        given = input.get("context")
        if given is None and retriever is None:
            raise InvalidInput('the input has no "context": pass one, or give RLMRunnable a retriever')
        return cls(query, None if given is None else context_of(given), given)

    @classmethod
    async def aof(cls, input: Any, retriever: Any) -> _Asked:
        """The same, without blocking the event loop, which the hash of a long context would."""

        def make() -> _Asked:
            asked = cls.of(input, retriever)
            _ = asked.description
            return asked

        return await in_thread(make)

    @property
    def description(self) -> Any:
        """What traces hold of it."""
        if self.context is None:
            return {"query": self.query}
        return {"query": self.query, "context": described(self.context.summary)}

    def found(self, retriever: Runnable[Any, Any], config: RunnableConfig) -> Context:
        """The context, from ``retriever`` if none was given."""
        if self.context is None:
            self.given = retriever.invoke(self.query, config)
            self.context = self._found()
        return self.context

    async def afound(self, retriever: Runnable[Any, Any], config: RunnableConfig) -> Context:
        """The same, without blocking the event loop."""
        if self.context is None:
            async with ended(config["callbacks"]):
                self.given = await retriever.ainvoke(self.query, config)
            self.context = self._found()
        return self.context

    def _found(self) -> Context:
        if not self.given:
            raise InvalidInput(f"the retriever found nothing for {self.query[:200]!r}")
        return context_of(self.given)


async def _closed(stream: Any) -> None:
    """Close an async generator, unless the loop is closing and does it at this moment."""
    if not stream.ag_running:
        await stream.aclose()


def _short(value: Any) -> str:
    keys = f" with the keys {', '.join(map(str, value))[:200]}" if isinstance(value, dict) else ""
    return f"a {type(value).__name__}{keys}"
