"""Runs told by hand, at known times."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from rlm_integrations import Context, Document, Message, Usage, UsageReport
from rlm_integrations.context import ContextSummary
from rlm_integrations.events import (
    CellEnded,
    CellStarted,
    Citation,
    Event,
    ModelCallEnded,
    ModelCallStarted,
    RunEnded,
    RunFailed,
    RunStarted,
)
from rlm_integrations.trajectory import Trajectory

BEGAN = 1_700_000_000.0
TEXT = "The staging server listens on port 8443. Nobody knows why.\n"
DOCUMENTS = Context([Document(TEXT, id="servers.txt"), Document("Nothing about it.", id="other.txt")])
USAGE = Usage(100, 10, 20, 0.01)
QUOTE = "listens on port 8443"


class Story:
    """Events of one tree; times are seconds since its begin."""

    def __init__(self, query: str = "Which port?", context: ContextSummary = DOCUMENTS.summary, **run: Any) -> None:
        self.events: list[Event] = []
        self._ids = (f"id-{number}" for number in itertools.count())
        self.root = self.run(None, query, 0.0, context=context, **run)

    @property
    def trajectory(self) -> Trajectory:
        """The events in the order of their times."""
        return Trajectory(sorted(self.events, key=lambda event: event.time))

    def run(
        self,
        parent: str | None,
        query: str,
        at: float,
        depth: int = 0,
        model: str = "big",
        context: ContextSummary = DOCUMENTS.summary,
        id: str | None = None,
    ) -> str:
        """A run begins."""
        id = id or next(self._ids)
        self.events.append(RunStarted(id, parent, BEGAN + at, query, context, model, depth))
        return id

    def call(
        self,
        parent: str,
        prompt: str,
        reply: str | None,
        at: float,
        until: float,
        purpose: str = "turn",
        usage: Usage = USAGE,
        **started: Any,
    ) -> str:
        """A model call; without a reply it does not end."""
        id = next(self._ids)
        messages = (Message("user", prompt),)
        start = ModelCallStarted(id, parent, BEGAN + at, "big", 0, purpose, messages)  # type: ignore[arg-type]
        self.events.append(replace(start, **started))
        if reply is not None:
            source = started.get("source", "model")
            self.events.append(ModelCallEnded(id, parent, BEGAN + until, reply, usage, source))
        return id

    def sub_call(self, cell: str, prompt: str, reply: str | None, at: float, until: float, **settings: Any) -> str:
        """A plain sub-call of a cell."""
        return self.call(cell, prompt, reply, at, until, "sub-call", **({"model": "small", "depth": 1} | settings))

    def cell(
        self, run: str, code: str, at: float, until: float | None, stdout: str = "", error: str | None = None
    ) -> str:
        """A cell of the run's last reply; without an end it does not end."""
        self._write(run, code)
        id = next(self._ids)
        self.events.append(CellStarted(id, run, BEGAN + at, code))
        if until is not None:
            self.events.append(CellEnded(id, run, BEGAN + until, stdout, error))
        return id

    def look_up(self, run: str, code: str, at: float, until: float) -> str:
        """A cell that the engine ran by itself."""
        id = next(self._ids)
        self.events += [CellStarted(id, run, BEGAN + at, code), CellEnded(id, run, BEGAN + until, "found", None)]
        return id

    def _write(self, run: str, code: str) -> None:
        """Have the run's last reply hold ``code``."""
        for number, event in reversed(list(enumerate(self.events))):
            if isinstance(event, ModelCallEnded) and event.parent_id == run:
                if code not in event.text:
                    self.events[number] = replace(event, text=f"{event.text}\n```python\n{code}\n```")
                return

    def end(self, at: float, answer: Any = "8443", *citations: Citation, run: str | None = None, **end: Any) -> None:
        """A run ends with its answer."""
        ended = RunEnded(run or self.root, None, BEGAN + at, answer, "complete", citations, UsageReport())
        self.events.append(replace(ended, **end))

    def fail(self, at: float, error: str) -> None:
        """The root run ends without one."""
        self.events.append(RunFailed(self.root, None, BEGAN + at, error, UsageReport()))


def told() -> Trajectory:
    """A run of three turns: a cell that raises, three sub-calls at once and a child run, the answer with its quote."""
    story = Story()
    story.call(story.root, "Which port? There are 2 documents.", "```python\nprint(contxt)\n```", 0.1, 1.0)
    story.cell(story.root, "print(contxt)", 1.0, 1.2, error="NameError: name 'contxt' is not defined")
    story.call(story.root, "NameError", "I ask for each part.", 1.2, 2.0)
    cell = story.cell(story.root, "for part in parts:\n    print('port', part)  # loop", 2.0, 6.0, "port 8443\n")
    for number in range(3):
        story.sub_call(cell, f"Prompt {number} about zebras", f"Reply {number}", 2.1 + number / 100, 3.0 + number)
    child = story.run(cell, "Is 8443 open?", 2.2, 1, "small")
    story.call(child, "Is 8443 open?", "```python\nFINAL('yes')\n```", 2.3, 3.0, model="small", depth=1)
    story.cell(child, "FINAL('yes')", 3.0, 3.1)
    story.end(3.1, "yes", run=child, parent_id=cell)
    story.call(story.root, "port 8443", "```python\nFINAL('8443')\n```", 6.0, 7.0)
    story.cell(story.root, "FINAL('8443')", 7.0, 7.1)
    start = TEXT.index(QUOTE)
    story.end(7.2, "Port 8443", Citation("servers.txt", start, start + len(QUOTE), QUOTE))
    return story.trajectory


def large(events: int = 5_000) -> Trajectory:
    """A run of 25 turns with so many sub-calls that all is about ``events`` events."""
    story = Story()
    at = 0.0
    turns = 25
    for turn in range(turns):
        story.call(story.root, f"output of turn {turn} " * 60, "I look further.", at, at + 2)
        cell = story.cell(
            story.root, "\n".join(f"value_{n} = f'{{n}}'  # {turn}" for n in range(40)), at + 2, at + 12, "o" * 4_000
        )
        for number in range((events - 2) // turns // 2 - 2):
            begun = at + 2 + number // 16 * 1.5
            story.sub_call(
                cell, f"Prompt {turn}.{number}: " + "some text " * 150, "an answer " * 30, begun, begun + 1.4
            )
        at += 12
    story.end(at)
    return story.trajectory
