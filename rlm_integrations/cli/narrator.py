"""Turns events into what is told of them: entries that a view can show in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, assert_never

from rlm_integrations.budget import Tally
from rlm_integrations.cli.text import flat, head, tail
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
)
from rlm_integrations.messages import Usage, UsageReport

__all__ = ["Entry", "Kind", "Narrator", "Task", "describe"]

CODE_LINES = 40
OUTPUT_LINES = 12
SUB_CALLS_SHOWN = 4
MENTIONED_S = 0.05

Kind = Literal["context", "asking", "reply", "code", "output", "sub-call", "failure"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to tell. ``place`` says where in the tree it happened, e.g. "turn 2 > sub-call 1"; text is clean."""

    kind: Kind
    place: str
    title: str
    body: str = ""

    @property
    def depth(self) -> int:
        """How deep in the tree: 0 for the root run's own turns."""
        return self.place.count(" > ")


@dataclass(slots=True)
class Task:
    """A run, a model call or a cell that has started and not ended. ``text`` is what the model wrote so far."""

    place: str
    doing: str
    start: float
    kind: Literal["run", "turn", "sub-call", "cell"]
    model: str = ""
    depth: int = 0
    text: str = ""
    turns: int = 0
    parts: int = 0
    reply: str | None = None


@dataclass(slots=True)
class Narrator:
    """Follows one tree. ``under_way`` holds what is being done, by id; ``tally`` what the calls took so far."""

    under_way: dict[str, Task] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def tell(self, event: Event) -> Iterator[Entry]:
        """What there is to tell of ``event``; must be read to its end."""
        match event:
            case RunStarted():
                place = self._sub_place(event.parent_id, "run") if event.parent_id else ""
                self.under_way[event.id] = Task(place, "working", event.time, "run")
                about = f"{event.context.type}, {event.context.chars:,} characters"
                if event.parent_id is None:
                    yield Entry("context", "context", about)
                else:
                    yield Entry("sub-call", place, f"a helper run on {about}: {flat(event.query)}")
            case ModelCallStarted(purpose="sub-call"):
                place = self._sub_place(event.parent_id, "sub-call")
                doing = f"asking {flat(event.model)}"
                self.under_way[event.id] = Task(place, doing, event.time, "sub-call", event.model, event.depth)
            case ModelCallStarted():
                yield from self._unread(event.parent_id)
                run = self.under_way[event.parent_id]
                run.turns += 1
                name = f"turn {run.turns}" if event.purpose == "turn" else event.purpose
                place = f"{run.place} > {name}" if run.place else name
                run.doing = place
                doing = f"asking {flat(event.model)}"
                self.under_way[event.id] = Task(place, doing, event.time, "turn", event.model, event.depth)
                yield Entry("asking", place, doing)
            case TextDelta():
                self.under_way[event.id].text += event.text
            case ModelCallEnded():
                task = self.under_way.pop(event.id)
                self.tally.add(task.model, task.depth, event.usage)
                seconds = event.time - task.start
                took = describe(event.usage) + (f", {seconds:.1f} s" if seconds > MENTIONED_S else "")
                if task.kind == "turn":
                    self.under_way[event.parent_id].reply = event.text
                    yield Entry("reply", task.place, f"the model wrote ({took})")
                elif self._is_shown(task.place):
                    yield Entry("sub-call", task.place, f"{took}: {flat(event.text)}")
            case ModelCallFailed():
                task = self.under_way.pop(event.id)
                yield Entry("failure", task.place, f"no reply: {flat(event.error, 300)}")
            case CellStarted():
                run = self.under_way[event.parent_id]
                run.reply = None
                self.under_way[event.id] = Task(run.doing, "code is running", event.time, "cell")
                yield Entry("code", run.doing, "code", head(event.code, CODE_LINES))
            case CellEnded():
                task = self.under_way.pop(event.id)
                yield from _left_out(task)
                if event.stdout.strip():
                    yield Entry("output", task.place, "printed", head(event.stdout, OUTPUT_LINES))
                if event.error:
                    yield Entry("failure", task.place, "the code failed", tail(event.error, OUTPUT_LINES))
            case CellFailed():
                task = self.under_way.pop(event.id)
                yield from _left_out(task)
                yield Entry("failure", task.place, f"the code was stopped: {flat(event.error, 300)}")
            case RunEnded():
                yield from self._unread(event.id)
                task = self.under_way.pop(event.id)
                if event.parent_id:
                    how = " (extracted: its turns or budget ran out)" if event.status == "extracted" else ""
                    yield Entry("sub-call", task.place, f"answered{how}: {flat(str(event.answer))}")
            case RunFailed():
                yield from self._unread(event.id)
                task = self.under_way.pop(event.id)
                if event.parent_id:
                    yield Entry("failure", task.place, f"failed: {flat(event.error, 300)}")
            case _:
                assert_never(event)

    def _sub_place(self, cell_id: str, name: str) -> str:
        cell = self.under_way[cell_id]
        cell.parts += 1
        return f"{cell.place} > {name} {cell.parts}"

    def _is_shown(self, place: str) -> bool:
        return int(place.rpartition(" ")[2]) <= SUB_CALLS_SHOWN

    def _unread(self, run_id: str) -> Iterator[Entry]:
        """The last reply, where nothing in it was run."""
        run = self.under_way[run_id]
        if run.reply is not None:
            yield Entry("failure", run.doing, "nothing in this reply was run", head(run.reply, OUTPUT_LINES))
            run.reply = None


def _left_out(cell: Task) -> Iterator[Entry]:
    if cell.parts > SUB_CALLS_SHOWN:
        yield Entry("sub-call", cell.place, f"{cell.parts} sub-calls in all")


def describe(usage: Usage | UsageReport) -> str:
    """Calls, where there can be several, tokens and cost in words; a cost that is not known is left out."""
    calls = ""
    if isinstance(usage, UsageReport):
        calls = f"{usage.calls:,} call{'' if usage.calls == 1 else 's'}, "
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{calls}{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out{cost}"
