"""Which calls of a whole job may start: decides, and never waits."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from rlm_integrations.budget import Budget, Claim, Meter
from rlm_integrations.errors import BudgetExceeded, InvalidInput
from rlm_integrations.messages import Usage

__all__ = ["Ask", "Ledger", "Limits", "Refusal"]

MINUTE_S = 60.0
# What any reply is taken to be at least.
REPLY_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a ``JobLimits``, as they travel."""

    max_cost_usd: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_in_flight: int | None = None
    tokens_per_minute: int | None = None
    lease_s: float = 30.0
    minute_s: float = MINUTE_S


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that wants to start: of about ``tokens`` in, with at most ``max_reply`` tokens out where that is known."""

    id: str
    process: str
    model: str
    tokens: int
    max_reply: int | None = None

    @property
    def provider(self) -> str:
        """Whose limits it counts against: what stands before the first slash of the model's name."""
        return self.model.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not start: a limit that is used up, or with ``limit`` empty, one that can't be held."""

    limit: str
    used: float = 0.0
    allowed: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class _Flight:
    ask: Ask
    claim: Claim
    reply: int
    sent: list[float]


@dataclass(slots=True)
class _Provider:
    """Calls to one provider: those that wait, how many are in flight, and the tokens of the last minute."""

    waiting: deque[Ask] = field(default_factory=deque)
    in_flight: int = 0
    foreseen: int = 0
    tokens: float = 0.0
    # [time, tokens] of each prompt from its start, and of each reply from its end.
    minute: deque[list[float]] = field(default_factory=deque)

    def add(self, now: float, tokens: float) -> list[float]:
        entry = [now, tokens]
        self.minute.append(entry)
        self.tokens += tokens
        return entry

    def forget(self, before: float) -> None:
        while self.minute and self.minute[0][0] <= before:
            self.tokens -= self.minute.popleft()[1]


