"""When a call that failed is tried again: exponential backoff with jitter, the server's own wish first."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Retries", "asleep", "retry_after_s", "sleep"]

FIRST_WAIT_S = 1.0
LONGEST_BACKOFF_S = 30.0
# A server that asks for more is out of quota, not busy: better said to the caller than slept through.
LONGEST_ASKED_WAIT_S = 120.0

sleep = time.sleep
asleep = asyncio.sleep


class Retries:
    """Counts the attempts of one call against its limits: so many retries, and so many seconds for all of it."""

    def __init__(self, max_retries: int, limit_s: float | None) -> None:
        self._left = max_retries
        self._next_backoff_s = FIRST_WAIT_S
        self._deadline = None if limit_s is None else time.monotonic() + limit_s

    def seconds_left(self) -> float | None:
        """What is left for the entire call, at least 0; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def next_wait_s(self, asked_s: float | None) -> float | None:
        """How long to wait before the next attempt, ``asked_s`` being what the server asked for; None: give up."""
        backoff_s = self._next_backoff_s * random.uniform(0.5, 1.0)
        wait_s = backoff_s if asked_s is None else asked_s
        left_s = self.seconds_left()
        if self._left < 1 or wait_s > LONGEST_ASKED_WAIT_S or (left_s is not None and wait_s >= left_s):
            return None
        self._left -= 1
        self._next_backoff_s = min(2 * self._next_backoff_s, LONGEST_BACKOFF_S)
        return wait_s


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds a ``Retry-After`` header asks for, given as a number or as an HTTP date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
