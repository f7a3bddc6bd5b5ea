"""A saved run: JSON lines, the first of which says the format's version and the settings.

The root context may follow, then the events in order, one a line. All of it is ASCII, so that text which no encoding
could write (lone surrogates) survives. Lines are only ever appended, so a run that was killed leaves at most its last
line cut off, which then lacks its line feed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from rlm_integrations.context import Context, Document
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event, RunEnded, RunStarted
from rlm_integrations.run_settings import RunSettings

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["NEVER_KEPT", "SavedRun", "context_line", "event_line", "header_line", "read_event", "read_run"]

VERSION = 2
NEVER_KEPT = (
    "include_context=True would write all documents into the file, and these are on disk since they are too many: save "
    "the run without, and pass the context again to resume or replay it"
)
MAX_LINE_BYTES = 1 << 28
# A context of 1 GB, each of whose characters may take six bytes.
MAX_CONTEXT_LINE_BYTES = 6 << 30
CONTEXT_START = b'{"context":'
STEP_CHARS = 1 << 18
# More than any count here; as a time, in seconds, the last that dates can tell (the year 9999).
MAX_NUMBER = 253_402_300_799


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What the first ``size`` bytes of a file hold. ``cut``: whether a line that is not whole follows them."""

    events: tuple[Event, ...]
    settings: RunSettings | None
    context: Context | None
    cut: bool
    size: int


def header_line(settings: RunSettings | None) -> bytes:
    """The line that opens a saved run."""
    return _line({"rlm_trajectory": VERSION} | ({"settings": settings} if settings else {}))


def context_line(context: Context) -> Iterator[bytes]:
    """The line that holds a whole context; JSON has no ``Document``, so those are named by where they stand.

    In pieces, since no other thread runs while one is made.
    """
    yield b'{"context": '
    for piece in _pieces(context.value):
        yield piece.encode("ascii")
    separator = b', "documents": ['
    for document in _documents(context.value, ()):
        yield separator + _dumps(document)
        separator = b", "
    yield b"]}\n" if separator == b", " else separator + b"]}\n"


def event_line(event: Event) -> bytes:
    """The line of one event."""
    return _line({item.name: getattr(event, item.name) for item in fields(event)} | _answer(event))


def read_run(path: str | os.PathLike[str]) -> SavedRun:
    """What the file at ``path`` holds.

    Raises ``InvalidInput`` for a file that can't be read, is no saved run or a newer one, and for a broken line, with
    its number. A last line that is not whole is left out.
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput(f"{type(path).__name__} is not the path of a file: pass a str or a Path")
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return _read(file, name)
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:  # ValueError: for a path with a NUL in it
        raise InvalidInput(f"{name!r} can't be read: {getattr(error, 'strerror', None) or error}") from error


def read_event(line: bytes) -> Event:
    """The event in one whole line. Raises ``ValueError`` with the reason where there is none."""
    plain = _object(line)
    event: Event = _validated(_events(), plain)
    read = asdict(event)
    if not _is_exact(read, plain):
        raise ValueError("a value is of the wrong type")
    read.pop("answer", None)
    # Budgets count with these, and with what is not a number they would never end.
    if not all(0 <= number <= MAX_NUMBER for number in _numbers(read)):
        raise ValueError(f"a number is not between 0 and {MAX_NUMBER}")
    return event


def _read(file: BinaryIO, path: str) -> SavedRun:
    lines = _Lines(file, path)
    header = lines.next()
    if header is None:
        raise InvalidInput(f"{path!r} is not a saved run: it has no line that says its version")
    settings = lines.read(header, _read_header)
    context: Context | None = None
    events: list[Event] = []
    while (line := lines.next()) is not None:
        if lines.number == 2 and line.startswith(CONTEXT_START):
            context = lines.read(line, _read_context)
        else:
            events.append(lines.read(line, read_event))
    root = next((event for event in events if isinstance(event, RunStarted)), None)
    if context and root and context.sha256 != root.context.sha256:
        raise InvalidInput(f"{path!r}: the context in line 2 is not the one that the run was asked about")
    return SavedRun(tuple(events), settings, context, lines.cut, lines.size)


class _Lines:
    """The whole lines of a file, which one is being read, and where that ends."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.number = 0
        self.size = 0
        self.cut = False
        self._file = file
        self._path = path

    def next(self) -> bytes | None:
        """The next line; None where there is no more, or no whole one."""
        line = self._file.readline(MAX_LINE_BYTES)
        if self.number == 1 and line.startswith(CONTEXT_START) and not line.endswith(b"\n"):
            line += self._file.readline(MAX_CONTEXT_LINE_BYTES)
        self.number += 1
        if line.endswith(b"\n"):
            self.size += len(line)
            return line
        if len(line) >= MAX_LINE_BYTES:
            raise self._broken(f"it has more than {MAX_LINE_BYTES:,} bytes")
        self.cut = bool(line)
        return None

    def read(self, line: bytes, reader: Any) -> Any:
        """What ``reader`` makes of ``line``."""
        try:
            return reader(line)
        except InvalidInput as error:
            raise InvalidInput(f"{self._path!r}: {error}") from error
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self._broken(reason) from error

    def _broken(self, reason: str) -> InvalidInput:
        return InvalidInput(f"line {self.number} of {self._path!r} can't be read: {reason}")


