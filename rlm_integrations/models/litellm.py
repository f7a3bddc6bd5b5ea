"""Any provider's model, through LiteLLM."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Any

from rlm_integrations.messages import Message, Reply
from rlm_integrations.models import library, retry
from rlm_integrations.models.call import Call
from rlm_integrations.models.provider import Provider

__all__ = ["LiteLLMModel"]

# Settings that say who asks, or how long it may take, not what the answer is.
UNANSWERING = re.compile(r"key|secret|passw|credential|auth|token$|^model$|^timeout$", re.IGNORECASE)


class LiteLLMModel:
    """A model by its LiteLLM name: "openai/gpt-5-mini", "anthropic/...", "ollama/...", "openai/qwen" with ``api_base``.

    ``timeout``: how many seconds a request may leave us without an answer (600 by LiteLLM's default). The ``timeout``
    option of a call bounds the whole call, retries and the waits between them included; to the moment where the call
    is awaited, and where it blocks as soon as the server is silent or has said something.
    ``max_retries``: for rate limits, server errors, lost connections and timeouts, with exponential backoff; where the
    server sends ``Retry-After``, that is kept to. Nothing is tried again once streamed text was handed on.
    ``window_tokens``: from LiteLLM's price map where it is not given.
    ``options`` go to LiteLLM with each call.

    ``stop`` and ``temperature`` are left out for models that refuse them. One instance serves any number of threads
    and tasks at once.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        max_retries: int = 3,
        window_tokens: int | None = None,
        **options: Any,
    ) -> None:
        self._settings = {
            **options,
            "model": name,
            "api_base": api_base,
            "api_key": api_key,
            "temperature": temperature,
            "timeout": timeout,
        }
        self._max_retries = max_retries
        self._window_tokens = window_tokens
        self._known_provider: Provider | None = None
        self._not_taken: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """What it was made with, a key that was passed among it: elsewhere, it finds out the rest anew."""
        return {**self.__dict__, "_known_provider": None, "_not_taken": set()}

    def __repr__(self) -> str:
        api_base = self._settings["api_base"]
        return f"LiteLLMModel({self.name!r}" + (f", api_base={api_base!r})" if api_base else ")")

    @property
    def name(self) -> str:
        """The LiteLLM name."""
        return str(self._settings["model"])

    @property
    def api_base(self) -> str | None:
        """The server it was made for; None for the provider's own."""
        api_base: str | None = self._settings["api_base"]
        return api_base

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of a reply, where the model was made with a limit."""
        max_tokens: int | None = self._settings.get("max_tokens")
        return max_tokens

    @property
    def temperature(self) -> float | None:
        """The temperature of each call that asks for none."""
        temperature: float | None = self._settings["temperature"]
        return temperature

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on besides its name: the server, and all options, but no secret."""
        provider = self._provider(library.load()).name.upper()
        servers = (os.environ.get(f"{provider}_{end}") for end in ("API_BASE", "BASE_URL"))
        settings = {name: value for name, value in self._settings.items() if not UNANSWERING.search(name)}
        return {**settings, "api_base": settings["api_base"] or next(filter(None, servers), None)}

    @property
    def window_tokens(self) -> int | None:
        """The size of the context window; None where neither the caller nor LiteLLM's price map says it."""
        return self._window_tokens or self._provider(library.load()).window_tokens

    @property
    def has_price(self) -> bool:
        """Whether it can be told what a call costs: without, no limit of cost can be held."""
        return self._provider(library.load()).has_price

    def check(self) -> None:
        """Raise ``ModelNotFound`` or ``MissingKey`` where it is certain, without any network, that no call succeeds."""
        self._check(library.load())

    async def acheck(self) -> None:
        """The same, without blocking the event loop while LiteLLM is imported."""
        self._check(await library.aload())

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply; blocks until it is there. Failures are raised as ``ModelError``."""
        litellm = library.load()
        call = self._call(litellm, messages, options)
        while True:
            try:
                response = litellm.completion(**call.request())
                if not call.streams:
                    return call.reply(response)
                try:
                    for chunk in response:
                        call.take(chunk)
                finally:
                    _close(response)
                return call.reply()
            except Exception as error:
                wait_s = call.wait_after(error)
            retry.sleep(wait_s)

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply, without blocking the event loop."""
        litellm = await library.aload()
        call = self._call(litellm, messages, options)
        while True:
            try:
                async with asyncio.timeout(call.retries.seconds_left()):
                    response = await litellm.acompletion(**call.request())
                    if not call.streams:
                        return call.reply(response)
                    try:
                        async for chunk in response:
                            call.take(chunk)
                    finally:
                        await response.aclose()
                    return call.reply()
            except Exception as error:
                wait_s = call.wait_after(error)
            await retry.asleep(wait_s)

    def _call(self, litellm: Any, messages: Sequence[Message], options: dict[str, Any]) -> Call:
        return Call(
            self._provider(litellm),
            self._settings,
            messages,
            options,
            max_retries=self._max_retries,
            not_taken=self._not_taken,
        )

    def _check(self, litellm: Any) -> None:
        provider = self._provider(litellm)
        if not self._settings["api_key"]:
            provider.key(self._settings["api_base"])

    def _provider(self, litellm: Any) -> Provider:
        if self._known_provider is None:
            self._known_provider = Provider(litellm, self.name, self._settings)
        return self._known_provider


def _close(stream: Any) -> None:
    """Close a stream that may not have been read to its end; LiteLLM's own wrapper can't do it when not async."""
    close = getattr(getattr(stream, "completion_stream", None), "close", None)
    if close is not None:
        close()
