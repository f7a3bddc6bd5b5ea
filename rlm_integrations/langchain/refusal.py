"""Settings that pydantic refuses, said as the rest of the package says it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from rlm_integrations.errors import InvalidInput

__all__ = ["made"]


def made(cls: type[BaseModel], make: Any, settings: dict[str, Any]) -> None:
    """Call ``make``, the initializer of ``cls``, with ``settings``. Raises ``InvalidInput`` for what it refuses."""
    if unknown := sorted(settings.keys() - cls.model_fields.keys()):
        raise InvalidInput(f"{cls.__name__} has no setting {', '.join(unknown)}")
    try:
        make(**settings)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        causes = [problem.get("ctx", {}).get("error") for problem in problems]
        said = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise next((cause for cause in causes if isinstance(cause, InvalidInput)), InvalidInput(said)) from error
