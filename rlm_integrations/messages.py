"""What goes to a model and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Message", "Reply", "Role", "Usage", "UsageReport"]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation with a model."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call cost: ``cached_tokens`` are part of ``input_tokens``; no known price is a ``cost_usd`` of None."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer to one call."""

    text: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What many calls cost together.

    ``cost_usd`` is None as soon as one of the calls has no known price: a sum that leaves calls out would be too low.
    The parts in ``by_model`` (keyed by model name) and ``by_depth`` (0 is the root run) have no parts of their own.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    by_model: Mapping[str, UsageReport] = field(default_factory=dict)
    by_depth: Mapping[int, UsageReport] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens
