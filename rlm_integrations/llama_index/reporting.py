"""Runs, cells and the calls of foreign models as spans of LlamaIndex's instrumentation, in one tree and small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from inspect import BoundArguments, Parameter, Signature
from typing import Any, assert_never

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import LLMMetadata, MockLLM
from llama_index.core.tools import BaseTool, ToolMetadata, ToolOutput
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.events.span import SpanDropEvent
from llama_index_instrumentation.span import active_span_id
from pydantic import PrivateAttr

from rlm_integrations.engine.trace import cut, described
from rlm_integrations.errors import RLMError
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    TextDelta,
)

__all__ = ["Spans"]

# Exporters write what a span is given out whole, as JSON; with all that stands beside a text this stays below 10 KB.
MAX_TRACED_BYTES = 8_000

TOO_LATE = "what asked for it has ended"

dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True, slots=True)
class _Open:
    id: str
    parent_id: str | None
    arguments: BoundArguments
    instance: Any
    messages: list[ChatMessage]


class Spans:
    """Enters and leaves a span for each run and each cell of one tree. ``observe`` is its observer.

    LlamaIndex knows a span's parent by a context variable alone. Each branch of a tree runs in a context of its own,
    and events are told in it, so what is set there is the parent of what the branch calls. Model calls are left to
    the LLMs, which report themselves, except those of models ``self_reporting`` says no of, by depth (root, below).
    """

    def __init__(self, self_reporting: tuple[bool, bool] = (True, True)) -> None:
        self._self_reporting = self_reporting
        self._outer = active_span_id.get()
        self._open: dict[str, _Open] = {}

    def observe(self, event: Event) -> None:
        """Tell of ``event``."""
        match event:
            case RunStarted():
                asked = {"query": _cut(event.query), "context": described(event.context)}
                self._enter(event.id, event.parent_id, "RLM.run", asked)
            case RunEnded():
                usage = {name: value for name, value in asdict(event.usage).items() if not name.startswith("by_")}
                self._exit(event.id, {"answer": _small(event.answer), "status": event.status, "usage": usage})
            case CellStarted():
                self._enter(event.id, event.parent_id, "python", {"code": _cut(event.code)}, PYTHON)
            case CellEnded():
                shown = "\n".join(part for part in (event.stdout, event.error) if part)
                self._exit(event.id, ToolOutput(tool_name="python", content=_cut(shown), raw_input={}))
            case ModelCallStarted():
                # What nobody was asked is no call of an LLM.
                if event.source == "model" and not self._self_reporting[min(event.depth, 1)]:
                    self._begin_call(event)
            case ModelCallEnded():
                self._end_call(event)
            case RunFailed() | CellFailed() | ModelCallFailed():
                self._drop(event.id, event.error)
            case TextDelta() | RunResumed() | ReplayParted() | SessionWaiting():
                pass
            case _:
                assert_never(event)

    def _enter(
        self, id: str, parent_id: str | None, name: str, arguments: Mapping[str, Any], instance: Any = None
    ) -> _Open | None:
        if (parent_span_id := self._span_of(parent_id)) is None and parent_id is not None:
            return None
        signature = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in arguments])
        # The part before the first hyphen is the name that exporters show.
        opened = _Open(f"{name}-{id}", parent_span_id, signature.bind(**arguments), instance, [])
        active_span_id.set(opened.id)
        tags = active_instrument_tags.get()
        dispatcher.span_enter(opened.id, opened.arguments, instance=instance, parent_id=parent_span_id, tags=tags)
        self._open[id] = opened
        if parent_id is not None and parent_id not in self._open:
            # It has ended meanwhile, and did not know of this one.
            self._drop(id, TOO_LATE)
        return opened

    def _exit(self, id: str, result: Any) -> None:
        if opened := self._ending(id):
            dispatcher.span_exit(opened.id, opened.arguments, instance=opened.instance, result=result)
            active_span_id.set(opened.parent_id)

    def _drop(self, id: str, reason: str) -> None:
        if opened := self._ending(id):
            error = RLMError(_cut(reason))
            dispatcher.event(SpanDropEvent(span_id=opened.id, err_str=str(error)))
            dispatcher.span_drop(opened.id, opened.arguments, instance=opened.instance, err=error)
            active_span_id.set(opened.parent_id)

    def _ending(self, id: str) -> _Open | None:
        """The span of ``id``, for the one who is to end it.

        What an interrupted run left to threads is open still, and ends before it: their events come too late.
        """
        opened = self._open.pop(id, None)
        if opened:
            for below, span in list(self._open.items()):
                if span.parent_id == opened.id:
                    self._drop(below, TOO_LATE)
        return opened

    def _span_of(self, id: str | None) -> str | None:
        """The span to be above those whose parent is ``id``; None where there is none, or none any more."""
        if id is None:
            return self._outer
        opened = self._open.get(id)
        return opened.id if opened else None

    def _begin_call(self, event: ModelCallStarted) -> None:
        messages = [_message(message.role, message.content) for message in event.new_messages]
        model = _Model(event.model)
        if opened := self._enter(event.id, event.parent_id, "LanguageModel.chat", {"purpose": event.purpose}, model):
            opened.messages.extend(messages)
            dispatcher.event(
                LLMChatStartEvent(
                    messages=messages, additional_kwargs={}, model_dict={"model": event.model}, span_id=opened.id
                )
            )

    def _end_call(self, event: ModelCallEnded) -> None:
        if opened := self._open.get(event.id):
            usage = {"prompt_tokens": event.usage.input_tokens, "completion_tokens": event.usage.output_tokens}
            response = ChatResponse(message=_message("assistant", event.text), raw={"usage": usage})
            dispatcher.event(LLMChatEndEvent(messages=opened.messages, response=response, span_id=opened.id))
            self._exit(event.id, response)


class _Python(BaseTool):
    """What exporters are told that a cell is: a call of a tool."""

    @property
    def metadata(self) -> ToolMetadata:
        return ToolMetadata(name="python", description="runs a cell in the sandbox", fn_schema=None)

    def __call__(self, input: Any) -> ToolOutput:
        raise NotImplementedError("cells are run by the engine")


PYTHON = _Python()


class _Model(MockLLM):
    """What exporters are told that a foreign model is."""

    _name: str = PrivateAttr()

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self._name)


def _message(role: str, content: str) -> ChatMessage:
    return ChatMessage(role=MessageRole(role), content=_cut(content))


def _small(answer: Any) -> Any:
    """``answer``, or the start of its text."""
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
    kept = _cut(text)
    return answer if kept == text else kept


def _cut(text: str) -> str:
    chars = min(len(text), MAX_TRACED_BYTES)
    while (size := _size(text[:chars])) > MAX_TRACED_BYTES:
        chars = chars * MAX_TRACED_BYTES // size
    return cut(text, chars)


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")) - len('""')
