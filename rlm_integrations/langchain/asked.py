"""A conversation of chat messages as a question, instructions and a context."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from rlm_integrations.context import Document
from rlm_integrations.errors import InvalidInput

__all__ = ["Asked"]

# A longer text is a document of the context, and what is said of it in the prompt is how it begins and ends.
LONG_CHARS = 2_000
EDGE_CHARS = 500
# Of the conversation before the question, so much goes into the prompt, the newest of it.
HISTORY_CHARS = 8_000
INSTRUCTING = {"system", "developer"}
SPEAKERS = {"human": "user", "ai": "assistant"}
# What models leave in their messages beside text, which says nothing to a reader.
SILENT = {
    *("tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "function_call", "server_tool_call"),
    *("server_tool_call_chunk", "server_tool_result", "reasoning", "thinking", "redacted_thinking", "non_standard"),
}
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/x-yaml", "application/yaml")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a conversation asks: the last human message, with the conversation before it.

    ``documents`` are attached texts, tool messages and long texts, each under an id that says where it stood.
    """

    query: str
    instructions: str
    documents: tuple[Document, ...]
    said: tuple[Document, ...]

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Asked:
        """``messages`` read. Raises ``InvalidInput`` where there is no question, or something that is no text."""
        parts = [_Part.of(message, number, messages) for number, message in enumerate(messages, 1)]
        last = next((part for part in reversed(parts) if part.speaker == "user"), None)
        if last is None:
            raise InvalidInput("there is no human message to answer: end the messages with a question")
        if not last.text.strip():
            raise InvalidInput(f"{last.place} is the question, and has no text: say what is asked")
        documents: list[Document] = []
        lines: list[str] = []
        left = HISTORY_CHARS
        # From the newest backwards, so that what no longer fits into the prompt is the oldest.
        for part in reversed(parts):
            documents += reversed(part.documents)
            if part is last or part.speaker == "system":
                if len(part.text) > LONG_CHARS:
                    documents.append(part.document)
                continue
            line = part.line(part.text.strip())
            if part.is_tool or len(part.text) > LONG_CHARS or len(line) > left:
                if part.text.strip():
                    documents.append(part.document)
                line = part.line(part.pointer)
            if len(line) > left:
                left = 0
            elif part.text.strip() or part.calls:
                left -= len(line)
                lines.append(line)
        history = "\n".join(reversed(lines))
        instructions = "\n\n".join(_short(part) for part in parts if part.speaker == "system" and part.text.strip())
        query = _short(last).strip()
        said = tuple(part.document for part in parts if part.speaker != "system" and part.text.strip())
        return cls(
            f"{query}\n\n(The conversation before this question:\n{history})" if history else query,
            instructions,
            tuple(reversed(documents)),
            tuple(document for document in said if document.id != last.id) or (last.document,),
        )

    @property
    def context(self) -> list[Document]:
        """The documents; where there are none, what was said before the question, or the question itself."""
        return list(self.documents or self.said)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one message says."""

    place: str
    id: str
    speaker: str
    text: str
    calls: str
    documents: list[Document]

    @classmethod
    def of(cls, message: BaseMessage, number: int, messages: Sequence[BaseMessage]) -> _Part:
        place = f"message {number}"
        role = getattr(message, "role", None) or message.type
        speaker = "system" if role in INSTRUCTING else SPEAKERS.get(role, role)
        kind = speaker
        if isinstance(message, ToolMessage):
            name = message.name or _called(message.tool_call_id, messages)
            kind = f"tool: {name}" if name else "tool"
            speaker = f"tool {name}" if name else "tool"
        calls = getattr(message, "tool_calls", None) or []
        texts: list[str] = []
        documents: list[Document] = []
        for block in _blocks(message.content, place):
            if isinstance(block, Document):
                documents.append(Document(block, id=f"{place}: {block.id or 'attachment'}", metadata=block.metadata))
            else:
                texts.append(block)
        return cls(place, f"{place} ({kind})", speaker, "\n".join(texts), ", ".join(map(_called_as, calls)), documents)

    @property
    def is_tool(self) -> bool:
        return self.speaker.startswith("tool")

    @property
    def document(self) -> Document:
        return Document(self.text, id=self.id)

    def line(self, text: str) -> str:
        """What the prompt says of the message, with ``text`` for its text."""
        return f"{self.speaker}: {'; '.join(filter(None, [text, self.calls]))}"

    @property
    def pointer(self) -> str:
        """What the prompt says in place of the text."""
        return f"(document {self.id!r} of the context)" if self.text.strip() else ""


def _short(part: _Part) -> str:
    """The text, or its beginning and end where it is long."""
    if len(part.text) <= LONG_CHARS:
        return part.text
    left_out = len(part.text) - 2 * EDGE_CHARS
    said = f"[... {left_out:,} characters left out: all of it is document {part.id!r} of the context ...]"
    return f"{part.text[:EDGE_CHARS]}\n{said}\n{part.text[-EDGE_CHARS:]}"


def _called(id: str, messages: Sequence[BaseMessage]) -> str:
    calls = (call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls)
    return next((call["name"] for call in calls if call["id"] == id), "")


def _called_as(call: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call["args"].items())
    return f"called {call['name']}({arguments if len(arguments) <= EDGE_CHARS else arguments[:EDGE_CHARS] + '...'})"


def _blocks(content: Any, place: str) -> Iterator[str | Document]:
    """The texts of a message's content, those that were attached as documents."""
    for block in [content] if isinstance(content, str) else content:
        kind = "text" if isinstance(block, str) else block.get("type")
        source = block.get("source") if isinstance(block, Mapping) else None
        if isinstance(block, str):
            yield block
        elif kind == "text":
            yield str(block.get("text", ""))
        elif kind == "text-plain" and isinstance(block.get("text"), str):
            yield Document(block["text"], id=_name(block))
        elif kind == "tool_result":
            yield from (Document(text, id=getattr(text, "id", None)) for text in _blocks(block["content"], place))
        elif kind in ("file", "text-plain") and "base64" in block:
            yield Document(_decoded(block, place), id=_name(block))
        elif kind == "document" and isinstance(source, Mapping) and source.get("type") == "text":
            yield Document(source["data"], id=_name(block))
        elif kind not in SILENT:
            what = (
                f"a {kind} that is no text" if kind in ("file", "text-plain", "document") else f"a block of type {kind}"
            )
            raise InvalidInput(f"{place} holds {what}: only text can be read; load it as text first")


def _name(block: Mapping[str, Any]) -> str | None:
    extras = block.get("extras") or block.get("metadata") or {}
    named = (block.get("title"), block.get("filename"), extras.get("filename"), extras.get("title"), extras.get("name"))
    return next((str(name) for name in named if name), None)


def _decoded(block: Mapping[str, Any], place: str) -> str:
    kind = str(block.get("mime_type", ""))
    try:
        if not kind.startswith(TEXT_TYPES):
            raise ValueError
        return base64.b64decode(block["base64"], validate=True).decode("utf-8")
    except (ValueError, binascii.Error):
        raise InvalidInput(
            f"{place} holds a file of type {kind or 'unknown'} that is no text in UTF-8: load it as text first"
        ) from None
