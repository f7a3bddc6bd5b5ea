"""An RLM over LangChain's models and tools, whose runs hang under a callback manager."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any

from langchain_core.runnables import RunnableConfig

from rlm_integrations.engine.relay import relayed
from rlm_integrations.engine.room import Room
from rlm_integrations.engine.tree import Observer
from rlm_integrations.engine.visible import AnswerText
from rlm_integrations.errors import InvalidInput, RunCancelled
from rlm_integrations.events import Event, Purpose
from rlm_integrations.langchain.async_reporting import AsyncReporting
from rlm_integrations.langchain.model import ChatModelPort, chat_model
from rlm_integrations.langchain.reporting import Reporting
from rlm_integrations.langchain.tools import as_functions, for_async_run, for_run
from rlm_integrations.ports import LanguageModel, Tool
from rlm_integrations.result import RLMResult
from rlm_integrations.rlm import RLM

__all__ = ["Engine"]


class Engine:
    """Runs and streams. ``is_streamed`` says of which model calls LangGraph's message stream shows the tokens."""

    def __init__(self, rlm: RLM, is_streamed: Callable[[Purpose], bool]) -> None:
        self.rlm = rlm
        self._is_streamed = is_streamed

    @classmethod
    def of(
        cls,
        llm: Any,
        recursive_llm: Any,
        *,
        tools: Any = (),
        retriever: Any = None,
        is_streamed: Callable[[Purpose], bool],
        settings: Mapping[str, Any],
    ) -> Engine:
        """The engine for a chat model, a name of one, or an ``RLM``, which has its ``settings`` already."""
        functions = as_functions(tools, retriever)
        if not isinstance(llm, RLM):
            recursive = None if recursive_llm is None else ChatModelPort(chat_model(recursive_llm))
            settings = {"final_write": settings.get("output_type", str) is str, **settings}
            rlm = RLM(ChatModelPort(chat_model(llm)), recursive_model=recursive, tools=functions, **settings)
            return cls(rlm, is_streamed)
        given = sorted([*settings, *(["recursive_llm"] if recursive_llm is not None else [])])
        if given:
            raise InvalidInput(f"llm is an RLM, which has its own {', '.join(given)}: set them there")
        return cls(llm.with_tools(functions), is_streamed)

    def instructed(self, instructions: str) -> Engine:
        """The same, told what the answer must be like, after what it is told already."""
        told = "\n\n".join(filter(None, [self.rlm.settings.instructions, instructions]))
        return Engine(self.rlm.replace(instructions=told), self._is_streamed)

    def counted_in(self, room: Room) -> Engine:
        """The same, whose runs have their places in ``room``."""
        return Engine(self.rlm.replace(room=room), self._is_streamed)

    def run(self, query: str, context: Any, children: Any, config: RunnableConfig) -> RLMResult:
        """One run, as a child of the run whose child manager is ``children``."""
        reporting = self._reporting(Reporting, children, config)
        return self._bound(reporting, for_run(self._tools, reporting)).run(query, context)

    async def arun(self, query: str, context: Any, children: Any, config: RunnableConfig) -> RLMResult:
        """The same without blocking the event loop."""
        async with self._reporting(AsyncReporting, children, config) as reporting:
            return await self._bound(reporting, for_async_run(self._tools, reporting)).arun(query, context)

    def stream(self, query: str, context: Any, children: Any, config: RunnableConfig) -> Iterator[str | RLMResult]:
        """The answer's text as it is written, where it is, and the result at the end."""
        reporting = self._reporting(Reporting, children, config)
        rlm = self._bound(reporting, for_run(self._tools, reporting))
        reading, events = AnswerText(), list[Event]()
        try:
            with closing(rlm.stream(query, context)) as stream:  # type: ignore[type-var]
                for event in stream:
                    events.append(event)
                    if text := reading.read(event):
                        yield text
        except GeneratorExit:
            reporting.abandon(RunCancelled("the stream was closed"))
            raise
        yield RLMResult.from_events(events)

    async def astream(
        self, query: str, context: Any, children: Any, config: RunnableConfig
    ) -> AsyncIterator[str | RLMResult]:
        """The same without blocking the event loop."""

        async def run(put: Callable[[str | RLMResult], None]) -> None:
            async with self._reporting(AsyncReporting, children, config) as reporting:
                rlm = self._bound(reporting, for_async_run(self._tools, reporting))
                reading, events = AnswerText(), list[Event]()
                async with aclosing(rlm.astream(query, context)) as stream:  # type: ignore[type-var]
                    async for event in stream:
                        events.append(event)
                        if text := reading.read(event):
                            put(text)
            put(RLMResult.from_events(events))

        async with aclosing(relayed(run)) as pieces:
            async for piece in pieces:
                yield piece

    @property
    def _tools(self) -> Mapping[str, Tool]:
        return self.rlm.settings.tools

    def _reporting(self, kind: Any, children: Any, config: RunnableConfig) -> Any:
        settings = self.rlm.settings
        reports = tuple(isinstance(model, ChatModelPort) for model in (settings.model, settings.recursive_model))
        return kind(children, config, is_streamed=self._is_streamed, self_reporting=reports)

    def _bound(self, reporting: Any, tools: Mapping[str, Tool]) -> RLM:
        settings = self.rlm.settings

        def under(model: LanguageModel) -> LanguageModel:
            return model.under(reporting) if isinstance(model, ChatModelPort) else model

        observe: Observer = reporting.observe
        return self.rlm.replace(
            model=under(settings.model),
            recursive_model=under(settings.recursive_model),
            tools=tools,
            observers=[observe],
        )
