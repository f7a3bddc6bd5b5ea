"""What one run's model has been told and has said, and whether it still learns anything new."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from rlm_integrations.context import Context
from rlm_integrations.engine.reply import Problem
from rlm_integrations.messages import Message
from rlm_integrations.ports import CellOutput, Tool
from rlm_integrations.prompts import Prompts, marked

__all__ = ["Conversation"]

STALE_TEMPERATURES = (0.4, 0.7, 1.0)
MAX_ERROR_CHARS = 4_000
CONDENSED_CHARS = 8_000
TURNS_LEFT_SAID = 2
MAX_REPEATED_CHARS = 500

_DOES = re.compile(r"[(=@]")
_OWN_LINES = re.compile(r"\A(?:(?:(?:cell \d+, )?line \d+(?:, in \w+)?: .*|\.\.\. \d+ more lines \.\.\.)\n)+")
_ESCAPES = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_QUOTES = "\\'\"‘’“”`>"


class Conversation:
    """Messages, only ever appended to. What is said is gathered and goes out as one user message."""

    def __init__(
        self,
        prompts: Prompts,
        query: str,
        context: Context,
        tools: Mapping[str, Tool],
        answer_type: str,
        final_write: bool = False,
        instructions: str = "",
        found: str = "",
    ) -> None:
        self._prompts = prompts
        self._query = query
        # No document can hold a tag that is a hash of all documents, and the same run has the same tag again.
        digest = hashlib.sha256(f"{context.sha256}\0{query}".encode("utf-8", "surrogatepass"))
        self._tag = digest.hexdigest()[:12]
        self._history = [Message("system", prompts.render_system(tools, final_write, instructions))]
        self._to_say = [prompts.render_question(query, context, self._tag, answer_type, found)]
        self._shown = _squeezed(prompts.view(context, found))
        self._ending = "question"
        self._tips = ""
        self._sent = 0
        self._last_shown: dict[str, str] = {}  # by code
        self._outputs: set[str] = set()
        self._has_shown_output = False
        self.codes: list[str] = []
        """The cells run so far."""
        self.stale = 0
        """Turns since one showed anything new."""

    @property
    def has_shown_output(self) -> bool:
        """Whether the model has seen what any cell printed; an error alone is no look into the context."""
        return self._has_shown_output

    @property
    def text(self) -> str:
        """All that the next call would send."""
        return "".join([*(message.content for message in self._history), *self._to_say])

    def say(self, note: str, **values: Any) -> None:
        """Add a note to what goes out next."""
        self._to_say.append(self._prompts.note(note, **values))

    def say_quote(self, quote: str, nearest: str | None) -> None:
        """Say that a quote does not stand in the context, and what does."""
        self._shown += _squeezed(nearest or "")
        has = f"The context has:\n{self._data('context', nearest)}" if nearest else ""
        self.say("quote", quote=self._data("output", quote), nearest=has)

    def say_reason(self, reason: str) -> None:
        """Say why a value is no answer: the reason may name keys that come from a document."""
        self._shown += _squeezed(reason)
        self.say("answer", reason=f"\n{self._data('output', reason)}")

    def tell(self, remarks: list[str]) -> None:
        """Add remarks on a cell's sub-calls, and clear the list."""
        self._to_say.extend(remarks)
        remarks.clear()

    def outgoing(self) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """All messages of the next call, and those of them that are new. What was to be said is one user message."""
        if len(self._history) > 1 and self._ending:
            # Small models lose sight of the question behind a long output.
            self.say(self._ending, query=self._query[:MAX_REPEATED_CHARS], tips=self._tips)
        self._ending = "question"
        self._history.append(Message("user", "\n\n".join(self._to_say)))
        self._to_say.clear()
        new = self._history[self._sent :]
        self._sent = len(self._history)
        return tuple(self._history), tuple(new)

    def say_last(self, note: str, **values: Any) -> None:
        """Ask for the answer; nothing is said after it."""
        self.say(note, **values)
        self._ending = ""

    def say_words(self, look: str, output: CellOutput, tips: str, turns_left: int) -> None:
        """Show how the words of a model's code stand in the context, and say what to try with them."""
        self.say("words")
        self.show(look, output, turns_left)
        self._ending, self._tips = "fit", tips

    def writing(self, instructions: str, notes: Any) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """The messages that ask for the answer as text, in the middle of a cell, and those of them that are new."""
        told = "" if notes is None else f"Notes:\n{self._data('output', _as_text(notes))}"
        note = self._prompts.note("write", instructions=instructions, notes=told, query=self._query)
        messages = (*self._history, Message("user", note.rstrip()))
        return messages, messages[self._sent :]

    def condensed(self, note: str, **values: Any) -> tuple[Message, ...]:
        """A short conversation, where a whole one is too long or too dear: the question, and what was seen last."""
        seen = "\n\n".join([*(message.content for message in self._history[2:]), *self._to_say])[-CONDENSED_CHARS:]
        asked = [f"Question: {self._query}", "The end of what was seen:", self._data("output", seen)]
        return self._history[0], Message("user", "\n\n".join([*asked, self._prompts.note(note, **values)]))

    def options(self) -> dict[str, Any]:
        """Model options that help a run that is stuck on: the more turns without news, the higher the temperature."""
        if not self.stale:
            return {}
        return {"temperature": STALE_TEMPERATURES[min(self.stale, len(STALE_TEMPERATURES)) - 1]}

    def heard(self, kept: str) -> None:
        """Add the model's reply, or what of it is kept."""
        self._history.append(Message("assistant", kept))

    def refuse(self, problem: Problem) -> None:
        """Answer a reply that held no cell."""
        self.stale += 1
        self.say("prose, no output" if problem == "prose" and not self._has_shown_output else problem)

    def is_echo(self, code: str) -> bool:
        """Whether ``code`` does more than name things, and only repeats text that the model was shown as data."""
        return _DOES.search(code) is not None and _squeezed(code) in self._shown

    def refuse_echo(self) -> None:
        """Ask about a cell that stands in the context, in place of running it."""
        self.stale += 1
        self.say("echo")

    def show(self, code: str, output: CellOutput, turns_left: int) -> None:
        """Tell what a cell printed, and say so if that is nothing new."""
        shown = self._show_output(output)
        if not shown and output.final is None:
            self.say("no output")
        if self._last_shown.get(code) == shown:
            self.stale += 1
            self.say("same code")
        elif shown in self._outputs:
            self.stale += 1
            self.say("nothing new")
        else:
            self.stale = 0
        self._last_shown[code] = shown
        self.codes.append(code)
        if shown:
            self._outputs.add(shown)
        if 0 < turns_left <= TURNS_LEFT_SAID:
            self.say("turns left", turns=turns_left)

    def _show_output(self, output: CellOutput) -> str:
        """Add a cell's output, marked as data; returns what was shown."""
        parts = [output.stdout.rstrip("\n")] if output.stdout.strip() else []
        if output.error:
            error = output.error
            parts.append(error if len(error) <= MAX_ERROR_CHARS else f"{error[:MAX_ERROR_CHARS]} [...]")
        shown = "\n".join(parts)
        if shown:
            label = "Your code failed" if output.error else "Output"
            self._to_say.append(f"{label}:\n{self._data('output', shown)}")
        if output.error and "SyntaxError" in output.error:
            self.say("syntax")
        if output.restarted:
            self.say("restarted")
        self._has_shown_output = self._has_shown_output or bool(output.stdout.strip())
        # The lines of its own code that an error shows are no echo of a document.
        reason = _OWN_LINES.sub("", output.error or "")
        self._shown += _squeezed(f"{output.stdout}\n{reason}")
        return shown

    def _data(self, kind: str, text: str) -> str:
        return marked(kind, self._tag, text)


def _as_text(notes: Any) -> str:
    return notes if isinstance(notes, str) else json.dumps(notes, ensure_ascii=False, indent=1)


def _squeezed(text: str) -> str:
    """What of ``text`` says whether code is the same, however it is quoted, escaped or spaced."""
    text = unicodedata.normalize("NFKC", text)
    hidden = [char for char in set(text) if unicodedata.category(char) == "Cf"]
    text = _ESCAPES.sub("", _without(hidden, text))
    return "".join(_without(_QUOTES, text).split())


def _without(chars: Iterable[str], text: str) -> str:
    for char in chars:
        text = text.replace(char, "")
    return text
