"""What one run has done so far and is doing, in words."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from rlm_integrations.budget import Tally
from rlm_integrations.cli.narrator import describe
from rlm_integrations.messages import UsageReport

__all__ = ["Line", "RunSoFar"]


@dataclass(frozen=True, slots=True)
class Line:
    """One clean line about a run."""

    kind: Literal["started", "going on", "failure", "parted", "complete", "extracted", "failed"]
    text: str

    @property
    def stays(self) -> bool:
        """Whether it is worth reading when the run is over."""
        return self.kind in ("parted", "complete", "extracted", "failed")


@dataclass(slots=True)
class RunSoFar:
    """A root run and all below it. ``sub_calls``, plain or child runs, are counted when they are through.

    ``batch`` counts the sub-calls that the root run's present cell has started, ``batch_done`` those of them that are
    through. ``reused`` counts answers from a memo or a cache. ``query`` and ``failure``, the latest one, are clean and
    short.
    """

    query: str
    max_iterations: int | None = None
    doing: str = "starting"
    turns: int = 0
    cells: int = 0
    sub_calls: int = 0
    reused: int = 0
    child_runs: int = 0
    batch: int = 0
    batch_done: int = 0
    failure: str = ""
    failures: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    start: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    @property
    def place(self) -> str:
        """Where the run is."""
        limit = f" of {self.max_iterations}" if self.max_iterations else ""
        return f"turn {self.turns}{limit}, {self.doing}" if self.turns else self.doing

    @property
    def used(self) -> str:
        """What the run took so far."""
        return self._counts(self.tally.report())

    @property
    def calls_below(self) -> str:
        """How far the sub-calls of the present cell are; empty where it made none."""
        if not self.batch:
            return ""
        parts = [f"{self.batch_done:,} of {_count(self.batch, 'sub-call')}"]
        if self.child_runs:
            parts.append(f"{_count(self.child_runs, 'child run')} under way")
        return ", ".join(parts)

    @property
    def failed(self) -> str:
        """What failed, and why the latest did; empty where nothing did."""
        if not self.failures:
            return ""
        return f"{self._failures()}; the last: {self.failure}"

    def total(self, status: str, usage: UsageReport) -> str:
        """How the run ended, and all that it took."""
        failures = f"; {self._failures()}" if self.failures else ""
        turns = f"{_count(self.turns, 'turn')}, " if self.turns else ""
        return f"{status}: {turns}{self._counts(usage)}{failures}"

    def _counts(self, usage: UsageReport) -> str:
        parts = [_count(self.cells, "cell")] if self.cells else []
        if self.sub_calls:
            parts.append(_count(self.sub_calls, "sub-call"))
        if self.reused:
            parts.append(f"{_count(self.reused, 'answer')} reused")
        return ", ".join([*parts, describe(usage), f"{time.monotonic() - self.start:.1f} s"])

    def _failures(self) -> str:
        # A display's thread may ask while another counts.
        return ", ".join(f"{_count(number, what)} failed" for what, number in list(self.failures.items()))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
