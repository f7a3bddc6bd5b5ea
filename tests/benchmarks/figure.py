"""One thing that was measured, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from time import perf_counter

__all__ = ["HEADINGS", "Figure", "seconds", "table_row"]

HEADINGS = ("what", "median", "target", "", "recursive-llm", "rlms")
WIDTHS = (52, 10, 10, 4, 13, 9)


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` in ``unit``, which should be ``target`` at most; ``peers`` holds the same of others, by name."""

    what: str
    value: float
    unit: str
    target: float | None = None
    peers: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty without one."""
        return "" if self.target is None else "ok" if self.value <= self.target else "MISS"

    def to_json(self, **about: object) -> str:
        """One line of JSON; ``about`` tells where it was measured."""
        return json.dumps({**asdict(self), "verdict": self.verdict, **about})


def table_row(figure: Figure | None = None) -> str:
    """A line of the table; without a figure, the headings."""
    if figure is None:
        cells: tuple[str, ...] = HEADINGS
    else:
        target = "" if figure.target is None else _shown(figure.target, figure.unit)
        others = (figure.peers.get(name, "") for name in HEADINGS[4:])
        shown = [other if isinstance(other, str) else _shown(other, figure.unit) for other in others]
        cells = (figure.what, _shown(figure.value, figure.unit), target, figure.verdict, *shown)
    first, *rest = (
        f"{cell:<{width}}" if i in (0, 3) else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def seconds(action: Callable[[], object], times: int = 5) -> float:
    """The median time of ``action``."""

    def once() -> float:
        start = perf_counter()
        action()
        return perf_counter() - start

    return median(once() for _ in range(times))


def _shown(value: float, unit: str) -> str:
    digits = 0 if value >= 100 or unit == "" else 1 if value >= 20 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} {unit}".rstrip()
