"""What runs below a chat model's own run: LangChain gives run managers of chat models no children."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.callbacks.base import BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.utils.uuid import uuid7

__all__ = ["Under", "children_of"]

# What LangChain says of a chat model to all that is called below it, where it would be said of other models.
OWN = ("ls_provider", "ls_model_name", "ls_model_type", "ls_temperature", "ls_max_tokens", "ls_stop", "ls_integration")


@dataclass(frozen=True, slots=True)
class Under:
    """The place of a stream's inner calls: their config, and for an async one what is closed before the outer run."""

    config: RunnableConfig
    opened: AsyncExitStack | None

    @classmethod
    def of(cls, kind: Any, config: RunnableConfig | None, opened: AsyncExitStack | None = None) -> tuple[Under, Any]:
        """The place, and the config to begin the outer run with. ``kind`` is the class of callback manager."""
        config = ensure_config(config)
        # At once and for both, so that a tracer which was not there before is the same one inside and outside.
        manager = kind.configure(
            config.get("callbacks"), inheritable_tags=config.get("tags"), inheritable_metadata=config.get("metadata")
        )
        run_id = config.get("run_id") or uuid7()
        inner = RunnableConfig(configurable=config.get("configurable", {}), callbacks=_children(kind, manager, run_id))
        return cls(inner, opened), {**config, "callbacks": manager, "run_id": run_id}


def children_of(kind: Any, run_manager: Any, params: Collection[str]) -> RunnableConfig:
    """The config that makes what is called with it a child of a chat model's run; ``params`` are traced of that run."""
    if run_manager is None:
        return RunnableConfig(callbacks=kind([], parent_run_id=uuid7()))
    return RunnableConfig(callbacks=_children(kind, run_manager, run_manager.run_id, params))


def _children(
    kind: type[CallbackManager] | type[AsyncCallbackManager], manager: Any, run_id: UUID, params: Collection[str] = ()
) -> BaseCallbackManager:
    handlers = [_without(handler, params) for handler in manager.inheritable_handlers]
    tags = list(manager.inheritable_tags)
    metadata = _left(manager.inheritable_metadata, OWN if params else ())
    return kind(
        handlers,
        list(handlers),
        run_id,
        tags=tags,
        inheritable_tags=list(tags),
        metadata=metadata,
        inheritable_metadata=dict(metadata),
    )


def _without(handler: Any, params: Collection[str]) -> Any:
    """A LangSmith tracer that does not say of the runs below what it was told of the run above."""
    metadata = getattr(handler, "tracing_metadata", None)
    if not metadata or not params:
        return handler
    copied = handler.copy_with_metadata_defaults()
    copied.tracing_metadata = _left(metadata, params)
    return copied


def _left(metadata: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in names}
