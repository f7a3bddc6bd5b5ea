"""The telling of callbacks in an event loop, which goes on beside the run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from uuid import UUID

from rlm_integrations.engine.effects import EndRun
from rlm_integrations.errors import RLMError
from rlm_integrations.events import CellStarted, Event, ModelCallStarted, RunStarted
from rlm_integrations.langchain.endings import Endings
from rlm_integrations.langchain.reporting import Place, Runs

__all__ = ["AsyncReporting"]


class AsyncReporting(Runs):
    """Tells callbacks of the events of one run in an event loop, in order, without holding the run up.

    Use as a context manager around the run; at its end all has been told, also when the run failed or was cancelled.
    What a handler with ``raise_error`` raises ends the run, but not at once: a cell that it was told of may have begun.
    No model or tool of LangChain's is called after it, and no further cell is run.
    """

    _raised: Exception | None = None

    async def __aenter__(self) -> AsyncReporting:
        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._inbox: asyncio.Queue[Event | asyncio.Future[None] | None] = asyncio.Queue()
        self._teller = asyncio.create_task(self._tell_all())
        self._endings = Endings(self._root)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._inbox.put_nowait(None)
        try:
            # A cancelled run still has its ends to report.
            await asyncio.shield(self._teller)
        except asyncio.CancelledError:
            if not self._teller.cancelled():
                raise
            # A loop that closes cancels all tasks, and only then closes the streams that were left open.
            await self._tell_all()
        if error is None and self._raised:
            raise self._raised

    def _left_open(self, id: str, error: RLMError, *, own: bool) -> Iterator[Any]:
        return self._endings.left_open(None if id == self._root_id else UUID(id), error, but=UUID(id) if own else None)

    def observe(self, event: Event) -> None:
        """Tell of ``event``, soon."""
        self.note(event)
        if threading.get_ident() == self._home:
            self._inbox.put_nowait(event)
        else:
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, event)
        if self._raised and isinstance(event, RunStarted | CellStarted | ModelCallStarted):
            raise EndRun(self._raised)

    async def caught_up(self) -> None:
        """Wait until all that was observed so far has been told; raises ``EndRun`` if a handler wants that."""
        mark: asyncio.Future[None] = self._loop.create_future()
        self._inbox.put_nowait(mark)
        await mark
        if self._raised:
            raise EndRun(self._raised)

    async def aplace(self, event_id: str) -> Place:
        """Where a model call belongs, once its parents are known to the callbacks."""
        await self.caught_up()
        return self.place(event_id)

    async def _tell_all(self) -> None:
        while (item := await self._inbox.get()) is not None:
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
                continue
            try:
                await self._tell_one(item)
            except Exception as error:  # of a handler that wants it raised: LangChain logs all others
                self._raised = self._raised or error

    async def _tell_one(self, event: Event) -> None:
        steps = self.tell(event)
        resume, value = steps.send, None
        while True:
            try:
                waited = resume(value)
            except StopIteration:
                return
            try:
                resume, value = steps.send, None if waited is None else await waited
            except Exception as error:
                # The rest is told all the same.
                resume, value = steps.throw, error
