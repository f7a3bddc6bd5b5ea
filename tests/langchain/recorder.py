"""Callbacks that record the tree of runs, in a blocking and in an async flavour."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

__all__ = ["Recorder"]


class Recorder(BaseCallbackHandler):
    """Every run by id: (kind, name, parent); ``open`` holds those that have not ended, ``ends`` how often each did."""

    run_inline = True

    def __init__(self) -> None:
        self.runs: dict[UUID, tuple[str, str, UUID | None]] = {}
        self.ends: dict[UUID, int] = {}
        self.order: list[UUID] = []
        self.metadata: dict[UUID, dict[str, Any]] = {}

    @property
    def open(self) -> set[UUID]:
        """Runs that were started and not ended exactly once."""
        return {id for id in self.runs if self.ends.get(id, 0) != 1}

    def children(self, parent: UUID | None) -> list[UUID]:
        """The runs right below one, in order."""
        return [id for id, (_, _, above) in self.runs.items() if above == parent]

    def shape(self, parent: UUID | None = None) -> list[Any]:
        """The kinds of runs as nested lists: ``["llm", [...]]``."""
        return [[self.runs[id][0], *self.shape(id)] for id in self.children(parent)]

    def _start(self, kind: str, serialized: Any, kwargs: dict[str, Any]) -> None:
        name = kwargs.get("name") or (serialized or {}).get("name") or ""
        self.runs[kwargs["run_id"]] = (kind, name, kwargs.get("parent_run_id"))
        self.metadata[kwargs["run_id"]] = kwargs.get("metadata") or {}

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._start("chain", serialized, kwargs)

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self._start("tool", serialized, kwargs)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._start("llm", serialized, kwargs)

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        self._start("retriever", serialized, kwargs)

    def _end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        self.ends[run_id] = self.ends.get(run_id, 0) + 1
        self.order.append(run_id)

    on_chain_end = on_tool_end = on_llm_end = on_retriever_end = _end
    on_chain_error = on_tool_error = on_llm_error = on_retriever_error = _end
