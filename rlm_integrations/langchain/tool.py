"""``RLMTool``: an RLM as a tool of an agent."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForToolRun
from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, Field, PrivateAttr

from rlm_integrations.context import Context
from rlm_integrations.errors import RLMError
from rlm_integrations.langchain.documents import cited, context_of
from rlm_integrations.langchain.endings import ended_if_cancelled
from rlm_integrations.langchain.refusal import made
from rlm_integrations.langchain.runnable import RLMInput, RLMRunnable
from rlm_integrations.langchain.schema import as_text
from rlm_integrations.result import RLMResult

__all__ = ["RLMTool"]

ABOUT_OWN = (
    "Answers a question about the documents exactly, by reading all of them where that is needed: finding, counting, "
    "comparing, summarizing. Ask one complete question in plain words."
)
ABOUT_GIVEN = "Answers a question about a long text exactly. Pass the whole text, and one complete question."
SETTINGS = set(RLMRunnable.model_fields) - {"name", "llm", "output"}


class _Question(BaseModel):
    query: str = Field(description="the question, complete in itself")


class _QuestionAndContext(_Question):
    context: str = Field(description="the text that the question is about")


class RLMTool(BaseTool):
    """Answers an agent's questions about a context: a fixed one, one that a ``retriever`` finds, or one in each call.

    ``llm`` and all settings but ``output`` are those of ``RLMRunnable``; ``context`` is what it takes as a context, or
    a ``Context`` (of files, say). Without a context and a retriever, each call brings its text. With
    ``response_format="content_and_artifact"`` the ``RLMResult`` is the tool message's artifact.

    Raises ``InvalidInput`` for a setting or a context that can't be used. A call raises what ``RLM.run`` raises, as a
    ``ToolException`` where ``handle_tool_error`` is set, so that the agent is told.
    """

    name: str = "ask_documents"
    description: str = ABOUT_OWN
    context: Any = Field(default=None, repr=False)

    _runnable: RLMRunnable = PrivateAttr()
    _checked: Context | None = PrivateAttr()

    def __init__(self, llm: Any, *, context: Any = None, **settings: Any) -> None:
        own = {name: settings.pop(name) for name in SETTINGS & settings.keys()}
        checked = None if context is None else context_of(context)
        is_given = context is None and own.get("retriever") is None
        about = {
            "description": ABOUT_GIVEN if is_given else ABOUT_OWN,
            "args_schema": _QuestionAndContext if is_given else _Question,
        }
        made(type(self), super().__init__, {**about, "context": context, **settings})
        self._checked = checked
        self._runnable = RLMRunnable(llm, output="result", **own)

    # LangChain sets the config below the tool's run as a context variable; the one it passes is that above.

    def _run(self, query: str, context: Any = None) -> Any:
        try:
            return self._answer(self._runnable.invoke(self._asked(query, context)))
        except RLMError as error:
            raise self._raised(error) from error

    async def _arun(
        self, query: str, context: Any = None, run_manager: AsyncCallbackManagerForToolRun | None = None
    ) -> Any:
        try:
            async with ended_if_cancelled(run_manager):
                return self._answer(await self._runnable.ainvoke(self._asked(query, context)))
        except RLMError as error:
            raise self._raised(error) from error

    def _asked(self, query: str, context: Any) -> RLMInput:
        context = context if self._checked is None else self._checked
        return RLMInput(query=query) if context is None else RLMInput(query=query, context=context)

    def _answer(self, result: RLMResult) -> Any:
        content = as_text(result.answer)
        if self.response_format != "content_and_artifact":
            return content
        return content, result if self._checked is None else cited(result, self.context)

    def _raised(self, error: RLMError) -> Exception:
        return ToolException(str(error)) if self.handle_tool_error else error
