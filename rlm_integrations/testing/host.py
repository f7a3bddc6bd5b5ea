"""The host of a sandbox under test: every step is waited for, but not for ever, and blocks or runs in an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, TypeVar

from rlm_integrations.ports import CellOutput, Resume, Run, Sandbox, Session, SubCall

T = TypeVar("T")
Answer = Callable[[SubCall], Resume]


class Broken(AssertionError):
    """A promise that was not kept: what was expected, and what was seen."""


def expect(what: str, wanted: object, seen: object) -> None:
    """Raise ``Broken`` unless both are the same, types included."""
    if wanted != seen or type(wanted) is not type(seen):
        raise Broken(f"{what}: expected {wanted!r}, saw {_short(seen)}")


def expect_that(kept: bool, what: str, seen: object) -> None:
    """Raise ``Broken`` unless ``kept``; ``what`` says what should have been."""
    if not kept:
        raise Broken(f"expected {what}, saw {_short(seen)}")


def _short(seen: object) -> str:
    text = repr(seen)
    return text if len(text) <= 500 else f"{text[:400]}... ({len(text):,} characters)"


def unanswered(call: SubCall) -> Resume:
    """For cells that are to make no call."""
    raise Broken(f"expected no sub-call, saw {call!r}")


class Host:
    """Drives sessions of ``sandbox`` with its blocking methods, or with their async twins in a loop of its own."""

    def __init__(self, sandbox: Sandbox, mode: str, patience_s: float) -> None:
        self.sandbox, self.patience_s = sandbox, patience_s
        self._sessions: list[Session] = []
        self.loop = asyncio.new_event_loop() if mode == "async" else None
        if self.loop is not None:
            self._thread = threading.Thread(target=_serve, args=(self.loop,), name="rlm-check", daemon=True)
            self._thread.start()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for session in self._sessions:
            session.close()
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(self.patience_s)

    def open(self, variables: Mapping[str, Any], functions: Sequence[str] = ()) -> Session:
        """A new session, closed at the end of the check."""
        if self.loop is None:
            session = self.wait(lambda: self.sandbox.open(variables, functions), "open")
        else:
            session = self.run(self.sandbox.aopen(variables, functions), "aopen")
        self._sessions.append(session)
        return session

    def start(self, session: Session, step: Run | Resume) -> Future[SubCall | CellOutput]:
        """A step under way."""
        if self.loop is not None:
            return asyncio.run_coroutine_threadsafe(session.aadvance(step), self.loop)
        return _in_thread(lambda: session.advance(step))

    def step(self, session: Session, step: Run | Resume) -> SubCall | CellOutput:
        """The outcome of a step."""
        return self.outcome(self.start(session, step), f"the step {step!r}")

    def cell(self, session: Session, code: str, answer: Answer = unanswered) -> CellOutput:
        """What ``code`` comes to, its calls served by ``answer``."""
        stop = self.step(session, Run(code))
        while isinstance(stop, SubCall):
            stop = self.step(session, answer(stop))
        expect("the type of a step's outcome", CellOutput, type(stop))
        return stop

    def printed(self, session: Session, code: str, answer: Answer = unanswered) -> str:
        """What ``code`` prints, where it is to run without an error."""
        output = self.cell(session, code, answer)
        expect(f"the error of {code!r}", None, output.error)
        return output.stdout

    def wait(self, function: Callable[[], T], what: str) -> T:
        """What ``function`` returns, called in a thread of its own."""
        return self.outcome(_in_thread(function), what)

    def run(self, coroutine: Coroutine[Any, Any, T], what: str) -> T:
        """What ``coroutine`` returns, run in the loop."""
        assert self.loop is not None
        return self.outcome(asyncio.run_coroutine_threadsafe(coroutine, self.loop), what)

    def outcome(self, future: Future[T], what: str) -> T:
        """The result of what is under way. Raises ``Broken`` when patience ends."""
        try:
            return future.result(self.patience_s)
        except FutureTimeout:
            if future.done():
                raise
            future.cancel()
            raise Broken(f"expected an end, saw {what[:200]} still waiting after {self.patience_s:g} s") from None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run ``loop`` until it is stopped; what is still under way then is cancelled."""
    loop.run_forever()
    loop.run_until_complete(_cancel_others())
    loop.close()


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _in_thread(function: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="rlm-check", daemon=True).start()
    return future
