"""Ends of runs that were begun below ours and never ended: LangChain reports none for what is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    AsyncCallbackManagerForLLMRun,
    AsyncCallbackManagerForRetrieverRun,
    AsyncCallbackManagerForToolRun,
    BaseCallbackHandler,
)

__all__ = ["Endings", "ended", "ended_if_cancelled", "surely_ended"]


@dataclass(frozen=True, slots=True)
class _Open:
    parent_id: UUID | None
    manager: type[Any]
    method: str


class Endings(BaseCallbackHandler):
    """Sees the runs below ``children``, a callback manager, and ends those that were left open.

    The handlers that runs inherit are told; those of one model or tool alone can't be reached from here.
    """

    run_inline = True

    def __init__(self, children: Any) -> None:
        self._children = children
        self._open: dict[UUID, _Open] = {}
        children.add_handler(self, inherit=True)

    def left_open(self, id: UUID | None, error: BaseException, *, but: UUID | None = None) -> Iterator[Awaitable[None]]:
        """End run ``id`` and all below it, or simply all, ``but`` one; the last begun first, each to be awaited."""
        for open_id in reversed(list(self._open)):
            if open_id != but and (id is None or id in self._line(open_id)):
                yield self._end(open_id, error)

    def _line(self, id: UUID | None) -> Iterator[UUID]:
        """A run and those above it, as far as they are open."""
        while id is not None:
            yield id
            run = self._open.get(id)
            id = run.parent_id if run else None

    async def _end(self, id: UUID, error: BaseException) -> None:
        if (run := self._open.pop(id, None)) is None:
            return
        others = [handler for handler in self._children.inheritable_handlers if handler is not self]
        manager = run.manager(run_id=id, handlers=others, inheritable_handlers=[], parent_run_id=run.parent_id)
        await getattr(manager, run.method)(error)

    def _started(self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:
        self._open[run_id] = _Open(parent_run_id, AsyncCallbackManagerForChainRun, "on_chain_error")

    def _model_started(self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:
        self._open[run_id] = _Open(parent_run_id, AsyncCallbackManagerForLLMRun, "on_llm_error")

    def _tool_started(self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:
        self._open[run_id] = _Open(parent_run_id, AsyncCallbackManagerForToolRun, "on_tool_error")

    def _retriever_started(self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:
        self._open[run_id] = _Open(parent_run_id, AsyncCallbackManagerForRetrieverRun, "on_retriever_error")

    def _ended(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self._open.pop(run_id, None)

    on_chain_start = _started
    on_chat_model_start = on_llm_start = _model_started
    on_tool_start = _tool_started
    on_retriever_start = _retriever_started
    on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _ended
    on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _ended


class ended:
    """An async context at whose end by an exception all is ended that was begun below ``children``."""

    def __init__(self, children: Any) -> None:
        self._endings = Endings(children)
        self._children = children

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is not None:
            for step in self._endings.left_open(None, error):
                await step
        self._children.remove_handler(self._endings)


@asynccontextmanager
async def ended_if_cancelled(tool_run: AsyncCallbackManagerForToolRun | None) -> AsyncIterator[None]:
    """An async context inside a tool, at whose end by cancellation the tool's own run is ended."""
    try:
        yield
    except asyncio.CancelledError as error:
        if tool_run is not None:
            await tool_run.on_tool_error(error)
        raise


class surely_ended(BaseCallbackHandler):
    """An async context around a chain's run, told of with ``watch``, after which that run has ended.

    Where one call of many fails, ``asyncio.run`` closes the loop, which may cancel the telling of another's end.
    """

    run_inline = True

    def __init__(self) -> None:
        self._run: AsyncCallbackManagerForChainRun | None = None

    def watch(self, run: AsyncCallbackManagerForChainRun) -> None:
        """See to the end of ``run``."""
        run.handlers = [*run.handlers, self]
        self._run = run

    def _ended(self, *_: Any, **__: Any) -> None:
        self._run = None

    on_chain_end = on_chain_error = _ended

    async def __aenter__(self) -> surely_ended:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._run is not None and error is not None:
            await self._run.on_chain_error(error)
