"""Turns events into what is told of them: entries that a view can show in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

from rlm_integrations.budget import Tally
from rlm_integrations.cli.text import clock, flat, head, tail
from rlm_integrations.engine.own_cells import holds
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    Source,
    TextDelta,
)
from rlm_integrations.messages import Usage, UsageReport

__all__ = ["FULL", "LIVE", "LOOKED_UP", "SAVED", "Detail", "Entry", "Kind", "Narrator", "Task", "describe"]

MENTIONED_S = 0.05
MAX_PLACES = 12
QUESTION_CHARS = 2_000
LOOKED_UP = "looked up for the model"
FREE: Mapping[Source, str] = {"memo": "the answer to an equal sub-call", "cache": "from the cache"}

Kind = Literal["context", "asking", "reply", "code", "output", "sub-call", "failure", "note"]


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is told; None sets no limit.

    ``sub_calls``: how many of a cell are told one by one. ``exact``: name the model of each call, and say how long
    everything took, however short. ``texts``: what sub-calls were asked and said word for word, and whole replies.
    """

    code_lines: int | None = 40
    output_lines: int | None = 12
    width: int | None = 200
    sub_calls: int | None = 4
    exact: bool = False
    texts: bool = False


LIVE = Detail()
SAVED = Detail(sub_calls=None, exact=True)
FULL = Detail(None, None, None, None, exact=True, texts=True)


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
    """A run, a model call or a cell that has started. ``text`` is what the model wrote so far.

    ``turns``: how many the run has taken, or will have when this call of it ends; ``parts``: how many sub-calls a cell
    has made; ``number``: which of them this is; ``reply``: a run's last one, where it is known, and ``was_run``:
    whether its code was.
    """

    place: str
    doing: str
    start: float
    kind: Literal["run", "turn", "sub-call", "cell"]
    model: str = ""
    depth: int = 0
    text: str = ""
    turns: int = 0
    parts: int = 0
    number: int = 0
    reply: str | None = None
    was_run: bool = False


