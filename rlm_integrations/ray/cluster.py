"""What a ``RaySandbox`` has on the cluster that this process is connected to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import ray

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.ray.deliveries import Deliveries
from rlm_integrations.ray.host import Host
from rlm_integrations.ray.places import Places

__all__ = ["Cluster", "connection"]


class Cluster:
    """Hosts by node, made when they are needed; places; and what lies in the object store."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        self._lock = threading.Lock()
        self._hosts: dict[str, Host] = {}
        self._is_ended = False
        self.places = Places()
        self.deliveries = Deliveries(lambda key: self.places.later(lambda: self._forget(key)))

    def host_on(self, node_id: str) -> Host:
        """The host on a node. Raises ``SandboxError`` once all have ended."""
        with self._lock:
            if self._is_ended:
                raise SandboxError("the sandbox was closed")
            host = self._hosts.get(node_id)
            if host is None or host.is_lost:
                host = self._hosts[node_id] = Host(node_id, self._settings)
            return host

    def lose(self, host: Host) -> None:
        """A host is of no more use; what may be left of it ends."""
        host.is_lost = True
        self.places.later(host.kill)

    def end(self) -> None:
        """End all hosts with their sessions. May be called from a finalizer."""
        self.places.end(self._kill)

    def _forget(self, key: int) -> None:
        for host in self._alive():
            host.forget(key)

    def _kill(self) -> None:
        with self._lock:
            self._is_ended = True
        for host in self._alive():
            with contextlib.suppress(Exception):  # where Ray was shut down before
                host.kill()

    def _alive(self) -> list[Host]:
        with self._lock:
            return [host for host in self._hosts.values() if not host.is_lost]


def connection() -> tuple[str, ...]:
    """What tells this process' connection to a cluster from a later one. Raises ``InvalidInput`` without any."""
    if not ray.is_initialized():
        raise InvalidInput("this needs a Ray cluster: call ray.init() first (ray.init('auto') for a running one)")
    context = ray.get_runtime_context()
    return context.gcs_address, context.get_node_id(), context.get_job_id()