def _read_header(line: bytes) -> RunSettings | None:
    try:
        plain = _object(line)
    except ValueError:
        plain = {}
    version = plain.get("rlm_trajectory")
    if type(version) is not int or version < 1:
        raise InvalidInput("this is not a saved run: its first line does not say a version")
    if version > VERSION:
        raise InvalidInput(
            f"this run was saved by a newer version (its format is {version}, and up to {VERSION} can be read here): "
            "upgrade rlm-integrations"
        )
    if plain.get("settings") is None:
        return None
    settings: RunSettings = _validated(_settings(), plain["settings"])
    if not _is_exact(asdict(settings), plain["settings"]):
        raise ValueError("a setting is of the wrong type")
    return settings


def _read_context(line: bytes) -> Context:
    plain = _object(line)
    saved: _SavedContext = _validated(_contexts(), plain)
    root = {"context": saved.context}
    for document in saved.documents:
        *steps, last = ("context", *document.at)
        place: Any = root
        try:
            for step in steps:
                place = place[step]
            text = place[last]
            if not isinstance(text, str):
                raise TypeError
            place[last] = Document(text, id=document.id, metadata=document.metadata)
        except (LookupError, TypeError) as error:
            raise ValueError(f"there is no text at {document.at!r}") from error
    return Context(root["context"])


@dataclass(frozen=True, slots=True)
class _SavedDocument:
    """A text that is a ``Document``: the keys and indexes that lead to it."""

    at: list[int | str]
    id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _SavedContext:
    context: Any
    documents: list[_SavedDocument]


@cache
def _events() -> TypeAdapter[Event]:
    # pydantic takes longer to import than all of this package.
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[Event, Field(discriminator="kind")])


@cache
def _settings() -> TypeAdapter[RunSettings]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunSettings)


@cache
def _contexts() -> TypeAdapter[_SavedContext]:
    from pydantic import TypeAdapter

    return TypeAdapter(_SavedContext)


def _object(line: bytes) -> dict[str, Any]:
    plain = json.loads(line)
    if not isinstance(plain, dict):
        raise ValueError("it is no JSON object")
    return plain


def _validated(adapter: TypeAdapter[Any], plain: Any) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}"[:300].removeprefix(": ")) from error


def _is_exact(read: Any, written: Any) -> bool:
    """Whether nothing was made of something else, but tuples of arrays, and numbers of a dict's keys."""
    if isinstance(read, dict):
        return all(_is_exact(value, written[str(key)]) for key, value in read.items() if str(key) in written)
    if isinstance(read, list | tuple):
        return all(map(_is_exact, read, written))
    return type(read) is type(written) or (type(read) is float and type(written) is int)


def _numbers(value: Any) -> Iterator[float]:
    match value:
        case int() | float():
            yield value
        case list() | tuple():
            for item in value:
                yield from _numbers(item)
        case dict():
            for item in value.values():
                yield from _numbers(item)


def _documents(value: Any, at: tuple[int | str, ...]) -> Iterator[_SavedDocument]:
    match value:
        case Document():
            yield _SavedDocument(list(at), value.id, value.metadata)
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _documents(item, (*at, index))
        case dict():
            for key, item in value.items():
                yield from _documents(item, (*at, key))


def _pieces(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield '"'
            for start in range(0, len(value), STEP_CHARS):
                yield json.dumps(value[start : start + STEP_CHARS])[1:-1]
            yield '"'
        case list() | tuple():
            yield "["
            for index, item in enumerate(value):
                yield ", " if index else ""
                yield from _pieces(item)
            yield "]"
        case dict():
            yield "{"
            for index, (key, item) in enumerate(value.items()):
                yield f"{', ' if index else ''}{json.dumps(key)}: "
                yield from _pieces(item)
            yield "}"
        case _:
            yield json.dumps(value)


def _line(plain: dict[str, Any]) -> bytes:
    return _dumps(plain) + b"\n"


def _dumps(plain: Any) -> bytes:
    return json.dumps(plain, default=_fields).encode("ascii")


def _fields(value: Any) -> Any:
    """A record's fields. Not by ``asdict``, which copies all that is in them."""
    if is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    raise TypeError(f"a {type(value).__name__} can't be written as JSON")


def _answer(event: Event) -> dict[str, Any]:
    """An answer may be anything that the caller's ``output_type`` makes; what JSON has no form for is told as text."""
    if not isinstance(event, RunEnded) or isinstance(event.answer, str):
        return {}
    from pydantic_core import to_jsonable_python

    # The code of a class of the caller's may raise anything, and costs nobody the line that ends a run.
    with suppress(Exception):
        return {"answer": to_jsonable_python(event.answer, fallback=str)}
    with suppress(Exception):
        return {"answer": str(event.answer)}
    return {"answer": f"a {type(event.answer).__name__}"}
