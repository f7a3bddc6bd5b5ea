"""What goes into Monty and what comes out of it: text and JSON values, and Documents as the text they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.sandbox.values import Conversion

MAX_DEPTH = 100

_SURROGATES = re.compile("[\ud800-\udfff]")


class Sender:
    """Makes plain values of what the host gives, and remembers which text was a Document."""

    def __init__(self) -> None:
        self.documents: list[tuple[list[str | int], dict[str, Any]]] = []
        self.by_text: dict[str, Document] = {}

    def send(self, value: Any, *path: str | int) -> Any:
        """``value`` for Monty, which is to stand at ``path``.

        Raises ``TypeError`` for what is neither text nor JSON, ``ValueError`` for what is nested too deeply.
        """
        if len(path) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            text = value.__str__() if value.isascii() else _SURROGATES.sub("\ufffd", value)
            if isinstance(value, Document):
                self.by_text.setdefault(text, value)
                self.documents.append(([*path], fields_of(value)))
            return text
        if isinstance(value, Mapping):
            return {(name := self.send(str(key))): self.send(item, *path, name) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.send(item, *path, index) for index, item in enumerate(value)]
        raise TypeError(f"a {type(value).__name__} is neither text nor a JSON value")


def fields_of(document: Document) -> dict[str, Any]:
    """What model code reads of a document beside its text."""
    fields = {"id": document.id, "metadata": Sender().send(document.metadata)}
    return fields | ({"start": document.start} if hasattr(document, "start") else {})


class Receiver(Conversion):
    """Makes JSON values of what Monty gives, whose objects arrive as stand-ins with nothing of the host behind them."""

    def __init__(self, by_text: Mapping[str, Document]) -> None:
        super().__init__()
        self._by_text = by_text

    def text(self, text: str) -> str:
        """The Document that has just this text, if there is one."""
        text = super().text(text)
        return self._by_text.get(text, text) if self._by_text else text

    def container(self, value: Any, depth: int) -> Any:
        """Instances of model code's classes become dicts of their fields."""
        if type(value).__name__ == "MontyClassProxy":
            return self.mapping({name: item for name, item in value.attributes.items() if name[:1] != "_"}, depth)
        return super().container(value, depth)

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """A dict with keys of plain text."""
        return {str.__str__(key): item for key, item in super().mapping(value, depth).items()}