@dataclass(slots=True)
class Narrator:
    """Follows one tree. ``under_way`` holds what is being done, by id; ``tally`` what the calls took so far,
    ``resumed`` when the run went on.

    A saved tree goes on after its end where it was resumed, and may lack anything: what is known of it is told.
    """

    detail: Detail = LIVE
    under_way: dict[str, Task] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    resumed: float = 0.0
    _tasks: dict[str, Task] = field(default_factory=dict)

    def tell(self, event: Event) -> Iterator[Entry]:
        """What there is to tell of ``event``; must be read to its end."""
        match event:
            case RunStarted():
                place = self._sub_place(event.parent_id, "run") if event.parent_id else ""
                self._begin(event.id, Task(place, "working", event.time, "run"))
                about = f"{flat(event.context.type)}, {event.context.chars:,} characters"
                if event.parent_id is None:
                    if self.detail.exact:
                        yield Entry("context", "question", flat(event.query, QUESTION_CHARS))
                        yield Entry("context", "asked", f"{clock(event.time)}, {flat(event.model)}")
                    yield Entry("context", "context", about)
                else:
                    yield self._said("sub-call", place, f"a helper run on {about}", event.query)
            case ModelCallStarted(purpose="sub-call"):
                task = _call(event, self._sub_place(event.parent_id, "sub-call"))
                task.number = self._task(event.parent_id).parts
                self._begin(event.id, task)
                if self.detail.texts:
                    prompt = "\n".join(message.content for message in event.new_messages)
                    yield Entry("sub-call", task.place, task.doing, self._head(prompt, None))
            case ModelCallStarted():
                yield from self._unread(event.parent_id)
                run = self._task(event.parent_id)
                turns = run.turns + (event.purpose == "turn")
                run.doing = _below(run.place, f"turn {turns}" if event.purpose == "turn" else event.purpose)
                task = _call(event, run.doing, turns)
                self._begin(event.id, task)
                yield Entry("asking", task.place, task.doing)
            case TextDelta():
                self._task(event.id).text += event.text
            case ModelCallEnded():
                yield from self._reply(event, self._end(event.id, event.time))
            case ModelCallFailed():
                task = self._end(event.id, event.time)
                who = f"{flat(task.model)}, " if self.detail.exact else ""
                yield self._said("failure", task.place, f"{who}no reply", event.error, 300)
            case CellStarted():
                run = self._task(event.parent_id)
                is_looked_up = run.reply is not None and (run.was_run or not holds(run.reply, event.code))
                if is_looked_up:
                    yield from self._unread(event.parent_id)
                elif self.detail.texts and run.reply and not _is_only(run.reply, event.code):
                    yield Entry("reply", run.doing, "the whole reply", self._head(run.reply, None))
                run.was_run = True
                self._begin(event.id, Task(run.doing, "code is running", event.time, "cell"))
                title = LOOKED_UP if is_looked_up else "code"
                yield Entry("code", run.doing, title, self._head(event.code, self.detail.code_lines))
            case CellEnded():
                task = self._end(event.id, event.time)
                yield from self._cell(task, event)
                if event.stdout.strip():
                    yield Entry("output", task.place, "printed", self._head(event.stdout, self.detail.output_lines))
                if event.error:
                    error = tail(event.error, self.detail.output_lines, self.detail.width)
                    yield Entry("failure", task.place, "the code failed", error)
            case CellFailed():
                task = self._end(event.id, event.time)
                yield from self._cell(task, event)
                yield self._said("failure", task.place, "the code was stopped", event.error, 300)
            case RunEnded():
                yield from self._unread(event.id)
                task = self._end(event.id, event.time)
                if event.parent_id:
                    how = " (extracted: its turns or budget ran out)" if event.status == "extracted" else ""
                    took = f" ({describe(event.usage)}{self._seconds(task, event)})" if self.detail.exact else ""
                    yield self._said("sub-call", task.place, f"answered{how}{took}", str(event.answer))
            case RunFailed():
                yield from self._unread(event.id)
                task = self._end(event.id, event.time)
                if event.parent_id:
                    yield self._said("failure", task.place, "failed", event.error, 300)
            case RunResumed():
                yield from self._resume(event)
            case ReplayParted():
                run = self._task(event.parent_id)
                run.turns, run.doing, run.reply = event.turn, _below(run.place, f"turn {event.turn}"), None
                lines = self.detail.output_lines
                yield Entry("note", run.doing, "parts from the record, which says", self._head(event.recorded, lines))
                yield Entry("note", run.doing, "what came instead", self._head(event.found, lines))
            case SessionWaiting():
                yield Entry("note", self._task(event.parent_id).place, f"waits for room: {flat(event.reason, 300)}")
            case _:
                assert_never(event)

    def _reply(self, event: ModelCallEnded, task: Task) -> Iterator[Entry]:
        if event.source not in FREE:
            self.tally.add(task.model, task.depth, event.usage)
        took = FREE.get(event.source) or describe(event.usage) + self._seconds(task, event)
        if event.source == "record":
            took += ", from the record"
        who = flat(task.model) if self.detail.exact else "the model"
        if task.kind == "turn":
            caller = self._task(event.parent_id)
            if task.turns > caller.turns:
                caller.turns, caller.reply, caller.was_run = task.turns, event.text, False
            yield Entry("reply", task.place, f"{who} wrote ({took})")
        elif self.detail.sub_calls is None or task.number <= self.detail.sub_calls:
            title = f"{who}, {took}" if self.detail.exact else took
            yield self._said("sub-call", task.place, title, event.text)

    def _cell(self, task: Task, event: CellEnded | CellFailed) -> Iterator[Entry]:
        if self.detail.sub_calls is not None and task.parts > self.detail.sub_calls:
            yield Entry("sub-call", task.place, f"{task.parts} sub-calls in all")
        if self.detail.exact and event.time - task.start > MENTIONED_S:
            yield Entry("reply", task.place, f"the code ran{self._seconds(task, event).removeprefix(',')}")

    def _unread(self, run_id: str) -> Iterator[Entry]:
        """The last reply, where nothing in it was run."""
        run = self._task(run_id)
        if run.reply is not None and not run.was_run:
            reply = self._head(run.reply, self.detail.output_lines)
            yield Entry("failure", run.doing, "nothing in this reply was run", reply)
            run.was_run = True

    def _resume(self, event: RunResumed) -> Iterator[Entry]:
        """What was under way is not any more; the cells of it will be told to have ended."""
        for id, task in list(self.under_way.items()):
            if task.kind in ("turn", "sub-call"):
                yield Entry("failure", task.place, "no reply: the process ended that was waiting for it")
            del self.under_way[id]
        self.resumed = event.time
        self.under_way[event.id] = self._tasks.setdefault(event.id, Task("", "working", event.time, "run"))
        yield Entry("note", "resumed", clock(event.time))

    def _begin(self, id: str, task: Task) -> None:
        self._tasks[id] = self.under_way[id] = task

    def _end(self, id: str, time: float) -> Task:
        self.under_way.pop(id, None)
        task = self._tasks.setdefault(id, Task("", "", time, "cell", "?"))
        task.text = ""
        return task

    def _task(self, id: str) -> Task:
        return self._tasks.setdefault(id, Task("", "", 0.0, "cell"))

    def _sub_place(self, cell_id: str, name: str) -> str:
        cell = self._task(cell_id)
        cell.parts += 1
        return _below(cell.place, f"{name} {cell.parts}")

    def _seconds(self, task: Task, event: Event) -> str:
        seconds = event.time - max(task.start, self.resumed)
        return f", {max(0.0, seconds):.1f} s" if self.detail.exact or seconds > MENTIONED_S else ""

    def _said(self, kind: Kind, place: str, title: str, text: str, chars: int = 120) -> Entry:
        if self.detail.texts:
            return Entry(kind, place, title, self._head(text, None))
        return Entry(kind, place, f"{title}: {flat(text, chars)}")

    def _head(self, text: str, lines: int | None) -> str:
        return head(text, lines, self.detail.width)


def _call(event: ModelCallStarted, place: str, turns: int = 0) -> Task:
    kind: Literal["turn", "sub-call"] = "sub-call" if event.purpose == "sub-call" else "turn"
    return Task(place, f"asking {flat(event.model)}", event.time, kind, event.model, event.depth, turns=turns)


def _below(place: str, name: str) -> str:
    if place.count(" > ") >= MAX_PLACES:
        place = f"… > {place.split(' > ', 2)[2]}"
    return f"{place} > {name}" if place else name


def _is_only(reply: str, code: str) -> bool:
    """Whether ``reply`` is nothing but a block of ``code``."""
    before, _, after = reply.partition(code.strip())
    return before.strip() in ("", "```", "```python", "```py", "```repl") and after.strip() in ("", "```")


def describe(usage: Usage | UsageReport) -> str:
    """Calls, where there can be several, tokens and cost in words; a cost that is not known is left out."""
    calls = f"{_count(usage.calls, 'call')}, " if isinstance(usage, UsageReport) else ""
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{calls}{_count(usage.input_tokens, 'token')} in{cached}, {usage.output_tokens:,} out{cost}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
