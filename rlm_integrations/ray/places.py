"""Room for sessions on the nodes of a cluster, which Ray's own scheduler gives: one placement group for each."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from rlm_integrations.errors import SandboxError

__all__ = ["Needs", "Place", "Places", "Request"]

logger = logging.getLogger(__name__)

GRACE_S = 0.1
SPARE_S = 1.0
# Ray makes a group within milliseconds, or has it wait.
MADE_S = 0.2
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Needs:
    """What a session takes up of a node, as Ray counts it."""

    cpus: float
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.memory_bytes // MB:,} MB"

    @property
    def bundle(self) -> dict[str, float]:
        """The same in Ray's words, which has no resource of which nothing is wanted."""
        wanted = {"CPU": self.cpus, "memory": float(self.memory_bytes)}
        return {name: amount for name, amount in wanted.items() if amount}


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Room on node ``node_id``, which is this session's until it is given back."""

    group: PlacementGroup
    node_id: str
    needs: Needs


class Request:
    """A wish for a place. ``told`` is done as soon as there is one, or after a moment in which there was none.

    ``reason`` says then why there is none yet.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.told: Future[None] = Future()
        self.found: Future[Place] = Future()
        self.reason: str | None = None
        self.group: PlacementGroup | None = None
        self.asked_at = 0.0
        self.is_withdrawn = False

    @property
    def place(self) -> Place | None:
        """The place, once there is one. Raises ``SandboxError`` where there can't be one any more."""
        return self.found.result() if self.found.done() else None

    @property
    def is_waiting(self) -> bool:
        """Whether there is no place yet."""
        return not self.found.done()


