"""One model call: reserved before it starts, counted when it has ended, told to observers all along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rlm_integrations.budget import Tally
from rlm_integrations.engine.effects import Branch, CallModel, EndRun, Work
from rlm_integrations.engine.ids import new_id, now
from rlm_integrations.engine.recorded import Call
from rlm_integrations.engine.secrets import without_keys
from rlm_integrations.engine.tree import Tree
from rlm_integrations.errors import ModelError, RunCancelled
from rlm_integrations.events import ModelCallEnded, ModelCallFailed, ModelCallStarted, Purpose, Source, TextDelta
from rlm_integrations.messages import Message, Reply, Usage, UsageReport
from rlm_integrations.ports import LanguageModel, Session

__all__ = ["Node", "ask_model", "estimate_tokens", "said", "tell_recorded", "tell_reused", "usage_of"]


SMALL_TOKENS = 4_000
SMALL_WINDOW = 32_768
REPLIES_A_WINDOW = 4
FREE = Usage(cost_usd=0.0)


@dataclass(frozen=True, slots=True)
class Node:
    """One run's place in its tree."""

    tree: Tree
    id: str
    depth: int
    tally: Tally
    session: Session | None = None

    @property
    def model(self) -> LanguageModel:
        """The model that takes this run's turns."""
        return self.tree.settings.recursive_model if self.depth else self.tree.settings.model


def ask_model(
    node: Node,
    messages: Sequence[Message],
    purpose: Purpose,
    parent_id: str,
    *,
    new_messages: Sequence[Message],
    check: Callable[[], None] = lambda: None,
    **options: Any,
) -> Branch[Reply]:
    """One completion for ``node``: of its own model for a turn, of the recursive model for a sub-call.

    ``check`` may refuse a call that a model has to be asked for.

    Raises ``BudgetExceeded`` before anything is sent, and ``ModelError``.
    """
    tree, meter = node.tree, node.tree.meter
    place = tree.record.place(node.id, parent_id, purpose, new_messages)
    if place.parted:
        tree.emit(place.parted)
    if place.call:
        return tell_recorded(node, place.call, messages, new_messages)
    model, depth = _asked(node, purpose)
    own = tree.settings.recursive_options if depth else tree.settings.model_options
    cache = tree.settings.cache if tree.record.is_live else None
    key = cache.key(model, messages, {**own, **options}) if cache else None
    if cache and key:
        kept: Reply | None = yield Work(partial(cache.find, key), is_long=True)
        if kept:
            return tell_reused(node, kept.text, "cache", purpose, parent_id, new_messages)
    check()
    for call in tree.record.uncounted():
        meter.count(call.started.model, 0, call.usage)
    tokens = sum(estimate_tokens(message.content) for message in messages)
    claim = meter.claim(model.name, tokens, root=depth == 0)
    tree.record.check_live(purpose, messages)
    id = place.id
    options = {**own, **options, "event_id": id}
    window = getattr(model, "window_tokens", None)
    own_limit = getattr(model, "max_tokens", None)
    if purpose == "turn" and own_limit is None and isinstance(window, int) and window <= SMALL_WINDOW:
        # Small models sometimes write on and on.
        options.setdefault("max_tokens", window // REPLIES_A_WINDOW)
    seconds = meter.seconds_left()
    if seconds is not None:
        options["timeout"] = min(seconds, options.get("timeout") or seconds)
    # Only the end of a budget is passed on: providers refuse more output than a model can give.
    if is_short := (left := meter.tokens_left()) is not None and left < SMALL_TOKENS:
        options["max_tokens"] = min(max(1, left), options.get("max_tokens") or SMALL_TOKENS)
    if tree.stream_text:

        def on_text(text: str) -> None:
            if tree.stop.is_set():
                raise RunCancelled("the run was cancelled")
            tree.emit(TextDelta(id, parent_id, now(), text))

        options["on_text"] = on_text
    tree.emit(ModelCallStarted(id, parent_id, now(), model.name, depth, purpose, tuple(new_messages)))
    try:
        reply: Reply = yield CallModel(model, messages, options, seconds, node.session)
    except BaseException as error:
        meter.settle(claim, None)
        tree.emit(ModelCallFailed(id, parent_id, now(), said(error)))
        if isinstance(error, ModelError):
            # A call that max_seconds cut short did not fail for a reason of its own.
            meter.seconds_left()
        raise
    node.tally.add(model.name, depth, reply.usage)
    tree.emit(ModelCallEnded(id, parent_id, now(), reply.text, reply.usage))
    meter.settle(claim, reply.usage)
    if cache and key and not is_short:  # a reply cut off for this budget's sake is not for other runs
        yield Work(partial(cache.keep, key, reply), is_long=True)
    return reply


def tell_recorded(node: Node, call: Call, messages: Sequence[Message], new_messages: Sequence[Message]) -> Reply:
    """Tell of a call again that the record holds; it counts as it did. Raises the ``ModelError`` it failed with."""
    tree, started, outcome = node.tree, call.started, call.outcome
    id, parent_id, source = started.id, started.parent_id, "record" if started.source == "model" else started.source
    tree.emit(replace(started, time=now(), new_messages=tuple(new_messages), source=source))
    if tree.record.uncounted([call]):
        tokens = sum(estimate_tokens(message.content) for message in messages)
        tree.meter.count(started.model, tokens, call.usage, root=started.depth == 0)
    if error := call.failure():
        tree.emit(ModelCallFailed(id, parent_id, now(), said(error)))
        raise error
    assert isinstance(outcome, ModelCallEnded)
    if call.is_paid:
        node.tally.add(started.model, started.depth, outcome.usage)
    if tree.stream_text and outcome.text:
        tree.emit(TextDelta(id, parent_id, now(), outcome.text))
    tree.emit(replace(outcome, time=now(), source=source))
    return Reply(outcome.text, outcome.usage)


def usage_of(node: Node) -> UsageReport:
    """What a run took; of a resumed root run also what was paid for before and is of no use now."""
    for call in node.tree.record.unused() if node.depth == 0 else ():
        node.tally.add(call.started.model, call.started.depth, call.usage or Usage())
    return node.tally.report()


def tell_reused(
    node: Node, text: str, source: Source, purpose: Purpose, parent_id: str, new_messages: Sequence[Message]
) -> Reply:
    """Tell of a call whose reply is there already; it costs nothing, and takes nothing of the budget."""
    tree, id = node.tree, new_id()
    model, depth = _asked(node, purpose)
    tree.emit(ModelCallStarted(id, parent_id, now(), model.name, depth, purpose, tuple(new_messages), source))
    if tree.stream_text and text:
        tree.emit(TextDelta(id, parent_id, now(), text))
    tree.emit(ModelCallEnded(id, parent_id, now(), text, FREE, source))
    return Reply(text, FREE)


def _asked(node: Node, purpose: Purpose) -> tuple[LanguageModel, int]:
    """The model that takes such a call of ``node``, and the depth that the call counts at."""
    if purpose == "sub-call":
        return node.tree.settings.recursive_model, node.depth + 1
    return node.model, node.depth


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` has: one for every four bytes of UTF-8, and a few for the message around it."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size // 4 + 4


def said(error: BaseException) -> str:
    """An exception's class and message, as events tell it."""
    if isinstance(error, GeneratorExit):
        return "cancelled"
    if isinstance(error, EndRun):
        error = error.error
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # of a user's own class
        return name
    return f"{name}: {without_keys(text)}" if text else name
