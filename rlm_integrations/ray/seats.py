"""Where a session sits: in a place of its own, or as a guest in that of the session below which it stands.

A session that holds a place waits in the middle of a cell for the sessions below it. If these had to wait for places
too, all places could come to be held by sessions that wait for one. So none of them has to: what finds no place of its
own goes where its parent is, one at a time. Siblings wait for each other then, and nobody for anyone further up.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from rlm_integrations.engine.effects import Branch, Wait
from rlm_integrations.errors import SandboxError
from rlm_integrations.ray.places import Place, Places, Request

__all__ = ["Seat", "Turns"]


class Turns:
    """Lets guests in one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Future[None]] = deque()

    def join(self) -> Future[None]:
        """Wait for a turn: the future is done when it has come, and fails if it is left before."""
        turn: Future[None] = Future()
        with self._lock:
            self._queue.append(turn)
            self._let_in()
        return turn

    def leave(self, turn: Future[None]) -> None:
        """End a turn, or stop waiting for it."""
        with self._lock:
            if turn not in self._queue:
                return
            self._queue.remove(turn)
            if not turn.done():
                turn.set_exception(SandboxError("the session is closed"))
            self._let_in()

    def ahead(self, turn: Future[None]) -> int:
        """How many come first."""
        with self._lock:
            return self._queue.index(turn) if turn in self._queue else 0

    def _let_in(self) -> None:
        if self._queue and not self._queue[0].done():
            self._queue[0].set_result(None)


class Seat:
    """Room for one session and, one at a time, for those below it. It moves where its node is lost."""

    def __init__(self, places: Places, request: Request) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._is_left = False
        self.request = request

    def settled(self, limit_s: float | None) -> Branch[Place | None]:
        """The place, waited for; None where there is none after ``limit_s``."""
        request = self.request
        if request.is_waiting:
            yield Wait(self._places.done(request.found, limit_s))
        return request.place

    def move(self, lost: Place) -> None:
        """Ask for another place, unless one of those that sat at ``lost`` has done so."""
        with self._lock:
            if self._is_left or self.request.is_waiting or self.request.place is not lost:
                return
            self.request = self._places.ask(lost.needs)
        self._places.drop(lost)

    def leave(self) -> None:
        """Give back the place."""
        with self._lock:
            if self._is_left:
                return
            self._is_left = True
            request = self.request
        self._places.withdraw(request)
