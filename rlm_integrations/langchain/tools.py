"""LangChain's tools, plain functions and retrievers as functions that model code may call."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import set_config_context
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as TextTool

from rlm_integrations.context import Document, DocumentsOnDisk
from rlm_integrations.engine.drivers import in_thread, is_async
from rlm_integrations.engine.effects import EndRun
from rlm_integrations.errors import InvalidInput
from rlm_integrations.langchain.async_reporting import AsyncReporting
from rlm_integrations.langchain.documents import plain
from rlm_integrations.langchain.reporting import Reporting
from rlm_integrations.ports import Tool

__all__ = ["as_functions", "for_async_run", "for_run"]

# About as much as model code can pass on of a context in memory.
MAX_LISTED_CHARS = 8_000_000


def as_functions(tools: Iterable[Any], retriever: Any = None) -> list[Tool]:
    """``tools`` as named functions: functions as they are, LangChain's tools under their names.

    What is not a plain function has ``call`` and ``acall`` of its own, which take the config to be called with.
    """
    if not isinstance(tools, list | tuple | set | frozenset):
        raise InvalidInput(f"tools is a {type(tools).__name__}: pass a list of functions or LangChain tools")
    functions = [_ToolFunction(tool) if isinstance(tool, BaseTool) else tool for tool in tools]
    if retriever is not None:
        if not isinstance(retriever, Runnable):
            raise InvalidInput(f"retriever is a {type(retriever).__name__}: pass a LangChain retriever")
        functions.append(_Retrieve(retriever))
    return functions


def for_run(tools: Mapping[str, Tool], reporting: Reporting) -> dict[str, Tool]:
    """``tools`` for one blocking run: what they call becomes a child of the cell that called them."""
    for name, tool in tools.items():
        if is_async(tool) or (isinstance(tool, _ToolFunction) and tool.is_async):
            raise InvalidInput(f"the tool {name} is async: use ainvoke, astream or abatch")
    return {name: _bound(tool, reporting) for name, tool in tools.items()}


def for_async_run(tools: Mapping[str, Tool], reporting: AsyncReporting) -> dict[str, Tool]:
    """``tools`` for one run in an event loop."""
    return {name: _abound(tool, reporting) for name, tool in tools.items()}


def _bound(tool: Tool, reporting: Reporting) -> Tool:
    def call(*args: Any, **kwargs: Any) -> Any:
        config = reporting.cell_config()
        with _pausing():
            if isinstance(tool, _ToolFunction | _Retrieve):
                return plain(tool.call(config, *args, **kwargs))
            with set_config_context(config) as context:
                return plain(context.run(tool, *args, **kwargs))

    return _dressed(call, tool)


def _abound(tool: Tool, reporting: AsyncReporting) -> Tool:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await reporting.caught_up()
        config = reporting.cell_config()
        with _pausing():
            if isinstance(tool, _ToolFunction | _Retrieve):
                return plain(await tool.acall(config, *args, **kwargs))
            with set_config_context(config) as context:
                if is_async(tool):
                    return plain(await asyncio.create_task(tool(*args, **kwargs), context=context))
                value = await in_thread(lambda: context.run(tool, *args, **kwargs))
                return plain(await value if inspect.isawaitable(value) else value)

    return _dressed(call, tool)


@contextmanager
def _pausing() -> Iterator[None]:
    """Let LangGraph's ``interrupt`` and the like end the run, and with it the node that is to pause."""
    try:
        yield
    except Exception as error:
        # By name, since LangGraph may not be there.
        if any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__):
            raise EndRun(error) from error
        raise


def _dressed(call: Any, tool: Tool) -> Tool:
    """``call`` under the name, signature and docstring that the model is shown."""
    call.__name__ = call.__qualname__ = tool.__name__
    call.__doc__ = tool.__doc__
    call.__signature__ = _signature(tool)
    return call  # type: ignore[no-any-return]


def _signature(tool: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(tool)
    except (TypeError, ValueError):
        return inspect.Signature()


class _ToolFunction:
    """A LangChain tool as a function of its arguments."""

    def __init__(self, tool: BaseTool) -> None:
        self._tool = tool
        self._names = list(tool.args)
        # Made of a coroutine function alone, a tool can't be called in any other way.
        self.is_async = bool(getattr(tool, "coroutine", None)) and getattr(tool, "func", None) is None
        own = type(tool)._arun is not BaseTool._arun
        self._is_blocking = tool.coroutine is None if isinstance(tool, TextTool | StructuredTool) else not own
        self.__name__ = re.sub(r"\W", "_", tool.name)
        self.__doc__ = tool.description
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [
            inspect.Parameter(name, kind, default=schema.get("default", inspect.Parameter.empty))
            for name, schema in tool.args.items()
        ]
        # A schema may have a field without a default behind one that has.
        self.__signature__ = inspect.Signature(parameters, __validate_parameters__=False)

    def call(self, config: RunnableConfig, *args: Any, **kwargs: Any) -> Any:
        return self._tool.invoke(self._input(args, kwargs), config)

    async def acall(self, config: RunnableConfig, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, DocumentsOnDisk) for value in (*args, *kwargs.values())):
            input = await in_thread(lambda: self._input(args, kwargs))
        else:
            input = self._input(args, kwargs)
        if self._is_blocking:
            # LangChain would take a thread of the loop's executor, which has few.
            return await in_thread(lambda: self._tool.invoke(input, config))
        return await self._tool.ainvoke(input, config)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tool.invoke(self._input(args, kwargs))

    def _input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(self._names):
            raise TypeError(f"{self.__name__} takes {len(self._names)} arguments, not {len(args)}")
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        return {name: _listed(value) if isinstance(value, DocumentsOnDisk) else value for name, value in given.items()}


def _listed(documents: DocumentsOnDisk) -> list[Document]:
    """``documents`` in memory, since a tool's schema knows no other sequence than a list."""
    if documents.chars > MAX_LISTED_CHARS:
        raise InvalidInput(
            f"these {len(documents):,} documents have {documents.chars:,} characters in all, and this tool takes at "
            f"most {MAX_LISTED_CHARS:,}: pass fewer of them, or pieces"
        )
    return list(documents)


class _Retrieve:
    """A retriever as the function ``retrieve(query, k)``."""

    def __init__(self, retriever: Runnable[Any, Any]) -> None:
        self._retriever = retriever
        self.__name__ = "retrieve"
        self.__doc__ = "documents that the search engine finds for a query: text with .id and .metadata"
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature(
            [inspect.Parameter("query", kind), inspect.Parameter("k", kind, default=None)]
        )

    def call(self, config: RunnableConfig, query: str, k: int | None = None) -> Any:
        return list(self._retriever.invoke(query, config, **self._options(k)))[:k]

    async def acall(self, config: RunnableConfig, query: str, k: int | None = None) -> Any:
        return list(await self._retriever.ainvoke(query, config, **self._options(k)))[:k]

    def __call__(self, query: str, k: int | None = None) -> Any:
        return list(self._retriever.invoke(query, **self._options(k)))[:k]

    def _options(self, k: int | None) -> dict[str, Any]:
        # Both, since LangChain looks at the first alone, and the second may be its own, which takes nothing.
        finders = [
            getattr(self._retriever, name, None) for name in ("_get_relevant_documents", "_aget_relevant_documents")
        ]
        return {"k": k} if k is not None and all(map(_takes_k, finders)) else {}


def _takes_k(finder: Any) -> bool:
    parameters = _signature(finder).parameters.values() if finder else ()
    return any(parameter.name == "k" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
