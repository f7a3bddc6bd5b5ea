"""Replies that runs share through a ``Cache``: under which key each is kept, and what is kept of it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlm_integrations.messages import Message, Reply, Usage
from rlm_integrations.ports import Cache, LanguageModel

__all__ = ["ReplyCache"]

logger = logging.getLogger(__name__)

VERSION = 1
# They change when or how a reply comes, not what it says.
UNANSWERING = frozenset({"timeout", "on_text", "event_id"})
# An object in whose place another may stand at another time.
ADDRESS = re.compile(r"<[^<>]* at 0x[0-9A-Fa-f]+>")
COUNTS = ("input_tokens", "output_tokens", "cached_tokens")


class ReplyCache:
    """Finds and keeps replies in ``store``. What is broken there, or fails, is logged and passed over."""

    def __init__(self, store: Cache) -> None:
        self._store = store

    def key(self, model: LanguageModel, messages: Sequence[Message], options: Mapping[str, Any]) -> str | None:
        """The key of the reply to a call: a SHA-256 in hex; None where no words can tell what the answer depends on."""
        try:
            if (own := getattr(model, "identity", "")) is None or ADDRESS.search(json.dumps(own)):
                return None
            asked = {
                "version": VERSION,
                "model": model.name,
                "identity": own,
                "messages": [[message.role, message.content] for message in messages],
                "options": {name: value for name, value in options.items() if name not in UNANSWERING},
            }
            text = json.dumps(asked, sort_keys=True)
        except (TypeError, ValueError):
            logger.warning("calls of %s are not cached: a setting is no JSON value", model.name, exc_info=True)
            return None
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def find(self, key: str) -> Reply | None:
        """The reply kept under ``key``, with what it once cost; may block."""
        try:
            kept = self._store.get(key)
            return None if kept is None else _reply(kept)
        except Exception:
            # Of whatever store the user has: asking the model is always possible.
            logger.warning("the cache holds nothing that can be read under %s", key, exc_info=True)
            return None

    def keep(self, key: str, reply: Reply) -> None:
        """Keep ``reply`` under ``key``, unless it is empty, which is most often an accident; may block."""
        if not reply.text.strip():
            return
        try:
            self._store.set(key, json.dumps({"text": reply.text, "usage": asdict(reply.usage)}))
        except Exception:
            # The reply is paid for and is used all the same.
            logger.warning("the cache did not take a reply", exc_info=True)


def _reply(kept: Any) -> Reply:
    """The reply in a kept text; ``ValueError``, ``TypeError`` or ``KeyError`` where there is none."""
    if not isinstance(kept, str):
        raise TypeError(f"the cache holds a {type(kept).__name__} in the place of a str")
    value = json.loads(kept)
    text, usage = value["text"], value["usage"]
    counts = {name: usage[name] for name in COUNTS}
    cost_usd = usage["cost_usd"]
    if type(text) is not str or any(type(count) is not int or count < 0 for count in counts.values()):
        raise ValueError("what the cache holds is not a reply")
    if cost_usd is not None and not (type(cost_usd) in (int, float) and cost_usd >= 0):
        raise ValueError("what the cache holds is not a reply")
    return Reply(text, Usage(**counts, cost_usd=cost_usd))
