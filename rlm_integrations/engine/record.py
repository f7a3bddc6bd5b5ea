"""What is known of a tree from an earlier time: its ids, the replies that were paid for, and where it goes now."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rlm_integrations.engine.conversation import TURNS_LEFT_SAID
from rlm_integrations.engine.effects import EndRun
from rlm_integrations.engine.ids import new_id, now
from rlm_integrations.engine.recorded import Call, Cell, RecordedTree, Run
from rlm_integrations.errors import InvalidInput, ReplayError
from rlm_integrations.events import CellFailed, Event, ModelCallEnded, Purpose, ReplayParted, RunStarted
from rlm_integrations.messages import Message, Reply
from rlm_integrations.ports import CellOutput
from rlm_integrations.prompts import Prompts

__all__ = ["Place", "Record"]

MAX_PARTED_CHARS = 2_000
CHARS_BEFORE = 200
MAX_PROMPT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model call stands in the record. ``call`` is what was recorded there, None where the model is asked."""

    id: str
    call: Call | None = None
    parted: ReplayParted | None = None


@dataclass(slots=True)
class _Playing:
    """How far a run has come; ``recorded`` is None for one that the record does not hold."""

    recorded: Run | None
    turns: int = 0
    cells: dict[str, Cell] = field(default_factory=dict)
    call_id: str = ""
    is_equal: bool = True
    has_parted: bool = False


