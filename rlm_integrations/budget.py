"""Limits of a tree, and the meter that holds them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

from rlm_integrations.errors import BudgetExceeded, InvalidInput
from rlm_integrations.messages import Usage, UsageReport

__all__ = ["Budget", "Claim", "Meter", "Tally"]

# What a reply and the prompt around it may add to a turn, when it is asked whether another turn can be paid for.
TURN_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits shared by a root run and everything below it. ``None`` means no limit.

    A call is reserved before it starts, so ``max_calls`` is never passed. Tokens and cost are known only when a call
    has ended: a call that is expected to pass their limit is not started, and what the estimate missed is at most the
    calls in flight. ``max_seconds`` counts from the start of the root run and ends model calls, cells and, in async
    runs, tools; a blocking model that ignores its ``timeout`` option, or a blocking tool, is waited for.
    """

    max_calls: int | None = 200
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInput(f"Budget({limit.name}={value!r}): pass a number above 0, or None for no limit")
        if self.max_calls is not None and not isinstance(self.max_calls, int):
            raise InvalidInput(f"Budget(max_calls={self.max_calls!r}): pass a whole number, or None for no limit")


class Tally:
    """Counts what was used, for a run and for all runs above it."""

    __slots__ = ("_by_depth", "_by_model", "_parent")

    def __init__(self, parent: Tally | None = None) -> None:
        self._parent = parent
        self._by_model: dict[str, list[Usage]] = defaultdict(list)
        self._by_depth: dict[int, list[Usage]] = defaultdict(list)

    def add(self, model: str, depth: int, usage: Usage) -> None:
        """Count one call."""
        self._by_model[model].append(usage)
        self._by_depth[depth].append(usage)
        if self._parent:
            self._parent.add(model, depth, usage)

    def report(self) -> UsageReport:
        """All that was counted so far."""
        by_model = {model: _total(usages) for model, usages in list(self._by_model.items())}
        by_depth = {depth: _total(usages) for depth, usages in sorted(self._by_depth.items())}
        total = _total([usage for usages in list(self._by_model.values()) for usage in usages])
        return UsageReport(
            total.calls,
            total.input_tokens,
            total.output_tokens,
            total.cached_tokens,
            total.cost_usd,
            by_model,
            by_depth,
        )


