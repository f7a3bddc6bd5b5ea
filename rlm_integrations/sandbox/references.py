"""What a worker has of the file it is given: values for model code, and numbers for the host in place of texts."""

from __future__ import annotations

import json
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.documents import Documents
from rlm_integrations.sandbox.values import MAX_ITEMS, Unsendable
from rlm_integrations.stored.pack import Pack

__all__ = ["References", "opened"]


class References:
    """Knows which values of model code are documents of ``pack``, so that the host is told their numbers only."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def of(self, value: Any) -> wire.Reference | None:
        """The reference to a document, to ``Documents``, or to a list that holds nothing but documents."""
        kind = type(value)
        if kind is Documents:
            return _reference(value._numbers)
        if kind is Document:
            number = self._number(value)
            return None if number is None else wire.Reference((number,), False)
        if (kind is list or kind is tuple) and value and all(type(item) is Document for item in value):
            numbers = [self._number(item) for item in value]
            return None if None in numbers else _reference(tuple(numbers))  # type: ignore[arg-type]
        return None

    def _number(self, document: Document) -> int | None:
        number: int | None = getattr(document, "_number", None)
        # Its id and its metadata may have been changed since it was read.
        if number is None or self._pack.head(number) != (document.id, document.metadata):
            return None
        return number


def opened(pack: Pack, kind: str, numbers: range | tuple[int, ...]) -> Any:
    """What is in ``pack``, as a value of model code.

    ``kind``: ``"documents"`` that are read when they are touched, or ``"document"``, the one of ``numbers``; else what
    is read now, ``"text"``, ``"list"`` and ``"json"`` as ``Packed`` tells.
    """
    match kind:
        case "documents":
            return Documents(pack, numbers)
        case "document":
            return Documents(pack, numbers)[0]
        case "list":
            return list(pack.items(0, pack.documents))
        case "json":
            return wire.untagged(json.loads(pack.text(0)))
        case _:
            return pack.item(0)


def _reference(numbers: range | tuple[int, ...]) -> wire.Reference:
    if type(numbers) is not range and len(numbers) > MAX_ITEMS:
        raise Unsendable(f"these are more than {MAX_ITEMS:,} documents: pass a slice of `context`, or fewer at once")
    return wire.Reference(numbers, True)
