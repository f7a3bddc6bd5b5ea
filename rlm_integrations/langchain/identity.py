"""What tells one ``ChatRLM`` from another, so that a cache does not mix up their answers."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from rlm_integrations.budget import Budget
from rlm_integrations.engine.tree import Settings
from rlm_integrations.langchain.model import ChatModelPort
from rlm_integrations.models import LiteLLMModel

__all__ = ["identity", "is_told"]

SHOWN = "max_depth max_iterations max_parallel budget on_exhausted final_write instructions".split()
SECRET = re.compile(r"key|secret|passw|credential|auth|header|token$", re.IGNORECASE)


def is_told(settings: Settings) -> bool:
    """Whether the models' settings tell what they answer; a port of the user's own may answer as it likes."""
    return None not in (_key(settings.model), _key(settings.recursive_model))


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


def _key(model: Any) -> str | None:
    """All that a model's answers depend on; None where that can't be told."""
    if isinstance(model, ChatModelPort):
        return model.identity and f"{model.name} {model.identity}"
    if type(model) is LiteLLMModel:
        # Of the settings, all that goes to LiteLLM with each call.
        options = sorted((name, value) for name, value in model._settings.items() if not SECRET.search(name))
        return f"{options!r} {model._window_tokens}"
    return None


def _params(model: Any) -> dict[str, Any]:
    llm = getattr(model, "llm", None)
    while isinstance(llm, RunnableBinding):
        llm = llm.bound
    return llm.asdict() if isinstance(llm, BaseChatModel) else {}


def _shown(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Budget) else value
