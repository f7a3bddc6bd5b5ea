"""An RLM on its way to other processes: what it was made with, to be made again there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ray import cloudpickle as _cloudpickle

from rlm_integrations.engine.answer import AnswerType
from rlm_integrations.engine.secrets import keys_in, without_keys
from rlm_integrations.engine.tree import Settings
from rlm_integrations.errors import InvalidInput
from rlm_integrations.ports import Sandbox
from rlm_integrations.ray.sandbox import RaySandbox
from rlm_integrations.rlm import RLM
from rlm_integrations.sandbox import MontySandbox, ProcessSandbox

__all__ = ["ShippedRLM", "keys_of"]

cloudpickle: Any = _cloudpickle

# Where these are made anew, from their settings, nothing of the sandbox they were is needed.
LIMITS = {
    ProcessSandbox: ("timeout_s", "memory_mb", "max_output_chars", "isolation"),
    MontySandbox: ("timeout_s", "memory_mb", "max_output_chars"),
    RaySandbox: ("timeout_s", "memory_mb", "max_output_chars", "isolation"),
}


class ShippedRLM:
    """The settings of ``rlm``, an ``RLM`` or a function that makes one, as bytes that another process understands.

    The sandbox goes as its settings; a ``RaySandbox`` becomes a ``ProcessSandbox`` of the process that makes the RLM
    again. All else goes by cloudpickle; an API key that was passed goes along, and shows nowhere.

    Raises ``InvalidInput`` for what can't be sent, with the setting that it stands in.
    """

    def __init__(self, rlm: RLM | Callable[[], RLM]) -> None:
        if isinstance(rlm, RLM):
            self.name = rlm.settings.model.name
            self._data = _dumped(_parts(rlm))
        elif callable(rlm):
            self.name = getattr(rlm, "__name__", type(rlm).__name__)
            self._data = _dumped({"the function": rlm})
        else:
            raise InvalidInput(f"rlm={rlm!r}: pass an RLM, or a function without arguments that makes one")

    def __repr__(self) -> str:
        return f"<RLM of {self.name}>"

    def make(self) -> RLM:
        """The RLM in this process. Raises ``InvalidInput`` where the function made none."""
        parts = cloudpickle.loads(self._data)
        if function := parts.get("the function"):
            made = function()
            if not isinstance(made, RLM):
                raise InvalidInput(f"{self.name} made a {type(made).__name__}: it has to return an RLM")
            return RLM.from_settings(_at_home(made.settings), made.observers)
        kind, limits = parts.pop("sandbox")
        parts["sandbox"] = limits if kind is None else kind(**limits)
        parts["answer_type"] = AnswerType(parts.pop("output_type"))
        observers = parts.pop("observers")
        return RLM.from_settings(Settings(**parts), observers)


def keys_of(rlm: RLM) -> Callable[[str], str]:
    """A function that takes all keys that ``rlm`` was made with, and those of the environment, out of a text."""
    settings = rlm.settings
    models = (settings.model, settings.recursive_model)
    held = [getattr(model, "_settings", {}) for model in models]
    given = [one for one in (*held, settings.model_options, settings.recursive_options) if isinstance(one, Mapping)]
    keys = {key for mapping in given for key in keys_in(mapping)}
    return lambda text: without_keys(text, keys)


def _parts(rlm: RLM) -> dict[str, Any]:
    settings = rlm.settings
    parts = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    parts["sandbox"] = _sandbox(settings.sandbox)
    parts["output_type"] = parts.pop("answer_type").type
    return parts | {"observers": rlm.observers}


def _sandbox(sandbox: Sandbox) -> tuple[Any, Any]:
    names = LIMITS.get(type(sandbox))
    if names is None:
        return None, sandbox
    kind = ProcessSandbox if isinstance(sandbox, RaySandbox) else type(sandbox)
    return kind, {name: getattr(sandbox, name) for name in names}


def _at_home(settings: Settings) -> Settings:
    """The same with a sandbox of this process."""
    if not isinstance(settings.sandbox, RaySandbox):
        return settings
    kind, limits = _sandbox(settings.sandbox)
    return dataclasses.replace(settings, sandbox=kind(**limits))


def _dumped(parts: dict[str, Any]) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(parts)
        return data
    except Exception:
        # Classes of the user's may raise anything; which of them did is what helps.
        for name, part in parts.items():
            try:
                cloudpickle.dumps(part)
            except Exception as error:
                raise InvalidInput(
                    f"{name.replace('_', ' ')} can't be sent to other processes ({type(error).__name__}: "
                    f"{str(error)[:300]}): pass a function that makes the RLM where it is used"
                ) from error
        raise
