"""What tells one ``ChatRLM`` from another, so that a cache does not mix up their answers."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from rlm_integrations.budget import Budget
from rlm_integrations.engine.tree import Settings
from rlm_integrations.langchain.model import ChatModelPort

__all__ = ["identity"]

SHOWN = "max_depth max_iterations max_parallel budget on_exhausted final_write instructions".split()


def identity(settings: Settings, own: str) -> dict[str, Any]:
    """The settings that answers depend on, in words, and a hash of all; ``own`` is what no words can tell."""
    models = (settings.model, settings.recursive_model)
    options = (dict(settings.model_options), dict(settings.recursive_options))
    about = repr((*map(_key, models), options, settings.answer_type.description, settings.prompts, own))
    return {
        "model_name": models[0].name,
        "recursive_model_name": models[1].name,
        "model_params": _params(models[0]),
        **{name: _shown(getattr(settings, name)) for name in SHOWN},
        # Of the prompts, the kind of answer, and all that the inner models are made with.
        "sha256": hashlib.sha256(about.encode("utf-8", "replace")).hexdigest(),
    }


def _key(model: Any) -> str:
    """All that a model's answers depend on, as far as it can be told."""
    return f"{model.name} {_runnable_key(model.llm) if isinstance(model, ChatModelPort) else type(model).__qualname__}"


def _runnable_key(llm: Any) -> str:
    if isinstance(llm, BaseChatModel):
        return llm._get_llm_string()
    if isinstance(llm, RunnableBinding):
        return f"{_runnable_key(llm.bound)} {sorted(llm.kwargs.items())!r} {llm.config.get('configurable')!r}"
    inner = [getattr(llm, "runnable", None), *getattr(llm, "fallbacks", [])]
    return f"{type(llm).__qualname__} {[_runnable_key(one) for one in inner]}" if inner[0] is not None else repr(llm)


def _params(model: Any) -> dict[str, Any]:
    llm = getattr(model, "llm", None)
    while isinstance(llm, RunnableBinding):
        llm = llm.bound
    return llm.asdict() if isinstance(llm, BaseChatModel) else {}


def _shown(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Budget) else value
