"""The two ways to carry the algorithm's effects out: ``drive`` blocks, ``adrive`` awaits."""

from __future__ import annotations

import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar, assert_never

from rlm_integrations.engine.effects import (
    Advance,
    Branch,
    Calling,
    CallModel,
    CallTool,
    CheckModel,
    Effect,
    EndRun,
    Failure,
    Gather,
    Open,
    Settle,
    Wait,
    Work,
    calling_session,
)
from rlm_integrations.errors import ModelError, ModelTimeout, RLMError, RunCancelled
from rlm_integrations.messages import Reply, Usage
from rlm_integrations.ports import Session, Tool

__all__ = ["adrive", "drive", "in_thread", "is_async"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def drive(branch: Branch[T], stop: threading.Event) -> T:
    """Carry out ``branch`` in this thread. Once ``stop`` is set, ``RunCancelled`` is raised in it.

    Raises what the branch raises; for an ``EndRun``, what it carries.
    """
    try:
        return _drive(branch, stop)
    except EndRun as end:
        error = end.error
    raise error


def _drive(branch: Branch[T], stop: threading.Event) -> T:
    send: Callable[[Any], Effect] = branch.send
    value: Any = None
    while True:
        try:
            effect = send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            if stop.is_set():
                raise RunCancelled("the run was cancelled")
            send, value = branch.send, _carry_out(effect, stop)
        except BaseException as error:
            send, value = branch.throw, error


async def adrive(branch: Branch[T]) -> T:
    """Carry out ``branch`` in this task. Cancelling the task cancels what is under way in it.

    Raises what the branch raises; for an ``EndRun``, what it carries.
    """
    try:
        return await _adrive(branch)
    except EndRun as end:
        error = end.error
    raise error


async def _adrive(branch: Branch[T]) -> T:
    send: Callable[[Any], Effect] = branch.send
    value: Any = None
    while True:
        try:
            effect = send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            send, value = branch.send, await _acarry_out(effect)
        except BaseException as error:
            send, value = branch.throw, error


def _carry_out(effect: Effect, stop: threading.Event) -> Any:
    match effect:
        case CheckModel(model):
            if check := getattr(model, "check", None):
                check()
            return None
        case CallModel(model, messages, options, _, session):
            try:
                with _called_by(session):
                    return _checked(model.complete(messages, **options), model.name)
            except RLMError:
                raise
            except Exception as error:
                raise _model_error(error, model.name) from error
        case Open(sandbox, variables, functions, below):
            if below is not None and (open_below := getattr(sandbox, "open_below", None)):
                return open_below(below, variables, functions)
            return sandbox.open(variables, functions)
        case Settle(session, limit_s):
            return session.settle(limit_s)  # type: ignore[attr-defined]
        case Advance(session, step):
            return session.advance(step)
        case CallTool(tool, args, kwargs, _, session):
            with _called_by(session):
                return _called(lambda: tool(*args, **kwargs))
        case Gather(branches, width):
            return _gather(branches, width, stop)
        case Work(function):
            return function()
        case Wait(future):
            return future.result()
        case _:
            assert_never(effect)


async def _acarry_out(effect: Effect) -> Any:
    match effect:
        case CheckModel(model):
            if check := getattr(model, "acheck", None):
                await check()
            return None
        case CallModel(model, messages, options, limit_s, session):
            import asyncio  # takes a quarter of the time that all of this package takes to import

            try:
                async with asyncio.timeout(limit_s):
                    with _called_by(session):
                        return _checked(await model.acomplete(messages, **options), model.name)
            except RLMError:
                raise
            except Exception as error:
                raise _model_error(error, model.name) from error
        case Open(sandbox, variables, functions, below):
            if below is not None and (aopen_below := getattr(sandbox, "aopen_below", None)):
                return await aopen_below(below, variables, functions)
            return await sandbox.aopen(variables, functions)
        case Settle(session, limit_s):
            return await session.asettle(limit_s)  # type: ignore[attr-defined]
        case Advance(session, step):
            return await session.aadvance(step)
        case CallTool(tool, args, kwargs, limit_s, session):
            with _called_by(session):
                return await _acalled(tool, args, kwargs, limit_s)
        case Gather(branches, width):
            return await _agather(branches, width)
        case Work(function, is_long):
            return await in_thread(function) if is_long else function()
        case Wait(future):
            return future.result() if future.done() else await _awaited(future)
        case _:
            assert_never(effect)


async def _awaited(future: Future[T]) -> T:
    import asyncio

    # One that stops waiting must not cancel what others wait for.
    return await asyncio.shield(asyncio.wrap_future(future))


def _checked(reply: Any, model: str) -> Reply:
    if not isinstance(reply, Reply) or not isinstance(reply.text, str):
        raise ModelError(f"{model} returned a {type(reply).__name__}: a model must return a Reply", model=model)
    usage = reply.usage
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens) if isinstance(usage, Usage) else ("none",)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ModelError(f"{model} returned the usage {usage!r}: a Reply needs a Usage of whole numbers", model=model)
    return reply


