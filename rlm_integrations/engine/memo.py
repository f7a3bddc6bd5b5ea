"""Replies to the plain sub-calls of one tree, so that equal ones are paid for once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future

from rlm_integrations.engine.effects import Branch, Wait
from rlm_integrations.errors import InvalidInput
from rlm_integrations.messages import Reply

__all__ = ["Memo"]

MAX_CHARS = 32_000_000
# About what the events of a call take besides its text.
CALL_CHARS = 1_000

Asked = Future[Reply | None]


class Memo:
    """What was asked, by its prompt, and what came of it; the oldest replies go when they have more than ``max_chars``.

    All plain sub-calls of a tree go to one model with the same options, so that a prompt is all that tells them apart.
    No budget ends a loop that asks the same for ever, and all that it asks is told in events: of replies that are
    there already, texts of about ``max_reused_chars`` are given out. Used by many threads and tasks at once.
    """

    def __init__(self, max_chars: int = MAX_CHARS, max_reused_chars: int = MAX_CHARS) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._reusable_chars = max_reused_chars
        self._asked: dict[bytes, Asked] = {}
        self._lock = threading.Lock()

    def once(self, prompt: str, ask: Callable[[], Branch[Reply]]) -> Branch[tuple[Reply, bool]]:
        """The reply to ``prompt``, and whether it is one that an equal call brought; if not, it is what ``ask`` brings.

        Waits for an equal call that is under way. Where that fails, one of those that wait asks for itself.
        Raises ``InvalidInput`` where equal calls were made too often, and what ``ask`` raises.
        """
        key = _key(prompt)
        while (other := self._begin(key)) is not None:
            known: Reply | None = yield Wait(other)
            if known is not None:
                self._reuse(len(prompt) + len(known.text) + CALL_CHARS)
                return known, True
        reply: Reply | None = None
        try:
            reply = yield from ask()
        finally:
            self._end(key, reply)
        return reply, False

    def know(self, prompt: str, reply: Reply) -> None:
        """Keep a reply that was paid for at an earlier time."""
        key = _key(prompt)
        if self._begin(key) is None:
            self._end(key, reply)

    def _reuse(self, chars: int) -> None:
        with self._lock:
            if chars > self._reusable_chars:
                raise InvalidInput("the same was asked too often: keep the answer in a variable")
            self._reusable_chars -= chars

    def _begin(self, key: bytes) -> Asked | None:
        """The equal call that was made or is under way; None: the caller is the one to make it, and to ``_end`` it."""
        with self._lock:
            if (other := self._asked.get(key)) is None:
                self._asked[key] = Future()
            return other

    def _end(self, key: bytes, reply: Reply | None) -> None:
        with self._lock:
            # Put last, so that the replies stand in the order they came.
            asked = self._asked.pop(key)
            if reply is not None:
                self._asked[key] = asked
                self._chars += len(reply.text)
                self._drop_oldest(key)
        asked.set_result(reply)

    def _drop_oldest(self, but: bytes) -> None:
        for key, asked in list(self._asked.items()):
            if self._chars <= self._max_chars:
                break
            if key != but and asked.done() and (reply := asked.result()) is not None:
                del self._asked[key]
                self._chars -= len(reply.text)


def _key(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