class Ledger:
    """Counts the calls of all processes against ``limits``; those that must wait start in the order they were asked.

    What a call will take is foreseen from its prompt, the longest reply that its model has given and the highest price
    a token seen. One that would pass a limit only with what is foreseen for those in flight waits for them.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._meter = Meter(Budget(limits.max_calls, limits.max_tokens, limits.max_cost_usd))
        self._providers: dict[str, _Provider] = defaultdict(_Provider)
        self._waiting: set[str] = set()
        self._parked: dict[str, dict[str, Ask]] = defaultdict(dict)  # those of processes that are not heard of
        self._flights: dict[str, _Flight] = {}
        self._ended: set[str] = set()  # before word came that they were wanted: messages may overtake each other
        self._heard: dict[str, float] = {}  # process -> when
        self._longest_reply: dict[str, int] = {}
        self._priced: set[str] = set()
        self.calls = 0
        self.tokens = 0
        self.cost_usd = 0.0
        self.is_priced = True

    @property
    def in_flight(self) -> int:
        """Calls that have started and not ended."""
        return len(self._flights)

    @property
    def waiting(self) -> int:
        """Calls that were asked for and have not started."""
        return len(self._waiting)

    def hear(self, process: str) -> None:
        """``process`` lives: what it holds is its own for another ``lease_s``."""
        self._heard[process] = self._clock()
        for ask in self._parked.pop(process, {}).values():
            self.ask(ask)

    def ask(self, ask: Ask) -> bool:
        """Put a call in line, so that ``decide`` says when it may start; False where it is not wanted any more."""
        self.hear(ask.process)
        if ask.id in self._ended:
            self._ended.discard(ask.id)
            return False
        self._waiting.add(ask.id)
        self._providers[ask.provider].waiting.append(ask)
        return True

    def settle(self, id: str, usage: Usage | None) -> None:
        """A call has ended with ``usage``, None where it brought no reply, or is not wanted any more."""
        flight = self._flights.pop(id, None)
        if flight is None:
            is_known = id in self._waiting or any(parked.pop(id, None) for parked in self._parked.values())
            self._waiting.discard(id)
            if not is_known:
                self._ended.add(id)
            return
        provider = self._providers[flight.ask.provider]
        provider.in_flight -= 1
        provider.foreseen -= flight.reply
        self._meter.settle(flight.claim, usage)
        if usage is None:
            return
        model, now = flight.ask.model, self._clock()
        if flight.sent[0] > now - self._limits.minute_s:
            provider.tokens += usage.input_tokens - flight.sent[1]
            flight.sent[1] = usage.input_tokens
        provider.add(now, usage.output_tokens)
        self.tokens += usage.input_tokens + usage.output_tokens
        if usage.cost_usd is None:
            self.is_priced = False
        else:
            self.cost_usd += usage.cost_usd
            self._priced.add(model)
        self._longest_reply[model] = max(self._longest_reply.get(model, REPLY_TOKENS), usage.output_tokens)

    def decide(self) -> Iterator[tuple[str, Refusal | None]]:
        """The calls whose waiting ends now: each may start, or has its ``Refusal``."""
        self._expire()
        for provider in self._providers.values():
            provider.forget(self._clock() - self._limits.minute_s)
            while provider.waiting:
                ask = provider.waiting[0]
                if ask.id in self._waiting:
                    if (decided := self._decided(provider, ask)) is False:
                        break
                    self._waiting.discard(ask.id)
                    yield ask.id, decided
                provider.waiting.popleft()

    def next_s(self) -> float | None:
        """Seconds until time alone may end somebody's waiting; None where nobody waits."""
        if not self._waiting:
            return None
        now = self._clock()
        times = [self._heard[process] + self._limits.lease_s for process in self._heard]
        times += [p.minute[0][0] + self._limits.minute_s for p in self._providers.values() if p.waiting and p.minute]
        return max(0.0, min(times, default=now) - now)

    def _decided(self, provider: _Provider, ask: Ask) -> Refusal | Literal[False] | None:
        """None: it may start; False: it has to wait."""
        limits = self._limits
        if limits.max_in_flight is not None and provider.in_flight >= limits.max_in_flight:
            return False
        longest = self._longest_reply.get(ask.model, REPLY_TOKENS)
        reply = min(longest, ask.max_reply) if ask.max_reply is not None else longest
        if limits.tokens_per_minute is not None:
            used = provider.tokens + provider.foreseen
            # One that is larger than a minute's tokens has the whole minute for itself.
            if used and used + ask.tokens + reply > limits.tokens_per_minute:
                return False
        # Until the first reply has told its price, no call of a model could be foreseen.
        if limits.max_cost_usd is not None and ask.model not in self._priced and self._is_flying(ask.model):
            return False
        try:
            claim = self._meter.claim(ask.model, ask.tokens + reply, root=True)
        except BudgetExceeded as error:
            if self._flights and error.limit != "max_calls":
                return False
            return Refusal(error.limit, error.used, error.allowed)
        except InvalidInput as error:
            return Refusal("", reason=str(error))
        self.calls += 1
        provider.in_flight += 1
        provider.foreseen += reply
        self._flights[ask.id] = _Flight(ask, claim, reply, provider.add(self._clock(), ask.tokens))
        return None

    def _is_flying(self, model: str) -> bool:
        return any(flight.ask.model == model for flight in self._flights.values())

    def _expire(self) -> None:
        """What dead processes held comes back; their calls count as foreseen, since they may have been paid for.

        One that was only stopped may go on, so that what it waits for is kept.
        """
        dead = {process for process, when in self._heard.items() if self._clock() - when >= self._limits.lease_s}
        for process in dead:
            del self._heard[process]
        for flight in [flight for flight in self._flights.values() if flight.ask.process in dead] if dead else ():
            self.settle(flight.ask.id, Usage(flight.ask.tokens, flight.reply, 0, flight.claim.cost_usd))
        for provider in self._providers.values() if dead else ():
            for ask in [ask for ask in provider.waiting if ask.process in dead and ask.id in self._waiting]:
                self._waiting.discard(ask.id)
                self._parked[ask.process][ask.id] = ask
