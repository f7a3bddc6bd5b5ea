"""LangChain's chat models as models of the engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import SecretStr

from rlm_integrations.engine.secrets import without_keys
from rlm_integrations.errors import InvalidInput, MissingExtra, RLMError
from rlm_integrations.langchain.reporting import MESSAGES, Place
from rlm_integrations.messages import Message, Reply, Usage
from rlm_integrations.models.failures import kind_of, refused_parameter

__all__ = ["ChatModelPort", "chat_model"]

# Sent where the model takes them. Not every provider does, and one that refuses a parameter says so at its first call.
NEGOTIABLE = frozenset({"stop", "temperature", "max_tokens"})


def chat_model(llm: Any, **settings: Any) -> Runnable[Any, Any]:
    """``llm``, or the chat model that ``init_chat_model`` makes of a name and ``settings``. Raises ``InvalidInput``."""
    if isinstance(llm, str):
        try:
            from langchain.chat_models import init_chat_model
        except ImportError as error:
            raise MissingExtra("langchain", f"a chat model by name ({llm!r})") from error
        try:
            made: Runnable[Any, Any] = init_chat_model(llm, **settings)
        except ValueError as error:
            raise InvalidInput(f"llm={llm!r}: {error}") from error
        return made
    if not isinstance(llm, Runnable):
        raise InvalidInput(
            f"llm is a {type(llm).__name__}: pass a chat model, a name such as 'openai:gpt-5-mini', or an RLM"
        )
    return llm


class Places(Protocol):
    """Tells under which run of LangChain's a model call belongs."""

    def place(self, event_id: str) -> Place:
        """The place of a call by its event's id."""
        ...

    async def aplace(self, event_id: str) -> Place:
        """The same, once all that was told before is known to the callbacks."""
        ...


class ChatModelPort:
    """The engine's ``LanguageModel`` over a chat model, or any Runnable that takes messages and gives one.

    The chat model reports its calls to callbacks itself; ``under`` says where in a trace they belong.
    """

    def __init__(self, llm: Runnable[Any, Any]) -> None:
        self.llm = llm
        inner = _innermost(llm)
        self.name = str(getattr(inner, "model_name", None) or getattr(inner, "model", None) or inner.get_name())
        profile = getattr(inner, "profile", None)
        window = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
        self.window_tokens: int | None = window if isinstance(window, int) else None
        self._caches_by_mark = getattr(inner, "_llm_type", "").startswith("anthropic")
        self.has_price = False
        self._refused: set[str] = set()
        self._places: Places | None = None

    @property
    def identity(self) -> str | None:
        """What the chat model's answers depend on besides its name; None where that can't be told."""
        return _identity(self.llm)

    def under(self, places: Places) -> ChatModelPort:
        """The same model, whose calls hang under the runs that ``places`` names."""
        bound = copy.copy(self)
        bound._places = places
        return bound

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The reply. Raises ``ModelError`` with the provider's own words."""
        place = self._places.place(options["event_id"]) if self._places else Place()
        on_text = options.get("on_text")
        while True:
            arguments = self._arguments(options)
            try:
                if on_text is None:
                    return _reply(self.llm.invoke(self._messages(messages), place.config(), **arguments))
                whole: Any = None
                for chunk in self.llm.stream(self._messages(messages), place.config(), **arguments):
                    whole = _added(whole, chunk, on_text)
                return _reply(whole)
            except Exception as error:
                self._go_on_without(error, arguments)

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The reply, without blocking the event loop."""
        place = await self._places.aplace(options["event_id"]) if self._places else Place()
        on_text = options.get("on_text")
        while True:
            arguments = self._arguments(options)
            try:
                if on_text is None:
                    return _reply(await self.llm.ainvoke(self._messages(messages), place.config(), **arguments))
                whole: Any = None
                async for chunk in self.llm.astream(self._messages(messages), place.config(), **arguments):
                    whole = _added(whole, chunk, on_text)
                return _reply(whole)
            except Exception as error:
                self._go_on_without(error, arguments)

    def _messages(self, messages: Sequence[Message]) -> list[BaseMessage]:
        converted: list[BaseMessage] = [MESSAGES[message.role](message.content) for message in messages]
        if self._caches_by_mark:
            # Messages are only appended, so the first and the last mark what the next call can take from the cache.
            for message in {id(item): item for item in (converted[0], converted[-1])}.values():
                mark = {"type": "ephemeral"}
                message.content = [{"type": "text", "text": message.content, "cache_control": mark}]
        return converted

    def _arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        own = ("on_text", "event_id", "timeout")
        return {name: value for name, value in options.items() if name not in own and name not in self._refused}

    def _go_on_without(self, error: Exception, arguments: Mapping[str, Any]) -> None:
        """Leave out the parameter that ``error`` says is not taken; raises what the caller should see otherwise."""
        if isinstance(error, RLMError):
            raise error
        refused = refused_parameter(error, arguments.keys() & NEGOTIABLE)
        if refused:
            self._refused.add(refused)
            return
        kind = kind_of(error)
        if kind is None:
            raise error
        raise kind(without_keys(f"{self.name}: {error}", _keys(self.llm)), model=self.name) from error


def _keys(llm: Any) -> list[str]:
    """The keys that a chat model holds."""
    return [value.get_secret_value() for value in vars(_innermost(llm)).values() if isinstance(value, SecretStr)]


def _innermost(llm: Any) -> Any:
    """The chat model inside of ``bind``, ``with_config``, ``with_retry`` and the like."""
    while not isinstance(llm, BaseChatModel):
        inner = getattr(llm, "bound", None) or getattr(llm, "runnable", None)
        if not isinstance(inner, Runnable):
            break
        llm = inner
    return llm


def _identity(llm: Any) -> str | None:
    if isinstance(llm, BaseChatModel):
        return llm._get_llm_string()
    if isinstance(llm, RunnableBindingBase):
        bound = _identity(llm.bound)
        return bound and f"{bound} {sorted(llm.kwargs.items())!r} {llm.config.get('configurable')!r}"
    if not isinstance(llm, RunnableWithFallbacks):
        return None
    inner = [_identity(one) for one in (llm.runnable, *llm.fallbacks)]
    return None if None in inner else f"{type(llm).__qualname__} {inner}"


def _added(whole: Any, chunk: Any, on_text: Any) -> Any:
    if text := _text(chunk):
        on_text(text)
    return chunk if whole is None else whole + chunk


def _text(message: Any) -> str:
    return str(message.text) if isinstance(message, BaseMessage) else str(message)


def _reply(message: Any) -> Reply:
    usage = getattr(message, "usage_metadata", None) or {}
    details = usage.get("input_token_details") or {}
    return Reply(
        "" if message is None else _text(message),
        Usage(
            input_tokens=usage.get("input_tokens", 0),
            output_tokens=usage.get("output_tokens", 0),
            cached_tokens=details.get("cache_read", 0) or 0,
        ),
    )