class Record:
    """The record of one tree, which is being carried out again. One without events knows nothing and gives new ids.

    It answers for what stands in the same place as before: a run's n-th turn, the cell in the reply to it, a cell's
    sub-call with equal messages, its child run with an equal question and context. For a tree with a record, one
    object serves one tree, and any number of its threads and tasks.
    """

    def __init__(self) -> None:
        self.is_resumed = False
        self.is_live = True
        self._from_turn: int | None = None
        self._passing: set[str] = set()
        self._tree = RecordedTree()
        self._playing: dict[str, _Playing] = {}
        self._lock = threading.Lock()

    @classmethod
    def to_replay(cls, events: Iterable[Event], from_turn: int | None = None) -> Record:
        """All replies come from the record, by their places; from the root's turn ``from_turn`` on, from models.

        Raises ``InvalidInput`` for a turn that the record does not reach.
        """
        record = cls()
        record._tree = RecordedTree(events)
        record.is_live, record._from_turn = False, from_turn
        turns = len(record._root.turns)
        if from_turn is not None and not (type(from_turn) is int and 1 <= from_turn <= turns + 1):
            raise InvalidInput(f"from_turn={from_turn!r}: the record has {turns} turns, pass 1 to {turns + 1}")
        return record

    @classmethod
    def to_resume(cls, events: Iterable[Event], prompts: Prompts) -> Record:
        """Replies come from the record while all that a run's model was told is as recorded, then from models.

        Limits may be others now, so it makes no difference how many turns were said to be left (by ``prompts``).
        """
        record = cls()
        record._passing = {prompts.note("turns left", turns=left).strip() for left in range(1, TURNS_LEFT_SAID + 1)}
        record._tree = RecordedTree(events)
        record._tree.forget_unanswered()
        record.is_resumed = bool(record._root)
        return record

    @property
    def _root(self) -> Run:
        if self._tree.root is None:
            raise InvalidInput("the record holds no run: it ended before its first event")
        return self._tree.root

    @property
    def start(self) -> RunStarted:
        """How the root run began. Raises ``InvalidInput`` where there is none."""
        return self._root.started

    @property
    def asks_models(self) -> bool:
        """Whether any model may be asked."""
        return self.is_live or self._from_turn is not None

    def sub_calls(self) -> Iterator[tuple[str, Reply]]:
        """The prompts and replies of a resumed run's sub-calls, which it may ask in other places now."""
        for call in self._tree.calls.values() if self.is_resumed else ():
            if call.started.purpose == "sub-call" and isinstance(call.outcome, ModelCallEnded):
                yield call.started.new_messages[-1].content, Reply(call.outcome.text, call.outcome.usage)

    def run_id(self, cell_id: str | None, query: str, sha256: str) -> str:
        """The id of the root run, or of a child of cell ``cell_id``, with this question and context."""
        if self._tree.root is None:
            return new_id()
        found = self._tree.root if cell_id is None else self._child(cell_id, query, sha256)
        id = found.started.id if found else new_id()
        self._playing[id] = _Playing(found)
        return id

    def _child(self, cell_id: str, query: str, sha256: str) -> Run | None:
        with self._lock:
            for run in self._tree.cells[cell_id].runs if cell_id in self._tree.cells else ():
                started = run.started
                if not run.is_used and (started.query, started.context.sha256) == (query, sha256):
                    run.is_used = True
                    return run
        return None

    def cell_id(self, run_id: str, code: str) -> str:
        """The id of a cell that run ``run_id`` is about to run after its last reply."""
        playing = self._playing.get(run_id)
        if playing and playing.recorded:
            for cell in playing.recorded.cells.get(playing.call_id, ()):
                if cell.started.id not in playing.cells and cell.started.code == code:
                    playing.cells[cell.started.id] = cell
                    return cell.started.id
        return new_id()

    def parted(self, run_id: str, cell_id: str, output: CellOutput) -> ReplayParted | None:
        """Whether the cell ended otherwise than recorded, if that is the first such thing in its run."""
        playing = self._playing.get(run_id)
        cell = playing and playing.cells.get(cell_id)
        if not playing or not playing.recorded or not cell or not cell.outcome or playing.has_parted:
            return None
        outcome = cell.outcome
        if isinstance(outcome, CellFailed):
            if playing.call_id == playing.recorded.last_call:
                return None  # Here the record ends: the cell was stopped from outside.
            was = outcome.error
        else:
            was = _shown(outcome.stdout, outcome.error)
        stdout = "" if isinstance(outcome, CellFailed) and output.restarted else output.stdout
        found = _shown(stdout, output.error)
        return None if was == found else self._part(run_id, playing, playing.turns, was, found)

    def _part(self, run_id: str, playing: _Playing, turn: int, recorded: str, found: str) -> ReplayParted:
        playing.has_parted = True
        same = next((i for i, (a, b) in enumerate(zip(recorded, found, strict=False)) if a != b), None)
        start = max(0, (min(len(recorded), len(found)) if same is None else same) - CHARS_BEFORE)
        was, now_is = (text[start : start + MAX_PARTED_CHARS] for text in (recorded, found))
        return ReplayParted(new_id(), run_id, now(), turn, was, now_is)

    def place(self, run_id: str, parent_id: str, purpose: Purpose, new_messages: Sequence[Message]) -> Place:
        """Where a call that is about to be made stands."""
        playing = self._playing.get(run_id)
        if playing is None:
            return Place(new_id())
        messages, parted = tuple(new_messages), None
        if purpose == "turn":
            playing.turns += 1
            if playing.recorded is self._tree.root and playing.turns == self._from_turn:
                self.is_live = True
            call, parted = self._turn(run_id, playing, messages)
        elif purpose == "extraction":
            call = self._extraction(playing, messages)
        else:
            call = self._asked_in(playing, parent_id, purpose, messages)
        if call is not None:
            call.is_used = True
        id = call.started.id if call else new_id()
        if purpose in ("turn", "extraction"):
            playing.call_id = id
        return Place(id, call, parted)

    def _turn(
        self, run_id: str, playing: _Playing, messages: tuple[Message, ...]
    ) -> tuple[Call | None, ReplayParted | None]:
        call = self._of_turn(playing)
        if call is None:
            return None, None
        if self.is_resumed and not self._is_same(call.started.new_messages, messages):
            playing.is_equal = False
        if playing.is_equal:
            return call if call.is_known else None, None
        if playing.has_parted:
            return None, None
        return None, self._part(run_id, playing, playing.turns - 1, _text(call.started.new_messages), _text(messages))

    def _of_turn(self, playing: _Playing) -> Call | None:
        turns = playing.recorded.turns if playing.recorded else []
        return turns[playing.turns - 1] if playing.turns <= len(turns) and self._answers else None

    def _extraction(self, playing: _Playing, messages: tuple[Message, ...]) -> Call | None:
        for call in reversed(playing.recorded.extractions if playing.recorded and self._answers else ()):
            is_equal = playing.is_equal and self._is_same(call.started.new_messages, messages)
            if (is_equal or not self.is_resumed) and call.is_known:
                return call
        return None

    def _is_same(self, recorded: Sequence[Message], messages: Sequence[Message]) -> bool:
        return [*map(self._lasting, recorded)] == [*map(self._lasting, messages)]

    def _lasting(self, message: Message) -> tuple[str, list[str]]:
        return message.role, [part for part in message.content.split("\n\n") if part.strip() not in self._passing]

    def _asked_in(
        self, playing: _Playing, cell_id: str, purpose: Purpose, messages: tuple[Message, ...]
    ) -> Call | None:
        cell = playing.cells.get(cell_id)
        # A text that is written out of the conversation is in its place, as a turn is.
        any_will_do = purpose == "answer" and not self.is_resumed
        with self._lock:
            for call in cell.calls if cell and self._answers else ():
                if call.is_used or call.started.purpose != purpose or not call.is_known:
                    continue
                if any_will_do or call.started.new_messages == messages:
                    call.is_used = True
                    return call
        return None

    @property
    def _answers(self) -> bool:
        return self.is_resumed or not self.is_live

    def check_live(self, purpose: Purpose, new_messages: Sequence[Message]) -> None:
        """End the tree with a ``ReplayError`` where a call that the record does not hold must not be made."""
        if self.is_live:
            return
        turn = self._playing[self._root.started.id].turns
        if purpose in ("turn", "extraction"):
            end = self._root.ended
            how = f" ({getattr(end, 'error', None) or getattr(end, 'status', '')})" if end else ""
            what = f"the record holds no reply to this {purpose} of a model, in turn {turn}: it ends before{how}"
        else:
            prompt = new_messages[-1].content[:MAX_PROMPT_CHARS]
            what = f"turn {turn} asks what the record does not hold: {prompt!r}"
        told = f"{what}. A replay asks no model: pass from_turn={turn} to ask it from there on"
        raise EndRun(ReplayError(told, turn=turn))

    def uncounted(self, calls: Iterable[Call] | None = None) -> list[Call]:
        """Those of ``calls`` that no budget has counted yet, which from now on are; by default all of a resumed run."""
        if calls is None:
            calls = self._tree.calls.values() if self.is_resumed else ()
        with self._lock:
            left = [call for call in calls if call.is_paid and not call.is_counted]
            for call in left:
                call.is_counted = True
        return left

    def unused(self) -> list[Call]:
        """The replies that a run which is resumed had paid for and had no use for."""
        calls = self._tree.calls.values() if self.is_resumed else ()
        return [call for call in calls if call.is_answered and call.is_paid and not call.is_used]


def _shown(stdout: str, error: str | None) -> str:
    return "\n".join(part for part in (stdout, error) if part)


def _text(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)
