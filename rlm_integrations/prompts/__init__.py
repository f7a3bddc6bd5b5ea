"""The texts that models are shown, kept as text files, and what fills them in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import getdoc, signature
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

from rlm_integrations.context import Context, DocumentsOnDisk

__all__ = ["Prompts", "marked"]

EXCERPT_CHARS = 240
TAIL_CHARS = 120
SHOWN_NAMES = 10
SHOWN_KEYS = 12
NAME_CHARS = 60
FIELD_SAMPLE_CHARS = 3_000
SEPARATORS = (" | ", "\t", ";", ",")
NEWLINE = "\n"


@cache
def _text(name: str) -> str:
    return Path(__file__).with_name(f"{name}.txt").read_text("utf-8").strip()


@cache
def _notes() -> Mapping[str, str]:
    parts = re.split(r"^\[(.+)\]$", _text("notes"), flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Templates (``string.Template``, ``$name``) for everything the engine says to a model."""

    system: str = field(default_factory=lambda: _text("system"))
    question: str = field(default_factory=lambda: _text("question"))
    sub_call: str = field(default_factory=lambda: _text("sub_call"))
    notes: Mapping[str, str] = field(default_factory=_notes)

    def render_system(
        self, tools: Mapping[str, Callable[..., Any]], final_write: bool = False, instructions: str = ""
    ) -> str:
        """The system message: the same for all runs with the same tools, so that providers can cache it."""
        lines = [self.note("final write")] if final_write else []
        lines += [f"- {name}{_signature(tool)}: {_first_line(tool)}" for name, tool in tools.items()]
        system = Template(self.system).safe_substitute(tools="\n".join(lines) + "\n" if lines else "")
        return f"{system}\n\n{self.note('instructions', instructions=instructions)}" if instructions else system

    def render_question(self, query: str, context: Context, tag: str, answer_type: str, found: str = "") -> str:
        """The first user message: the question, and what the context looks like."""
        asked = f"{query}\n\nThe answer must be {answer_type}." if answer_type else query
        view = marked("context", tag, self.view(context, found))
        return Template(self.question).safe_substitute(query=asked, shape=_shape(context), view=view)

    def view(self, context: Context, found: str = "") -> str:
        """The pieces of ``context`` that the first user message shows, and ``found``, what a search found in it."""
        parts = [*_named(context), *_excerpts(context)]
        if found:
            parts.append(f"search(query) finds, among others:\n{found}")
        return "\n\n".join(parts)

    def render_sub_call(self, query: str, text: str) -> str:
        """The prompt of a plain sub-call about a piece of text."""
        return Template(self.sub_call).safe_substitute(query=query, text=text)

    def note(self, name: str, **values: Any) -> str:
        """One of the short remarks that go with a cell's output."""
        return Template(self.notes[name]).safe_substitute(values)


def _signature(tool: Callable[..., Any]) -> str:
    try:
        return str(signature(tool))
    except (TypeError, ValueError):
        return "(...)"


def _first_line(tool: Callable[..., Any]) -> str:
    return (getdoc(tool) or "a tool").strip().splitlines()[0]


def _shape(context: Context) -> str:
    value = context.value
    if isinstance(value, str):
        return f"`context` is one str of {len(value):,} characters in {context.lines:,} lines."
    having = ", each with .id and .metadata" if context.is_documents and context.metadata_keys else ", each with .id"
    if context.is_on_disk:
        return (
            f"`context` holds {len(value):,} documents (str{having}), {context.chars:,} characters in all. They are on "
            'disk, too many for memory. To find a fact: print(search("key words")), which looks into all of them. To '
            "count or compare documents: for doc in context: ..., which reads one at a time; keep numbers and short "
            "pieces of them, never the documents. context[i] reads one, context[i:j] is a part of them and reads none."
        )
    if context.is_documents:
        return (
            f"`context` is a list of {len(value):,} documents (str{having}), {context.chars:,} characters in all. "
            'To find a fact: print(search("key words")). To count or compare documents: for doc in context: ...'
        )
    kind = "dict" if isinstance(value, dict) else "list"
    return f"`context` is a {kind} of {len(value):,} JSON values; {context.chars:,} characters of text."


def _named(context: Context) -> Iterator[str]:
    """The names in ``context`` by which its parts are found: keys, ids, fields."""
    value = context.value
    if isinstance(value, dict):
        yield f"keys: {_listed(value)}"
    elif context.is_documents:
        named = value.heads() if isinstance(value, DocumentsOnDisk) else context.texts()
        yield f"ids: {_listed(id for id, _ in named)}"
        if context.metadata_keys:
            first = next(value.heads())[1] if isinstance(value, DocumentsOnDisk) else getattr(value[0], "metadata", {})
            shown = ", ".join(f"{_name(key)!r}: {_name(str(first[key]))!r}" for key in list(first)[:SHOWN_KEYS])
            others = [key for key in context.metadata_keys if key not in first]
            yield f".metadata of the first: {{{shown}}}" + (f"; others have: {_listed(others)}" if others else "")


def _listed(names: Iterable[str]) -> str:
    names = iter(names)
    shown = ", ".join(map(_name, islice(names, SHOWN_NAMES)))
    return f"{shown}, ..." if next(names, None) is not None else shown


def _excerpts(context: Context) -> Iterator[str]:
    if isinstance(context.value, DocumentsOnDisk):
        yield f"The first begins:\n{context.value.head}"
        return
    texts = list(islice((text for _, text in context.texts() if text), 2))
    if not texts:
        return
    first = texts[0]
    if len(texts) > 1:
        yield f"The first begins:\n{first[:EXCERPT_CHARS]}"
    elif len(first) <= 2 * EXCERPT_CHARS:
        yield f"It is:\n{first}"
    else:
        yield f"It begins:\n{_whole_lines(first[:EXCERPT_CHARS])}"
        yield f"It ends:\n{_whole_lines(first[-TAIL_CHARS:], from_end=True)}"
        yield from _fields(first)


def _fields(text: str) -> Iterator[str]:
    """How the lines of ``text`` split into fields, where its first ones all do in the same way."""
    lines = [line for line in text[:FIELD_SAMPLE_CHARS].split(NEWLINE)[:-1] if line.strip()]
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        if len(lines) >= 3 and len(counts) == 1 and min(counts) >= 1:
            fields = [_name(field) for field in lines[0].split(separator)]
            yield f"line.split({separator!r}) of the first line: {fields}"
            return


def _whole_lines(text: str, *, from_end: bool = False) -> str:
    """``text`` without the line that was cut in two, unless it is all there is."""
    return (text.partition(NEWLINE)[2] if from_end else text.rpartition(NEWLINE)[0]) or text


def _name(text: str) -> str:
    """An id or a key, which a document's owner chose: one short line, so that it can't pass for more than a name."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
    return text if len(text) <= NAME_CHARS else f"{text[:NAME_CHARS]}..."


def marked(kind: str, tag: str, text: str) -> str:
    """``text`` as data between marks that it can't close: the tag is written out of it."""
    return f"<{kind}-{tag}>\n{text.replace(tag, '*' * len(tag))}\n</{kind}-{tag}>"
