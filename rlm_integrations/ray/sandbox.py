"""``RaySandbox``: model code runs in locked processes on the nodes of a Ray cluster."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import ray

from rlm_integrations.engine.drivers import adrive, drive
from rlm_integrations.engine.effects import Branch, Wait
from rlm_integrations.errors import InvalidInput
from rlm_integrations.ports import IsolationReport, Session
from rlm_integrations.ray.cluster import Cluster, connection
from rlm_integrations.ray.deliveries import Delivery, to_deliver
from rlm_integrations.ray.host import Opening
from rlm_integrations.ray.places import MB, Needs
from rlm_integrations.ray.references import Reference
from rlm_integrations.ray.seats import Seat
from rlm_integrations.ray.session import RaySession
from rlm_integrations.sandbox.on_disk import bytes_of, is_on_disk
from rlm_integrations.sandbox.settings import check_limits, check_names

__all__ = ["RaySandbox"]

BASE_MEMORY_MB = 64
MEMORY_STEP_MB = 16
CLOSE_S = 5.0


class RaySandbox:
    """Runs model code in a locked process for each session, on some node of the Ray cluster that ``ray.init`` joined.

    ``timeout_s``, ``memory_mb``, ``max_output_chars`` and ``isolation`` are those of ``ProcessSandbox``, of which each
    node has one: in its host, an actor that is made when the first session comes there. This package must be installed
    on all nodes.

    A session is placed where ``session_cpus`` and ``session_memory_mb`` (64 and four times the context, by default) are
    free, as Ray counts these; where there is no such node, it waits, which the event ``SessionWaiting`` tells. A child
    run's session never has to: without a place of its own it takes turns with its siblings in that of its parent.

    A context goes into Ray's object store once and is read from there by all sessions of a node. The last eight are
    kept for later runs: a text, or a list of texts and documents, is known again by what it holds, and other values by
    being the same object, so pass one ``Context`` to all runs over them. A context that is on disk must be there under
    the same path on all nodes. Where a node is lost, its sessions start again on another, and model code is told that
    its variables are lost.

    Serves any number of threads and tasks. ``close`` ends all its sessions; so does the end of this process.
    """

    def __init__(
        self,
        timeout_s: float = 30,
        memory_mb: int | None = None,
        max_output_chars: int = 10_000,
        isolation: Literal["auto", "strict"] = "auto",
        *,
        session_cpus: float = 0.05,
        session_memory_mb: float | None = None,
    ) -> None:
        check_limits(timeout_s, memory_mb, max_output_chars)
        if isolation not in ("auto", "strict"):
            raise InvalidInput(f"isolation is {isolation!r}: pass 'auto' or 'strict'")
        _check_amount("session_cpus", session_cpus, 0)
        if session_memory_mb is not None:
            _check_amount("session_memory_mb", session_memory_mb, 1)
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self.max_output_chars, self.isolation = max_output_chars, isolation
        self.session_cpus, self.session_memory_mb = session_cpus, session_memory_mb
        self._lock = threading.Lock()
        self._connection: tuple[str, ...] = ()
        self._cluster: Cluster | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._sessions: weakref.WeakSet[RaySession] = weakref.WeakSet()

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> RaySession:
        """A session whose namespace holds ``variables`` and ``functions``; it may still wait for its place."""
        return drive(self._open(variables, functions, None), threading.Event())

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> RaySession:
        """The same without blocking the event loop."""
        return await adrive(self._open(variables, functions, None))

    def open_below(self, below: Session, variables: Mapping[str, Any], functions: Sequence[str]) -> RaySession:
        """The same for a child run: ``below`` is its parent's session, which waits for it in the middle of a cell."""
        return drive(self._open(variables, functions, below), threading.Event())

    async def aopen_below(self, below: Session, variables: Mapping[str, Any], functions: Sequence[str]) -> RaySession:
        """The same without blocking the event loop."""
        return await adrive(self._open(variables, functions, below))

    def report(self) -> IsolationReport:
        """Which layers are in force on every node that there is now."""
        cluster = self._joined()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        names = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}
        reports = {name: cluster.host_on(node_id).report() for node_id, name in names.items()}
        layers: dict[str, bool] = {}
        missing: dict[str, str] = {}
        for name, report in reports.items():
            for layer, is_in_force in report.layers.items():
                layers[layer] = layers.get(layer, True) and is_in_force
            missing |= {layer: f"on {name}: {reason}" for layer, reason in report.missing.items()}
        return IsolationReport(sys.platform, layers, missing)

    def close(self) -> None:
        """End all sessions and hosts. A later ``open`` starts afresh."""
        with self._lock:
            sessions, cluster, finalizer = list(self._sessions), self._cluster, self._finalizer
            self._cluster = self._finalizer = None
        for session in sessions:
            session.close()
        if finalizer is not None:
            finalizer()
        if cluster is not None:
            cluster.places.join(CLOSE_S)

    def __enter__(self) -> RaySandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _joined(self) -> Cluster:
        """What this sandbox has on the cluster; anew where the process has joined another."""
        now = connection()
        with self._lock:
            if self._cluster is None or self._connection != now:
                if self._finalizer is not None:
                    self._finalizer()
                self._connection = now
                self._cluster = Cluster(
                    {
                        "timeout_s": self.timeout_s,
                        "memory_mb": self.memory_mb,
                        "max_output_chars": self.max_output_chars,
                        "isolation": self.isolation,
                    }
                )
                self._finalizer = weakref.finalize(self, self._cluster.end)
            return self._cluster

    def _open(
        self, variables: Mapping[str, Any], functions: Sequence[str], below: Session | None
    ) -> Branch[RaySession]:
        check_names((*variables, *functions))
        cluster = self._joined()
        sent: dict[str, Any] = dict(variables)
        delivery: Delivery | None = None
        if name := to_deliver(variables):
            delivery = yield from cluster.deliveries.of(variables[name])
            sent[name] = delivery.parcel
        sent |= {name: Reference.to(value) for name, value in variables.items() if is_on_disk(value)}
        size = sum(map(bytes_of, variables.values())) + (delivery.parcel.size if delivery else 0)
        seat, above = yield from self._seat(cluster, self._needs(size), below)
        session = RaySession(cluster, Opening(sent, tuple(functions)), seat, above, delivery, self)
        with self._lock:
            self._sessions.add(session)
        return session

    def _seat(self, cluster: Cluster, needs: Needs, below: Session | None) -> Branch[tuple[Seat, RaySession | None]]:
        above = below if isinstance(below, RaySession) and below.cluster is cluster else None
        if above is not None and cluster.places.has_queue(needs):
            return above.seat, above
        request = cluster.places.ask(needs)
        try:
            yield Wait(request.told)
        except BaseException:
            cluster.places.withdraw(request)
            raise
        if above is not None and request.is_waiting:
            cluster.places.withdraw(request)
            return above.seat, above
        return Seat(cluster.places, request), None

    def _needs(self, context_bytes: int) -> Needs:
        """Rounded up, so that a place that one session gives back fits many others."""
        wanted_mb = self.session_memory_mb
        if wanted_mb is None:
            wanted_mb = BASE_MEMORY_MB + 4 * context_bytes / MB
            wanted_mb = -(-wanted_mb // MEMORY_STEP_MB) * MEMORY_STEP_MB
        return Needs(self.session_cpus, int(wanted_mb * MB))


def _check_amount(name: str, value: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise InvalidInput(f"{name}={value!r}: pass a number of at least {least}")
