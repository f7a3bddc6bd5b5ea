"""asyncio and concurrent.futures without what a worker has not: threads and sockets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rlm_integrations.sandbox.hints import NETWORK


class _Timer:
    """Stands where an event loop has its selector: nothing ever becomes ready, only time passes."""

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the event loop waits for something that can never happen here")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def close(self) -> None:
        pass


_LOOP_NAMES = (
    "time call_soon call_soon_threadsafe call_later call_at create_task create_future run_until_complete run_forever "
    "stop close is_running is_closed get_debug set_debug get_exception_handler set_exception_handler "
    "call_exception_handler default_exception_handler get_task_factory set_task_factory shutdown_asyncgens"
)
_OUTSIDE = "sock addrinfo transport connect sendfile subprocess ssl server resolved executor shutdown"
# A copy of the methods that are safe: ``super()`` would find the others in a subclass of the real loop.
_Base: Any = type(
    "BaseEventLoop",
    (asyncio.AbstractEventLoop,),
    {
        name: value
        for name, value in vars(asyncio.BaseEventLoop).items()
        if name in _LOOP_NAMES.split()
        or (name[0] == "_" and name not in ("__dict__", "__weakref__") and not any(w in name for w in _OUTSIDE.split()))
    },
)


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise PermissionError(f"{name}() can't be used here: {NETWORK}")

    return refuse


for _name in vars(asyncio.AbstractEventLoop):
    if _name[0] != "_" and _name not in _LOOP_NAMES.split():
        setattr(_Base, _name, staticmethod(_refusal(_name)))


class Loop(_Base):  # type: ignore[misc]
    """An event loop with tasks and timers, and without sockets, threads or signals."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Timer()

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Calls ``func`` at once; the future is done."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell of an error that nobody waits for, without where in this package it came up."""
        super().call_exception_handler({key: context[key] for key in _TOLD if key in context})


_TOLD = ("message", "exception", "future", "task")
_loop: Loop | None = None


def event_loop() -> Loop:
    """The worker's one event loop."""
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = Loop()
        asyncio.set_event_loop(_loop)
    return _loop


def _run(main: Any, *, debug: bool | None = None) -> Any:
    """``asyncio.run``."""
    loop = event_loop()
    if loop.is_running():
        raise RuntimeError("asyncio.run() can't be called from a running event loop: await the coroutine")
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    return loop.run_until_complete(main)


async def _to_thread(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """``asyncio.to_thread``, which calls ``func`` here, as there are no threads."""
    return func(*args, **kwargs)


_ASYNC_NAMES = (
    "gather sleep wait wait_for as_completed create_task shield timeout timeout_at TaskGroup Semaphore "
    "BoundedSemaphore Lock Event Condition Queue LifoQueue PriorityQueue QueueEmpty "
    "QueueFull Future Task CancelledError TimeoutError "
    "InvalidStateError FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED iscoroutine iscoroutinefunction isfuture "
    "ensure_future current_task all_tasks Barrier"
)
ASYNCIO: dict[str, Any] = {
    **{name: getattr(asyncio, name) for name in _ASYNC_NAMES.split()},
    "run": _run,
    "to_thread": _to_thread,
    "get_event_loop": event_loop,
    "new_event_loop": event_loop,
    "get_running_loop": asyncio.get_running_loop,
    "set_event_loop": lambda loop, /: None,
}


class Executor:
    """``ThreadPoolExecutor`` without threads: each call runs where it is submitted, in order."""

    def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """The finished future of ``fn(*args, **kwargs)``."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Any, timeout: Any = None, chunksize: int = 1) -> Iterator[Any]:
        """The results in order."""
        futures = [self.submit(fn, *args) for args in zip(*iterables, strict=False)]
        return (future.result() for future in futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls."""
        self._closed = True

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()


_FUTURES_NAMES = (
    "Future as_completed wait TimeoutError CancelledError FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED "
    "InvalidStateError"
)
FUTURES: dict[str, Any] = {
    "ThreadPoolExecutor": Executor,
    "ProcessPoolExecutor": Executor,
    "Executor": Executor,
    **{name: getattr(concurrent.futures, name) for name in _FUTURES_NAMES.split()},
}
