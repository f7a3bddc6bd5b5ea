"""One model call: reserved before it starts, counted when it has ended, told to observers all along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlm_integrations.budget import Tally
from rlm_integrations.engine.effects import Branch, CallModel, EndRun
from rlm_integrations.engine.tree import Tree, new_id, now
from rlm_integrations.errors import ModelError, RunCancelled
from rlm_integrations.events import ModelCallEnded, ModelCallFailed, ModelCallStarted, Purpose, TextDelta
from rlm_integrations.messages import Message, Reply
from rlm_integrations.ports import LanguageModel

__all__ = ["Node", "ask_model", "estimate_tokens", "said"]


SMALL_TOKENS = 4_000


@dataclass(frozen=True, slots=True)
class Node:
    """One run's place in its tree."""

    tree: Tree
    id: str
    depth: int
    tally: Tally

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
    **options: Any,
) -> Branch[Reply]:
    """One completion for ``node``: of its own model for a turn, of the recursive model for a sub-call.

    Raises ``BudgetExceeded`` before anything is sent, and ``ModelError``.
    """
    tree, meter = node.tree, node.tree.meter
    sub_call = purpose == "sub-call"
    model = tree.settings.recursive_model if sub_call else node.model
    depth = node.depth + 1 if sub_call else node.depth
    tokens = sum(estimate_tokens(message.content) for message in messages)
    claim = meter.claim(model.name, tokens, root=depth == 0)
    id = new_id()
    own = tree.settings.recursive_options if depth else tree.settings.model_options
    options = {**own, **options, "event_id": id}
    seconds = meter.seconds_left()
    if seconds is not None:
        options["timeout"] = min(seconds, options.get("timeout") or seconds)
    # Only the end of a budget is passed on: providers refuse more output than a model can give.
    if (left := meter.tokens_left()) is not None and left < SMALL_TOKENS:
        options["max_tokens"] = min(max(1, left), options.get("max_tokens") or SMALL_TOKENS)
    if tree.stream_text:

        def on_text(text: str) -> None:
            if tree.stop.is_set():
                raise RunCancelled("the run was cancelled")
            tree.emit(TextDelta(id, parent_id, now(), text))

        options["on_text"] = on_text
    tree.emit(ModelCallStarted(id, parent_id, now(), model.name, depth, purpose, tuple(new_messages)))
    try:
        reply: Reply = yield CallModel(model, messages, options, seconds)
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
    return reply


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
    return f"{name}: {text}" if text else name
