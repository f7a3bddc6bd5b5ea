"""The one thing a session can't do by itself: wait. Its steps are a generator that yields a ``Wait`` and is sent
whether the time came; two drivers of a few lines each do the waiting, one blocks and one awaits."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from rlm_integrations.sandbox.spin import is_ready_soon

__all__ = ["Steps", "Wait", "adrive", "drive"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``descriptor`` can be read (or written), at most until ``deadline`` (of ``time.monotonic``).

    Without a descriptor: let others have a turn, until ``deadline`` if it has one.
    """

    descriptor: int | None = None
    deadline: float = 0.0
    write: bool = False


Steps = Generator[Wait, bool, T]


def drive(steps: Steps[T]) -> T:
    """Carry out ``steps``, blocking."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(_block(wait))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def adrive(steps: Steps[T]) -> T:
    """Carry out ``steps`` without blocking the event loop."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(await _await(wait))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


def _block(wait: Wait) -> bool:
    left_s = max(0.0, wait.deadline - time.monotonic())
    if wait.descriptor is None:
        if left_s:
            time.sleep(left_s)
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(wait.descriptor, select.POLLOUT if wait.write else select.POLLIN)
        if is_ready_soon(poll):
            return True
        return bool(poll.poll(min(left_s * 1000 + 1, 2**31 - 1)))
    ends = [wait.descriptor]
    return any(select.select([] if wait.write else ends, ends if wait.write else [], [], left_s))


async def _await(wait: Wait) -> bool:
    left_s = max(0.0, wait.deadline - time.monotonic())
    if wait.descriptor is None:
        await asyncio.sleep(left_s)
        return True
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(ready: bool) -> None:
        if not done.done():
            done.set_result(ready)

    timer = loop.call_later(left_s, settle, False)
    add, remove = (loop.add_writer, loop.remove_writer) if wait.write else (loop.add_reader, loop.remove_reader)
    add(wait.descriptor, settle, True)
    try:
        return await done
    finally:
        remove(wait.descriptor)
        timer.cancel()
