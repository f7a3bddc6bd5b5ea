"""What a run was asked with, as records keep it: names and limits, never keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlm_integrations.budget import Budget
from rlm_integrations.engine.secrets import without_credentials
from rlm_integrations.engine.tree import Settings

__all__ = ["RunSettings"]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of an ``RLM`` that can be written down.

    Models and tools are named. ``temperature`` and ``api_base`` are the root model's, None where it does not tell;
    ``api_base`` has lost its credentials and its query. ``output_type`` is how the model was told of the type, empty
    for text. What else went to the model (``model_options``) is not kept, since keys may be among it.
    """

    model: str
    recursive_model: str
    max_depth: int = 1
    max_iterations: int = 20
    max_parallel: int = 16
    budget: Budget = Budget()
    temperature: float | None = None
    on_exhausted: Literal["extract", "raise"] = "extract"
    final_write: bool = False
    instructions: str = ""
    output_type: str = ""
    tools: tuple[str, ...] = ()
    api_base: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> RunSettings:
        """What can be written down of ``settings``."""
        model = settings.model
        temperature = settings.model_options.get("temperature", getattr(model, "temperature", None))
        api_base = getattr(model, "api_base", None)
        return cls(
            model=str(model.name),
            recursive_model=str(settings.recursive_model.name),
            max_depth=settings.max_depth,
            max_iterations=settings.max_iterations,
            max_parallel=settings.max_parallel,
            budget=settings.budget,
            temperature=float(temperature) if isinstance(temperature, int | float) else None,
            on_exhausted=settings.on_exhausted,
            final_write=settings.final_write,
            instructions=settings.instructions,
            output_type=settings.answer_type.description,
            tools=tuple(settings.tools),
            api_base=without_credentials(api_base) if isinstance(api_base, str) else None,
        )
