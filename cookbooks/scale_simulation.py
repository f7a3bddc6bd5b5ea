"""How long ten thousand questions take on a thousand nodes, and what they wait for: a simulation.

Questions are pulled by processes (drivers) that carry their runs, as ``asyncio`` does; sessions are placed on the nodes
of a cluster as ``RaySandbox`` places them; a provider answers model calls within its limits; nodes and calls fail.
Events happen in the order of their times, none of them is averaged. What is assumed stands at the top.

    python cookbooks/scale_simulation.py
"""

from __future__ import annotations

import gc
import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import exp
from statistics import quantiles
from typing import Any

# Measured on two cores of this project's machine: see cookbooks/scale.md.
ROUND_TRIP_S = 0.0011  # to a host actor and back, for each step of a cell
PLACEMENT_S = 0.0016  # a placement group of one bundle: made, ready and removed
GRACE_S = 0.1  # after which a child session without a place of its own is a guest
MAX_RESTARTS = 3
# As the package retries: the provider is taken to send no Retry-After.
RETRIES, FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 3, 1.0, 30.0


@dataclass(frozen=True)
class Assumptions:
    """All that is not measured; times in seconds, rates by the minute. None means no limit."""

    questions: int = 10_000
    # What a question takes: turns of the root run; in its second turn plain sub-calls, and child runs of two turns.
    turns: int = 4
    sub_calls: int = 8
    children: int = 2
    child_turns: int = 2
    max_parallel: int = 16
    turn_tokens: tuple[int, int] = (3_500, 300)  # in and out; no prompt cache
    sub_call_tokens: tuple[int, int] = (6_000, 200)
    first_token_s: float = 0.6
    tokens_per_second: float = 90.0
    spread: float = 0.4  # sigma of the log-normal factor of each call's time; 0: none
    cell_s: float = 0.02
    # The provider: it refuses what is above its limits (HTTP 429), and fails now and then.
    tokens_per_minute: float | None = 30e6
    requests_per_minute: float | None = 30e3
    provider_in_flight: int | None = 4_000
    burst_s: float = 10.0  # how far ahead of its rates it lets one go
    error_rate: float = 0.002
    # The job: ``JobLimits`` that all processes keep to, as a share of the provider's limits.
    keeps_to: float | None = 0.9
    # The cluster.
    nodes: int = 1_000
    places: int = 64  # sessions that fit on a node
    hours_between_deaths: float | None = 24 * 30  # of one node
    repair_s: float = 300.0
    detection_s: float = 10.0  # until a cell on a dead node is known to be lost
    redone_turns: int = 1  # it takes to make lost variables again
    drivers: int = 16
    max_runs: int = 256  # of each driver
    engine_s: float = 0.006  # of a driver's processor, for each call: 0.6 ms are the engine's, the rest is LiteLLM's
    seed: int = 1


Steps = Generator[Any, Any, Any]


class Event:
    """Something to wait for, once."""

    def __init__(self) -> None:
        self.value: Any = None
        self.waiting: list[Callable[[Any], None]] | None = []

    def fire(self, value: Any = None) -> None:
        """Let all go on that wait."""
        waiting, self.value, self.waiting = self.waiting or (), value, None
        for go_on in waiting:
            go_on(value)


class Queue:
    """``size`` places, for the first to come first."""

    def __init__(self, size: float) -> None:
        self.free = size
        self.waiting: deque[Event] = deque()

    def enter(self) -> Steps:
        """Wait for a place."""
        if self.free > 0:
            self.free -= 1
        else:
            self.waiting.append(turn := Event())
            yield turn

    def leave(self) -> None:
        """Give it back."""
        if self.waiting:
            self.waiting.popleft().fire()
        else:
            self.free += 1


