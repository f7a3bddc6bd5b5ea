"""``OffloadMiddleware``: long outputs of an agent's tools, put aside and asked about."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware.types import AgentMiddleware, AgentState, PrivateStateAttr
from langchain.tools import ToolRuntime
from langchain_core.callbacks import AsyncCallbackManagerForToolRun
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool, ToolException
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command
from pydantic import BaseModel, Field

from rlm_integrations.errors import BudgetExceeded, InvalidInput, RLMError, TurnsExhausted
from rlm_integrations.langchain.endings import ended_if_cancelled
from rlm_integrations.langchain.runnable import RLMInput, RLMRunnable
from rlm_integrations.langchain.schema import as_text

__all__ = ["OffloadMiddleware"]

SHOWN_CHARS = 500
ABOUT = (
    "Answers a question about a tool's output that was put aside because it is long. Reads all of it where that is "
    "needed: finding, counting, comparing, summarizing. Ask one complete question in plain words."
)
# What the agent can do something about: ask otherwise, or about less. All else is for the agent's own caller.
TOLD = (BudgetExceeded, InvalidInput, TurnsExhausted)


def _merged(old: dict[str, str] | None, new: dict[str, str] | None) -> dict[str, str]:
    return {**(old or {}), **(new or {})}


class OffloadState(AgentState[Any]):
    """The agent's state, with the outputs put aside in this conversation, by handle."""

    # The reducer stands last, where LangGraph looks for it: tools that are called at once all add to it.
    offloaded: NotRequired[Annotated[dict[str, str], PrivateStateAttr, _merged]]


class _Asking(BaseModel):
    handle: str = Field(description="the handle under which the output was put aside")
    query: str = Field(description="the question, complete in itself")


class _AskTool(StructuredTool):
    """A tool whose run ends also when it is cancelled."""

    async def _arun(
        self,
        *args: Any,
        config: RunnableConfig,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        **kwargs: Any,
    ) -> Any:
        async with ended_if_cancelled(run_manager):
            return await super()._arun(*args, config=config, run_manager=run_manager, **kwargs)


class OffloadMiddleware(AgentMiddleware[OffloadState, Any, Any]):
    """Puts tool outputs of more than ``max_chars`` characters aside, and gives the agent a tool to ask about them.

    In the conversation stands a note in their place: how long, how it begins, and a handle for ``tool_name``. The
    texts live in the agent's state, so that a checkpointer keeps them with the conversation that they belong to and
    no other sees them. ``llm`` and ``settings`` are those of ``RLMRunnable``.

    Raises ``InvalidInput`` for a setting that can't be used. The agent is told of a handle that does not exist, and of
    questions that ran out of turns or budget; other errors are raised from the agent's call.
    """

    state_schema = OffloadState

    def __init__(self, llm: Any, *, max_chars: int = 10_000, tool_name: str = "ask_offloaded", **settings: Any) -> None:
        super().__init__()
        if isinstance(max_chars, bool) or not isinstance(max_chars, int) or max_chars < 1:
            raise InvalidInput(f"max_chars={max_chars!r}: pass a whole number of at least 1")
        self._max_chars = max_chars
        self._runnable = RLMRunnable(llm, **settings)
        self.tool_name = tool_name
        self.tools = [
            _AskTool.from_function(
                func=self._ask,
                coroutine=self._aask,
                name=tool_name,
                description=ABOUT,
                args_schema=_Asking,
                infer_schema=False,
                handle_tool_error=True,
            )
        ]

    @property
    def name(self) -> str:
        """The name among an agent's middleware, where two of one name can't be."""
        return f"{type(self).__name__}_{self.tool_name}"

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Put a long output aside."""
        return self._offloaded(request, handler(request))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """The same, without blocking the event loop."""
        return self._offloaded(request, await handler(request))

    def _offloaded(self, request: ToolCallRequest, given: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
        name = request.tool_call["name"]
        if name == self.tool_name or getattr(request.tool, "return_direct", False):
            return given
        texts: dict[str, str] = {}
        if isinstance(given, ToolMessage):
            note = self._noted(given, name, texts)
            return Command(update={"messages": [note], "offloaded": texts}) if texts else given
        if not isinstance(given.update, Mapping) or not isinstance(given.update.get("messages"), list):
            return given
        notes = [self._noted(message, name, texts) for message in given.update["messages"]]
        if not texts:
            return given
        update = {**given.update, "messages": notes, "offloaded": texts}
        return Command(graph=given.graph, update=update, resume=given.resume, goto=given.goto)

    def _noted(self, message: BaseMessage, name: str, texts: dict[str, str]) -> BaseMessage:
        """``message`` with a note in place of its text, if that is long, which is added to ``texts``."""
        text = str(message.text)
        if not isinstance(message, ToolMessage) or len(text) <= self._max_chars:
            return message
        # The same output has the same handle, and no two tools called at once can have one.
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        handle = f"{re.sub(r'[^a-zA-Z0-9_]', '_', name)}-{digest}"
        texts[handle] = text
        note = (
            f"This output of {name} has {len(text):,} characters and was put aside as {handle!r}. "
            f"To ask about it, call {self.tool_name} with that handle and a question. It begins:\n"
            f"{text[:SHOWN_CHARS]}\n[...]"
        )
        other = [] if isinstance(message.content, str) else [block for block in message.content if not _is_text(block)]
        return message.model_copy(update={"content": [{"type": "text", "text": note}, *other] if other else note})

    def _ask(self, handle: str, query: str, runtime: ToolRuntime[Any, Any]) -> str:
        asked = _asked(handle, query, runtime)
        try:
            return as_text(self._runnable.invoke(asked))
        except TOLD as error:
            raise ToolException(_told(error)) from error

    async def _aask(self, handle: str, query: str, runtime: ToolRuntime[Any, Any]) -> str:
        asked = _asked(handle, query, runtime)
        try:
            return as_text(await self._runnable.ainvoke(asked))
        except TOLD as error:
            raise ToolException(_told(error)) from error


def _asked(handle: str, query: str, runtime: ToolRuntime[Any, Any]) -> RLMInput:
    texts: Mapping[str, str] = runtime.state.get("offloaded") or {}
    if handle not in texts:
        known = f"there are {', '.join(texts)}" if texts else "nothing was put aside yet"
        raise ToolException(f"nothing was put aside as {handle!r}: {known}")
    # One text: a small model that is given a list of one counts its items.
    return RLMInput(query=query, context=texts[handle])


def _is_text(block: Any) -> bool:
    return isinstance(block, str) or block.get("type") == "text"


def _told(error: RLMError) -> str:
    return f"the question could not be answered: {error}"
