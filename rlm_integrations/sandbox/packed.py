"""``Packed``: a variable that stands in a file already, and is read from there in place of being sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlm_integrations.errors import InvalidInput

if TYPE_CHECKING:
    from rlm_integrations.stored import Pack

__all__ = ["Packed"]


@dataclass(frozen=True, slots=True)
class Packed:
    """The value of a variable as a pack (``stored/pack.py``), for any number of sessions of a ``ProcessSandbox``.

    ``fd`` is open for reading only. It is the caller's, who keeps it open until the sessions are closed. ``kind``:
    ``"text"``, the one text of the pack; ``"list"``, all its documents and texts; ``"json"``, what its one text holds
    as ``wire.tagged`` wrote it. ``size``: bytes of memory that the value takes up.
    """

    fd: int
    documents: int
    table: int
    kind: Literal["text", "list", "json"]
    size: int

    def __post_init__(self) -> None:
        if self.kind not in ("text", "list", "json"):
            raise InvalidInput(f"the kind of a Packed is {self.kind!r}: pass 'text', 'list' or 'json'")
        if self.kind != "list" and self.documents != 1:
            raise InvalidInput(f"a Packed of kind {self.kind!r} holds {self.documents:,} texts: it must hold one")

    @property
    def pack(self) -> Pack:
        """What reads it."""
        from rlm_integrations.stored import Pack

        return Pack(self.fd, self.documents, self.table)
