"""Frames between host and worker: a length, a kind, a body. JSON and raw text only, never pickle.

Both sides use this module. What comes from a worker is untrusted: ``parse`` checks every type and raises ``WireError``.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.errors import WireError

HEADER = struct.Struct("!IB")
JSON, TEXT, TEXT_END = 1, 2, 3
MAX_FRAME_BYTES = 8 << 20
MAX_NODES = 1_000_000
MAX_DEPTH = 100
CHUNK_CHARS = 1 << 20
# Longer strings travel as raw UTF-8 in frames of their own, so that no side holds them a second time.
LONG_CHARS = 1 << 16
LARGE_VALUES = 2_000
NUMBERS_A_FRAME = 2_000
# The name of the call with which a worker asks for the places where words stand, the best of them up to a number; no
# source can spell it.
CANDIDATES = ".candidates"
MAX_TERMS, MAX_TERM_CHARS, MAX_PLACES = 40, 100, 2_000
MAX_NUMBER = 1 << 48

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# A string, or what begins or parts values. Possessive, so that no frame makes the search remember where it could turn.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,\[{]')
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE = ord('"')


@dataclass(frozen=True, slots=True)
class Reference:
    """Documents of the session's stored context, by their numbers: ``many`` in a sequence, or a single one."""

    numbers: range | tuple[int, ...]
    many: bool


Check = Callable[[Reference], None]


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker has started."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is locked and holds its variables. By layer: None where it is in force, or the reason why not."""

    layers: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Call:
    """Model code called a host function. ``references`` are those that stand anywhere among its arguments."""

    cell: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    references: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done:
    """The cell has ended. ``final`` is None or ``(value, quotes)``; ``spent``: too little memory is left to go on."""

    cell: str
    stdout: str
    error: str | None
    final: tuple[Any, list[str]] | None
    spent: bool


def frame(message: Any) -> bytes:
    """One JSON frame. Raises ``ValueError`` for what JSON can't hold (an int of more than 4,300 digits)."""
    body = _encode(message).encode("utf-8", "surrogatepass")
    return HEADER.pack(len(body), JSON) + body


def text_frames(text: str) -> Iterator[bytes]:
    """``text`` as raw UTF-8, cut between characters; lone surrogates pass unchanged."""
    last = max(0, len(text) - 1) // CHUNK_CHARS * CHUNK_CHARS
    for start in range(0, last + 1, CHUNK_CHARS):
        body = text[start : start + CHUNK_CHARS].encode("utf-8", "surrogatepass")
        yield HEADER.pack(len(body), TEXT_END if start == last else TEXT) + body


def loads(body: bytes | bytearray) -> Any:
    return json.loads(body.decode("utf-8", "surrogatepass"))


def tagged(value: Any, apart: list[Any] | None = None) -> Any:
    """A JSON value or ``Document`` as pure JSON. Long strings and large containers are put into ``apart``, if given."""
    kind = type(value)
    if kind is str or isinstance(value, str):
        if apart is not None and len(value) > LONG_CHARS:
            apart.append(value)
            text: Any = {"$": "apart"}
        else:
            text = str(value)
        if kind is str or not isinstance(value, Document):
            return text
        return {"$": "document", "text": text, "id": value.id, "metadata": tagged(value.metadata, apart)}
    if apart is not None and is_large(value):
        apart.append(value)
        return {"$": "apart"}
    if isinstance(value, dict):
        if "$" in value:
            return {"$": "dict", "items": [[str(key), tagged(item, apart)] for key, item in value.items()]}
        return {str(key): tagged(item, apart) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tagged(item, apart) for item in value]
    if kind is Reference:
        return {"$": "stored", "many": value.many, **numbers(value.numbers)}
    return value


def numbers(numbers: range | tuple[int, ...]) -> dict[str, Any]:
    """Numbers of documents in JSON, as ``numbers_of`` takes them."""
    if type(numbers) is range:
        return {"range": [numbers.start, numbers.stop, numbers.step]}
    return {"numbers": list(numbers)}


def numbers_of(told: Mapping[Any, Any]) -> range | tuple[int, ...]:
    """The inverse of ``numbers``. Raises ``WireError`` for anything else."""
    match told:
        case {"range": [int() as start, int() as stop, int() as step], **rest} if not rest and step:
            if all(type(bound) is int and abs(bound) < MAX_NUMBER for bound in (start, stop, step)):
                return range(start, stop, step)
        case {"numbers": list() as numbers, **rest} if not rest:
            if all(type(number) is int for number in numbers):
                return tuple(numbers)
    raise WireError("malformed numbers of documents in a frame")


def is_large(value: Any) -> bool:
    """Whether a container holds so much that one frame for it would keep an event loop waiting."""
    count, containers = 0, [value] if isinstance(value, dict | list | tuple) else []
    while containers:
        parts = containers.pop()
        count += len(parts)
        if count > LARGE_VALUES:
            return True
        inner = parts.values() if isinstance(parts, dict) else parts
        containers.extend(part for part in inner if isinstance(part, dict | list | tuple))
    return False


