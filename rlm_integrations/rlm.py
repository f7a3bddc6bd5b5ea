"""``RLM``: the engine with its settings, and every way to ask it."""

from __future__ import annotations

import builtins
import contextvars
import dataclasses
import difflib
import keyword
import os
import queue
import threading
import traceback
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from rlm_integrations.budget import Budget
from rlm_integrations.cache import reply_cache
from rlm_integrations.context import Context, is_large
from rlm_integrations.engine.algorithm import run
from rlm_integrations.engine.answer import AnswerType
from rlm_integrations.engine.drivers import adrive, drive, in_thread, is_async
from rlm_integrations.engine.effects import Branch, CheckModel, Work
from rlm_integrations.engine.record import Record
from rlm_integrations.engine.room import MAX_RUNS, Room
from rlm_integrations.engine.sub_calls import FUNCTIONS
from rlm_integrations.engine.tree import Observer, Settings, Tree
from rlm_integrations.errors import InvalidInput, RLMError
from rlm_integrations.events import Event, RunEnded
from rlm_integrations.ports import Cache, LanguageModel, Sandbox, Tool
from rlm_integrations.prompts import Prompts
from rlm_integrations.result import RLMResult
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saving import Saver
from rlm_integrations.sequel import Replay, Resumption
from rlm_integrations.trajectory import Trajectory

if TYPE_CHECKING:
    import asyncio

__all__ = ["RLM"]

SavePath = str | os.PathLike[str] | Saver

MODULES = "re json math datetime collections itertools statistics string textwrap random functools hashlib csv"
# A blocking model call can't be ended; its run is not waited for any longer than this.
LET_GO_S = 2.0
RESERVED = {
    *FUNCTIONS,
    *MODULES.split(),
    *dir(builtins),
    *keyword.kwlist,
    *("FINAL", "FINAL_VAR", "SHOW_VARS", "answer", "context", "query", "search"),
}


SETTINGS = (
    "recursive_model max_depth max_iterations max_parallel max_runs budget sandbox tools output_type observers "
    "on_exhausted final_write instructions cache api_base api_key temperature timeout"
).split()


