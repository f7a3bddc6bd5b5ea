"""LlamaIndex's LLMs as models of the engine."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM

from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.engine.secrets import without_keys
from rlm_integrations.errors import InvalidInput, RLMError
from rlm_integrations.llama_index.heard import Heard
from rlm_integrations.llama_index.methods import ACHAT, ASTREAM, CHAT, STREAM, ask, in_thread_telling, methods, taken
from rlm_integrations.messages import Message, Reply
from rlm_integrations.models.failures import kind_of, refused_parameter

__all__ = ["LLMPort", "llm_port"]

# Options that are for this port, not for the LLM.
OWN = frozenset({"on_text", "event_id", "timeout"})
ROLES = {"user": MessageRole.USER, "assistant": MessageRole.ASSISTANT}
# Settings that say who asks, or how long it may take, not what the answer is.
UNANSWERING = frozenset({"api_key", "timeout", "max_retries", "reuse_client"})
# By class, parameters that it hands on to a provider which has another name for them.
NAMES: Mapping[str, Mapping[str, str]] = {
    "Anthropic": {"stop": "stop_sequences"},
    "OpenAIResponses": {"max_tokens": "max_output_tokens"},
}
# Sent where the model takes them. Not every provider does, and one that refuses a parameter says so at its first call.
NEGOTIABLE = frozenset({"stop", "stop_sequences", "temperature", "max_tokens", "max_output_tokens", "stream_options"})


def llm_port(llm: Any, name: str = "llm") -> LLMPort:
    """The engine's model over ``llm``, the argument called ``name``. Raises ``InvalidInput`` for what is no LLM."""
    other = ", or an RLM" if name == "llm" else ""
    if isinstance(llm, str):
        made = f"make an LLM of it, such as OpenAI(model={llm!r})"
        raise InvalidInput(f"{name}={llm!r} is a name: {made}{other and ', or pass an RLM'}")
    if not isinstance(llm, LLM):
        given = f"the class {llm.__name__}" if isinstance(llm, type) else f"a {type(llm).__name__}"
        raise InvalidInput(f"{name} is {given}: pass an LLM of LlamaIndex's{other}")
    return LLMPort(llm)