def _total(usages: list[Usage]) -> UsageReport:
    costs = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    return UsageReport(
        calls=len(usages),
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        cost_usd=sum(costs) if usages and len(costs) == len(usages) else None,
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that was let through: what was set aside for it until it is settled."""

    model: str
    tokens: int
    cost_usd: float


class Meter:
    """Counts a whole tree against its ``Budget``. Used by many threads and tasks at once.

    One call, and the tokens and cost that it is expected to take, are kept for the root run, so that its sub-calls
    can't leave it without the means to answer.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._calls = 0
        self._tokens = 0
        self._cost_usd = 0.0
        self._claimed_tokens = 0
        self._claimed_cost_usd = 0.0
        self._kept_tokens = 0
        self._kept_cost_usd = 0.0
        self._unpriced: str | None = None
        self._rates: dict[str, float] = {}  # model -> highest USD a token seen

    def begin(self) -> None:
        """Count seconds from now, not from when it was made."""
        self._start = self._clock()

    def claim(self, model: str, tokens: int, *, root: bool = False) -> Claim:
        """Set aside one call of about ``tokens``; raises ``BudgetExceeded`` where the budget does not cover it.

        Raises ``InvalidInput`` where ``max_cost_usd`` is to be held and a call turned out to have no known price.
        ``root`` calls may use what is kept for the root run, and set anew how much that is.
        """
        with self._lock:
            if self._unpriced and self.budget.max_cost_usd is not None:
                raise InvalidInput(
                    f"max_cost_usd can't be held: {self._unpriced} reports no price; use max_tokens or max_calls"
                )
            cost_usd = tokens * self._rates.get(model, 0.0)
            if root:
                self._kept_tokens, self._kept_cost_usd = tokens + TURN_TOKENS, cost_usd
            self._check_seconds()
            self._check("max_calls", self._calls, 1, 0 if root else 1)
            self._check("max_tokens", self._tokens + self._claimed_tokens, tokens, 0 if root else self._kept_tokens)
            spent = self._cost_usd + self._claimed_cost_usd
            self._check("max_cost_usd", spent, cost_usd, 0 if root else self._kept_cost_usd)
            return self._set_aside(model, tokens, cost_usd)

    def count(self, model: str, tokens: int, usage: Usage | None, *, root: bool = False) -> None:
        """Count a call that was made before, covered or not: about ``tokens`` were foreseen, and ``usage`` it took."""
        with self._lock:
            cost_usd = tokens * self._rates.get(model, 0.0)
            if root:
                self._kept_tokens, self._kept_cost_usd = tokens + TURN_TOKENS, cost_usd
            claim = self._set_aside(model, tokens, cost_usd)
        self.settle(claim, usage)

    def _set_aside(self, model: str, tokens: int, cost_usd: float) -> Claim:
        self._calls += 1
        self._claimed_tokens += tokens
        self._claimed_cost_usd += cost_usd
        return Claim(model, tokens, cost_usd)

    def settle(self, claim: Claim, usage: Usage | None) -> None:
        """Put what a call turned out to cost in the place of its claim; None for a call that brought no reply."""
        with self._lock:
            self._claimed_tokens -= claim.tokens
            self._claimed_cost_usd -= claim.cost_usd
            if usage is None:
                return
            tokens = usage.input_tokens + usage.output_tokens
            self._tokens += tokens
            self._cost_usd += usage.cost_usd or 0.0
            if tokens and usage.cost_usd is not None:
                self._rates[claim.model] = max(self._rates.get(claim.model, 0.0), usage.cost_usd / tokens)
            if usage.cost_usd is None:
                self._unpriced = claim.model

    def last_call(self, model: str, tokens: int) -> BudgetExceeded | None:
        """What would refuse another root call after one of about ``tokens``; None where two are covered."""
        again = 2 * tokens + TURN_TOKENS
        with self._lock:
            spent = self._cost_usd + self._claimed_cost_usd
            foreseen = (
                ("max_calls", self._calls + 1, self._calls + 2),
                ("max_tokens", self._tokens, self._tokens + self._claimed_tokens + again),
                ("max_cost_usd", spent, spent + again * self._rates.get(model, 0.0)),
            )
        for limit, used, wanted in foreseen:
            allowed = getattr(self.budget, limit)
            if allowed is not None and wanted > allowed:
                return BudgetExceeded(limit, used, allowed)
        return None

    def tokens_left(self) -> int | None:
        """Tokens that no call has used or set aside; None without a limit."""
        if self.budget.max_tokens is None:
            return None
        with self._lock:
            return max(0, self.budget.max_tokens - self._tokens - self._claimed_tokens)

    def seconds_left(self) -> float | None:
        """Seconds until ``max_seconds``; None without a limit. Raises ``BudgetExceeded`` when there are none."""
        return self._check_seconds()

    def _check_seconds(self) -> float | None:
        used, allowed = self._clock() - self._start, self.budget.max_seconds
        if allowed is None:
            return None
        # Of one look at the clock: a second one might find that there are none left after all.
        if used >= allowed:
            raise BudgetExceeded("max_seconds", used, allowed)
        return allowed - used

    def _check(
        self, limit: Literal["max_calls", "max_tokens", "max_cost_usd"], used: float, more: float, kept: float
    ) -> None:
        allowed = getattr(self.budget, limit)
        # Cost is compared as it stands: at its limit, a call whose price is not known yet must not start either.
        if allowed is not None and (used + more + kept > allowed or used >= allowed):
            raise BudgetExceeded(limit, used, allowed)
