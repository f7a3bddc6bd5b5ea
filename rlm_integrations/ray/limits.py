"""``JobLimits``: limits that hold over all processes of a job, on all nodes."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlm_integrations.errors import InvalidInput
from rlm_integrations.messages import Usage
from rlm_integrations.ray import ledger
from rlm_integrations.ray.cluster import connection
from rlm_integrations.ray.ledger import Ask, Ledger, Limits, Refusal

__all__ = ["JobLimits", "JobProgress"]

CALLS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job has come: ``rows`` that are done, the ``failed`` among them, and the model calls of all.

    ``cost_usd`` is None where a call had no known price. Rows and calls of an earlier job, whose saved runs this one
    loads, cost nothing now: such rows count, such calls do not.
    """

    rows: int = 0
    failed: int = 0
    calls: int = 0
    tokens: int = 0
    cost_usd: float | None = 0.0
    in_flight: int = 0
    waiting: int = 0


class JobLimits:
    """Limits shared by all rows of the jobs that it is given to. ``None`` means no limit.

    ``max_cost_usd``, ``max_calls`` and ``max_tokens``: of all model calls; a call that would pass one is not made, and
    its row fails with ``BudgetExceeded``. Calls in flight are counted with what they are expected to take (from the
    longest reply and the highest price a token of their model so far, one call at a time until a price is known), and
    near the limit calls wait for each other: a limit of cost or tokens is passed only by what replies in flight take
    over the longest one before them.
    ``max_in_flight``: calls of one provider under way at once; ``tokens_per_minute``: tokens of one provider in any
    minute, prompts from when they are sent and replies from when they are there. A provider is what stands before the
    first slash of a model's name; calls wait in the order they came. ``lease_s``: when a process was not heard of for
    so long, its calls are given up: their places are free, and they count with what was expected.

    Counts from when a job first uses it, in an actor on the node of the process that made it; what earlier jobs have
    spent is not known to it, so that a job that is run again should be given what is left. Raises ``InvalidInput`` for
    a limit that can't be held.
    """

    def __init__(
        self,
        max_cost_usd: float | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_in_flight: int | None = None,
        tokens_per_minute: int | None = None,
        *,
        lease_s: float = 30.0,
    ) -> None:
        for name, whole, value in (
            ("max_cost_usd", False, max_cost_usd),
            ("max_calls", True, max_calls),
            ("max_tokens", True, max_tokens),
            ("max_in_flight", True, max_in_flight),
            ("tokens_per_minute", True, tokens_per_minute),
        ):
            _check(name, value, whole)
        if lease_s is None:
            raise InvalidInput("JobLimits(lease_s=None): pass seconds above 0")
        _check("lease_s", lease_s, False)
        self.limits = Limits(
            max_cost_usd, max_calls, max_tokens, max_in_flight, tokens_per_minute, lease_s, ledger.MINUTE_S
        )
        self._lock = threading.Lock()
        self._actor: Any = None
        self._joined: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"JobLimits({self.limits})"

    @property
    def actor(self) -> Any:
        """The actor that holds them, which is started when it is first asked for."""
        now = connection()
        with self._lock:
            # One of a cluster that this process has left is of no more use; one that was sent here is another's.
            if self._actor is None or self._joined not in (None, now):
                self._joined = now
                # With the driver: the loss of another node must not take the limits along.
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
                options = {"num_cpus": 0, "max_concurrency": CALLS_AT_ONCE, "scheduling_strategy": here}
                self._actor = ray.remote(LimitsActor).options(**options).remote(self.limits)
            return self._actor

    def progress(self) -> JobProgress:
        """How far the jobs that share these limits have come; blocks for about a millisecond."""
        progress: JobProgress = ray.get(self.actor.progress.remote())
        return progress

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.limits, self.actor)


class LimitsActor:
    """Holds the ledger of a job; one call of ``ask`` waits for each model call that may not start yet."""

    def __init__(self, limits: Limits) -> None:
        self._ledger = Ledger(limits)
        self._waiting: dict[str, asyncio.Future[Refusal | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rows = self._failed = 0

    async def ask(self, ask: Ask) -> Refusal | None:
        """Wait until the call may start, which None says; it is then in flight until ``settle``."""
        if not self._ledger.ask(ask):
            return None
        future: asyncio.Future[Refusal | None]
        future = self._waiting[ask.id] = asyncio.get_running_loop().create_future()
        self._decide()
        return await future

    async def settle(self, id: str, usage: Usage | None) -> None:
        """A call has ended, or is not wanted any more."""
        self._ledger.settle(id, usage)
        if (future := self._waiting.pop(id, None)) and not future.done():
            future.set_result(None)
        self._decide()

    async def hear(self, process: str) -> None:
        """``process`` lives."""
        self._ledger.hear(process)
        self._decide()

    async def count_rows(self, rows: int, failed: int) -> None:
        """So many rows are done, and so many of them failed."""
        self._rows += rows
        self._failed += failed

    async def progress(self) -> JobProgress:
        """How far the job has come."""
        book = self._ledger
        book_cost = book.cost_usd if book.is_priced else None
        return JobProgress(self._rows, self._failed, book.calls, book.tokens, book_cost, book.in_flight, book.waiting)

    def _decide(self) -> None:
        for id, refusal in self._ledger.decide():
            if (future := self._waiting.pop(id, None)) and not future.done():
                future.set_result(refusal)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if (wait_s := self._ledger.next_s()) is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s + 0.001, self._decide)


def _again(limits: Limits, actor: Any) -> JobLimits:
    made = object.__new__(JobLimits)
    made.limits, made._lock, made._actor, made._joined = limits, threading.Lock(), actor, None
    return made


def _check(name: str, value: Any, whole: bool) -> None:
    if value is None:
        return
    kinds: Any = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
        number = "whole number" if whole else "number"
        raise InvalidInput(f"JobLimits({name}={value!r}): pass a {number} above 0, or None for no limit")
