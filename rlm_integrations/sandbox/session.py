"""A session of ``ProcessSandbox``: one worker at a time, spoken to in steps that a driver waits for."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from rlm_integrations.errors import InvalidInput, SandboxError, WireError
from rlm_integrations.ports import CellOutput, Final, Resume, Run, SubCall
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.launcher import Starter
from rlm_integrations.sandbox.on_disk import OnDisk, asked_for, is_on_disk
from rlm_integrations.sandbox.output import clean, cut
from rlm_integrations.sandbox.settings import size_of
from rlm_integrations.sandbox.turns import OneAtATime
from rlm_integrations.sandbox.waiting import Steps, Work, adrive, drive
from rlm_integrations.sandbox.watchdog import watched
from rlm_integrations.sandbox.worker_end import Lost, WorkerEnd

__all__ = ["ProcessSession", "warn_of"]

logger = logging.getLogger(__name__)
_warned: set[str] = set()

T = TypeVar("T")

MAX_RESTARTS = 3
MAX_SOURCE_BYTES = 200_000
# What a tool may return to model code; a larger one fails there before it fills the worker's memory.
MAX_ANSWER_BYTES = 64 << 20
CHARGED_PER_CALL_S = 0.001
# Searches of an index on disk take the host's time, but nobody's budget: past this, all of it is the cell's.
FREE_SEARCH_S = 60.0


class ProcessSession(OneAtATime):
    """One REPL in a process of its own; if a cell kills it, the next cell gets a new one with the first variables."""

    def __init__(
        self,
        launcher: Starter,
        variables: Mapping[str, Any],
        functions: Sequence[str],
        *,
        timeout_s: float,
        memory_bytes: int,
        max_output_chars: int,
        strict: bool,
        policy: bool = True,
    ) -> None:
        super().__init__()
        self._launcher, self._variables, self._functions = launcher, dict(variables), list(functions)
        self._timeout_s, self._memory_bytes, self._max_output_chars = timeout_s, memory_bytes, max_output_chars
        self._strict, self._policy = strict, policy
        self._disk = OnDisk(variables) if any(map(is_on_disk, variables.values())) else None
        self._cell: str | None = None
        self._left_s = self._called = self._searched_s = 0.0
        self._until = math.inf
        self._restarts = 0
        self._note = ""
        self.layers: Mapping[str, str | None] = {}
        self._worker: WorkerEnd | None = WorkerEnd(launcher, memory_bytes, self._disk)

    def advance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step; blocks."""
        return drive(self._advance(step))

    async def aadvance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step without blocking the event loop; cancelling it ends the session."""
        return await adrive(self._advance(step))

    def close(self) -> None:
        """End the worker at once. An ``advance`` that waits in another thread raises ``SandboxError``."""
        with self._lock:
            self._closed = True
            worker = self._worker
            if worker is None:
                return
            worker.kill()
            # The thread that waits on the socket closes it, so that its number can't come to mean another one.
            if not self._busy:
                worker.close()
                self._worker = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def start(self) -> Steps[None]:
        """Have a worker that is ready for a cell. Raises ``SandboxError`` if there can't be one."""
        if self._worker is not None and self._worker.layers is not None:
            if not self._worker.is_spoilt():
                return
            how = "the worker was lost between two cells"
            self._restart(how)
            self._note = f"{how}, and all variables with it; `context` is in place"
        if self._worker is None:
            self._worker = WorkerEnd(self._launcher, self._memory_bytes, self._disk)
        worker = self._worker
        try:
            yield from worker.start(self._opening(), self._variables)
        except Lost as lost:
            if trouble := self._launcher.trouble():
                raise SandboxError(f"no worker can be started: {trouble}") from None
            raise SandboxError(
                f"the worker {lost} before its first cell: it has {self._memory_bytes >> 20} MB, "
                "raise ProcessSandbox(memory_mb=...) if the context needs more"
            ) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"a variable is not made of text and JSON values: {error}") from error
        self.layers = worker.layers or {}
        warn_of({name: reason for name, reason in self.layers.items() if reason is not None})
        if self._strict:
            for layer in ("landlock", "seccomp", "rlimits"):
                if (reason := self.layers.get(layer, "unknown")) is not None:
                    raise SandboxError(f"isolation='strict' needs {layer}: {reason}")

    def _opening(self) -> dict[str, Any]:
        return {
            "functions": self._functions,
            "variables": list(self._variables),
            "max_output_chars": self._max_output_chars,
            "policy": self._policy,
        }

    def _advance(self, step: Run | Resume) -> Steps[SubCall | CellOutput]:
        if isinstance(step, Run) and self._cell is not None:
            raise SandboxError("a Run came while a sub-call waits for its Resume")
        if isinstance(step, Resume) and self._cell is None:
            raise SandboxError(
                "the session is closed" if self._closed else "a Resume came while no sub-call waits for one"
            )
        # What is limited there is a whole run, in which the host's time counts.
        self._until = math.inf if step.timeout_s is None else time.monotonic() + step.timeout_s
        with self._turn():
            if isinstance(step, Run):
                if len(step.code.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
                    return CellOutput("", f"the cell is longer than {MAX_SOURCE_BYTES:,} bytes: write less code")
                yield from self.start()
                self._cell = secrets.token_hex(16)
                self._left_s = self._limit_s = min(self._timeout_s, step.timeout_s or self._timeout_s)
                self._searched_s = 0.0
                message: dict[str, Any] = {"type": "run", "cell": self._cell, "code": step.code}
            else:
                # The host's time is not the cell's; but calls without end must come to an end.
                self._left_s -= min(time.monotonic() - self._called, CHARGED_PER_CALL_S)
                if step.timeout_s is not None:
                    self._left_s = min(self._left_s, step.timeout_s)
                message = _resume(step.value, step.error)
            try:
                return (yield from self._bounded(self._exchange(message)))
            except (Lost, WireError) as lost:
                if self._closed:
                    raise SandboxError("the session was closed while a cell ran") from None
                how = f"the worker sent {lost}" if isinstance(lost, WireError) else f"the worker {lost}"
                self._restart(how, lost)
                told = f"the cell was stopped: {how}. All variables were lost; `context` is in place."
                return CellOutput("", told, restarted=True)

    def _exchange(self, message: dict[str, Any]) -> Steps[SubCall | CellOutput]:
        """Send ``message`` and give what comes of it; what only the session can answer, it answers."""
        while True:
            answer = yield from self._answer(message)
            if isinstance(answer, wire.Done):
                self._cell = None
                return self._output(answer)
            self._called = time.monotonic()
            if answer.name == wire.CANDIDATES and self._disk is not None and self._disk.has_index:
                message = yield from self._candidates(self._disk, *asked_for(answer))
                continue
            if answer.name not in self._functions:
                raise WireError("a call of a function that was not offered")
            args, kwargs = answer.args, answer.kwargs
            if answer.references and self._disk is not None:
                read = yield from _work(partial(self._disk.read, answer))
                if isinstance(read, str):
                    self._left_s = min(self._left_s - CHARGED_PER_CALL_S, self._until - time.monotonic())
                    message = _resume(error=read)
                    continue
                args, kwargs = read
                self._called = time.monotonic()
            return SubCall(answer.name, tuple(args), kwargs)

    def _candidates(self, disk: OnDisk, words: list[str], limit: int) -> Steps[dict[str, Any]]:
        found = yield from _work(partial(disk.candidates, words, limit, self._until - self._called))
        now = time.monotonic()
        spent_s = now - self._called
        self._searched_s += spent_s
        self._left_s -= spent_s if self._searched_s > FREE_SEARCH_S else min(spent_s, CHARGED_PER_CALL_S)
        self._left_s = min(self._left_s, self._until - now)
        return _resume(error=found) if isinstance(found, str) else _resume(found)

    def _answer(self, message: dict[str, Any]) -> Steps[wire.Call | wire.Done]:
        worker = self._worker
        assert worker is not None
        apart, data = yield from _packed(message)
        started = time.monotonic()
        late = Lost(f"took longer than {self._limit_s:g} s")
        if self._left_s <= 0:
            # It might answer before anyone looks at the clock again, and again.
            raise late
        yield from worker.send(data, started + self._left_s, late)
        if apart:
            yield from worker.deliver(message["value"], late, started + self._left_s)
        answer = yield from worker.receive(started + self._left_s, late)
        self._left_s -= time.monotonic() - started
        if not isinstance(answer, wire.Call | wire.Done):
            raise WireError("a frame out of order")
        if answer.cell != self._cell:
            raise WireError("a frame of another cell")
        return answer

    def _bounded(self, steps: Steps[SubCall | CellOutput]) -> Steps[SubCall | CellOutput]:
        """``steps``, in which the worker's memory is looked at where its system does not bound it."""
        worker = self._worker
        assert worker is not None
        return watched(steps, worker.check_size) if worker.watchdog is not None else steps

    def _output(self, done: wire.Done) -> CellOutput:
        # The worker has done both; but a worker that was taken over may say anything.
        limit = 7 * self._max_output_chars + 1000
        error = None if done.error is None else clean(cut(done.error, 20_000))
        final = None if done.final is None else Final(done.final[0], tuple(done.final[1]))
        restarted = bool(self._note)
        if self._note:
            error = f"{error}\n({self._note})" if error else f"({self._note})"
            self._note = ""
        if done.spent:
            how = "the worker's memory was full"
            self._restart(how)
            restarted = True
            error = f"{error or 'MemoryError'}\n({how}: all variables were lost, `context` is in place)"
        return CellOutput(clean(cut(done.stdout, limit)), error, final, restarted)

    def _restart(self, how: str, cause: Exception | None = None) -> None:
        """Drop the worker; the next cell gets a new one."""
        self._drop()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise SandboxError(
                f"the sandbox lost its worker {self._restarts} times in one session, the last time because {how}"
            ) from cause

    def _drop(self) -> None:
        self._cell = None
        # Another thread may be closing it: its descriptors must not come to mean others meanwhile.
        with self._lock:
            if self._worker is not None:
                self._worker.kill()
                self._worker.close()
                self._worker = None


def warn_of(missing: Mapping[str, str]) -> None:
    """Log each layer of confinement that is missing here, once for the life of this process."""
    for name in sorted(missing.keys() - _warned):
        _warned.add(name)
        logger.warning("the sandbox runs without %s: %s", name, missing[name])


def _packed(message: Mapping[str, Any]) -> Steps[tuple[bool, bytes]]:
    """A step as a frame; True with one whose value is large and is to be delivered after it."""
    value = message.get("value")
    try:
        if isinstance(value, str | list | tuple | dict) and (wire.is_large(value) or len(value) > wire.LONG_CHARS):
            size = yield from size_of(value)
            if size > MAX_ANSWER_BYTES:
                return False, _refusal(f"it takes up {size:,} bytes, at most {MAX_ANSWER_BYTES:,} can be passed on")
            return True, wire.frame({**message, "value": None, "apart": True})
        return False, wire.frame({name: wire.tagged(part) for name, part in message.items()})
    except (TypeError, ValueError, RecursionError) as error:
        return False, _refusal(str(error))


def _refusal(reason: str) -> bytes:
    return wire.frame(_resume(error=f"the answer can't be passed on: {reason}"))


def _resume(value: Any = None, error: str | None = None) -> dict[str, Any]:
    return {"type": "resume", "error": error, "value": value if error is None else None, "apart": False}


def _work(function: Callable[[], T]) -> Steps[T]:
    result: T = yield Work(function)
    return result
