"""Runs, cells and sub-calls as runs of LangChain's callbacks, whole and small, in one tree."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator, Iterator
from typing import Any, assert_never
from uuid import UUID

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config

from rlm_integrations.engine.effects import EndRun
from rlm_integrations.engine.trace import cut, described, fields_of, small
from rlm_integrations.errors import RLMError
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    Purpose,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    TextDelta,
)
from rlm_integrations.langchain.traced import llm_result

__all__ = ["MESSAGES", "Place", "Reporting", "Runs"]

# LangGraph leaves the tokens of runs with this tag out of ``stream_mode="messages"``.
NOT_STREAMED = "nostream"
MESSAGES = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}

_cell: contextvars.ContextVar[str | None] = contextvars.ContextVar("rlm_cell", default=None)

Steps = Generator[Any, Any, None]


class Place:
    """Where in a trace a call of a chat model belongs."""

    def __init__(self, config: RunnableConfig | None = None, run_id: str | None = None) -> None:
        self._config = config
        self._run_id = run_id

    def config(self) -> RunnableConfig | None:
        """The config to call the model with; the first call has the id of its event."""
        if self._config is None or self._run_id is None:
            return self._config
        run_id, self._run_id = UUID(self._run_id), None
        return {**self._config, "run_id": run_id}


class Runs:
    """The runs that are open, and what callbacks are told of each event; ``Reporting`` does the telling.

    ``children`` is a callback manager whose runs become children of the face's own run. Model calls are left to the
    chat models, which report themselves, except those of models ``self_reporting`` says no of, by depth.
    """

    def __init__(
        self,
        children: Any,
        config: RunnableConfig,
        *,
        is_streamed: Callable[[Purpose], bool] = lambda purpose: purpose == "answer",
        self_reporting: tuple[bool, bool] = (True, True),
    ) -> None:
        self._root = children
        self._config = config
        self._is_streamed = is_streamed
        self._self_reporting = self_reporting
        self._open: dict[str, Any] = {}
        self._calls: dict[str, ModelCallStarted] = {}
        self._root_id = ""

    def note(self, event: Event) -> None:
        """What has to be known at once, before the callbacks are."""
        match event:
            case RunStarted(parent_id=None):
                self._root_id = event.id
            case ModelCallStarted():
                self._calls[event.id] = event
            case CellStarted():
                _cell.set(event.id)
            case _:
                pass

    def tell(self, event: Event) -> Steps:
        """Yields each call of a callback manager, and is sent what it returned."""
        try:
            yield self._custom(event)
        except Exception:  # of a handler that wants it raised; the run is told all the same
            yield from self._tell_run(event)
            raise
        yield from self._tell_run(event)

    def _tell_run(self, event: Event) -> Steps:
        match event:
            case RunStarted():
                if event.parent_id is not None:
                    inputs = {"query": cut(event.query), "context": described(event.context)}
                    manager = self._starting_under(event.parent_id)
                    self._open[event.id] = yield manager.on_chain_start(None, inputs, UUID(event.id), name="RLM")
            case RunEnded():
                if run := self._open.pop(event.id, None):
                    yield run.on_chain_end({"output": small(event.answer), "status": event.status})
            case RunFailed() | CellFailed() | ModelCallFailed():
                self._calls.pop(event.id, None)
                run, error = self._open.pop(event.id, None), RLMError(event.error)
                try:
                    yield from self._left_open(event.id, error, own=run is not None)
                except Exception:
                    if run:
                        yield _failed(run, error)
                    raise
                if run:
                    yield _failed(run, error)
            case CellStarted():
                manager = self._starting_under(event.parent_id)
                self._open[event.id] = yield manager.on_tool_start(
                    {"name": "python"},
                    event.code,
                    UUID(event.id),
                    inputs={"code": event.code},
                    name="python",
                )
            case CellEnded():
                if run := self._open.pop(event.id, None):
                    shown = "\n".join(part for part in (event.stdout, event.error) if part)
                    yield run.on_tool_end(cut(shown))
            case ModelCallStarted():
                # What nobody was asked is no call of an LLM.
                if event.source == "model" and not self._self_reporting[min(event.depth, 1)]:
                    messages = [MESSAGES[message.role](message.content) for message in event.new_messages]
                    manager = self._starting_under(event.parent_id)
                    (self._open[event.id],) = yield manager.on_chat_model_start(
                        {"name": event.model}, [messages], UUID(event.id), name=event.model
                    )
            case TextDelta():
                if run := self._open.get(event.id):
                    yield run.on_llm_new_token(event.text)
            case ModelCallEnded():
                call = self._calls.pop(event.id, None)
                if call and (run := self._open.pop(event.id, None)):
                    yield run.on_llm_end(llm_result(call, event))
            case RunResumed() | ReplayParted() | SessionWaiting():
                pass
            case _:
                assert_never(event)

    def _left_open(self, id: str, error: RLMError, *, own: bool) -> Iterator[Any]:
        """Ends what others began below run, cell or model call ``id``, or as it (``own`` is False), and did not end."""
        return iter(())

    def _custom(self, event: Event) -> Any:
        """The step event that ``astream_events`` shows."""
        if isinstance(event, TextDelta):
            return None
        return self._root.on_custom_event(f"rlm_{event.kind}", fields_of(event), self._root.parent_run_id)

    def _starting_under(self, id: str) -> Any:
        """The same, with the handlers that belong to no run but to a ``with`` block, as ``collect_runs`` has them."""
        manager = self._under(id)
        return type(manager).configure(manager)

    def _under(self, id: str) -> Any:
        """A manager whose runs become children of run or cell ``id``."""
        return self._root if id == self._root_id or id not in self._open else self._open[id].get_child()

    def place(self, event_id: str) -> Place:
        """Where a model call belongs."""
        call = self._calls[event_id]
        config = self.config(call.parent_id)
        if not self._is_streamed(call.purpose):
            config["tags"] = [*config.get("tags", []), NOT_STREAMED]
        return Place(config, event_id)

    def config(self, id: str) -> RunnableConfig:
        """The config that makes what is called with it a child of run or cell ``id``."""
        return patch_config(self._config, callbacks=self._under(id))

    def cell_config(self) -> RunnableConfig:
        """The config for what the cell that is running calls."""
        return self.config(_cell.get() or self._root_id)


class Reporting(Runs):
    """Tells callbacks of the events of one blocking run, each as it happens.

    What a handler with ``raise_error`` raises ends the run: of a cell's or a call's start, before that is made.
    """

    _abandoned: RLMError | None = None

    def abandon(self, error: RLMError) -> None:
        """End what is open with ``error``, and tell of nothing more: the run's own thread may take its time to end."""
        self._abandoned = error
        while self._open:
            _failed(self._open.popitem()[1], error)

    def observe(self, event: Event) -> None:
        """Tell of ``event``."""
        self.note(event)
        if self._abandoned:
            return
        self._tell_one(event)
        if self._abandoned:  # while it was told of
            self.abandon(self._abandoned)

    def _tell_one(self, event: Event) -> None:
        steps = self.tell(event)
        value: Any = None
        try:
            while True:
                value = steps.send(value)
        except StopIteration:
            pass
        except Exception as error:  # of a handler that wants it raised: LangChain logs all others
            raise EndRun(error) from error


def _failed(run: Any, error: RLMError) -> Any:
    """Tell that ``run``, of whatever kind, has failed."""
    kinds = ("on_chain_error", "on_tool_error", "on_llm_error")
    return next(getattr(run, kind) for kind in kinds if hasattr(run, kind))(error)
