"""One call to LiteLLM: what is sent, what has come back so far, and what a failure means for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlm_integrations.engine.secrets import keys_in
from rlm_integrations.messages import Message, Reply, Usage
from rlm_integrations.models import failures
from rlm_integrations.models.provider import Provider
from rlm_integrations.models.retry import Retries, retry_after_s

__all__ = ["Call"]

# What the engine may ask for and a model may refuse.
NEGOTIABLE = frozenset({"stop", "temperature"})


class Call:
    """The state of one call, which may take several attempts.

    ``settings`` are what the model was made with, in LiteLLM's names; ``options`` what this call asks for, in the
    port's. ``not_taken`` names the parameters the model is known to refuse; what it turns out to refuse is added.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Mapping[str, Any],
        messages: Sequence[Message],
        options: Mapping[str, Any],
        *,
        max_retries: int,
        not_taken: set[str],
    ) -> None:
        self.retries = Retries(max_retries, options.get("timeout"))
        self._provider = provider
        self._settings = settings
        self._not_taken = not_taken
        self._on_text: Callable[[str], object] | None = options.get("on_text")
        self._on_text_error: BaseException | None = None
        self._pieces: list[str] = []
        self._streamed_usage: Any = None
        self._sent: frozenset[str] = frozenset()
        asked = {name: options[name] for name in ("stop", "temperature", "max_tokens") if options.get(name) is not None}
        if "max_tokens" in asked and settings.get("max_tokens"):
            asked["max_tokens"] = min(asked["max_tokens"], settings["max_tokens"])
        key = settings.get("api_key") or provider.key(settings.get("api_base"))
        self._request = {
            **settings,
            **asked,
            "api_key": key,
            "messages": _wire_messages(messages, marked=provider.wants_cache_marks),
            "max_retries": 0,  # the retries counted here are the only ones
        }
        if self.streams:
            self._request |= {"stream": True, "stream_options": {"include_usage": True}}

    @property
    def streams(self) -> bool:
        """Whether somebody listens to the text as it comes."""
        return self._on_text is not None

    def request(self) -> dict[str, Any]:
        """The arguments of the next attempt; ``TimeoutError`` if no time is left for one."""
        from rlm_integrations.models import timeouts  # it imports httpx, which LiteLLM has done by now

        self._check_time()
        arguments = self._arguments()
        self._sent = frozenset(arguments)
        limit_s = min(
            (s for s in (self._settings.get("timeout"), self.retries.seconds_left()) if s is not None), default=None
        )
        if limit_s is None:
            return arguments
        return arguments | {"timeout": timeouts.for_provider(self._provider.name, limit_s)}

    def take(self, chunk: Any) -> None:
        """Keep what a chunk of a stream brings and hand its text on."""
        self._check_time()
        self._streamed_usage = getattr(chunk, "usage", None) or self._streamed_usage
        for choice in chunk.choices:
            if text := choice.delta.content:
                self._pieces.append(text)
                self._hand_on(text)

    def reply(self, response: Any = None) -> Reply:
        """The reply: in ``response``, or in the chunks taken."""
        if response is None:
            return Reply("".join(self._pieces), self._usage(self._streamed_usage))
        text = response.choices[0].message.content if response.choices else None
        return Reply(text or "", self._usage(getattr(response, "usage", None)))

    def wait_after(self, error: Exception) -> float:
        """How long to wait before the next attempt; where there is none, raises what the caller should see."""
        if error is self._on_text_error or not failures.is_foreign(error):
            raise error
        # Of calls that were under way together, each is refused what another may have found out meanwhile.
        refused = failures.refused_parameter(error, self._sent & NEGOTIABLE)
        if refused:
            self._not_taken.add(refused)
            return 0.0
        api_base = self._settings.get("api_base")
        failure = failures.translate(
            error,
            self._settings["model"],
            key_variable=self._provider.key_variable,
            api_base=api_base,
            secrets=self._secrets(),
        )
        # What was handed on can't be taken back, so a second attempt would say it twice.
        if not failures.may_pass(failure) or self._pieces:
            raise failure from error
        wait_s = self.retries.next_wait_s(retry_after_s(failures.headers_of(error)))
        if wait_s is None:
            raise failure from error
        return wait_s

    def _arguments(self) -> dict[str, Any]:
        return {
            name: value for name, value in self._request.items() if value is not None and name not in self._not_taken
        }

    def _check_time(self) -> None:
        if self.retries.seconds_left() == 0:
            raise TimeoutError

    def _hand_on(self, text: str) -> None:
        assert self._on_text is not None
        try:
            self._on_text(text)
        except BaseException as error:
            self._on_text_error = error
            raise

    def _usage(self, usage: Any) -> Usage:
        if usage is None:
            return Usage()
        details = getattr(usage, "prompt_tokens_details", None)
        return Usage(
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            cached_tokens=getattr(details, "cached_tokens", None) or 0,
            cost_usd=self._provider.cost_usd(usage),
        )

    def _secrets(self) -> list[str | None]:
        return [*keys_in(self._settings), *map(os.environ.get, self._provider.key_variables)]


def _wire_messages(messages: Sequence[Message], *, marked: bool) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = [{"role": m.role, "content": _encodable(m.content)} for m in messages]
    if marked:
        for role in ("system", "user"):
            last = next((m for m in reversed(wire) if m["role"] == role and m["content"]), None)
            if last is not None:
                last["content"] = [{"type": "text", "text": last["content"], "cache_control": {"type": "ephemeral"}}]
    return wire


def _encodable(text: str) -> str:
    """``text`` with lone surrogates, which no request can carry, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