class Pace:
    """So much a second and no more: each takes its share of time, one after the other."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.free_at = 0.0

    def ahead(self, now: float) -> float:
        """Seconds of work that are taken already."""
        return max(0.0, self.free_at - now)

    def take(self, amount: float, now: float) -> float:
        """Take a share; the seconds until it begins."""
        ahead = self.ahead(now)
        self.free_at = now + ahead + amount / self.per_second
        return ahead


class Seat:
    """A place on a node, for a session and one guest at a time."""

    def __init__(self, node: int, death: int) -> None:
        self.node, self.death = node, death
        self.moves = 0
        self.guests = Queue(1)


class Simulation:
    """One job under ``assumptions``; ``run`` gives what came of it."""

    def __init__(self, assumptions: Assumptions) -> None:
        self.a = a = assumptions
        self.now = 0.0
        self.random = random.Random(a.seed)
        self.seen: dict[str, Any] = defaultdict(int)
        self.taken: list[float] = []
        self._heap: list[tuple[float, int, Callable[[Any], None]]] = []
        self._numbers = count()
        self._left = iter(range(a.questions))
        self._drivers = [Pace(1.0) for _ in range(a.drivers)]
        # The provider, and what the job holds itself to: paces of tokens and of requests, where these are limited.
        limits = ((0, a.tokens_per_minute), (1, a.requests_per_minute))
        self._provider = [(what, Pace(limit / 60)) for what, limit in limits if limit]
        self._in_flight = 0
        self._job = [(what, Pace(limit / 60 * a.keeps_to)) for what, limit in limits if limit and a.keeps_to]
        at_once = a.provider_in_flight if a.keeps_to and a.provider_in_flight else float("inf")
        self._calls = Queue(at_once if at_once == float("inf") else int(at_once * (a.keeps_to or 1)))
        # The cluster: free places by node, which count no more once the node has died.
        self._deaths = [0] * a.nodes
        self._free = [(node, 0) for node in range(a.nodes) for _ in range(a.places)]
        self._waiting: deque[Event] = deque()

    def run(self) -> Outcome:
        """Carry out the job."""
        for number in range(self.a.drivers * self.a.max_runs):
            self.start(self._pull(self._drivers[number % self.a.drivers]))
        if self.a.hours_between_deaths is not None:
            self.start(self._die())
        while len(self.taken) < self.a.questions:
            self.now, _, go_on = heapq.heappop(self._heap)
            go_on(None)
        return Outcome(self.a, self.now, self.taken, self.seen)

    def start(self, steps: Steps) -> Event:
        """Have ``steps`` carried out: each yields seconds to wait, or an event to wait for."""
        done = Event()

        def go_on(value: Any) -> None:
            try:
                wanted = steps.send(value)
                while isinstance(wanted, Event) and wanted.waiting is None:
                    wanted = steps.send(wanted.value)
            except StopIteration as end:
                done.fire(end.value)
                return
            if isinstance(wanted, Event):
                assert wanted.waiting is not None
                wanted.waiting.append(go_on)
            else:
                heapq.heappush(self._heap, (self.now + wanted, next(self._numbers), go_on))

        go_on(None)
        return done

    def _pull(self, driver: Pace) -> Steps:
        for _ in self._left:
            begun = self.now
            seat = yield from self._place()
            answered = yield from self._run(driver, seat, self.a.turns, is_root=True)
            self._give_back(seat)
            self.seen["answered" if answered else "failed"] += 1
            self.taken.append(self.now - begun)

    def _run(self, driver: Pace, seat: Seat, turns: int, *, is_root: bool) -> Steps:
        """One run; False where it failed."""
        place, restarts, turn = seat.moves, 0, 0
        while turn < turns:
            turn += 1
            if not (yield from self._ask(driver, self.a.turn_tokens)):
                return False
            yield ROUND_TRIP_S + self.a.cell_s
            if is_root and turn == 2:
                below = [self._ask(driver, self.a.sub_call_tokens) for _ in range(self.a.sub_calls)]
                below += [self._child(driver, seat) for _ in range(self.a.children)]
                yield from self._gather(below)
            if seat.moves == place and seat.death == self._deaths[seat.node]:
                continue
            self.seen["restarts"] += 1
            restarts += 1
            if restarts > MAX_RESTARTS:
                return False
            if seat.moves == place:  # the first to notice finds a new place, for its guests and hosts too
                yield self.a.detection_s
                seat.moves += 1
                new = yield from self._place()
                seat.node, seat.death = new.node, new.death
            place, turns = seat.moves, turns + self.a.redone_turns
        return True

    def _child(self, driver: Pace, above: Seat) -> Steps:
        """A child run: in a place of its own if there is one, else as a guest of its parent."""
        if self._free and not self._waiting:
            own = yield from self._place()
            answered = yield from self._run(driver, own, self.a.child_turns, is_root=False)
            self._give_back(own)
            return answered
        self.seen["guests"] += 1
        if not self._waiting:
            yield GRACE_S
        yield from above.guests.enter()
        answered = yield from self._run(driver, above, self.a.child_turns, is_root=False)
        above.guests.leave()
        return answered

    def _gather(self, below: list[Steps]) -> Steps:
        left = iter(below)

        def work() -> Steps:
            for steps in left:
                yield from steps

        yield from [self.start(work()) for _ in range(min(self.a.max_parallel, len(below)))]

    def _place(self) -> Steps:
        """A seat on any node; waits where all are full."""
        if not self._free:
            self.seen["waited for a place"] += 1
            begun = self.now
            self._waiting.append(turn := Event())
            node, death = yield turn
            self.seen["seconds for a place"] += self.now - begun
        else:
            # Any of them is as likely.
            last = self.random.randrange(len(self._free))
            self._free[last], self._free[-1] = self._free[-1], self._free[last]
            node, death = self._free.pop()
        yield PLACEMENT_S
        return Seat(node, death)

    def _give_back(self, seat: Seat) -> None:
        if seat.death != self._deaths[seat.node]:
            return
        if self._waiting:
            self._waiting.popleft().fire((seat.node, seat.death))
        else:
            self._free.append((seat.node, seat.death))

    def _die(self) -> Steps:
        assert self.a.hours_between_deaths is not None
        while True:
            yield self.random.expovariate(self.a.nodes / (self.a.hours_between_deaths * 3600))
            self.lose(self.random.randrange(self.a.nodes))

    def lose(self, node: int) -> None:
        """A node dies; it is there again, with nothing on it, when it was repaired."""
        self._deaths[node] += 1
        self.seen["nodes lost"] += 1
        self._free = [place for place in self._free if place[0] != node]
        self.start(self._repair(node, self._deaths[node]))

    def _repair(self, node: int, death: int) -> Steps:
        yield self.a.repair_s
        for _ in range(self.a.places):
            self._give_back(Seat(node, death))

    def _ask(self, driver: Pace, tokens: tuple[int, int]) -> Steps:
        """One model call with its retries; False where all of them failed."""
        yield (wait := driver.take(self.a.engine_s, self.now)) + self.a.engine_s
        self.seen["seconds for a driver"] += wait
        backoff = FIRST_BACKOFF_S
        for attempt in range(RETRIES + 1):
            begun = self.now
            # The slower of the two paces holds the call back.
            held = [pace.take((sum(tokens), 1)[what], self.now) for what, pace in self._job]
            if any(held):
                yield max(held)
            yield from self._calls.enter()
            self.seen["seconds for the job's limits"] += self.now - begun
            answered = yield from self._answer(tokens)
            self._calls.leave()
            if answered or attempt == RETRIES:
                return answered
            wait = backoff * self.random.uniform(0.5, 1.0)
            self.seen["seconds of backoff"] += wait
            yield wait
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)
        return False

    def _answer(self, tokens: tuple[int, int]) -> Steps:
        """What the provider does with one request."""
        a = self.a
        self.seen["requests"] += 1
        is_full = a.provider_in_flight is not None and self._in_flight >= a.provider_in_flight
        if is_full or any(pace.ahead(self.now) > a.burst_s for _, pace in self._provider):
            self.seen["refused"] += 1
            yield 0.05
            return False
        for what, pace in self._provider:
            pace.take((sum(tokens), 1)[what], self.now)
        self._in_flight += 1
        usual = a.first_token_s + tokens[1] / a.tokens_per_second
        yield usual * (self.random.lognormvariate(0, a.spread) if a.spread else 1.0)
        self._in_flight -= 1
        if self.random.random() < a.error_rate:
            self.seen["errors"] += 1
            return False
        self.seen["calls"] += 1
        return True


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    assumptions: Assumptions
    seconds: float
    taken: list[float]
    seen: dict[str, Any]

    def bounds(self) -> dict[str, float]:
        """The least seconds that the job can take by each of its limits, if all the rest took no time."""
        a = self.assumptions
        turns = a.turns + a.children * a.child_turns
        tokens = turns * sum(a.turn_tokens) + a.sub_calls * sum(a.sub_call_tokens)
        calls = turns + a.sub_calls
        busy = [a.first_token_s + out / a.tokens_per_second for _, out in (a.turn_tokens, a.sub_call_tokens)]
        factor = exp(a.spread**2 / 2)  # the mean of the log-normal one
        bounds = {
            "tokens": tokens / a.tokens_per_minute * 60 if a.tokens_per_minute else 0.0,
            "requests": calls / a.requests_per_minute * 60 if a.requests_per_minute else 0.0,
            "calls in flight": (turns * busy[0] + a.sub_calls * busy[1]) * factor / (a.provider_in_flight or 1e18),
            "drivers": calls * a.engine_s / a.drivers,
            "places": (a.turns + (a.child_turns if a.children else 0)) * busy[0] * factor / (a.nodes * a.places),
        }
        return {limit: a.questions * seconds for limit, seconds in bounds.items()}

    def line(self) -> str:
        """The row of the table."""
        middle, worst = quantiles(self.taken, n=20)[9], quantiles(self.taken, n=20)[18]
        bounds, seen = self.bounds(), self.seen
        limit = max(bounds, key=lambda name: bounds[name])
        # Where rows failed, there was less to do.
        ideal = "" if seen["failed"] else f"{self.seconds / bounds[limit]:.2f}"
        return (
            f"{self.seconds / 60:7.1f} {ideal:>7}  {limit:<16}{middle:8.0f}{worst:8.0f}"
            f"{seen['failed']:8,}{seen['refused']:10,}{seen['restarts']:9,}{seen['guests']:8,}"
        )


USUAL = Assumptions()
OWN_SERVERS = replace(USUAL, tokens_per_minute=None, requests_per_minute=None, provider_in_flight=8_000)
CASES = {
    "a provider's limits, which the job keeps to": USUAL,
    "the same on 10 nodes": replace(USUAL, nodes=10),
    "a provider's limits, which nobody keeps to": replace(USUAL, keeps_to=None),
    "own model servers, 8,000 calls at once": OWN_SERVERS,
    "the same from 1 driver with max_runs=4096": replace(OWN_SERVERS, drivers=1, max_runs=4096),
    "the same from 64 drivers": replace(OWN_SERVERS, drivers=64),
    "nodes that die after an hour": replace(OWN_SERVERS, hours_between_deaths=1),
    "own model servers, 10 nodes": replace(OWN_SERVERS, nodes=10),
}


def rows() -> Iterator[str]:
    """The table, line by line."""
    yield f"{'':<44}minutes  /ideal  bound by          half s    95 s  failed   refused restarts  guests"
    for name, assumptions in CASES.items():
        yield f"{name:<44}{Simulation(assumptions).run().line()}"


if __name__ == "__main__":
    gc.set_threshold(100_000)  # half of the time would go to looking for garbage
    for row in rows():
        print(row, flush=True)
