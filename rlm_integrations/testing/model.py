"""A model that says what the test tells it to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_integrations.errors import ModelError
from rlm_integrations.messages import Message, Reply, Usage

__all__ = ["ScriptedCall", "ScriptedModel"]

Script = Sequence[str | Reply | Exception] | Callable[[Sequence[Message]], str | Reply]
PIECE_CHARS = 8


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One call that a ``ScriptedModel`` was given."""

    messages: tuple[Message, ...]
    options: dict[str, Any]


class ScriptedModel:
    """A model without a model: replies in order, or whatever a function makes of the messages.

    An exception among the replies is raised. A reply without usage gets one: a token for every four characters, with
    no price unless ``usd_per_token`` is given. ``latency_s`` is how long a call takes, ``calls`` is what was asked.
    Serves any number of threads and tasks; a call past the end of the script is a ``ModelError``. Sent to another
    process, it goes on there from where it is, and what it is asked there is not seen here.

    >>> model = ScriptedModel(["```python\\nFINAL(len(context))\\n```"])
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        latency_s: float = 0.0,
        window_tokens: int | None = None,
        usd_per_token: float | None = None,
    ) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._latency_s = latency_s
        self._usd_per_token = usd_per_token
        self.name = name
        self.window_tokens = window_tokens
        self.calls: list[ScriptedCall] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The next reply, after ``latency_s``."""
        reply = self._next(messages, options)
        if self._latency_s:
            time.sleep(self._latency_s)
        return self._said(reply, options)

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The next reply, after ``latency_s``, without blocking the event loop."""
        reply = self._next(messages, options)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        return self._said(reply, options)

    def _next(self, messages: Sequence[Message], options: dict[str, Any]) -> Reply | Exception:
        with self._lock:
            number = len(self.calls)
            self.calls.append(ScriptedCall(tuple(messages), options))
        if callable(self._script):
            said: str | Reply | Exception = self._script(messages)
        elif number < len(self._script):
            said = self._script[number]
        else:
            told = f"the script has {len(self._script)} replies, and call {number + 1} was made"
            said = ModelError(told, model=self.name)
        return self._with_usage(said, messages) if isinstance(said, str) else said

    def _with_usage(self, text: str, messages: Sequence[Message]) -> Reply:
        tokens_in = sum(len(message.content) for message in messages) // 4 + 1
        tokens_out = len(text) // 4 + 1
        cost_usd = None if self._usd_per_token is None else (tokens_in + tokens_out) * self._usd_per_token
        return Reply(text, Usage(tokens_in, tokens_out, 0, cost_usd))

    def _said(self, reply: Reply | Exception, options: dict[str, Any]) -> Reply:
        if isinstance(reply, Exception):
            raise reply
        if on_text := options.get("on_text"):
            for start in range(0, len(reply.text), PIECE_CHARS):
                on_text(reply.text[start : start + PIECE_CHARS])
        return reply
