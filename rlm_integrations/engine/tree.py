"""What all runs of one tree share: settings, meter, and the way events leave."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from rlm_integrations.budget import Budget, Meter
from rlm_integrations.context import Context
from rlm_integrations.engine.answer import AnswerType
from rlm_integrations.engine.memo import Memo
from rlm_integrations.engine.record import Record
from rlm_integrations.engine.reply_cache import ReplyCache
from rlm_integrations.engine.room import Room
from rlm_integrations.events import Event, RunEnded, RunFailed
from rlm_integrations.ports import LanguageModel, Sandbox, Session, Tool
from rlm_integrations.prompts import Prompts

__all__ = ["Observer", "Settings", "Tree"]

logger = logging.getLogger(__name__)

Observer = Callable[[Event], object]

# Text sent to sub-models may be this many times the context, and always this many characters.
SENT_PER_CONTEXT = 10
SENT_CHARS_AT_LEAST = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine is told once, for any number of runs."""

    model: LanguageModel
    recursive_model: LanguageModel
    sandbox: Sandbox
    max_depth: int = 1
    max_iterations: int = 20
    max_parallel: int = 16
    budget: Budget = Budget()
    tools: Mapping[str, Tool] = field(default_factory=dict)
    answer_type: AnswerType = field(default_factory=AnswerType)
    on_exhausted: Literal["extract", "raise"] = "extract"
    final_write: bool = False
    instructions: str = ""
    prompts: Prompts = field(default_factory=Prompts)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    recursive_options: Mapping[str, Any] = field(default_factory=dict)
    cache: ReplyCache | None = None
    room: Room = field(default_factory=Room)


class Tree:
    """One root run and all below it. Used by many threads and tasks at once."""

    def __init__(
        self,
        settings: Settings,
        context: Context,
        observers: Sequence[Observer] = (),
        *,
        stream_text: bool = False,
        record: Record | None = None,
    ) -> None:
        self.settings = settings
        self.record = record or Record()
        self.context = context
        self.meter = Meter(settings.budget)
        self.memo = Memo()
        for prompt, reply in self.record.sub_calls():
            self.memo.know(prompt, reply)
        self.events: list[Event] = []
        self.stop = threading.Event()
        self._ended = False
        self._sessions: dict[int, Session] = {}
        self.stream_text = stream_text
        self._observers = tuple(observers)
        self._sendable_chars = max(SENT_CHARS_AT_LEAST, SENT_PER_CONTEXT * context.chars)
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Record ``event`` and show it to every observer; one that raises ``EndRun`` ends the run."""
        if self._ended:
            return  # A thread that an interrupted run left behind: its news come too late.
        self._ended = isinstance(event, RunEnded | RunFailed) and event.parent_id is None
        self.events.append(event)
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                # A broken tracer should not cost the caller a run already paid for.
                logger.exception("observer %r failed on %s", observer, event.kind)

    @contextmanager
    def using(self, session: Session) -> Iterator[None]:
        """Close ``session`` at the end, or as soon as the tree is told to stop."""
        self._sessions[id(session)] = session
        try:
            yield
        finally:
            del self._sessions[id(session)]
            session.close()

    def cancel(self) -> None:
        """Stop a tree that other threads carry out: its cells at once, the rest at the next step."""
        self.stop.set()
        for session in list(self._sessions.values()):
            session.close()

    def send(self, chars: int) -> bool:
        """Count text on its way to a sub-model; False where it would pass the limit, and nothing is counted."""
        with self._lock:
            if chars > self._sendable_chars:
                return False
            self._sendable_chars -= chars
            return True
