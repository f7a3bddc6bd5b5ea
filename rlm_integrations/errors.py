"""Every error this package raises.

RLMError                    carries .partial: what a failed run had got to
├── InvalidInput            also a ValueError: said before any model call
├── MissingExtra            also an ImportError: names the pip install line
├── ModelError              the provider said no; carries .model
│   ├── MissingKey
│   ├── ModelNotFound
│   ├── WindowExceeded      the prompt is larger than the model takes
│   ├── RateLimited         still refused after the retries
│   ├── ModelTimeout
│   └── ModelUnavailable    connection or server errors, after the retries
├── BudgetExceeded          carries .limit, .used and .allowed
├── TurnsExhausted          carries .turns
├── ReplayError             a replay came to what its record does not hold; carries .turn
├── SandboxError            the sandbox could not start, or failed too often
│   └── WireError           a worker sent something it must not
└── RunCancelled            the caller stopped reading a stream
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_integrations.result import RLMResult

__all__ = [
    "BudgetExceeded",
    "InvalidInput",
    "MissingExtra",
    "MissingKey",
    "ModelError",
    "ModelNotFound",
    "ModelTimeout",
    "ModelUnavailable",
    "RLMError",
    "RateLimited",
    "ReplayError",
    "RunCancelled",
    "SandboxError",
    "TurnsExhausted",
    "WindowExceeded",
    "WireError",
]


class RLMError(Exception):
    """Base of all errors raised here; ``partial`` holds what a failed run had got to."""

    partial: RLMResult | None = None


class InvalidInput(RLMError, ValueError):
    """An argument can't be used; the message says what was given, what is accepted and how to fix it."""


class MissingExtra(RLMError, ImportError):
    """An optional dependency is not installed; the message names the line that installs it."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs an extra: pip install 'rlm-integrations[{extra}]'")
        self.extra = extra


class ModelError(RLMError):
    """A model call failed; ``model`` names the model, the message holds the provider's own words."""

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message)
        self.model = model


class MissingKey(ModelError):
    """The provider wants an API key and has none, or refuses the one it was given."""


class ModelNotFound(ModelError):
    """No provider, or no model of that name."""


class WindowExceeded(ModelError):
    """The prompt is larger than the model's context window."""


class RateLimited(ModelError):
    """The provider kept refusing for its rate limit until the retries were used up."""


class ModelTimeout(ModelError):
    """The model did not answer in time."""


class ModelUnavailable(ModelError):
    """The provider could not be reached, or kept failing until the retries were used up."""


class BudgetExceeded(RLMError):
    """A call was not made, because the tree's budget does not cover it."""

    def __init__(self, limit: str, used: float, allowed: float) -> None:
        super().__init__(f"the budget is used up: {limit} is {allowed:g}, {used:g} used; raise Budget({limit}=...)")
        self.limit, self.used, self.allowed = limit, used, allowed


class TurnsExhausted(RLMError):
    """A run reached its last turn, or stopped making progress, without an answer."""

    def __init__(self, message: str, *, turns: int) -> None:
        super().__init__(message)
        self.turns = turns


class ReplayError(RLMError):
    """A replay came to something its record does not hold, and a replay asks no model; ``turn`` says where."""

    def __init__(self, message: str, *, turn: int) -> None:
        super().__init__(message)
        self.turn = turn


class SandboxError(RLMError):
    """The sandbox can't start here, or lost its worker too often in one run."""


class WireError(SandboxError):
    """A worker sent a frame that is forged, malformed, too large or out of order."""


class RunCancelled(RLMError):
    """The run was stopped from outside before it had an answer."""
