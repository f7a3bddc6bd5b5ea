"""Bounds a worker's memory from the host where its system does not: looks at its size while a step waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from rlm_integrations.sandbox.waiting import Steps, Work

__all__ = ["Watchdog", "is_needed", "watched"]

INTERVAL_S = 0.02
T = TypeVar("T")


def is_needed(layers: Mapping[str, str | None]) -> bool:
    """Whether none of the layers in force bounds memory: Linux' limit of address space, or Windows' Job Object."""
    bound = {"linux": "rlimits", "win32": "job_object"}.get(sys.platform)
    return bound is None or layers.get(bound, "unknown") is not None


class Watchdog:
    """Knows the resident size of one process. ``reason`` says why it can't, if it can't.

    What a system compresses or swaps out is not counted, and between two looks a worker may grow by as much as it can
    fill in ``INTERVAL_S``: a bound against mistakes, not an exact one.
    """

    def __init__(self, pid: int) -> None:
        self.reason: str | None = None
        try:
            import psutil  # type: ignore[import-untyped]
        except ImportError:
            self.reason = "psutil is not installed"
            return
        self._unreadable = psutil.Error
        try:
            self._process = psutil.Process(pid)
            self._process.memory_info()
        except psutil.Error as error:
            self.reason = f"the worker's size can't be read: {error}"

    def size(self) -> int:
        """Resident bytes; 0 for a process that can't be looked at, as one that has ended."""
        try:
            return int(self._process.memory_info().rss)
        except self._unreadable:
            return 0


def watched(steps: Steps[T], check: Callable[[], None]) -> Steps[T]:
    """``steps``, with ``check`` called every ``INTERVAL_S`` that they wait; what it raises ends them."""
    try:
        wait = next(steps)
        while True:
            if isinstance(wait, Work):
                wait = steps.send((yield wait))
                continue
            turn = min(wait.deadline, time.monotonic() + INTERVAL_S)
            if wait.descriptor is None:
                turn = wait.deadline
            ready = yield replace(wait, deadline=turn)
            if not ready and turn < wait.deadline:
                check()
            else:
                wait = steps.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()