def _model_error(error: Exception, model: str) -> RLMError:
    """What a foreign model raised, as one of our errors."""
    if isinstance(error, TimeoutError):
        return ModelTimeout(f"{model} did not answer in time", model=model)
    return ModelError(f"{model}: {type(error).__name__}: {error}", model=model)


@contextmanager
def _called_by(session: Session | None) -> Iterator[None]:
    calling = Calling(session)
    token = calling_session.set(calling)
    try:
        yield
    finally:
        calling.session = None
        calling_session.reset(token)


def _called(tool: Callable[[], Any]) -> Any:
    try:
        value = tool()
    except Exception as error:
        return _tool_failure(error)
    if inspect.iscoroutine(value):
        value.close()
        return _tool_failure(TypeError("it returned a coroutine, which only an async run can await"))
    return value


async def _acalled(tool: Tool, args: Sequence[Any], kwargs: Mapping[str, Any], limit_s: float | None) -> Any:
    import asyncio

    async def call() -> Any:
        if is_async(tool):
            return await tool(*args, **kwargs)
        value = await in_thread(lambda: tool(*args, **kwargs))
        return await value if inspect.isawaitable(value) else value

    try:
        async with asyncio.timeout(limit_s):
            return await call()
    except Exception as error:
        return _tool_failure(error)


def is_async(tool: Tool) -> bool:
    """Whether a call of ``tool`` has to be awaited."""
    return inspect.iscoroutinefunction(tool) or inspect.iscoroutinefunction(type(tool).__call__)


def _tool_failure(error: Exception) -> Failure:
    """Model code is told what a tool raised and may go on; the tool's owner finds it in the log."""
    logger.warning("a tool raised %s", type(error).__name__, exc_info=error)
    return Failure(error)


def _gather(branches: Any, width: int, stop: threading.Event) -> list[Any]:
    outcomes: list[Any] = [None] * len(branches)
    broken: list[BaseException] = []
    ended = threading.Semaphore(0)
    lock = threading.Lock()
    # Each branch runs in a context of its own, so that what a tracer sets in one does not show in another.
    waiting = iter([(i, branch, contextvars.copy_context()) for i, branch in enumerate(branches)])

    def work() -> None:
        try:
            while not broken:
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                index, branch, context = item
                outcomes[index] = context.run(_outcome, branch, stop)
        except BaseException as error:
            broken.append(error)
        finally:
            ended.release()

    workers = min(width, len(branches))
    if workers == 1:
        work()
    else:
        # Not a pool: its threads would be joined at exit, also those of a run that was interrupted.
        for _ in range(workers):
            threading.Thread(target=work, name="rlm-sub-call", daemon=True).start()
        try:
            for _ in range(workers):
                ended.acquire()
        except BaseException:
            stop.set()
            raise
    if broken:
        raise broken[0]
    return outcomes


def _outcome(branch: Branch[Any], stop: threading.Event) -> Any:
    try:
        return _drive(branch, stop)
    except RunCancelled:
        raise
    except RLMError as error:
        return Failure(error)


async def _agather(branches: Any, width: int) -> list[Any]:
    import asyncio

    room = asyncio.Semaphore(width)

    async def outcome(branch: Branch[Any]) -> Any:
        async with room:
            try:
                return await _adrive(branch)
            except RLMError as error:
                return Failure(error)

    # A task copies the context it is made in, so each branch has its own.
    tasks = [asyncio.ensure_future(outcome(branch)) for branch in branches]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(function: Callable[[], T]) -> T:
    """Call ``function`` in a fresh thread: the loop's executor has few, and a tool may wait for a run of ours."""
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = context.run(function)
        except StopIteration as error:
            # A future can't hold one, and what awaits it would wait for ever.
            failure = RuntimeError(f"{error!r} was raised")
            failure.__cause__ = error
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            logger.debug("the event loop was closed before a tool returned")

    threading.Thread(target=work, name="rlm-tool", daemon=True).start()
    return await done