class RLM:
    """Answers questions about contexts too long for a prompt.

    Immutable: any number of threads and tasks may use one at once, and a copy is the same object.

    ``model``: a LiteLLM name, or anything with the ``LanguageModel`` port's methods; ``recursive_model`` takes the
    sub-calls (default: the same). ``max_depth``: levels of child runs below the root; 0 allows plain sub-calls only.
    ``max_iterations``: turns of one run. ``max_parallel``: sub-calls of one batch in flight. ``max_runs``: root runs
    under way at once in one event loop; more wait, but never those that a run begins (in a tool, say), and never
    blocking ones, which are as many as the threads that make them. A tool that waits for a task begun outside of the
    run needs another RLM there: the task's runs would wait for the tool's. ``budget``: limits of a whole tree.
    ``sandbox``: a ``ProcessSandbox`` shared by all, by default. ``tools``: functions model code may call by name.
    ``output_type``: ``str``, or any type pydantic can validate. ``observers``: functions of one ``Event``.
    ``on_exhausted``: "extract" draws an answer from what was seen when turns or budget run out, "raise" raises.
    ``final_write``: tell the model of ``FINAL_WRITE``, which has a long answer written as text, so that it streams.
    ``instructions``: what the answer must be like, said to the model that answers, after the system prompt.
    ``cache``: keeps the replies of models for later runs, which get them for nothing where they ask the same: the path
    of a folder (with the extra ``cache``), or an object with ``get(key)`` and ``set(key, value)``.
    ``api_base`` and ``api_key`` are for models given by name; ``temperature``, ``timeout`` (seconds) and any
    ``model_options`` are for all.

    Raises ``InvalidInput`` for a setting that can't be used.
    """

    def __init__(
        self,
        model: str | LanguageModel,
        *,
        recursive_model: str | LanguageModel | None = None,
        max_depth: int = 1,
        max_iterations: int = 20,
        max_parallel: int = 16,
        max_runs: int = MAX_RUNS,
        budget: Budget | None = None,
        sandbox: Sandbox | None = None,
        tools: Sequence[Tool] = (),
        output_type: Any = str,
        observers: Sequence[Observer] = (),
        on_exhausted: Literal["extract", "raise"] = "extract",
        final_write: bool = False,
        instructions: str = "",
        cache: str | os.PathLike[str] | Cache | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        **model_options: Any,
    ) -> None:
        _check_int("max_depth", max_depth, 0)
        _check_int("max_iterations", max_iterations, 1)
        _check_int("max_parallel", max_parallel, 1)
        _check_int("max_runs", max_runs, 1)
        if on_exhausted not in ("extract", "raise"):
            raise InvalidInput(f"on_exhausted={on_exhausted!r}: pass 'extract' or 'raise'")
        _check_budget(budget)
        _check_observers(observers)
        if sandbox is not None and not (hasattr(sandbox, "open") and hasattr(sandbox, "aopen")):
            raise InvalidInput(
                f"sandbox={sandbox!r}: pass a ProcessSandbox, or an object with the Sandbox port's methods"
            )
        for name in model_options:
            if close := difflib.get_close_matches(name, SETTINGS, 1, 0.8):
                raise InvalidInput(f"there is no setting {name}: did you mean {close[0]}?")
        given = {"temperature": temperature, "timeout": timeout}
        options = {**model_options, **{name: value for name, value in given.items() if value is not None}}

        def port(value: str | LanguageModel) -> LanguageModel:
            if not isinstance(value, str):
                return _checked_model(value)
            if not value.strip():
                raise InvalidInput("model is empty: pass a LiteLLM name such as 'openai/gpt-5-mini'")
            from rlm_integrations.models import LiteLLMModel

            return LiteLLMModel(value, api_base=api_base, api_key=api_key, **options)

        root = port(model)
        recursive = root if recursive_model is None else port(recursive_model)
        by_name = isinstance(model, str) or isinstance(recursive_model, str)
        if not by_name and (api_base is not None or api_key is not None):
            raise InvalidInput("api_base and api_key are for models given by name: set them on the model itself")
        self._settings = Settings(
            model=root,
            recursive_model=recursive,
            sandbox=_default_sandbox() if sandbox is None else sandbox,
            max_depth=max_depth,
            max_iterations=max_iterations,
            max_parallel=max_parallel,
            budget=budget or Budget(),
            tools=_named_tools(tools),
            answer_type=AnswerType(output_type),
            on_exhausted=on_exhausted,
            final_write=bool(final_write),
            instructions=_checked_instructions(instructions),
            # A model given by name got its options when it was made.
            model_options={} if isinstance(model, str) else options,
            recursive_options={} if isinstance(model if recursive_model is None else recursive_model, str) else options,
            cache=reply_cache(cache, options),
            room=Room(max_runs),
        )
        self._observers = tuple(observers)

    @property
    def settings(self) -> Settings:
        """What this RLM was made with."""
        return self._settings

    def replace(
        self,
        *,
        model: LanguageModel | None = None,
        recursive_model: LanguageModel | None = None,
        tools: Mapping[str, Tool] | None = None,
        instructions: str | None = None,
        answer_type: AnswerType | None = None,
        prompts: Prompts | None = None,
        budget: Budget | None = None,
        room: Room | None = None,
        observers: Sequence[Observer] = (),
    ) -> RLM:
        """The same with other models, tools (by name), answers, prompts and so on, and with more observers.

        For a face, which has them for one run; nothing is checked again.
        """
        new, old = object.__new__(RLM), self._settings
        new._settings = dataclasses.replace(
            old,
            model=model or old.model,
            recursive_model=recursive_model or old.recursive_model,
            tools=old.tools if tools is None else tools,
            instructions=old.instructions if instructions is None else instructions,
            answer_type=answer_type or old.answer_type,
            prompts=prompts or old.prompts,
            budget=budget or old.budget,
            room=room or old.room,
            final_write=old.final_write and answer_type is None,
        )
        new._observers = (*self._observers, *observers)
        return new

    @classmethod
    def from_settings(cls, settings: Settings, observers: Sequence[Observer] = ()) -> RLM:
        """An RLM of the settings that another was made with, maybe in another process; nothing is checked again."""
        new = object.__new__(cls)
        new._settings, new._observers = settings, tuple(observers)
        return new

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The functions that each event is shown to."""
        return self._observers

    def with_tools(self, tools: Sequence[Tool]) -> RLM:
        """The same settings with more tools. Raises ``InvalidInput`` for one that can't be used."""
        own = self._settings.tools
        added = _named_tools(tools)
        if both := own.keys() & added.keys():
            raise InvalidInput(f"two tools are called {min(both)}: rename one")
        return self.replace(tools={**own, **added}) if added else self

    def __copy__(self) -> RLM:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RLM:
        return self

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("an RLM can't be pickled: make one in each process")

    def completion(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> Any:
        """The answer: a ``str``, or an instance of ``output_type``. See ``run`` for the rest."""
        return self.run(query, context, save=save, include_context=include_context).answer

    async def acompletion(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> Any:
        """The answer, without blocking the event loop."""
        return (await self.arun(query, context, save=save, include_context=include_context)).answer

    def run(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> RLMResult:
        """The answer and all about it. Works anywhere, also inside a running event loop, which it blocks.

        ``context``: a ``str``, a list of ``str`` or ``Document``, a dict or list of JSON values, or a ``Context``.
        ``save``: a file to write each event to as it happens, as ``RLMResult.save`` does at the end; it is overwritten
        when the run begins. With ``include_context`` the whole context goes first. A disk that gets full on the way is
        logged, and the run goes on.
        Raises ``InvalidInput`` before any model call, and ``ModelError``, ``BudgetExceeded``, ``TurnsExhausted`` or
        ``SandboxError`` with ``.partial``, the result as far as it got.
        """
        self._check_sync()
        return _driven(*self._begin(query, context, save=_saver(save, include_context)))

    async def arun(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> RLMResult:
        """The same without blocking the event loop. Cancelling the task ends everything below it."""
        saver = _saver(save, include_context)
        _check_query(query)
        # What is small is checked at once; what is large is hashed when it is its turn.
        context = context if is_large(context) else Context.of(context)
        async with self._settings.room.place():
            return await _adriven(*self._begin(query, await _prepared(context), save=saver))

    def stream(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> Iterator[Event]:
        """Events as they happen, text as it is written, ``RunEnded`` of the root last.

        Closing the iterator cancels the run. Raises what ``run`` raises.
        """
        self._check_sync()
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        saver = _saver(save, include_context)
        tree, branch = self._begin(query, context, events.put, save=saver)
        return _stream(tree, branch, events, saver)

    def astream(
        self, query: str, context: Any, *, save: SavePath | None = None, include_context: bool = False
    ) -> AsyncIterator[Event]:
        """The same without blocking the event loop."""
        _check_query(query)
        # What is small is checked at once, so that it is refused where the mistake was made.
        context = context if is_large(context) else Context.of(context)
        return self._astream(query, context, _saver(save, include_context))

    async def _astream(self, query: str, context: Any, saver: Saver | None) -> AsyncIterator[Event]:
        inbox = _Inbox()
        inbox.open()
        tree, branch = self._begin(query, await _prepared(context), inbox.put, save=saver)
        async with aclosing(_astream(tree, branch, inbox)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    def replay(
        self,
        trajectory: Trajectory | str | os.PathLike[str],
        context: Any = None,
        *,
        from_turn: int | None = None,
        observers: Sequence[Observer] = (),
    ) -> RLMResult:
        """Carry out a recorded run again: the replies of models are those of the record, all else really happens.

        ``trajectory``: what a run left behind, or the file it was saved in; ``context``: the same as then, by default
        the one that the record holds. Where code gives other output now, ``RLMResult.parted`` says at which turn.
        ``from_turn``: ask the models of this RLM, with its prompts, from that turn of the root run on (1 is the first).
        ``observers`` are added to those of this RLM.

        Raises ``InvalidInput`` for another context, ``ReplayError`` with ``.turn`` where a reply is wanted that the
        record does not hold, and whatever ended the recorded run.
        """
        self._check_sync()
        _check_observers(observers)
        rlm = self.replace(observers=observers)
        return _driven(*rlm._begin_again(Replay.of(trajectory, context, from_turn)))

    async def areplay(
        self,
        trajectory: Trajectory | str | os.PathLike[str],
        context: Any = None,
        *,
        from_turn: int | None = None,
        observers: Sequence[Observer] = (),
    ) -> RLMResult:
        """The same without blocking the event loop."""
        _check_observers(observers)
        rlm = self.replace(observers=observers)
        async with self._settings.room.place():
            replay = await in_thread(partial(Replay.of, trajectory, context, from_turn))
            return await _adriven(*rlm._begin_again(replay))

    def resume(
        self,
        path: str | os.PathLike[str],
        context: Any = None,
        *,
        budget: Budget | None = None,
        observers: Sequence[Observer] = (),
    ) -> RLMResult:
        """Go on with the run saved at ``path`` that a budget, an error, a cancel or a killed process ended.

        What was answered is not paid for again: its cells really run, and the models are asked where the record ends,
        or from where a cell gives other output (``RLMResult.parted``). The file goes on with what is new. A run that
        has its answer is returned as it is.
        ``context``: the same as then, by default the one that the record holds. ``budget``: by default that of this
        RLM; calls, tokens and cost count from the start of the first run, seconds from now. ``observers`` are added.

        Raises ``InvalidInput`` for a file that holds no run, or one of another context, and what ``run`` raises.
        """
        self._check_sync()
        _check_budget(budget)
        _check_observers(observers)
        rlm = self.replace(budget=budget, observers=observers)
        found = Resumption.load(path, context, rlm._settings.prompts)
        return rlm._as_asked(found) if isinstance(found, RLMResult) else _driven(*rlm._begin_again(found))

    async def aresume(
        self,
        path: str | os.PathLike[str],
        context: Any = None,
        *,
        budget: Budget | None = None,
        observers: Sequence[Observer] = (),
    ) -> RLMResult:
        """The same without blocking the event loop."""
        _check_budget(budget)
        _check_observers(observers)
        rlm = self.replace(budget=budget, observers=observers)
        async with self._settings.room.place():
            found = await in_thread(partial(Resumption.load, path, context, rlm._settings.prompts))
            return rlm._as_asked(found) if isinstance(found, RLMResult) else await _adriven(*rlm._begin_again(found))

    def _begin_again(self, replay: Replay) -> tuple[Tree, Branch[RunEnded]]:
        saver = replay.saver if isinstance(replay, Resumption) else None
        return self._begin(replay.query, replay.context, save=saver, record=replay.record)

    def _as_asked(self, result: RLMResult) -> RLMResult:
        """A loaded result with its answer of ``output_type``; a file keeps JSON values."""
        answer_type = self._settings.answer_type
        if answer_type.type is str:
            return result
        try:
            return dataclasses.replace(result, answer=answer_type.validate(result.answer))
        except ValueError as error:
            raise InvalidInput(f"the recorded answer is not of this output_type: {error}") from error

    def _begin(
        self,
        query: str,
        context: Any,
        reader: Observer | None = None,
        *,
        save: Saver | None = None,
        record: Record | None = None,
    ) -> tuple[Tree, Branch[RunEnded]]:
        _check_query(query)
        checked = Context.of(context)
        # The file comes first, since an observer may end the run.
        observers = [observer for observer in (save, *self._observers, reader) if observer is not None]
        tree = Tree(self._settings, checked, observers, stream_text=reader is not None, record=record)
        return tree, _root(tree, query, checked, save)

    def _check_sync(self) -> None:
        for name, tool in self._settings.tools.items():
            if is_async(tool):
                raise InvalidInput(f"the tool {name} is a coroutine function: use acompletion, arun or astream")


def _root(tree: Tree, query: str, context: Context, saver: Saver | None = None) -> Branch[RunEnded]:
    models = (tree.settings.model, tree.settings.recursive_model)
    asked = models[:1] if models[0] is models[1] else models
    for model in asked if tree.record.asks_models else ():
        yield CheckModel(model)
        if tree.settings.budget.max_cost_usd is not None and getattr(model, "has_price", None) is False:
            raise InvalidInput(
                f"max_cost_usd can't be held: no price is known for {model.name}; use max_tokens or max_calls"
            )
    branch = run(tree, query, context)
    return (yield from _saved(branch, saver, tree) if saver else branch)


def _saved(branch: Branch[RunEnded], saver: Saver, tree: Tree) -> Branch[RunEnded]:
    try:
        yield Work(partial(saver.begin, RunSettings.of(tree.settings), tree.context), True)
        return (yield from branch)
    finally:
        saver.close()


def _driven(tree: Tree, branch: Branch[RunEnded]) -> RLMResult:
    try:
        with _Partial(tree):
            try:
                drive(branch, tree.stop)
            except BaseException:
                tree.cancel()
                raise
        return _result(tree)
    finally:
        del tree, branch  # an error's traceback keeps this frame


async def _aplaced(tree: Tree, branch: Branch[RunEnded]) -> RunEnded:
    async with tree.settings.room.place():
        tree.meter.begin()
        return await adrive(branch)


async def _adriven(tree: Tree, branch: Branch[RunEnded]) -> RLMResult:
    try:
        with _Partial(tree):
            await adrive(branch)
        return _result(tree)
    finally:
        del tree, branch  # an error's traceback keeps this frame


def _saver(save: SavePath | None, include_context: bool) -> Saver | None:
    if save is None and include_context:
        raise InvalidInput("include_context is for a run that is saved: pass save= too")
    if save is None or isinstance(save, Saver):
        return save
    return Saver(save, include_context=include_context)


def _result(tree: Tree) -> RLMResult:
    settings = RunSettings.of(tree.settings)
    return RLMResult.from_events(Trajectory(tree.events, settings=settings, context=tree.context))


def _empty_frames(error: BaseException) -> None:
    """Clear the locals of our frames: one who keeps an error for later wants its text and its ``partial``."""
    seen: set[int] = set()
    left: BaseException | None = error
    while left is not None and id(left) not in seen:
        seen.add(id(left))
        driver: FrameType | None = None
        passes = 0
        for frame, _ in traceback.walk_tb(left.__traceback__):
            if frame.f_code.co_name in ("_drive", "_adrive"):
                driver = driver or frame
                passes += 1
                if frame is not driver or left is not error:
                    break
            if str(frame.f_globals.get("__name__")).startswith(("rlm_integrations.engine.", __name__)):
                with suppress(RuntimeError):  # it is still running
                    frame.clear()
            # The driver threw it into the algorithm and got it back. A model may raise one error in many runs: what
            # comes behind the effect is another's, and may go on.
            if passes == 2 and frame is not driver:
                break
        left = left.__cause__ or left.__context__


class _Partial:
    """Gives an error that leaves a tree the result as far as it got."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RLMError):
            error.partial = _result(self._tree) if self._tree.events else RLMResult(None, "failed")
            _empty_frames(error)


def _stream(
    tree: Tree, branch: Branch[RunEnded], events: queue.SimpleQueue[Event | None], saver: Saver | None
) -> Generator[Event, None, None]:
    failure: list[BaseException] = []

    def work() -> None:
        try:
            drive(branch, tree.stop)
        except BaseException as error:
            failure.append(error)
        finally:
            events.put(None)

    # Text comes in the middle of a blocking model call, so that call has to wait elsewhere.
    run_in_context = contextvars.copy_context().run
    thread = threading.Thread(target=run_in_context, args=(work,), name="rlm-stream", daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
        thread.join()
        with _Partial(tree):
            if failure:
                raise failure[0]
    finally:
        tree.cancel()
        if saver:
            # How it ended is for the file too, which is then free for the run to be resumed.
            if thread is not threading.current_thread():
                thread.join(LET_GO_S)
            saver.close()


class _Inbox:
    """Events on their way to a task; a model may bring its text from a thread of its own."""

    def open(self) -> None:
        """Begin, in the task that reads."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event | None) -> None:
        """Add an event; None ends the reading."""
        if threading.get_ident() == self._home:
            self._events.put_nowait(event)
        else:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def get(self) -> Event | None:
        """The next event."""
        return await self._events.get()


async def _astream(tree: Tree, branch: Branch[RunEnded], inbox: _Inbox) -> AsyncIterator[Event]:
    import asyncio

    # The run's own task has the place: what is read late, or not at all, does not keep it.
    task = asyncio.ensure_future(_aplaced(tree, branch))
    task.add_done_callback(lambda _: inbox.put(None))
    try:
        while (event := await inbox.get()) is not None:
            yield event
        with _Partial(tree):
            await task
    finally:
        task.cancel()
        # A loop that shuts down closes all generators at once, and an outer one must not find this one still closing.
        if not task.done():
            await asyncio.gather(task, return_exceptions=True)
        elif not task.cancelled():
            task.exception()


def _check_query(query: Any) -> None:
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput(f"the question is {query!r}: pass a str with some text")


async def _prepared(context: Any) -> Context:
    """``context`` checked and hashed, without blocking the event loop."""
    if not is_large(context):
        return Context.of(context)

    def prepare() -> Context:
        checked = Context.of(context)
        checked.look_through()
        return checked

    return await in_thread(prepare)


@cache
def _default_sandbox() -> Sandbox:
    from rlm_integrations.sandbox import ProcessSandbox

    return ProcessSandbox()


def _checked_model(model: Any) -> LanguageModel:
    lacking = [name for name in ("name", "complete", "acomplete") if not hasattr(model, name)]
    if lacking:
        raise InvalidInput(
            f"model is a {type(model).__name__} without {', '.join(lacking)}: pass a LiteLLM name such as "
            "'openai/gpt-5-mini', or an object with name, complete and acomplete"
        )
    return model  # type: ignore[no-any-return]


def _named_tools(tools: Sequence[Tool]) -> Mapping[str, Tool]:
    named: dict[str, Tool] = {}
    for tool in _list("tools", tools):
        name = getattr(tool, "__name__", None)
        if not callable(tool) or not isinstance(name, str) or not name.isidentifier():
            raise InvalidInput(f"tools holds {tool!r}: pass named functions (def, not lambda)")
        if name in RESERVED or name.startswith("_"):
            raise InvalidInput(f"a tool can't be called {name}: model code has that name already; rename the function")
        if name in named:
            raise InvalidInput(f"two tools are called {name}: rename one")
        named[name] = tool
    return named


def _list(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list | tuple | set | frozenset):
        raise InvalidInput(f"{name}={values!r}: pass a list")
    return list(values)


def _check_budget(budget: Any) -> None:
    if budget is not None and not isinstance(budget, Budget):
        raise InvalidInput(f"budget={budget!r}: pass a Budget, e.g. Budget(max_calls=50)")


def _check_observers(observers: Any) -> None:
    for observer in _list("observers", observers):
        if not callable(observer):
            raise InvalidInput(f"observers holds {observer!r}: pass functions of one Event")


def _checked_instructions(instructions: Any) -> str:
    if not isinstance(instructions, str):
        raise InvalidInput(f"instructions={instructions!r}: pass a str")
    return instructions.strip()


def _check_int(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={value!r}: pass a whole number of at least {least}")
