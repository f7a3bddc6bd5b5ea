"""One REPL: a namespace, the names served by the host, and cells run in it."""

from __future__ import annotations

import inspect
import mmap
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rlm_integrations.sandbox import trace
from rlm_integrations.sandbox.builtin_names import cell_builtins, printer
from rlm_integrations.sandbox.documents import Documents
from rlm_integrations.sandbox.guards import Facade, visible
from rlm_integrations.sandbox.modules import PRELOADED
from rlm_integrations.sandbox.output import Streams, clean
from rlm_integrations.sandbox.policy import ECHO, compile_cell, compile_plain
from rlm_integrations.sandbox.search import Index, Passages
from rlm_integrations.sandbox.stand_ins import event_loop
from rlm_integrations.sandbox.stored_search import StoredIndex
from rlm_integrations.sandbox.values import Referring, Unsendable, arguments, plain
from rlm_integrations.sandbox.wire import CANDIDATES

MAX_QUOTES = 1_000
RESERVE_BYTES = 4 << 20
Named = TypeVar("Named", bound=Callable[..., Any])


class SubCallError(RuntimeError):
    """A call served by the host failed; the message says why."""


class Repl:
    """A session's namespace. It is prepared before the session is there, since a fork of what stands is cheap."""

    def __init__(self, facades: dict[str, Facade]) -> None:
        # Dataclasses look up their module by name.
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        self._namespace = namespace = vars(module)
        namespace.clear()
        namespace["__name__"], namespace["__doc__"] = "__main__", None
        self._streams = Streams(0)
        self._policy = True
        namespace["__builtins__"] = cell_builtins(facades, namespace, self._streams)
        self._given: dict[str, Any] = {}
        self._final: tuple[Any, list[str]] | None = None
        self._reserve: mmap.mmap | None = None
        self.spent = False
        """Whether there is too little memory left for another cell."""
        self._host_names: dict[str, Any] = {
            "FINAL": self._make_final(),
            "FINAL_VAR": self._make_final_var(),
            "SHOW_VARS": self._make_show_vars(),
            "print": printer(self._streams),
        }
        self._cells = 0

    def begin(
        self,
        variables: dict[str, Any],
        functions: Sequence[str],
        call: Callable[[str, list[Any], dict[str, Any]], Any],
        max_output_chars: int,
        policy: bool = True,
        reference: Referring | None = None,
    ) -> None:
        """Take what belongs to the session. ``call`` carries a served function's call to the host and returns its
        outcome; ``reference`` tells which arguments it gets as references."""
        namespace = self._namespace
        self._streams.limit = max_output_chars
        self._policy = policy
        if not policy:
            del namespace["__builtins__"]
            namespace.update({name: sys.modules[name] for name in PRELOADED})
        self._reserve = _memory()
        self._given = variables
        self._host_names |= {name: self._served(name, call, reference) for name in functions}
        self._host_names["search"] = _make_search(variables.get("context", ""), call)
        namespace.update(variables)
        self._answer = namespace["answer"] = {"content": None, "ready": False}

    def run(self, source: str) -> tuple[str, str | None, tuple[Any, list[str]] | None]:
        """Run a cell: what it printed, with the echo of a trailing expression; its error; its final value."""
        self._cells += 1
        self._final = None
        output = self._streams.fresh()
        filename = f"{trace.CELL}{self._cells}>"
        namespace = self._namespace
        namespace.update(self._host_names)
        namespace.pop(ECHO, None)
        error = None
        try:
            trace.remember(filename, source)
            code = (compile_cell if self._policy else compile_plain)(source, filename)
            outcome = eval(code, namespace)
            if code.co_flags & inspect.CO_COROUTINE:
                event_loop().run_until_complete(outcome)
            echo = namespace.pop(ECHO, None)
            if echo is not None:
                self._streams.stdout = output
                output.write((echo if isinstance(echo, str) else repr(echo)) + "\n")
            self._take_answer()
        except BaseException as raised:
            if isinstance(raised, MemoryError):
                self._reserve = None
            error = self._described(raised, filename)
        stdout = output.text()
        self.spent = not self._has_room()
        return stdout, error, self._final

    def _has_room(self) -> bool:
        self._reserve = self._reserve or _memory()
        room = _memory()
        if room is not None:
            room.close()
        return self._reserve is not None and room is not None

    def _described(self, error: BaseException, filename: str) -> str:
        try:
            text = trace.describe(error, filename, [*self._namespace, *self._given])
        except BaseException as second:
            text = f"{type(error).__name__} (it can't be shown: {type(second).__name__})"
        # Frames hold what the cell held; a MemoryError leaves none to spare.
        error.__traceback__ = None
        return clean(text)

    def _take_answer(self) -> None:
        answer = self._answer
        # Only the dict that was given: one read from a document may be called ``answer`` too, and be "ready".
        if self._final is None and self._namespace.get("answer") is answer and answer.get("ready"):
            answer["ready"] = False
            self._final = (plain(answer.get("content")), [])

    def _served(
        self, name: str, call: Callable[[str, list[Any], dict[str, Any]], Any], reference: Referring | None
    ) -> Callable[..., Any]:
        def served(*args: Any, **kwargs: Any) -> Any:
            if self._final is not None:
                raise SubCallError("FINAL was called in this cell: nothing more is asked for")
            return call(name, *arguments(args, kwargs, reference))

        served.__name__ = served.__qualname__ = name
        return served

    def _make_final(self) -> Callable[..., None]:
        def FINAL(value: Any, quotes: Any = ()) -> None:
            if self._final is not None:
                return
            quotes = [quotes] if isinstance(quotes, str) else list(quotes or ())
            if len(quotes) > MAX_QUOTES:
                raise Unsendable(f"more than {MAX_QUOTES:,} quotes: cite the ones that bear the answer out")
            self._final = (plain(value), [str(quote) for quote in plain(quotes)])

        return _named(FINAL)

    def _make_final_var(self) -> Callable[..., None]:
        final = self._make_final()

        def FINAL_VAR(name: Any, quotes: Any = ()) -> None:
            if type(name) is str and name.isidentifier():
                if name not in visible(self._namespace):
                    made = ", ".join(self._host_names["SHOW_VARS"]()) or "none"
                    raise NameError(f"there is no variable {name!r} to give as the answer; yours are: {made}")
                name = self._namespace[name]
            final(name, quotes)

        return _named(FINAL_VAR)

    def _make_show_vars(self) -> Callable[[], dict[str, str]]:
        def SHOW_VARS() -> dict[str, str]:
            hidden = self._host_names.keys() | self._given.keys() | {"answer"}
            made = visible(self._namespace).items()
            return {name: _short(value) for name, value in made if name not in hidden and type(value) is not Facade}

        return _named(SHOW_VARS)


def _named(function: Named) -> Named:
    """``function``, whose errors name it as model code knows it."""
    function.__qualname__ = function.__name__
    return function


def _memory() -> mmap.mmap | None:
    """Some memory to give back when a cell has used up all there is, so that this can still be said.

    From the kernel itself: malloc keeps what it gets back, and takes its next large blocks from there, page by page.
    """
    try:
        return mmap.mmap(-1, RESERVE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None


def _short(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if isinstance(value, str | list | dict | set | tuple | Documents) else kind


def _make_search(context: Any, call: Callable[[str, list[Any], dict[str, Any]], Any]) -> Callable[..., Passages]:
    index: Index | StoredIndex
    if isinstance(context, Documents):
        index = StoredIndex(context, lambda words, limit: call(CANDIDATES, [words, limit], {}))
    else:
        index = Index(context)

    def search(words: str | Sequence[str], n: int = 5, brief: bool = False) -> Passages:
        return index.search(words, n, brief)

    return _named(search)
