"""A session of ``MontySandbox``: one worker of pydantic-monty at a time, killed where it does not answer in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.ports import CellOutput, Final, Resume, Run, SubCall
from rlm_integrations.sandbox import hints
from rlm_integrations.sandbox.monty_answers import raised, refusal, stub
from rlm_integrations.sandbox.monty_source import HOST_NAMES, PRELUDE, prepare
from rlm_integrations.sandbox.monty_values import Receiver, Sender, fields_of
from rlm_integrations.sandbox.monty_worker import Worker
from rlm_integrations.sandbox.output import MAX_PRINTED_CHARS, Output, TooMuchOutput, clean, cut
from rlm_integrations.sandbox.search import Index
from rlm_integrations.sandbox.turns import OneAtATime
from rlm_integrations.sandbox.values import Unsendable

MAX_RESTARTS = 3
MAX_SOURCE_BYTES = 200_000
MAX_QUOTES = 1_000
MAX_WORDS_CHARS = 10_000

# What reading the arguments of a call may raise; Unsendable is a ValueError.
UNSENDABLE = (TypeError, ValueError, RecursionError, OverflowError)
# Sessions of the process that this one was forked from: let go of here, they would end there.
_inherited: list[MontySession] = []


class _Lost(Exception):
    """The worker is of no more use; the message completes "the cell was stopped: the worker ..."."""


class MontySession(OneAtATime):
    """One REPL in a worker of Monty's; a lost worker is replaced by one with the first variables."""

    def __init__(
        self,
        checkout: Callable[[], Any],
        threads: Callable[[], Executor],
        variables: Mapping[str, Any],
        functions: Sequence[str],
        *,
        timeout_s: float,
        max_output_chars: int,
    ) -> None:
        super().__init__()
        self._checkout, self._threads = checkout, threads
        self._sender = Sender()
        try:
            self._variables = {name: self._sender.send(value, name) for name, value in variables.items()}
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"a variable is not made of text and JSON values: {error}") from error
        self._functions = list(functions)
        self._timeout_s, self._max_output_chars = timeout_s, max_output_chars
        self._index = Index(variables.get("context", ""))
        self._searcher: ThreadPoolExecutor | None = None
        self._worker: Worker | None = None
        self._snapshot: Any = None
        self._cells = self._restarts = 0
        self._limit_s = self._left_s = self._end = 0.0
        self._final: Final | None = None
        self._output, self._flooded = Output(0), False
        self._note = ""
        self._host = os.getpid()

    def advance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step; blocks. An interrupt ends the session."""
        # In another thread, since Monty lets no interrupt through while it waits for a worker.
        future = self._threads().submit(self._advance, step)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                self.close()
            raise

    async def aadvance(self, step: Run | Resume) -> SubCall | CellOutput:
        """Carry out a step without blocking the event loop; cancelling it ends the session."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads(), self._advance, step)
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """End the worker at once. An ``advance`` that waits in another thread raises ``SandboxError``."""
        if self._host != os.getpid():
            _inherited.append(self)
            return
        with self._lock:
            self._closed = True
            if self._busy:
                if self._worker is not None:
                    self._worker.kill()
            else:
                self._drop()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _advance(self, step: Run | Resume) -> SubCall | CellOutput:
        if isinstance(step, Run) and self._snapshot is not None:
            raise SandboxError("a Run came while a sub-call waits for its Resume")
        if isinstance(step, Resume) and self._snapshot is None and not self._closed:
            raise SandboxError("a Resume came while no sub-call waits for one")
        with self._turn():
            try:
                return self._run(step) if isinstance(step, Run) else self._resume(step)
            except (_Lost, RuntimeError) as lost:
                # Monty's own confusion is a RuntimeError.
                if self._closed:
                    raise SandboxError("the session was closed while a cell ran") from None
                self._restart()
                how = lost if isinstance(lost, _Lost) else f"failed: {lost}"
                told = f"the cell was stopped: the worker {how}. All variables were lost; `context` is in place."
                return CellOutput("", told, restarted=True)

    def _run(self, step: Run) -> SubCall | CellOutput:
        if len(step.code.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
            return CellOutput("", f"the cell is longer than {MAX_SOURCE_BYTES:,} bytes: write less code")
        worker = self._ready()
        self._cells += 1
        self._final, self._output, self._flooded = None, Output(self._max_output_chars), False
        self._left_s = self._limit_s = min(self._timeout_s, step.timeout_s or self._timeout_s)
        cell = prepare(step.code)
        worker.names.update(dict.fromkeys(cell.names))
        worker.uses_answer |= "answer" in step.code
        try:
            with self._deadline():
                worker.feed(HOST_NAMES)
                return self._serve(worker.feed, cell.source, self._stubs(), self._writer(), step.code)
        except worker.monty.MontyError as error:
            return self._ended(worker, error)

    def _resume(self, step: Resume) -> SubCall | CellOutput:
        worker, snapshot = self._worker, self._snapshot
        assert worker is not None
        self._snapshot = None
        if step.timeout_s is not None:
            self._left_s = min(self._left_s, step.timeout_s)
        answer: dict[str, Any]
        try:
            answer = raised(step.error) if step.error is not None else {"return_value": Sender().send(step.value)}
        except (TypeError, ValueError) as error:
            answer = raised(f"the answer can't be passed on: {error}")
        try:
            with self._deadline():
                return self._serve(snapshot.resume, answer)
        except worker.monty.MontyError as error:
            return self._ended(worker, error)

    def _serve(self, step: Callable[..., Any], *args: Any) -> SubCall | CellOutput:
        """Carry ``step`` out, and what Monty asks for after it, up to a call that the host serves or to the end."""
        worker = self._worker
        assert worker is not None
        done = False
        while True:
            snapshot = step(*args)
            if isinstance(snapshot, worker.monty.MontyComplete):
                if done or not worker.uses_answer or self._final is not None:
                    return self._ended(worker, None)
                step, args, done = worker.feed, ("_rlm_take_answer()", self._stubs()), True
                continue
            if time.monotonic() > self._end:
                raise _Lost(f"took longer than {self._limit_s:g} s")
            if isinstance(snapshot, worker.monty.NameLookupSnapshot):
                step, args = snapshot.resume, ()
            elif isinstance(snapshot, worker.monty.FunctionSnapshot):
                name = snapshot.function_name
                if name in self._functions and not snapshot.is_os_function and self._final is None:
                    try:
                        call = self._sub_call(name, snapshot)
                    except UNSENDABLE as error:
                        step, args = snapshot.resume, (raised(str(error), "ValueError"),)
                        continue
                    self._snapshot = snapshot
                    return call
                step, args = snapshot.resume, (self._answer(name, snapshot),)
            else:
                raise _Lost("waits for something that is not offered")

    def _sub_call(self, name: str, snapshot: Any) -> SubCall:
        receiver = Receiver(self._sender.by_text)
        args = tuple(receiver.convert(list(snapshot.args), 0))
        return SubCall(name, args, receiver.convert(dict(snapshot.kwargs), 0))

    def _answer(self, name: str, snapshot: Any) -> dict[str, Any]:
        """What a call that is not the host's comes to."""
        if snapshot.is_os_function:
            return refusal(name, snapshot.args if name == "import" else ())
        served: dict[str, Callable[..., Any]] = {
            "FINAL": self._take_final,
            "_rlm_found": self._found,
            "_rlm_names": self._names,
        }
        serve = served.get(name)
        if serve is None:
            if name in self._functions:
                return raised("FINAL was called in this cell: nothing more is asked for")
            if name in hints.BUILTINS:
                return raised(f"{name}() can't be used here: {hints.BUILTINS[name]}")
            return raised(f"name {name!r} is not defined", "NameError")
        try:
            return {"return_value": serve(*snapshot.args, **snapshot.kwargs)}
        except UNSENDABLE as error:
            return raised(str(error), "TypeError" if isinstance(error, TypeError) else "ValueError")

    def _take_final(self, value: Any, quotes: Any = ()) -> None:
        if self._final is not None:
            return
        quotes = [quotes] if isinstance(quotes, str) else list(quotes or ())
        if len(quotes) > MAX_QUOTES:
            raise Unsendable(f"more than {MAX_QUOTES:,} quotes: cite the ones that bear the answer out")
        receiver = Receiver({})
        value = receiver.convert(value, 0)
        self._final = Final(value, tuple(str(quote) for quote in receiver.convert(quotes, 0)))

    def _found(self, words: Any, n: Any = 5, brief: Any = False) -> list[tuple[str, dict[str, Any]]]:
        if not isinstance(words, str):
            words = " ".join(str(word) for word in list(words)[:MAX_QUOTES])
        # SQLite keeps to the thread it was opened in; and waiting for one can end.
        self._searcher = self._searcher or ThreadPoolExecutor(1, "rlm-search")
        found = self._searcher.submit(self._index.search, words[:MAX_WORDS_CHARS], int(n), bool(brief))
        try:
            passages = found.result(max(0.0, self._end - time.monotonic()))
        except TimeoutError:
            raise _Lost(f"took longer than {self._limit_s:g} s") from None
        return [(str(Sender().send(str.__str__(passage))), fields_of(passage)) for passage in passages]

    def _writer(self) -> Callable[[str], None]:
        # Monty holds on to it, and the collector does not see what Monty holds.
        this = weakref.ref(self)

        def write(text: str) -> None:
            session = this()
            if session is not None:
                session._write(text)

        return write

    def _write(self, text: str) -> None:
        try:
            self._output.write(text)
        except TooMuchOutput:
            self._flooded = True
            # Monty would run the cell on to its end before it looked at an exception raised here.
            assert self._worker is not None
            self._worker.kill()

    def _names(self) -> list[str]:
        assert self._worker is not None
        return [*self._variables, *self._worker.names]

    def _stubs(self) -> dict[str, Any]:
        return {name: stub(name) for name in ("FINAL", *self._functions)}

    def _ended(self, worker: Worker, error: Any) -> CellOutput:
        text = None
        if error is not None:
            if isinstance(error, worker.monty.MontyCrashedError):
                if self._flooded:
                    raise _Lost(f"printed more than {MAX_PRINTED_CHARS:,} characters")
                late = error.timed_out or time.monotonic() >= self._end
                raise _Lost(f"took longer than {self._limit_s:g} s" if late else "died")
            text = worker.described(error, self._variables)
            if not getattr(error, "traceback", list)():
                # A limit was passed, which leaves the heap in no certain state.
                if "TimeoutError: feed time limit" in text:
                    raise _Lost(f"took longer than {self._limit_s:g} s")
                if "MemoryError: memory limit" in text:
                    raise _Lost("ran out of memory")
            text = clean(cut(text, 20_000))
        note, self._note = self._note, ""
        if note:
            text = f"{text}\n({note})" if text else f"({note})"
        return CellOutput(self._output.text(), text, self._final, bool(note))

    def _ready(self) -> Worker:
        if self._worker is not None and self._worker.is_lost():
            self._restart()
            self._note = "the worker was lost between two cells, and all variables with it; `context` is in place"
        if self._worker is None:
            worker = Worker(self._checkout())
            with self._lock:
                self._worker = worker
                if self._closed:
                    worker.kill()
            given = {"_rlm_documents": self._sender.documents, "_rlm_given": ["answer", *self._variables]}
            stubs = {name: stub(name) for name in ("_rlm_found", "_rlm_names")}
            try:
                worker.feed(PRELUDE, self._variables | given | stubs)
            except worker.monty.MontyError as error:
                if self._closed:
                    raise SandboxError("the session is closed") from None
                raise SandboxError(
                    f"the worker could not take its variables ({error}): raise MontySandbox(memory_mb=...) "
                    "if the context needs more"
                ) from None
        return self._worker

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Have the worker killed if it takes longer than is left; Monty itself only knows the sandbox's limit."""
        worker = self._worker
        assert worker is not None
        started = time.monotonic()
        self._end = started + self._left_s
        timer = None
        if self._left_s < self._timeout_s:
            timer = threading.Timer(self._left_s, worker.kill)
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            self._left_s -= time.monotonic() - started
            if timer is not None:
                timer.cancel()

    def _restart(self) -> None:
        self._drop()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise SandboxError(f"the sandbox lost its worker {self._restarts} times in one session")

    def _drop(self) -> None:
        self._snapshot = None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        if self._closed and self._searcher is not None:
            self._searcher.shutdown(wait=False)


# What a wrong call of it shows to the model.
MontySession._take_final.__qualname__ = "FINAL"
