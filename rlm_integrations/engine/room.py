"""``Room``: how many root runs may be under way in one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["MAX_RUNS", "Room"]

MAX_RUNS = 256

_inside: ContextVar[bool] = ContextVar("rlm_inside_a_run", default=False)


class Room:
    """Places for ``size`` root runs of each event loop; more wait for one, the first to come first.

    What a run begins, as in a tool, has a place already: the run waits for it, so it must not wait for the run. That
    is told by the context variables, which tasks and ``asyncio.to_thread`` take along, also in a run of another RLM.
    A task begun elsewhere that a tool hands a question to does not have them: it must ask an RLM with other places.

    Blocking runs take no place. They are as many as the threads that make them, and a thread that a tool hands its
    work to does not take context variables along: waiting there, it could be what all those with a place wait for.
    """

    def __init__(self, size: int = MAX_RUNS) -> None:
        self.size = size
        self._loops: dict[asyncio.AbstractEventLoop, _Places] = {}
        self._others: dict[int, Room] = {}

    def of(self, size: int) -> Room:
        """The one of ``size`` that belongs to this one: the same each time."""
        return self if size == self.size else self._others.setdefault(size, Room(size))

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place inside of this context, which begins and ends in one task."""
        if _inside.get():
            yield
            return
        import asyncio

        loop = asyncio.get_running_loop()
        places = self._loops.setdefault(loop, _Places(self.size))
        places.users += 1
        try:
            async with places.free:
                _inside.set(True)
                try:
                    yield
                finally:
                    _inside.set(False)
        finally:
            places.users -= 1
            # A loop that has ended must not be kept.
            if not places.users:
                del self._loops[loop]

    def __reduce__(self) -> tuple[Any, ...]:
        return Room, (self.size,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Room:
        return self


class _Places:
    """Those of one event loop, and how many have one or wait for one."""

    def __init__(self, size: int) -> None:
        import asyncio

        self.free = asyncio.Semaphore(size)
        self.users = 0
