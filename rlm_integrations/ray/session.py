"""A session of ``RaySandbox``: a worker on some node, which the node's host speaks to."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from concurrent.futures import Future

from ray.exceptions import RayError, RayTaskError

from rlm_integrations.engine.drivers import adrive, drive
from rlm_integrations.engine.effects import Branch, Wait
from rlm_integrations.errors import RLMError, SandboxError
from rlm_integrations.ports import CellOutput, Resume, Run, SubCall
from rlm_integrations.ray.cluster import Cluster
from rlm_integrations.ray.deliveries import Delivery
from rlm_integrations.ray.host import Host, Opening, Outcome
from rlm_integrations.ray.places import Place
from rlm_integrations.ray.seats import Seat, Turns
from rlm_integrations.sandbox.session import MAX_RESTARTS
from rlm_integrations.sandbox.turns import OneAtATime

__all__ = ["RaySession"]

LOST = "the node it ran on was lost"
MAX_REASON_CHARS = 2_000


class RaySession(OneAtATime):
    """One REPL on a node of the cluster; if that is lost, the next cell gets a new one elsewhere.

    ``above``: the session in whose seat this one is a guest. ``delivery`` is in the object store while it is open, and
    ``sandbox`` is kept.
    """

    def __init__(
        self,
        cluster: Cluster,
        opening: Opening,
        seat: Seat,
        above: RaySession | None = None,
        delivery: Delivery | None = None,
        sandbox: object = None,
    ) -> None:
        super().__init__()
        self.id = secrets.token_hex(16)
        self.seat = seat
        self.guests = Turns()
        self.cluster, self._delivery, self._sandbox = cluster, delivery, sandbox
        self._opening: Opening | None = opening
        self._above = above
        self._turn_there: Future[None] | None = above.guests.join() if above else None
        self._host: Host | None = None
        self._place: Place | None = None
        self._in_cell = False
        self._restarts = 0
        self._lost_by: RayError | None = None
        self._note = ""

    @property
    def waiting(self) -> str | None:
        """Why there is no room for it yet; None where there is."""
        if self._closed:
            return None
        reason = self.seat.request.reason or "the cluster has no room for a session"
        if self._above and self._turn_there and not self._turn_there.done():
            ahead = self._above.guests.ahead(self._turn_there)
            return f"it runs where its parent run does, {ahead} ahead of it: {reason}"
        return reason if self.seat.request.is_waiting else None

    def settle(self, limit_s: float | None = None) -> None:
        """Wait until there is room, for at most ``limit_s``. Raises ``SandboxError`` if there can't be any."""
        drive(self._settle(limit_s), threading.Event())

    async def asettle(self, limit_s: float | None = None) -> None:
        """The same without blocking the event loop."""
        await adrive(self._settle(limit_s))

    def advance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step; blocks. A ``Run`` waits for room where there is none, for at most its ``timeout_s``."""
        return drive(self._advance(step), threading.Event())

    async def aadvance(self, step: Run | Resume) -> SubCall | CellOutput:
        """The same without blocking the event loop; cancelling it ends the session."""
        return await adrive(self._advance(step))

    def close(self) -> None:
        """End the worker and give back the room, at once. A step that waits raises ``SandboxError``."""
        with self._lock:
            self._closed = True
        self._drop()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if self._opening is None:
                return
            # Not by this thread: it may be one of Ray's, in the middle of something.
            self.cluster.places.later(self.close)

    def _drop(self) -> None:
        with self._lock:
            if self._opening is None:
                return
            host, self._opening, self._delivery = self._host, None, None
        if self._above and self._turn_there:
            self._above.guests.leave(self._turn_there)
        else:
            self.seat.leave()
        if host is not None and not host.is_lost:
            with contextlib.suppress(RayError):
                host.close(self.id)

    def _settle(self, limit_s: float | None) -> Branch[Place | None]:
        """The place; None where there is none after ``limit_s``."""
        started = time.monotonic()
        if self._turn_there is not None:
            if not self._turn_there.done():
                yield Wait(self.cluster.places.done(self._turn_there, limit_s))
                if not self._turn_there.done():
                    return None
                limit_s = None if limit_s is None else max(0.0, limit_s - (time.monotonic() - started))
            self._turn_there.result()
        return (yield from self.seat.settled(limit_s))

    def _advance(self, step: Run | Resume) -> Branch[SubCall | CellOutput]:
        if isinstance(step, Run) and self._in_cell:
            raise SandboxError("a Run came while a sub-call waits for its Resume")
        if isinstance(step, Resume) and not self._in_cell:
            raise SandboxError(
                "the session is closed" if self._closed else "a Resume came while no sub-call waits for one"
            )
        with self._turn():
            if self._host is not None and self._host.is_lost:
                if isinstance(step, Resume):
                    return self._stopped()
                self._move()
                self._note = f"{LOST} between two cells, and all variables with it; `context` is in place"
            is_first = self._host is None
            outcome = yield from self._ask(step)
            if outcome is None and is_first:
                # There were no variables to lose, and nobody has seen anything of it.
                self._move()
                outcome = yield from self._ask(step)
            if outcome is None:
                return self._stopped()
            self._in_cell = isinstance(outcome, SubCall)
            return self._noted(outcome) if isinstance(outcome, CellOutput) else outcome

    def _sit(self, limit_s: float | None) -> Branch[None]:
        place = yield from self._settle(limit_s)
        if place is None:
            raise SandboxError(f"no room for a session within {limit_s:g} s: {self.waiting}")
        self._place = place
        host = self.cluster.host_on(place.node_id)
        with self._lock:
            if self._closed:
                raise SandboxError("the session is closed")
            self._host = host

    def _ask(self, step: Run | Resume) -> Branch[SubCall | CellOutput | None]:
        """What the step comes to; None where the node is lost."""
        opening = None
        if self._host is None:
            yield from self._sit(step.timeout_s)
            opening = self._opening
        assert self._host is not None
        try:
            outcome: Outcome = yield Wait(self._host.advance(self.id, step, opening))
        except RayTaskError as error:
            raise SandboxError(f"the host of sessions on a node failed: {error.cause}") from error
        except RayError as error:
            if self._closed:
                raise SandboxError("the session was closed while a cell ran") from None
            self._lost_by = error
            return None
        if isinstance(outcome, RLMError):
            raise outcome
        return outcome

    def _stopped(self) -> CellOutput:
        """A cell whose node is lost."""
        self._move()
        told = f"the cell was stopped: {LOST}. All variables were lost; `context` is in place."
        return CellOutput("", told, restarted=True)

    def _move(self) -> None:
        """Leave a lost host; the next cell gets another one."""
        assert self._host is not None
        assert self._place is not None
        lost_by = self._host.lost_by or self._lost_by
        self.cluster.lose(self._host)
        self.seat.move(self._place)
        self._host = self._place = None
        self._in_cell = False
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            why = f": {str(lost_by)[:MAX_REASON_CHARS]}" if lost_by else ""
            raise SandboxError(
                f"the sandbox lost the node of a session {self._restarts} times: check the cluster{why}"
            ) from None

    def _noted(self, output: CellOutput) -> CellOutput:
        if not (note := self._note):
            return output
        self._note = ""
        error = f"{output.error}\n({note})" if output.error else f"({note})"
        return CellOutput(output.stdout, error, output.final, restarted=True)
