"""``threading`` and ``timeit`` for a worker that has one thread: what is started runs at once, to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rlm_integrations.sandbox.hints import PARALLEL


class Lock:
    """A lock that nobody else can hold; taking it twice would wait for ever, and is an error."""

    _again = False

    def __init__(self) -> None:
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        if self._count and not self._again:
            if not blocking or timeout >= 0:
                return False
            raise RuntimeError("the lock is held already and would never be free: there is one thread here")
        self._count += 1
        return True

    def release(self) -> None:
        """Give it back."""
        if not self._count:
            raise RuntimeError("release unlocked lock")
        self._count -= 1

    def locked(self) -> bool:
        """Whether it is held."""
        return self._count > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class RLock(Lock):
    """A lock that may be taken again."""

    _again = True


class Semaphore(Lock):
    """A semaphore, which is never waited for."""

    _again = True

    def __init__(self, value: int = 1) -> None:
        super().__init__()


class Event:
    """A flag."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Raise the flag."""
        self._set = True

    def clear(self) -> None:
        """Lower the flag."""
        self._set = False

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the flag is up: nobody else could raise it meanwhile."""
        if not self._set and timeout is None:
            raise RuntimeError(f"the event would never be set: {PARALLEL}")
        return self._set


class Thread:
    """A thread that runs when it is started, and has ended by then."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Any = (),
        kwargs: Any = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name, self.daemon = name or "Thread", bool(daemon)
        self._call = (target, tuple(args), dict(kwargs or {}))
        self._started = False

    def start(self) -> None:
        """Run it to its end."""
        if self._started:
            raise RuntimeError("threads can only be started once")
        self._started = True
        self.run()

    def run(self) -> None:
        """Call the target."""
        target, args, kwargs = self._call
        if target is not None:
            target(*args, **kwargs)

    def join(self, timeout: float | None = None) -> None:
        """Nothing is left to wait for."""
        if not self._started:
            raise RuntimeError("cannot join thread before it is started")

    def is_alive(self) -> bool:
        """Whether it runs still."""
        return False


class _Local:
    """``threading.local``."""


_main = Thread(name="MainThread")


def _time(statement: Any = None, setup: Any = None, number: int = 1_000_000, repeat: int = 1) -> list[float]:
    if not callable(statement) or isinstance(setup, str):
        raise TypeError("give a function to time here, such as lambda: f(x): text is not run")
    times = []
    for _ in range(repeat):
        if setup is not None:
            setup()
        start = time.perf_counter()
        for _ in range(number):
            statement()
        times.append(time.perf_counter() - start)
    return times


def timeit(stmt: Any = None, setup: Any = None, timer: Any = None, number: int = 1_000_000) -> float:
    """``timeit.timeit`` of a function."""
    return _time(stmt, setup, number)[0]


def repeat(
    stmt: Any = None, setup: Any = None, timer: Any = None, repeat: int = 5, number: int = 1_000_000
) -> list[float]:
    """``timeit.repeat`` of a function."""
    return _time(stmt, setup, number, repeat)


THREADING: dict[str, Any] = {
    "Lock": Lock,
    "RLock": RLock,
    "Semaphore": Semaphore,
    "BoundedSemaphore": Semaphore,
    "Event": Event,
    "Thread": Thread,
    "local": _Local,
    "current_thread": lambda: _main,
    "main_thread": lambda: _main,
    "active_count": lambda: 1,
    "get_ident": lambda: 1,
}
TIMEIT: dict[str, Any] = {"timeit": timeit, "repeat": repeat, "default_timer": time.perf_counter}
