"""The recursive language model loop, as one generator of effects.

The algorithm of Zhang, Kraska and Khattab, "Recursive Language Models" (arXiv 2512.24601): the root model sees the
question and a description of the context, writes code that looks into it, may hand pieces to sub-calls, and ends
with FINAL. A reply is a cell or it is refused; what a cell gives to FINAL is checked (was it typed in blindly? do its
quotes stand in the context? is it of the type asked for?) and is the answer or goes back with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from rlm_integrations.budget import Tally
from rlm_integrations.context import Context
from rlm_integrations.engine.answer import AnswerType
from rlm_integrations.engine.calls import Node, ask_model, estimate_tokens, said, usage_of
from rlm_integrations.engine.citations import QuoteNotFound, cite
from rlm_integrations.engine.conversation import Conversation
from rlm_integrations.engine.effects import Advance, Branch, Open, Settle, calling_session
from rlm_integrations.engine.ids import new_id, now
from rlm_integrations.engine.looks import Looks, first_look, found_nothing
from rlm_integrations.engine.provenance import is_typed_in
from rlm_integrations.engine.reply import Cell, NoCell, read_reply
from rlm_integrations.engine.sub_calls import FUNCTIONS, SubCalls
from rlm_integrations.engine.tree import Tree
from rlm_integrations.engine.writing import Writing
from rlm_integrations.errors import BudgetExceeded, RLMError, TurnsExhausted, WindowExceeded
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Citation,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    Status,
)
from rlm_integrations.ports import CellOutput, Final, Run, Session, SubCall

__all__ = ["run"]

# Ends generation at the closing fence, before a model writes down what its own code might print. An opening fence
# that names a language passes.
STOP = "\n```\n"
MAX_STALE_TURNS = 4
# In a whole run, but for those that a look was the answer to.
MAX_PROSE = 2


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any
    status: Status
    citations: tuple[Citation, ...] = ()


def run(
    tree: Tree, query: str, context: Context, parent: Node | None = None, cell_id: str | None = None
) -> Branch[RunEnded]:
    """Answer ``query`` about ``context``; returns the event that ends the run.

    Raises ``TurnsExhausted``, ``BudgetExceeded``, ``ModelError`` or ``SandboxError``, after the event that says so.
    """
    depth = parent.depth + 1 if parent else 0
    id = tree.record.run_id(cell_id, query, context.summary.sha256)
    node = Node(tree, id, depth, Tally(parent.tally if parent else None))
    tree.emit(RunStarted(node.id, cell_id, now(), query, context.summary, node.model.name, depth))
    if tree.record.is_resumed and cell_id is None:
        tree.emit(RunResumed(id, None, now()))
    try:
        variables = {"context": context.value, "query": query}
        functions = (*FUNCTIONS, *tree.settings.tools)
        calling = calling_session.get()
        below = parent.session if parent else (calling.session if calling else None)
        session: Session = yield Open(tree.settings.sandbox, variables, functions, below)
        with tree.using(session):
            node = replace(node, session=session)
            yield from _settled(node, session)
            found = yield from first_look(session, context, tree.meter.seconds_left())
            answer = yield from _Turns(node, query, context, session, found).take()
    except BaseException as error:
        tree.emit(RunFailed(node.id, cell_id, now(), said(error), usage_of(node)))
        raise
    ended = RunEnded(node.id, cell_id, now(), answer.value, answer.status, answer.citations, usage_of(node))
    tree.emit(ended)
    return ended


def _settled(node: Node, session: Session) -> Branch[None]:
    """Wait until ``session`` has room, where it is of a kind that may have none; that it has to wait is told."""
    is_told = False
    while isinstance(reason := getattr(session, "waiting", None), str):
        limit_s = node.tree.meter.seconds_left()
        if not is_told:
            node.tree.emit(SessionWaiting(new_id(), node.id, now(), reason))
            is_told = True
        yield Settle(session, limit_s)


@cache
def _any_value() -> AnswerType:
    return AnswerType(Any)


def _start_child(node: Node, query: str, context: Context, cell_id: str) -> Branch[RunEnded]:
    return run(node.tree, query, context, node, cell_id)


class _Turns:
    """The turns of one run."""

    def __init__(self, node: Node, query: str, context: Context, session: Session, found: str) -> None:
        settings = node.tree.settings
        self.settings = settings
        self.node = node
        self.query = query
        self.context = context
        self.session = session
        # A child answers model code, which takes any JSON value.
        self.answer_type = _any_value() if node.depth else settings.answer_type
        self.talk = Conversation(
            settings.prompts,
            query,
            context,
            settings.tools,
            self.answer_type.description,
            settings.final_write,
            # They are for the reader's answer; a child answers model code.
            "" if node.depth else settings.instructions,
            found,
        )
        self.writing = Writing(node, self.talk, context, self.answer_type)
        self.sub_calls = SubCalls(node, _start_child, self.writing)
        self.turn = 0
        self.looks = Looks(self.talk, found)
        self.was_refused = False
        self.held_back = False
        self.prose = 0
        self.misquoted: list[Any] = []

    def take(self) -> Branch[_Answer]:
        """Take turns until there is an answer."""
        while True:
            if reason := self._end_of_turns():
                return (yield from self._extract(reason))
            if last := self._last_call():
                return (yield from self._extract(last, "last call"))
            try:
                text = yield from self._ask()
            except (WindowExceeded, BudgetExceeded) as error:
                if self.turn == 0:
                    raise
                return (yield from self._extract(error, condensed=True))
            self.turn += 1
            answer = yield from self._read(text)
            if answer:
                return answer

    def _ask(self) -> Branch[str]:
        """The reply to what is to be said."""
        messages, new = self.talk.outgoing()
        options = self.talk.options()
        if not self.was_refused:
            # It also ends a reply at a bare fence before its code or inside of it.
            options["stop"] = [STOP]
        node = self.node
        reply = yield from ask_model(node, messages, "turn", node.id, new_messages=new, **options)
        return reply.text

    def _turns_left(self) -> int:
        return self.settings.max_iterations - self.turn

    def _end_of_turns(self) -> TurnsExhausted | None:
        if self.turn == self.settings.max_iterations:
            reason = f"no answer in {self.turn} turns: raise max_iterations, or ask a narrower question"
        elif self.talk.stale == MAX_STALE_TURNS:
            reason = f"no answer in {self.turn} turns, and nothing new in the last {MAX_STALE_TURNS}: try another model"
        elif self.prose == MAX_PROSE:
            reason = f"no answer in {self.turn} turns, and {MAX_PROSE} replies without code: try another model"
        else:
            return None
        return TurnsExhausted(reason, turns=self.turn)

    def _last_call(self) -> BudgetExceeded | None:
        """Why the call after the next one would be refused; then the next has to bring the answer."""
        if self.node.depth or self.settings.on_exhausted == "raise":
            return None
        return self.node.tree.meter.last_call(self.node.model.name, estimate_tokens(self.talk.text))

    def _read(self, text: str) -> Branch[_Answer | None]:
        """Run the cell in a reply, or say what is missing."""
        read = read_reply(text)
        self.talk.heard(read.kept)
        self.was_refused = isinstance(read, NoCell)
        match read:
            case NoCell(problem):
                if problem == "prose":
                    self.prose += 1
                self.talk.refuse(problem)
                if not self.talk.has_shown_output:
                    yield from self._look()
            case Cell(code) if self.talk.is_echo(code):
                self.talk.refuse_echo()
            case Cell(code):
                self.prose = 0
                output = yield from self._run_cell(code)
                answer = self._written("complete")
                if output.final and not answer:
                    answer = yield from self._checked(code, output, output.final)
                if answer:
                    return answer
                self.talk.show(code, output, self._turns_left())
                self.talk.tell(self.sub_calls.notes)
                if output.final and not self.talk.has_shown_output:
                    yield from self._look()
                if self.talk.stale or found_nothing(output):
                    yield from self.looks.words(self._run_cell, code, output, self._turns_left())
        return None

    def _look(self) -> Branch[None]:
        if (yield from self.looks.search(self._run_cell, self._turns_left())):
            self.prose = 0

    def _run_cell(self, code: str) -> Branch[CellOutput]:
        """Run a cell to its end, serving the sub-calls that it makes."""
        tree, run_id = self.node.tree, self.node.id
        yield from _settled(self.node, self.session)  # It may have lost the room it had.
        id = tree.record.cell_id(run_id, code)
        tree.emit(CellStarted(id, run_id, now(), code))
        try:
            step: Any = Run(code, tree.meter.seconds_left())
            while True:
                stop: SubCall | CellOutput = yield Advance(self.session, step)
                if isinstance(stop, CellOutput):
                    break
                step = yield from self.sub_calls.serve(stop, id)
        except BaseException as error:
            tree.emit(CellFailed(id, run_id, now(), said(error)))
            raise
        if parted := tree.record.parted(run_id, id, stop):
            tree.emit(parted)
        if stop.restarted:
            tree.emit(CellFailed(id, run_id, now(), stop.error or "the cell was stopped"))
        else:
            tree.emit(CellEnded(id, run_id, now(), stop.stdout, stop.error))
        return stop

    def _written(self, status: Status) -> _Answer | None:
        """What ``FINAL_WRITE`` brought."""
        return self.writing.written and _Answer(self.writing.written[0], status, self.writing.written[1])

    def _checked(self, code: str, output: CellOutput, final: Final) -> Branch[_Answer | None]:
        """What was given to FINAL as the answer; None, with the reason said, where it does not count."""
        if not self.held_back and self._is_blind(code):
            self.held_back = True
            self.talk.say("typed in" if output.stdout.strip() else "typed in, no output")
            return None
        if not self.held_back and not final.value and not output.stdout.strip() and not self.talk.has_shown_output:
            self.held_back = True
            self.talk.say("nothing found", value=repr(final.value))
            return None
        try:
            value = self.answer_type.validate(final.value)
            citations = yield from cite(self.context, final.quotes)
        except QuoteNotFound as error:
            if final.value in self.misquoted:
                # Said twice, the answer is meant; what can't be cited is left out.
                return _Answer(value, "complete")
            self.misquoted.append(final.value)
            self.talk.say_quote(error.quote, error.nearest)
        except ValueError as error:
            self.talk.say_reason(str(error))
        else:
            return _Answer(value, "complete", citations)
        return None

    def _is_blind(self, code: str) -> bool:
        """Whether the answer in ``code`` was typed in by a model that has seen no output."""
        sources = ("context", "search", *FUNCTIONS, *self.settings.tools)
        return not self.talk.has_shown_output and is_typed_in([*self.talk.codes, code], sources)

    def _extract(
        self, reason: RLMError, note: Literal["extraction", "last call"] = "extraction", *, condensed: bool = False
    ) -> Branch[_Answer]:
        """One last call, which draws the answer from the outputs seen; raises ``reason`` where that is not to be.

        Asked for code ("last call", while there are turns left), an answer that would count in any turn is complete.
        """
        if self.settings.on_exhausted == "raise":
            raise reason
        node = self.node
        wanted = self.answer_type.description
        values = {"query": self.query, "answer_type": f" It must be {wanted}." if wanted else ""}
        if condensed:
            messages = new = self.talk.condensed(note, **values)
        else:
            say = self.talk.say_last if note == "extraction" else self.talk.say
            say(note, **values)
            messages, new = self.talk.outgoing()
        try:
            reply = yield from ask_model(node, messages, "extraction", node.id, new_messages=new)
        except BudgetExceeded:
            raise reason from None
        if self.answer_type.type not in (str, Any) and (value := self._parsed(reply.text)):
            return value  # JSON is Python too, but what was asked for is a value.
        read = read_reply(reply.text)
        if isinstance(read, Cell) and not self.talk.is_echo(read.code):
            output = yield from self._run_cell(read.code)
            in_time = note == "last call" and not self._is_blind(read.code)
            status: Status = "complete" if in_time else "extracted"
            answer = self._written(status) or (yield from self._drawn(output, status))
        else:
            answer = self._parsed(reply.text)
        if answer is None:
            raise reason
        return answer

    def _parsed(self, text: str) -> _Answer | None:
        """An answer given as text when there was no turn left for code."""
        try:
            return _Answer(self.answer_type.parse(text), "extracted")
        except ValueError:
            return None

    def _drawn(self, output: CellOutput, status: Status) -> Branch[_Answer | None]:
        """The answer that the last cell gave to FINAL, or printed."""
        if output.final is None:
            return self._parsed(output.stdout)
        try:
            value = self.answer_type.validate(output.final.value)
        except ValueError:
            return None
        try:
            return _Answer(value, status, (yield from cite(self.context, output.final.quotes)))
        except (QuoteNotFound, ValueError):
            return _Answer(value, "extracted")