class LLMPort:
    """The engine's ``LanguageModel`` over an LLM of LlamaIndex's.

    The LLM reports its calls to callbacks and instrumentation itself, each once. Of an LLM that shapes its answers
    (``as_structured_llm``) the one inside is asked: a model that may only fill in a form can't write code. Tokens
    are those that the LLM reports, or an estimate where it reports none.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm: LLM = llm.llm if isinstance(llm, StructuredLLM) else llm
        metadata = self.llm.metadata
        named = metadata.model_name not in ("", "unknown")
        self.name = metadata.model_name if named else self.llm.class_name()
        # LlamaIndex's default stands for any model that nobody told it the window of.
        known = metadata.context_window > 0 and metadata.context_window != DEFAULT_CONTEXT_WINDOW
        self.window_tokens: int | None = metadata.context_window if known else None
        self.has_price = False
        self._system_role = metadata.system_role
        # By name, so that no integration's package needs to be there.
        kinds = [kind.__name__ for kind in type(self.llm).__mro__ if kind.__module__.startswith("llama_index.llms.")]
        self._options = {old: new for kind in kinds for old, new in NAMES.get(kind, {}).items()}
        self._counts_streams_if_asked = "OpenAI" in kinds
        self._caches_by_mark = "Anthropic" in kinds and getattr(self.llm, "cache_idx", None) is None
        self._methods: dict[tuple[str, ...], list[str]] = {
            names: methods(self.llm, names) for names in (CHAT, STREAM, ACHAT, ASTREAM)
        }
        self._refused: set[str] = set()
        self._missing: set[str] = set()

    @property
    def identity(self) -> str:
        """The LLM's class and settings, which its answers depend on."""
        kind, settings = type(self.llm), self.llm.to_dict()
        own = {name: value for name, value in settings.items() if name not in UNANSWERING}
        return f"{kind.__module__}.{kind.__qualname__} {json.dumps(own, default=repr, skipkeys=True)}"

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The reply. Raises ``ModelError`` with the provider's own words."""
        sent, on_text = self._messages(messages), options.get("on_text")
        while True:
            heard, (name, *others) = Heard(self.name), self._names(CHAT, STREAM if on_text is not None else ())
            arguments = self._arguments(options, name)
            try:
                if "stream" in name:
                    self._read(name, sent, arguments, heard, on_text)
                else:
                    _tell(heard.whole(ask(self.llm, name, sent, arguments)), on_text)
                return heard.reply(sent)
            except Exception as error:
                self._go_on_without(error, name, others, arguments, heard)

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The reply, without blocking the event loop: what an LLM has no async method for is called in a thread."""
        sent, on_text = self._messages(messages), options.get("on_text")
        while True:
            heard, (name, *others) = Heard(self.name), self._names(ACHAT, ASTREAM if on_text is not None else ())
            arguments = self._arguments(options, name)
            try:
                if "stream" in name:
                    await self._aread(name, sent, arguments, heard, on_text)
                else:
                    _tell(heard.whole(await self._aask(name, sent, arguments)), on_text)
                return heard.reply(sent)
            except Exception as error:
                self._go_on_without(error, name, others, arguments, heard)

    def _names(self, whole: tuple[str, ...], stream: tuple[str, ...]) -> list[str]:
        """The methods to try, in order."""
        names = [*(self._methods[stream] if stream else ()), *self._methods[whole]]
        return [name for name in names if name not in self._missing] or [whole[-1]]

    def _read(
        self, name: str, sent: Sequence[ChatMessage], arguments: Mapping[str, Any], heard: Heard, on_text: Any
    ) -> None:
        pieces = heard.pieces(ask(self.llm, name, sent, arguments), Iterable)
        try:
            for piece in pieces:
                _tell(heard.piece(piece), on_text)
        finally:
            # At once, so that the LLM's own report of the call ends with the call also when a reader stops early.
            if close := getattr(pieces, "close", None):
                close()

    async def _aread(
        self, name: str, sent: Sequence[ChatMessage], arguments: Mapping[str, Any], heard: Heard, on_text: Any
    ) -> None:
        if not name.startswith("a"):
            return await in_thread_telling(lambda tell: self._read(name, sent, arguments, heard, tell), on_text)
        pieces = ask(self.llm, name, sent, arguments)
        if inspect.isawaitable(pieces):
            pieces = await pieces
        pieces = heard.pieces(pieces, AsyncIterable)
        try:
            async for piece in pieces:
                _tell(heard.piece(piece), on_text)
        finally:
            if close := getattr(pieces, "aclose", None):
                await close()

    async def _aask(self, name: str, sent: Sequence[ChatMessage], arguments: Mapping[str, Any]) -> Any:
        if not name.startswith("a"):
            return await in_thread(lambda: ask(self.llm, name, sent, arguments))
        return await ask(self.llm, name, sent, arguments)

    def _messages(self, messages: Sequence[Message]) -> list[ChatMessage]:
        """As the LLM wants them, with its own system prompt, which ``predict`` heeds and ``chat`` leaves out."""
        converted = [
            ChatMessage(message.content, role=ROLES.get(message.role, self._system_role)) for message in messages
        ]
        is_run = messages[0].role == "system"
        if own := self.llm.system_prompt:
            if is_run:
                converted[0] = ChatMessage(f"{messages[0].content}\n\n{own}", role=self._system_role)
            else:
                converted.insert(0, ChatMessage(own, role=self._system_role))
        if is_run and self._caches_by_mark:
            # Messages are only appended, so the last marks what the next call of the run can take from the cache.
            converted[-1].additional_kwargs["cache_control"] = {"type": "ephemeral"}
        return converted

    def _arguments(self, options: Mapping[str, Any], method: str) -> dict[str, Any]:
        arguments = {self._options.get(name, name): value for name, value in options.items() if name not in OWN}
        if "stream" in method and self._counts_streams_if_asked:
            arguments.setdefault("stream_options", {"include_usage": True})
        # Refusing one, the LLM would leave a report of a call that was begun and never ended.
        refused = self._refused | (arguments.keys() & NEGOTIABLE) - taken(self.llm, method, arguments)
        return {name: value for name, value in arguments.items() if name not in refused}

    def _go_on_without(
        self, error: Exception, name: str, others: Sequence[str], arguments: Mapping[str, Any], heard: Heard
    ) -> None:
        """Leave out what ``error`` says is not to be had; raises what the caller should see otherwise."""
        if isinstance(error, RLMError):
            raise error
        if isinstance(error, NotImplementedError) and others and not heard.anything:
            self._missing.add(name)
            return
        refused = refused_parameter(error, arguments.keys() & NEGOTIABLE)
        # Asked again, it would tell the text that was heard once more.
        if refused and not heard.anything:
            self._refused.add(refused)
            return
        kind = kind_of(error)
        if kind is None:
            raise error
        keys = [value for name, value in vars(self.llm).items() if "api_key" in name and isinstance(value, str)]
        raise kind(without_keys(f"{self.name}: {error}", keys), model=self.name) from error


def _tell(text: str, on_text: Any) -> None:
    if text and on_text is not None:
        on_text(text)
