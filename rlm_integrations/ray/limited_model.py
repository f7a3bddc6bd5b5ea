"""A model whose calls are counted against the limits of a whole job."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rlm_integrations.engine.calls import estimate_tokens
from rlm_integrations.errors import BudgetExceeded, InvalidInput
from rlm_integrations.messages import Message, Reply, Usage
from rlm_integrations.ports import LanguageModel
from rlm_integrations.ray.ledger import Ask, Refusal
from rlm_integrations.ray.limits import JobLimits

__all__ = ["LimitedModel", "Permits"]

RENEWALS_A_LEASE = 5


class Permits:
    """What this process may ask models, by leave of the limits' actor. Used in one event loop."""

    def __init__(self, limits: JobLimits) -> None:
        self._actor = limits.actor
        self._lease_s = limits.limits.lease_s
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._under_way = 0
        self._renewing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def permit(self, model: str, tokens: int, max_reply: int | None) -> AsyncIterator[list[Usage]]:
        """Wait for leave to make one call; what it took is put into the list. Raises ``BudgetExceeded``."""
        ask = Ask(f"{self._process}:{next(self._numbers)}", self._process, model, tokens, max_reply)
        used: list[Usage] = []
        self._under_way += 1
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.ensure_future(self._renew())
        try:
            refusal: Refusal | None = await self._actor.ask.remote(ask)
            if refusal:
                raise _error(refusal)
            yield used
        finally:
            self._under_way -= 1
            self._actor.settle.remote(ask.id, used[0] if used else None)

    async def _renew(self) -> None:
        while self._under_way:
            self._actor.hear.remote(self._process)
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)


class LimitedModel:
    """``model``, each of whose calls waits for its permit; all else about it is the model's own."""

    def __init__(self, model: LanguageModel, permits: Permits, loop: asyncio.AbstractEventLoop) -> None:
        self._model, self._permits, self._loop = model, permits, loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def name(self) -> str:
        """The name that usage is reported under."""
        return self._model.name

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply; blocks, in any thread but the event loop's."""
        return asyncio.run_coroutine_threadsafe(self.acomplete(messages, **options), self._loop).result()

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        """The model's reply, when its call may start and has been made."""
        tokens = sum(estimate_tokens(message.content) for message in messages)
        max_reply = options.get("max_tokens") or getattr(self._model, "max_tokens", None)
        async with self._permits.permit(self.name, tokens, max_reply) as used:
            reply = await self._model.acomplete(messages, **options)
            if isinstance(reply, Reply) and isinstance(reply.usage, Usage):
                used.append(reply.usage)
            return reply


def _error(refusal: Refusal) -> Exception:
    if not refusal.limit:
        return InvalidInput(refusal.reason)
    error = BudgetExceeded(refusal.limit, refusal.used, refusal.allowed)
    told = f"the job's limit is used up: {refusal.limit} is {refusal.allowed:g}, {refusal.used:g} used"
    error.args = (f"{told}; raise JobLimits({refusal.limit}=...)",)
    return error
