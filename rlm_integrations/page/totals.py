"""What the model calls of a run took, in all and by depth and model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from rlm_integrations.messages import Usage
from rlm_integrations.page.steps import Step
from rlm_integrations.page.text import shown

__all__ = ["plain_usage", "totals"]

# JSON's numbers in a browser are exact up to here.
MAX_COUNT = 2**53


def totals(steps: Iterable[Step]) -> dict[str, Any]:
    """``all``, ``by_depth`` and ``by_model``: calls that were paid, calls answered without, tokens, cost."""
    calls = [step for step in steps if step.usage is not None]
    return {
        "all": _sum("in all", calls),
        "by_depth": _grouped(calls, lambda step: f"depth {step.depth}" if step.depth else "depth 0, the root"),
        "by_model": _grouped(calls, lambda step: step.model),
    }


def _grouped(calls: list[Step], name: Callable[[Step], str]) -> list[dict[str, Any]]:
    groups: dict[str, list[Step]] = {}
    for call in sorted(calls, key=lambda call: call.depth):
        groups.setdefault(name(call), []).append(call)
    return [_sum(group, members) for group, members in groups.items()]


def _sum(name: str, calls: list[Step]) -> dict[str, Any]:
    paid = [call.usage for call in calls if call.usage and call.source not in ("memo", "cache")]
    costs = [usage.cost_usd for usage in paid]
    return {
        "name": shown(name),
        "calls": len(paid),
        "reused": len(calls) - len(paid),
        "input": _count(sum(usage.input_tokens for usage in paid)),
        "output": _count(sum(usage.output_tokens for usage in paid)),
        "cached": _count(sum(usage.cached_tokens for usage in paid)),
        "cost": _cost(sum(cost for cost in costs if cost is not None)) if paid and None not in costs else None,
    }


def plain_usage(usage: Usage) -> list[Any]:
    """Tokens in, tokens out, of those in cached, and cost."""
    counts = [_count(count) for count in (usage.input_tokens, usage.output_tokens, usage.cached_tokens)]
    return [*counts, _cost(usage.cost_usd)]


def _count(count: int) -> int:
    return max(0, min(count, MAX_COUNT))


def _cost(cost: float | None) -> float | None:
    return cost if cost is not None and math.isfinite(cost) else None