def untagged(value: Any, apart: Iterable[Any] = (), check: Check | None = None) -> Any:
    """The inverse of ``tagged``. Raises ``WireError`` for a tag that is not well-formed.

    References are given to ``check``, which raises ``WireError`` for one that may not be made. Without it, none may.
    """
    kind = type(value)
    if kind is list:
        return [item if type(item) is str else untagged(item, apart, check) for item in value]
    if kind is not dict:
        return value
    if "$" not in value:
        return {key: item if type(item) is str else untagged(item, apart, check) for key, item in value.items()}
    match value:
        case {"$": "apart", **rest} if not rest:
            for part in apart:
                return part
        case {"$": "document", "text": text, "id": str() | None as id, "metadata": dict() as metadata, **rest} if (
            not rest
        ):
            text = untagged(text, apart, check)
            metadata = untagged(metadata, apart, check)
            if type(text) is str and type(metadata) is dict:
                return Document(text, id=id, metadata=metadata)
        case {"$": "dict", "items": list() as items, **rest} if not rest:
            if all(type(item) is list and len(item) == 2 and type(item[0]) is str for item in items):
                return {key: untagged(item, apart, check) for key, item in items}
        case {"$": "stored", "many": bool() as many, **told} if check is not None:
            reference = Reference(numbers_of(told), many)
            if many or len(reference.numbers) == 1:
                check(reference)
                return reference
    raise WireError("a malformed tag in a frame")


def parse(body: bytes | bytearray, check: Check | None = None) -> Hello | Ready | Call | Done:
    """A worker's message with every type checked; ``check`` is for references among the arguments of a call."""
    message = _loads_untrusted(body)
    match message:
        case {"type": "done", "cell": str() as cell, "stdout": str() as stdout, "error": str() | None as error, **rest}:
            match rest:
                case {"final": None, "spent": bool() as spent}:
                    return Done(cell, stdout, error, None, spent)
                case {"final": {"value": value, "quotes": list() as quotes}, "spent": bool() as spent}:
                    if all(type(quote) is str for quote in quotes):
                        return Done(cell, stdout, error, (_decoded(value), quotes), spent)
        case {"type": "call", "cell": str() as cell, "name": str() as name, "args": list() as args, "kwargs": kwargs}:
            references: list[Reference] = []
            kwargs = _decoded(kwargs, _noting(references, check))
            if type(kwargs) is dict:
                return Call(cell, name, _decoded(args, _noting(references, check)), kwargs, references)
        case {"type": "hello", "pid": int() as pid} if type(pid) is int and pid > 1:
            return Hello(pid)
        case {"type": "ready", "layers": dict() as layers}:
            if all(reason is None or type(reason) is str for reason in layers.values()):
                return Ready(layers)
    raise WireError("a frame that is no message")


def _noting(references: list[Reference], check: Check | None) -> Check | None:
    """``check``, which also notes what it let pass."""
    if check is None:
        return None

    def note(reference: Reference) -> None:
        check(reference)
        references.append(reference)

    return note


def _decoded(value: Any, check: Check | None = None) -> Any:
    try:
        value = untagged(value, (), check)
    except RecursionError:
        raise WireError("a frame nested too deeply") from None
    # The arguments of a call are a list of values, each of which may be that deep.
    _check_depth(value, MAX_DEPTH + 1)
    return value


def _loads_untrusted(body: bytes | bytearray) -> Any:
    if _nodes(body) > MAX_NODES:
        raise WireError(f"a frame of more than {MAX_NODES:,} values")
    try:
        value = _decode_strictly(body.decode("utf-8"))
        if _HALF_CHARACTER.search(body):
            _encode(value).encode("utf-8")
    except (ValueError, RecursionError):
        raise WireError("a frame that is not JSON") from None
    # A tag around a container adds levels of its own.
    _check_depth(value, 4 * MAX_DEPTH)
    return value


def _nodes(body: bytes | bytearray) -> int:
    count = body.count(b",") + body.count(b"[") + body.count(b"{")
    if count <= MAX_NODES:
        return count
    # Commas inside of strings are only text.
    count = 0
    for token in _TOKENS.finditer(body):
        count += body[token.start()] != _QUOTE
        if count > MAX_NODES:
            break
    return count


def _check_depth(value: Any, limit: int) -> None:
    level, depth = [value], 0
    while level := [item for part in level for item in _parts(part)]:
        depth += 1
        if depth > limit:
            raise WireError("a frame nested too deeply")


def _parts(value: Any) -> Sequence[Any]:
    if type(value) is list:
        parts: Sequence[Any] = value
    elif type(value) is dict:
        parts = list(value.values())
    else:
        return ()
    return [part for part in parts if type(part) is list or type(part) is dict]


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("a number too large for a float")
    return number


_decode_strictly = json.JSONDecoder(parse_constant=_refused, parse_float=_finite).decode


@dataclass(slots=True)
class FrameReader:
    """Cuts a worker's bytes into JSON frames, holding at most one frame and one read."""

    buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self.buffer += data

    def next(self) -> bytearray | None:
        """The body of the next whole frame, or None. Raises ``WireError`` as soon as a header is not a worker's."""
        if len(self.buffer) < HEADER.size:
            return None
        length, kind = HEADER.unpack_from(self.buffer)
        if kind != JSON or length > MAX_FRAME_BYTES:
            raise WireError(f"a frame of kind {kind} and {length:,} bytes (at most {MAX_FRAME_BYTES:,} of kind {JSON})")
        end = HEADER.size + length
        if len(self.buffer) < end:
            return None
        body = self.buffer[HEADER.size : end]
        del self.buffer[:end]
        return body
