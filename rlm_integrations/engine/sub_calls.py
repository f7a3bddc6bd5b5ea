"""Serves what model code calls: plain sub-calls, child runs, and the user's tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from rlm_integrations.context import Context, DocumentsOnDisk, is_large
from rlm_integrations.engine.calls import Node, ask_model, estimate_tokens, said, tell_recorded, tell_reused
from rlm_integrations.engine.effects import Branch, CallTool, Failure, Gather, Work
from rlm_integrations.engine.reply import spoken
from rlm_integrations.engine.secrets import without_keys
from rlm_integrations.engine.writing import Writing
from rlm_integrations.errors import BudgetExceeded, InvalidInput
from rlm_integrations.events import RunEnded
from rlm_integrations.messages import Message, Reply
from rlm_integrations.ports import Resume, SubCall

__all__ = ["FUNCTIONS", "SubCalls"]

FUNCTIONS = ("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "recursive_llm", "FINAL_WRITE")
MAX_BATCH = 256
MAX_NOTED_FAILURES = 5
MAX_REASON_CHARS = 300
# Room in a window for the question around a text, and for the answer.
WINDOW_SHARE = 0.9
# As ``estimate_tokens`` counts ASCII; and what no window takes.
CHARS_A_TOKEN, MAX_PROMPT_CHARS = 4, 20_000_000
# To read more takes a moment.
LONG_CHARS = 1_000_000

StartChild = Callable[[Node, str, Context, str], Branch[RunEnded]]


class _Refused(Exception):
    """A sub-call that is not made; the message goes back to the model code that asked for it."""


class SubCalls:
    """The sub-calls of one run. ``notes`` gathers what the model should know of them besides their results."""

    def __init__(self, node: Node, start_child: StartChild, writing: Writing) -> None:
        self._node = node
        self._writing = writing
        self._start_child = start_child
        self.notes: list[str] = []
        self._cell_id = ""
        self._spent: BudgetExceeded | None = None

    def serve(self, call: SubCall, cell_id: str) -> Branch[Resume]:
        """Carry out one call; a failure is an exception in model code."""
        self._cell_id = cell_id
        kwargs = dict(call.kwargs)
        tool = self._node.tree.settings.tools.get(call.name)
        try:
            if tool is not None:
                value = yield from self._call_tool(tool, call.args, kwargs)
            elif call.name in FUNCTIONS:
                try:
                    branch = getattr(self, f"_{call.name}")(*call.args, **kwargs)
                except TypeError as error:
                    raise _Refused(f"{call.name}(){str(error).partition('()')[2]}") from error
                value = yield from branch
            else:
                raise _Refused(f"there is no function {call.name}")
        except _Refused as refused:
            return Resume(error=str(refused), timeout_s=self._node.tree.meter.seconds_left())
        return Resume(value=value, timeout_s=self._node.tree.meter.seconds_left())

    def _call_tool(self, tool: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Branch[Any]:
        node = self._node
        value = yield CallTool(tool, args, kwargs, node.tree.meter.seconds_left(), node.session)
        if isinstance(value, Failure):
            raise _Refused(said(value.error))
        return value

    def _llm_query(self, prompt: str) -> Branch[str]:
        outcomes = yield from self._gather([self._plain(_text(prompt, "prompt"))])
        return str(_result(outcomes[0]))

    def _llm_query_batched(self, prompts: list[str]) -> Branch[list[str | None]]:
        texts = yield from self._texts(prompts, "prompts", "prompt")
        first: dict[str, int] = {}
        for number, text in enumerate(texts):
            first.setdefault(text, number)
        # What was said before in the batch comes last: it waits for the first of its kind, and the rest need not.
        order = sorted(range(len(texts)), key=lambda number: first[texts[number]] != number)
        outcomes = yield from self._gather([self._plain(texts[number]) for number in order])
        found = dict(zip(order, outcomes, strict=True))
        return self._results([found[number] for number in range(len(texts))])

    def _rlm_query(self, query: str, context: Any = None) -> Branch[Any]:
        outcomes = yield from self._gather([self._recursive(_text(query, "query"), context)])
        return _result(outcomes[0])

    _recursive_llm = _rlm_query

    def _rlm_query_batched(self, queries: list[str] | str, contexts: list[Any] | None = None) -> Branch[list[Any]]:
        parts = [None] * len(_batch(queries, "queries")) if contexts is None else _batch(contexts, "contexts")
        # One question of many parts is what model code most often means.
        if isinstance(queries, str):
            asked = [_text(queries, "query")] * len(parts)
        else:
            asked = yield from self._texts(queries, "queries", "query")
        if len(asked) != len(parts):
            raise _Refused(f"{len(asked)} queries do not go with {len(parts)} contexts: give as many of each")
        if isinstance(parts, DocumentsOnDisk):
            branches = [self._recursive_on_disk(query, parts, number) for number, query in enumerate(asked)]
        else:
            branches = [self._recursive(query, part) for query, part in zip(asked, parts, strict=True)]
        outcomes = yield from self._gather(branches)
        return self._results(outcomes)

    def _texts(self, values: Any, name: str, one: str) -> Branch[list[str]]:
        """The texts of a batch; a list of nothing but documents on disk comes unread."""
        values = _batch(values, name)
        if isinstance(values, DocumentsOnDisk):
            chars = values.chars
            if chars > MAX_PROMPT_CHARS:
                raise _Refused(
                    f"these {len(values):,} documents have {chars:,} characters in all, and {name} at most "
                    f"{MAX_PROMPT_CHARS:,}: pass fewer at a time, or pieces of them"
                )
            values = yield Work(partial(list, values), chars > LONG_CHARS)
        return [_text(value, one) for value in values]

    def _recursive_on_disk(self, query: str, documents: DocumentsOnDisk, number: int) -> Branch[Any]:
        """``_recursive`` of one of ``documents``, which is read when it is its turn, and let go."""
        document = yield Work(partial(documents.__getitem__, number), True)
        return (yield from self._recursive(query, document))

    def _FINAL_WRITE(self, instructions: str, notes: Any = None, quotes: Any = ()) -> Branch[None]:
        try:
            yield from self._writing.write(self._cell_id, instructions, notes, quotes)
        except ValueError as error:
            raise _Refused(str(error)) from error

    def _gather(self, branches: list[Branch[Any]]) -> Branch[list[Any]]:
        outcomes: list[Any] = yield Gather(branches, self._node.tree.settings.max_parallel)
        return outcomes

    def _results(self, outcomes: list[Any]) -> list[Any]:
        """Results in order, None for what failed; the reasons are noted. All failed: that is a failure."""
        failed = [(number, outcome) for number, outcome in enumerate(outcomes) if isinstance(outcome, Failure)]
        if outcomes and len(failed) == len(outcomes):
            raise _Refused(f"all {len(failed)} sub-calls failed; the first: {without_keys(str(failed[0][1].error))}")
        if failed:
            noted = failed[:MAX_NOTED_FAILURES]
            reasons = "; ".join(
                f"number {number}: {said(outcome.error)[:MAX_REASON_CHARS]}" for number, outcome in noted
            )
            self.notes.append(f"{len(failed)} of {len(outcomes)} sub-calls failed (None in their places): {reasons}")
        return [None if isinstance(outcome, Failure) else outcome for outcome in outcomes]

    def _plain(self, prompt: str) -> Branch[str]:
        """What the recursive model says; asked once for equal prompts of a tree."""
        if not prompt.strip():
            raise InvalidInput("the prompt is empty")
        cell_id, messages = self._cell_id, (Message("user", prompt),)

        def ask() -> Branch[Reply]:
            # What a cache holds fits into any budget.
            check = partial(self._check_size, prompt)
            return ask_model(self._node, messages, "sub-call", cell_id, new_messages=messages, check=check)

        # An equal call may have brought something else then.
        place = self._node.tree.record.place(self._node.id, cell_id, "sub-call", messages)
        if place.call:
            if place.call.started.source != "memo":
                self._node.tree.send(len(prompt))
            return spoken(tell_recorded(self._node, place.call, messages, messages).text).strip()
        reply, is_known = yield from self._node.tree.memo.once(prompt, ask)
        if is_known:
            tell_reused(self._node, reply.text, "memo", "sub-call", cell_id, messages)
        return spoken(reply.text).strip()

    @property
    def _window(self) -> int | None:
        window = getattr(self._node.tree.settings.recursive_model, "window_tokens", None)
        return window if isinstance(window, int) else None

    def _check_size(self, prompt: str) -> None:
        """Refuse a call before it starts where it can't fit."""
        settings = self._node.tree.settings
        tokens = estimate_tokens(prompt)
        window = self._window
        room = int(window * WINDOW_SHARE) if window is not None else None
        if room is not None and tokens > room:
            raise InvalidInput(
                f"the prompt has about {tokens:,} tokens and {settings.recursive_model.name} takes {window:,}: "
                f"split the text into pieces of at most {room * 3:,} characters and use llm_query_batched"
            )
        left = self._node.tree.meter.tokens_left()
        if left is not None and tokens > left:
            raise InvalidInput(
                f"the prompt has about {tokens:,} tokens and the budget has {left:,} left: send less text, "
                "for instance only the passages that search() finds"
            )
        if not self._node.tree.send(len(prompt)):
            raise InvalidInput("too much text was sent to sub-calls already: narrow it down in code first")

    def _read(self, part: Any) -> Branch[str]:
        """``part`` as text for a prompt; documents on disk are read where their text may fit."""
        if isinstance(part, str):
            if len(part) > MAX_PROMPT_CHARS:
                raise InvalidInput(_too_long(part, "context"))
            return part
        if not isinstance(part, DocumentsOnDisk):
            return json.dumps(part, ensure_ascii=False)
        most = MAX_PROMPT_CHARS if self._window is None else int(self._window * WINDOW_SHARE) * CHARS_A_TOKEN
        if part.chars > most:
            raise InvalidInput(
                f"these {len(part):,} documents have {part.chars:,} characters in all, and at this depth they go into "
                f"one prompt, which takes at most {most:,}: pass fewer of them, or in a loop pieces of one document "
                "at a time"
            )
        text: str = yield Work(lambda: json.dumps(list(part), ensure_ascii=False), part.chars > LONG_CHARS)
        return text

    def _recursive(self, query: str, part: Any) -> Branch[Any]:
        """A child run; one plain call where the tree may not get deeper, or without a context."""
        if not query.strip():
            raise InvalidInput("the query is empty")
        if part is None:
            return (yield from self._plain(query))
        node = self._node
        settings = node.tree.settings
        if node.depth == settings.max_depth:
            text = yield from self._read(part)
            return (yield from self._plain(settings.prompts.render_sub_call(query, text)))
        context = Context.of(part)
        if is_large(part):
            # What a run tells of its context takes a look at all of the text, or at each of the documents.
            yield Work(context.look_through, True)
        if not node.tree.send(context.chars):
            raise InvalidInput("too much text was sent to sub-calls already: narrow it down in code first")
        if spent := self._spent:
            # Without it, code that asks again and again would have a session opened each time, and no limit ends that.
            raise BudgetExceeded(spent.limit, spent.used, spent.allowed)
        try:
            ended = yield from self._start_child(node, query, context, self._cell_id)
        except BudgetExceeded as error:
            if error.limit == "max_calls":
                self._spent = error
            raise
        if ended.status == "extracted":
            self.notes.append(settings.prompts.note("extracted below"))
        return ended.answer


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _Refused(f"{name} must be a str, not {_kind(value)}")
    if len(value) > MAX_PROMPT_CHARS:
        raise _Refused(_too_long(value, name))
    return value


def _too_long(text: str, name: str) -> str:
    """Why ``text`` goes into no prompt. What model code sends is never so long, but a document on disk may be."""
    return (
        f"the {name} has {len(text):,} characters, and one prompt takes at most {MAX_PROMPT_CHARS:,}: pass pieces of "
        "it, or the passages that search() finds"
    )


def _kind(value: Any) -> str:
    """What model code would call the type of ``value``."""
    return f"{len(value):,} documents" if isinstance(value, DocumentsOnDisk) else type(value).__name__


def _batch(values: Any, name: str) -> Any:
    if not isinstance(values, list | DocumentsOnDisk):
        raise _Refused(f"{name} must be a list, not {type(values).__name__}")
    if len(values) > MAX_BATCH:
        raise _Refused(f"at most {MAX_BATCH} sub-calls go in one batch, not {len(values):,}: narrow down in code first")
    return values


def _result(outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        raise _Refused(without_keys(str(outcome.error)))
    return outcome
