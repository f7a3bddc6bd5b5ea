"""What ``RLMRunnable`` and ``ChatRLM`` share: settings, and an engine that is always made of the settings they have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr

from rlm_integrations.engine.room import MAX_RUNS
from rlm_integrations.events import Purpose
from rlm_integrations.langchain.engine import Engine
from rlm_integrations.rlm import RLM

__all__ = ["Face"]

# What goes to the ``RLM`` as it is, under the same name.
PASSED = (
    "max_depth max_iterations max_parallel max_runs budget sandbox output_type observers on_exhausted temperature"
).split()


class Face(BaseModel):
    """The settings of both. To change one, or to copy or unpickle, makes the engine again, which can't be copied.

    Raises ``InvalidInput`` for a setting that can't be used, also for one that is changed, which stays as it was.
    """

    # Tools, retrievers and observers may hold documents, and callbacks are handed the ``repr``.
    llm: Any
    recursive_llm: Any = None
    max_depth: int = 1
    max_iterations: int = 20
    max_parallel: int = 16
    max_runs: int = MAX_RUNS
    budget: Any = None
    tools: Any = Field(default=(), repr=False)
    retriever: Any = Field(default=None, repr=False)
    output_type: Any = str
    sandbox: Any = None
    observers: Any = Field(default=(), repr=False)
    on_exhausted: Literal["extract", "raise"] = "extract"
    temperature: float | None = None
    stream_sub_calls: bool = False

    _engine: Engine = PrivateAttr()
    # The settings of one face alone that its engine is made of.
    _own_settings: ClassVar[frozenset[str]] = frozenset()

    def model_post_init(self, context: Any, /) -> None:
        """Make the engine, so that a setting that can't be used is refused at once."""
        super().model_post_init(context)
        self._make()

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in Face.model_fields and name not in self._own_settings:
            super().__setattr__(name, value)
            return
        super().__setattr__(name, getattr(self._with({name: value}), name))
        self._make()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with other settings if ``update`` says so."""
        copied = super().model_copy(deep=deep)
        return copied._with(update) if update else copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # What holds processes, locks and connections can't be copied, and any number of faces may have it.
        shared = (one for one in (self.sandbox, self.llm, self.recursive_llm) if not isinstance(one, BaseModel))
        memo = {} if memo is None else memo
        memo.update({id(one): one for one in shared})
        return type(self)(**copy.deepcopy(self._set(), memo))

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        private = {name: value for name, value in state["__pydantic_private__"].items() if name != "_engine"}
        return {**state, "__pydantic_private__": private}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._make()

    def _make(self) -> None:
        self._engine = Engine.of(
            self._model(self.llm),
            self._model(self.recursive_llm),
            tools=self.tools,
            retriever=self.retriever,
            is_streamed=self._streamed(),
            settings=self._passed(PASSED),
        )

    def _model(self, llm: Any) -> Any:
        """``llm`` as the engine takes it."""
        return llm

    def _streamed(self) -> Callable[[Purpose], bool]:
        """Which model calls show their tokens, as a function of their purpose."""
        raise NotImplementedError

    def _passed(self, names: list[str]) -> dict[str, Any]:
        """Those of the settings ``names`` that are no default: an ``RLM`` as ``llm`` takes none."""
        fields = type(self).model_fields
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value != fields[name].default}

    def _set(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}

    def _with(self, settings: Mapping[str, Any]) -> Self:
        """The same with other settings, whose runs count together with those of all that have its ``max_runs``."""
        made = type(self)(**{**self._set(), **settings})
        # What was bound makes another for each call. An RLM that was given has a room of its own.
        if not isinstance(made.llm, RLM):
            made._engine = made._engine.counted_in(self._engine.rlm.settings.room.of(made.max_runs))
        return made
