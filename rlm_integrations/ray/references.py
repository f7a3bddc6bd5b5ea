"""What lies on disk, on its way to a node that is to find it there."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from rlm_integrations.errors import InvalidInput, RLMError
from rlm_integrations.stored import Store, StoredDocument, StoredDocuments

__all__ = ["Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Documents of the store in ``folder``: those with ``numbers``, or the one with that number."""

    folder: str
    numbers: range | tuple[int, ...] | int

    @classmethod
    def to(cls, value: Any) -> Reference:
        """What refers to ``value``, which lies on disk. Raises ``InvalidInput`` for what has no folder there."""
        if isinstance(value, StoredDocument):
            return cls(value.store.path, value.number)
        if isinstance(value, StoredDocuments):
            return cls(value.store.path, value.numbers)
        raise InvalidInput(f"a {type(value).__name__} can't be sent to another node: pass the value that it is made of")

    def find(self, name: str) -> StoredDocument | StoredDocuments:
        """The value of the variable ``name`` on this node. Raises ``InvalidInput`` where it is not there."""
        try:
            store = Store.open(self.folder)
            if isinstance(self.numbers, int):
                return store.document(self.numbers)
            return StoredDocuments(store, self.numbers)
        except (OSError, IndexError, RLMError) as error:
            raise InvalidInput(
                f"{name} lies on disk, and node {platform.node()} can't read it there: it must be under the same path "
                f"on all nodes, so keep it on storage that they share (index=...): {error}"
            ) from error
