"""What leaves the worker as a value: JSON types and Documents, with limits on depth, number and size."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import date, time, timedelta
from enum import Enum
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.sandbox.documents import Documents
from rlm_integrations.sandbox.guards import Facade
from rlm_integrations.sandbox.wire import MAX_DEPTH, MAX_FRAME_BYTES, Reference

MAX_ITEMS = 200_000
MAX_CHARS = MAX_FRAME_BYTES - (64 << 10)
MAX_INT_BITS = 14_000

_SURROGATES = re.compile("[\ud800-\udfff]")


# Tells of a value which documents it stands for; None for one that is to be sent itself.
Referring = Callable[[Any], Reference | None]


class Unsendable(ValueError):
    """A value that can't leave the sandbox; the message is for model code."""


def plain(value: Any) -> Any:
    """``value`` as JSON types and Documents. Raises ``Unsendable`` past a limit.

    Sets become sorted lists where that is possible, dates their ISO text, dataclasses and objects of the model's own
    classes dicts of their fields, keys text; NaN and infinity their names. What is left becomes its ``repr``.
    """
    return Conversion().convert(value, 0)


def arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], reference: Referring | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Those of a call, as ``plain`` values. Raises ``Unsendable`` past a limit for all of them together."""
    conversion = Conversion(reference)
    return [conversion.convert(value, 1) for value in args], conversion.mapping(kwargs, 0)


class Conversion:
    """One conversion, which counts what it has seen."""

    def __init__(self, reference: Referring | None = None) -> None:
        self.items = self.chars = 0
        self._reference = reference

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if self._reference is not None and (reference := self._reference(value)) is not None:
            return reference
        self.items += 1 if kind is not Document else 5
        if self.items > MAX_ITEMS:
            raise Unsendable(f"the value has more than {MAX_ITEMS:,} items: pass a smaller one, or in several pieces")
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            return value
        if depth > MAX_DEPTH:
            raise Unsendable(f"the value is nested deeper than {MAX_DEPTH} levels: flatten it first")
        if isinstance(value, str):
            text = self.text(str.__str__(value))
            if not isinstance(value, Document):
                return text
            return Document(
                text, id=None if value.id is None else str(value.id), metadata=self.mapping(value.metadata, depth)
            )
        if isinstance(value, Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, int):
            if value.bit_length() > MAX_INT_BITS:
                raise Unsendable(f"the int has {value.bit_length():,} bits, at most {MAX_INT_BITS:,} can be passed on")
            return int(value)
        if isinstance(value, float):
            number = float(value)
            return number if number - number == 0 else str(number)
        return self.container(value, depth)

    def container(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)
        if isinstance(value, tuple) and hasattr(kind, "_asdict") and hasattr(kind, "_fields"):
            return self.mapping(dict(zip(kind._fields, value, strict=False)), depth)
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, Set):
            try:
                value = sorted(value)
            except TypeError:
                value = list(value)
        if isinstance(
            value, Documents | list | tuple | deque | range | type({}.keys()) | type({}.values()) | type({}.items())
        ):
            items: Iterable[Any] = value
            return [self.convert(item, depth + 1) for item in items]
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value[:MAX_CHARS]).decode("utf-8", "replace"))
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, timedelta):
            return str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
        if type(value).__module__ == "decimal" or type(value).__module__ == "uuid":
            return str(value)
        fields = getattr(value, "__dict__", None)
        if isinstance(fields, dict) and fields and not isinstance(value, type | Facade) and not callable(value):
            return self.mapping({name: item for name, item in fields.items() if name[:1] != "_"}, depth)
        return self.text(repr(value))

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {
            self.text(key if type(key) is str else _key(key)): self.convert(item, depth + 1)
            for key, item in value.items()
        }

    def text(self, text: str) -> str:
        self.chars += len(text)
        if self.chars > MAX_CHARS:
            raise Unsendable(f"the value holds more than {MAX_CHARS:,} characters: pass smaller pieces")
        return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, date | time):
        return key.isoformat()
    return str(key)
