"""The actor on each node that holds its sessions, and the driver's end of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.errors import RLMError, SandboxError
from rlm_integrations.ports import CellOutput, IsolationReport, Resume, Run, SubCall
from rlm_integrations.ray.deliveries import Parcel
from rlm_integrations.ray.references import Reference
from rlm_integrations.ray.shared import Shared
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.sandbox.session import ProcessSession

__all__ = ["Host", "Opening", "Outcome", "SandboxHost"]

# Steps under way at once; one that waits takes up no thread.
MAX_STEPS = 100_000
MAX_EARLY = 10_000

Outcome = SubCall | CellOutput | RLMError


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session is opened with: values, and in place of some of them a ``Parcel`` or a ``Reference``."""

    variables: Mapping[str, Any]
    functions: Sequence[str]


class SandboxHost:
    """Holds the sessions of one node, in workers that it forks. It ends with the process that made it, they with it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._sandbox = ProcessSandbox(**settings)
        # None: it is being opened. A session reads its context again when it has to start again.
        self._sessions: dict[str, tuple[ProcessSession, list[Shared]] | None] = {}
        self._closed_early: OrderedDict[str, None] = OrderedDict()
        self._contexts: dict[int, asyncio.Task[Shared]] = {}

    async def advance(self, id: str, step: Run | Resume, opening: Opening | None) -> Outcome:
        """Carry out a step of a session, which is opened first where ``opening`` is given.

        What goes wrong with the session is returned: Ray would send it with a trace, in an error of its own.
        """
        try:
            if opening is not None:
                await self._open(id, opening)
            if (opened := self._sessions.get(id)) is None:
                raise SandboxError("the session is closed")
            return await opened[0].aadvance(step)
        except RLMError as error:
            return error.with_traceback(None)

    async def _open(self, id: str, opening: Opening) -> None:
        if id in self._closed_early:
            del self._closed_early[id]
            return
        self._sessions[id] = None
        variables, shared = dict(opening.variables), []
        try:
            for name, value in opening.variables.items():
                if isinstance(value, Parcel):
                    shared.append(await self._shared(value))
                    variables[name] = shared[-1].packed
                elif isinstance(value, Reference):
                    variables[name] = await in_thread(partial(value.find, name))
            session = await self._sandbox.aopen(variables, opening.functions)
        except BaseException:
            self._sessions.pop(id, None)
            raise
        if id in self._sessions:
            self._sessions[id] = session, shared
        else:
            session.close()

    async def close(self, id: str) -> None:
        """End a session, and the step that it is at."""
        if id not in self._sessions:
            # Calls may overtake each other.
            self._closed_early[id] = None
            while len(self._closed_early) > MAX_EARLY:
                self._closed_early.popitem(last=False)
        elif opened := self._sessions.pop(id):
            opened[0].close()

    async def forget(self, key: int) -> None:
        """Let go of a context that no later session needs."""
        if context := self._contexts.pop(key, None):
            context.cancel()

    async def report(self) -> IsolationReport:
        """Which layers are in force on this node."""
        return await in_thread(self._sandbox.report)

    async def watch(self) -> None:
        """Never ends, but with this actor."""
        await asyncio.get_running_loop().create_future()

    async def _shared(self, parcel: Parcel) -> Shared:
        context = self._contexts.get(parcel.key)
        if context is None or context.cancelled() or (context.done() and context.exception()):
            context = self._contexts[parcel.key] = asyncio.ensure_future(_fetched(parcel))
        return await asyncio.shield(context)


async def _fetched(parcel: Parcel) -> Shared:
    data = await parcel.ref[0]
    return await in_thread(partial(Shared, parcel, data))


class Host:
    """The driver's end of the host on node ``node_id``; ``is_lost`` once it is known to be of no more use.

    ``ended`` fails as soon as the actor has ended.
    """

    def __init__(self, node_id: str, settings: Mapping[str, Any]) -> None:
        self.node_id = node_id
        self.is_lost = False
        actor: Any = ray.remote(SandboxHost)
        # It takes up no CPU of its own: those of its sessions are counted.
        self._actor = actor.options(
            num_cpus=0,
            max_restarts=0,
            max_concurrency=MAX_STEPS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        ).remote(dict(settings))
        self.ended: Future[None] = self._actor.watch.remote().future()
        self.ended.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.is_lost = True

    @property
    def lost_by(self) -> BaseException | None:
        """How the actor ended, once it has."""
        return self.ended.exception() if self.ended.done() else None

    def advance(self, id: str, step: Run | Resume, opening: Opening | None) -> Future[Outcome]:
        """A step under way. Its future fails with one of Ray's errors where the host is lost."""
        future: Future[Outcome] = self._actor.advance.remote(id, step, opening).future()
        return future

    def close(self, id: str) -> None:
        """End a session; does not wait."""
        if ray.is_initialized():
            self._actor.close.remote(id)

    def forget(self, key: int) -> None:
        """Let go of a context; does not wait."""
        if ray.is_initialized():
            self._actor.forget.remote(key)

    def report(self) -> IsolationReport:
        """Which layers are in force there; blocks."""
        report: IsolationReport = ray.get(self._actor.report.remote())
        return report

    def kill(self) -> None:
        """End it with all its sessions."""
        self.is_lost = True
        if ray.is_initialized():
            ray.kill(self._actor)
