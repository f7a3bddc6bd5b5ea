"""What a session can't do by itself: wait, and work that takes its time. Its steps are a generator that yields a
``Wait`` and is sent whether the time came, or a ``Work`` and is sent what came of it; two drivers of a few lines each
do the waiting, one blocks and one awaits."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.sandbox.spin import is_ready_soon

__all__ = ["Steps", "Wait", "Work", "adrive", "drive"]

T = TypeVar("T")
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``descriptor`` can be read (or written), at most until ``deadline`` (of ``time.monotonic``).

    Without a descriptor: let others have a turn, until ``deadline`` if it has one.
    """

    descriptor: int | None = None
    deadline: float = 0.0
    write: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Call ``function``, which may take longer than an event loop can wait: there it runs in a thread of its own.

    What it raises ends the steps.
    """

    function: Callable[[], Any]


Steps = Generator[Wait | Work, Any, T]


def drive(steps: Steps[T]) -> T:
    """Carry out ``steps``, blocking."""
    try:
        step = next(steps)
        while True:
            step = steps.send(step.function() if isinstance(step, Work) else _block(step))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def adrive(steps: Steps[T]) -> T:
    """Carry out ``steps`` without blocking the event loop."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await (in_thread(step.function) if isinstance(step, Work) else _await(step)))
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

    add, remove = (loop.add_writer, loop.remove_writer) if wait.write else (loop.add_reader, loop.remove_reader)
    try:
        add(wait.descriptor, settle, True)
    except NotImplementedError:
        return await _look(wait)
    timer = loop.call_later(left_s, settle, False)
    try:
        return await done
    finally:
        remove(wait.descriptor)
        timer.cancel()


async def _look(wait: Wait) -> bool:
    """Wait on a loop that can't tell when a socket is ready (Windows' default one): look again and again.

    Often at first, for what comes at once, then every ``LOOK_S``: no thread, and a delay that is small beside any
    answer that takes its time.
    """
    pause_s = 0.0
    while not (ready := _is_ready(wait)) and (left_s := wait.deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s + LOOK_S / 50, LOOK_S)
    return ready


def _is_ready(wait: Wait) -> bool:
    assert wait.descriptor is not None
    if hasattr(select, "poll"):
        # ``select`` does not take descriptors above 1023.
        poll = select.poll()
        poll.register(wait.descriptor, select.POLLOUT if wait.write else select.POLLIN)
        return bool(poll.poll(0))
    ends = [wait.descriptor]
    return any(select.select([] if wait.write else ends, ends if wait.write else [], [], 0))
