"""Carries out one question: the run, its interruption, and what is to be said of its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rlm_integrations.cli.exits import Exit, advice
from rlm_integrations.cli.text import flat
from rlm_integrations.cli.views import View
from rlm_integrations.context import Context
from rlm_integrations.events import Event
from rlm_integrations.result import RLMResult
from rlm_integrations.rlm import RLM
from rlm_integrations.saving import Saver

__all__ = ["Outcome", "carry_out", "wait_for"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command's question ended: ``error`` says why where there is no answer."""

    result: RLMResult
    exit: Exit
    error: str | None

    @classmethod
    def of(cls, events: Sequence[Event], error: BaseException | None = None) -> Outcome:
        """What ``events`` tell, and the error that ended them. An error that is a bug is raised with RLM_DEBUG=1."""
        result = RLMResult.from_events(events) if events else RLMResult(None, "failed")
        if error is None:
            return cls(result, Exit.EXTRACTED if result.status == "extracted" else Exit.COMPLETE, None)
        exit = Exit.of(error)
        if exit is Exit.UNEXPECTED and os.environ.get("RLM_DEBUG"):
            raise error
        return cls(result, exit, flat(advice(error), 2_000))


def carry_out(
    rlm: RLM,
    question: str,
    context: Context,
    view: View,
    waiting_for: str | None = None,
    *,
    save: Saver | None = None,
) -> None:
    """Ask ``rlm``, one of whose observers is ``view``; see ``wait_for``."""

    async def ask() -> None:
        if view.wants_text:
            async for _ in rlm.astream(question, context, save=save):
                pass  # The view is an observer; being streamed makes the model's text one of the events.
        else:
            await rlm.arun(question, context, save=save)

    wait_for(ask, view, waiting_for)


def wait_for(asking: Callable[[], Awaitable[T]], view: View, waiting_for: str | None = None) -> T:
    """What ``asking`` brings, while ``view`` shows it; ``waiting_for`` is what takes time before the first event.

    Raises what it raises. SIGINT and SIGTERM end it at once, and raise ``KeyboardInterrupt`` with the signal.
    """
    signals: list[signal.Signals] = []
    if waiting_for:
        view.waiting(waiting_for)
    try:
        # stdout is for the answer, whatever a library thinks.
        with view, contextlib.redirect_stdout(sys.stderr):
            return asyncio.run(_interruptible(asking, signals))
    except asyncio.CancelledError:
        raise KeyboardInterrupt(*signals) from None


async def _interruptible(asking: Callable[[], Awaitable[T]], signals: list[signal.Signals]) -> T:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def stop(number: signal.Signals) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Where there are no such handlers (Windows, other threads), asyncio.run itself cancels at Ctrl-C.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop, number)
    return await asking()