class Places:
    """Asks for places and gives them back, for any number of threads and tasks.

    All talk with the scheduler is that of one thread of its own, so no event loop waits for it. A place that is given
    back goes to the first of those who wait for one like it, as Ray itself tries again only about once a second; where
    nobody waits at all, it is kept for a moment, since a place takes longer to get than a cell to run.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting: dict[Needs, deque[Request]] = {}
        self._spare: dict[Needs, list[Place]] = {}
        self._lost: set[str] = set()
        self._called_off = 0
        self._is_ended = self._is_over = False
        self._thread = threading.Thread(target=self._work, name="rlm-ray-places", daemon=True)
        self._thread.start()

    def ask(self, needs: Needs) -> Request:
        """A place with what a session needs, as soon as there is one."""
        request = Request(needs)
        self._put(partial(self._ask, request))
        return request

    def withdraw(self, request: Request) -> None:
        """Let go of a request, and of the place that it has found."""
        self._put(partial(self._withdraw, request))

    def drop(self, place: Place) -> None:
        """Give back a place on a node that is lost; others on it will not be handed on either."""
        self._put(partial(self._drop, place))

    def done(self, future: Future[Any], limit_s: float | None) -> Future[None]:
        """Done as soon as ``future`` is, or after ``limit_s``; never fails."""
        done: Future[None] = Future()

        def end(_: object = None) -> None:
            with suppress(InvalidStateError):
                done.set_result(None)

        future.add_done_callback(end)
        if limit_s is not None and not done.done():
            self._put(partial(self._after, limit_s, end))
        return done

    def has_queue(self, needs: Needs) -> bool:
        """Whether others wait already for such a place, or for one that is no larger."""
        waiting = list(self._waiting)
        return any(other.cpus <= needs.cpus and other.memory_bytes <= needs.memory_bytes for other in waiting)

    def later(self, work: Callable[[], None]) -> None:
        """Have ``work``, which talks to Ray, done by the thread, if it goes on. May be called from a finalizer."""
        self._inbox.put(work)

    def end(self, last: Callable[[], None]) -> None:
        """Do ``last``, and let the thread end. May be called from a finalizer."""
        self._inbox.put(partial(self._end, last))

    def join(self, limit_s: float) -> None:
        """After ``end``: wait until all is given back, so that what shuts Ray down next can't come first."""
        if self._thread is not threading.current_thread():
            self._thread.join(limit_s)

    def _put(self, work: Callable[[], None]) -> None:
        self._inbox.put(work)
        # The thread says that it is over before it looks for the last time: one of both sees this.
        if self._is_over:
            self._do_the_rest()

    def _work(self) -> None:
        while not self._is_ended or self._called_off:
            try:
                work = self._inbox.get(timeout=self._pause_s())
            except queue.Empty:
                work = heapq.heappop(self._timers)[2]
            _attempt(work)
        self._is_over = True
        self._do_the_rest()

    def _do_the_rest(self) -> None:
        with suppress(queue.Empty):
            while True:
                _attempt(self._inbox.get_nowait())

    def _pause_s(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _after(self, delay_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._numbers), work))

    def _ask(self, request: Request) -> None:
        if request.is_withdrawn:
            return
        if self._is_ended:
            self._fail(request, SandboxError("the sandbox was closed"))
            return
        if not ray.is_initialized():
            self._fail(request, SandboxError("Ray was shut down"))
            return
        if spare := self._spare.get(request.needs):
            self._give(request, spare.pop())
            return
        try:
            request.asked_at = time.monotonic()
            request.group = placement_group([request.needs.bundle])
            ready: Future[Any] = request.group.ready().future()
        except Exception as error:
            self._fail(request, error)
            return
        self._waiting.setdefault(request.needs, deque()).append(request)
        ready.add_done_callback(lambda ready: self._inbox.put(partial(self._ready, request, ready)))
        self._after(GRACE_S, partial(self._tell, request))

    def _ready(self, request: Request, ready: Future[Any]) -> None:
        if request.found.done() or request.is_withdrawn or request.group is None:
            return
        try:
            ready.result()
            node_id = placement_group_table(request.group)["bundles_to_node_id"][0]
        except Exception as error:
            self._fail(request, error)
            return
        self._give(request, Place(request.group, node_id, request.needs))

    def _tell(self, request: Request) -> None:
        if not request.told.done():
            self._release()
            try:
                request.reason = _reason(request.needs)
                logger.info("a session waits: %s", request.reason)
            finally:
                request.told.set_result(None)

    def _give(self, request: Request, place: Place) -> None:
        self._forget(request)
        request.found.set_result(place)
        if not request.told.done():
            request.told.set_result(None)

    def _fail(self, request: Request, error: Exception) -> None:
        self._forget(request)
        failure = SandboxError(f"Ray gave no place for a session ({request.needs}): {error}")
        failure.__cause__ = error
        request.found.set_exception(failure)
        if not request.told.done():
            request.told.set_result(None)

    def _forget(self, request: Request) -> None:
        if (waiting := self._waiting.get(request.needs)) is None:
            return
        with suppress(ValueError):
            waiting.remove(request)
        if not waiting:
            del self._waiting[request.needs]

    def _withdraw(self, request: Request) -> None:
        if request.is_withdrawn:
            return
        request.is_withdrawn = True
        if request.found.done():
            if request.found.exception() is None:
                self._hand_over(request.found.result())
            return
        self._forget(request)
        request.found.set_exception(SandboxError("the session is closed"))
        self._call_off(request)

    def _drop(self, place: Place) -> None:
        self._lost.add(place.node_id)
        self._release()
        _remove(place.group)

    def _hand_over(self, place: Place) -> None:
        is_good = place.node_id not in self._lost and not self._is_ended
        if is_good and (waiting := self._waiting.get(place.needs)):
            request = waiting[0]
            self._give(request, place)
            self._call_off(request)
        elif is_good and not self._waiting:
            self._spare.setdefault(place.needs, []).append(place)
            self._after(SPARE_S, partial(self._let_go, place))
        else:
            _remove(place.group)

    def _call_off(self, request: Request) -> None:
        """Remove a group that has no place yet; not while Ray may be making it, which would leak what it set aside.

        That is https://github.com/ray-project/ray/issues/64693.
        """
        if request.group is not None:
            self._called_off += 1
            wait_s = max(0.0, request.asked_at + MADE_S - time.monotonic())
            self._after(wait_s, partial(self._remove_late, request.group))

    def _remove_late(self, group: PlacementGroup) -> None:
        self._called_off -= 1
        _remove(group)

    def _let_go(self, place: Place) -> None:
        if place in (spare := self._spare.get(place.needs, [])):
            spare.remove(place)
            _remove(place.group)

    def _release(self) -> None:
        for place in [place for spare in self._spare.values() for place in spare]:
            self._let_go(place)

    def _end(self, last: Callable[[], None]) -> None:
        self._is_ended = True
        self._release()
        for waiting in list(self._waiting.values()):
            for request in list(waiting):
                self._fail(request, SandboxError("the sandbox was closed"))
                self._call_off(request)
        last()


def _attempt(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # of Ray, most likely because it was shut down
        logger.debug("a place could not be asked for or given back", exc_info=True)


def _remove(group: PlacementGroup) -> None:
    # Once it is shut down, Ray would start again, or join some other cluster, to be asked for this.
    if ray.is_initialized():
        remove_placement_group(group)


def _reason(needs: Needs) -> str:
    """Why there is no place, and what the user can do where none is ever likely."""
    if not ray.is_initialized():
        return "Ray was shut down"
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    has = f"{free.get('CPU', 0):g} CPU and {int(free.get('memory', 0)) // MB:,} MB free in all"
    told = f"no node has {needs} free for a session (the cluster has {has})"
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    sizes = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(all(size.get(name, 0) >= amount for name, amount in needs.bundle.items()) for size in sizes):
        told += "; no node is that large at all: lower session_cpus or session_memory_mb, or add a larger one"
    return told
