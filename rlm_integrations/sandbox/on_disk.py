"""The host's side of variables that a session has on disk: what the worker is given, and what it may ask for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from rlm_integrations.errors import InvalidInput, WireError
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.packed import Packed

if TYPE_CHECKING:
    from rlm_integrations.stored import Store, StoredDocument, StoredDocuments

    Variable = StoredDocuments | StoredDocument | Packed

if sys.platform != "win32":
    import fcntl

__all__ = ["OnDisk", "asked_for", "bytes_of", "is_on_disk", "refuse"]

logger = logging.getLogger(__name__)

SEARCH_S = 5.0
# Single documents of one call are read all at once, and the worker says which.
MAX_READ_BYTES = 256 << 20
MAX_REFERRED = 10_000_000

Numbers = range | tuple[int, ...]


def is_on_disk(value: Any) -> TypeGuard[Variable]:
    """Whether a variable of this value is not sent to the worker, but read by it."""
    # Who has such a value has loaded its class, and SQLite with it; nobody else needs to.
    stored = sys.modules.get("rlm_integrations.stored.documents")
    kinds = [getattr(stored, name, ()) for name in ("StoredDocuments", "StoredDocument")]
    return isinstance(value, (Packed, *kinds))


def bytes_of(variable: Any) -> int:
    """Bytes of memory that the worker needs for a variable on disk, the largest document of many; 0 for another one."""
    if not is_on_disk(variable):
        return 0
    if isinstance(variable, Packed):
        return variable.size
    return sys.getsizeof(variable) if isinstance(variable, str) else variable.store.facts.largest


def refuse(variables: Mapping[str, Any], by: str) -> None:
    """Raise ``InvalidInput`` if one of ``variables`` is on disk, for a sandbox that can't give files to its workers."""
    for name, value in variables.items():
        if is_on_disk(value):
            raise InvalidInput(
                f"{name} lies on disk, and {by} can't give files to its workers: use ProcessSandbox on Linux or macOS, "
                "or load the documents (Context.from_files without lazy=True)"
            )


class OnDisk:
    """Those variables of one session that are on disk. They stand in one file, its ``fd``."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._found = found = [value for value in variables.values() if is_on_disk(value)]
        self._store: Store | None = None
        stores = {value.store for value in found if not isinstance(value, Packed)}
        packs = [value for value in found if isinstance(value, Packed)]
        if len(stores) + len(packs) != 1:
            raise InvalidInput("the variables lie on disk in several places: a session can have one store of documents")
        if packs:
            self._pack = packs[0].pack
            if not _is_read_only(self._pack.fd):
                raise InvalidInput("the fd of a Packed is open for writing: open the file again with os.O_RDONLY")
        else:
            self._store = stores.pop()
            self._pack = self._store.pack
        self._numbers = [_numbers(value) for value in found if not isinstance(value, Packed)]
        self._given = [given if isinstance(given, range) else frozenset(given) for given in self._numbers]

    @property
    def fd(self) -> int:
        """The file that the worker is given."""
        return self._pack.fd

    @property
    def size(self) -> int:
        """Bytes, about, that the worker reads of it before it is ready."""
        return sum(bytes_of(value) for value in self._found if isinstance(value, str | Packed))

    @property
    def has_index(self) -> bool:
        """Whether ``candidates`` can be asked for."""
        return self._store is not None

    def frames(self, variable: Variable) -> Iterator[bytes]:
        """What the worker is sent of ``variable``: which documents of the file it is."""
        kind, numbers = _kind(variable), _numbers(variable)
        place = {"documents": self._pack.documents, "table": self._pack.table}
        if isinstance(numbers, range):
            yield wire.frame({"shape": "stored", "kind": kind, **place, "numbers": wire.numbers(numbers)})
            return
        yield wire.frame({"shape": "stored", "kind": kind, **place, "numbers": None})
        for start in range(0, len(numbers), wire.NUMBERS_A_FRAME):
            yield wire.frame(numbers[start : start + wire.NUMBERS_A_FRAME])
        yield wire.frame(None)

    def check(self, reference: wire.Reference) -> None:
        """Raise ``WireError`` for a reference to documents that the session was not given."""
        if not any(_holds(given, reference.numbers) for given in self._given):
            raise WireError("a reference to documents that it was not given")

    def read(self, call: wire.Call) -> tuple[list[Any], dict[str, Any]] | str:
        """The arguments of ``call`` with the documents in place of references; or why they are not read. Blocks."""
        store = self._store
        assert store is not None
        if sum(len(one.numbers) for one in call.references) > MAX_REFERRED:
            return f"more than {MAX_REFERRED:,} documents can't be passed on at once: pass fewer"
        try:
            rows = map(store.pack.row, {one.numbers[0] for one in call.references if not one.many})
            sizes = [row.text_end - row.text_start for row in rows]
            if len(sizes) > 1 and sum(sizes) > MAX_READ_BYTES:
                return (
                    f"documents of {sum(sizes):,} bytes can't be passed on one by one, at most {MAX_READ_BYTES:,}: "
                    "pass fewer, or a slice of `context`, or a list of nothing but documents"
                )
            return _replaced(call.args, store), _replaced(call.kwargs, store)
        except OSError as error:
            return f"the documents can't be read: {error.strerror or error}"

    def candidates(self, words: list[str], limit: int, seconds: float) -> list[list[int]] | str:
        """Where the documents of the session hold ``words``, as ``Store.candidates``; or why that is not known."""
        assert self._store is not None
        numbers: Sequence[int] | None = self._numbers[0]
        if range(self._pack.documents) in self._numbers:
            numbers = None
        elif len(self._numbers) > 1:
            numbers = tuple(sorted({number for numbers in self._numbers for number in numbers}))
        try:
            found = self._store.candidates(words, numbers, limit, min(seconds, SEARCH_S))
        except (InvalidInput, OSError) as error:
            # Where it lies is not for the model.
            logger.warning("a search failed: %s", error)
            return "the index of the documents can't be read any more: look for the words in a loop over `context`"
        return [list(place) for place in found]


def asked_for(call: wire.Call) -> tuple[list[str], int]:
    """The words of a call for ``CANDIDATES`` and its number of places. Raises ``WireError`` for any other arguments."""
    match call.args:
        case [list() as words, int() as limit] if not call.kwargs and 0 < len(words) <= wire.MAX_TERMS:
            fits = type(limit) is int and 0 < limit <= wire.MAX_PLACES
            if fits and all(type(word) is str and len(word) <= wire.MAX_TERM_CHARS for word in words):
                return words, limit
    raise WireError("a malformed question for words")


def _is_read_only(fd: int) -> bool:
    return sys.platform == "win32" or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _kind(variable: Variable) -> str:
    if isinstance(variable, Packed):
        return variable.kind
    return "document" if isinstance(variable, str) else "documents"


def _numbers(variable: Variable) -> Numbers:
    if isinstance(variable, Packed):
        return range(variable.documents)
    return (variable.number,) if isinstance(variable, str) else variable.numbers


def _holds(given: range | frozenset[int], numbers: Numbers) -> bool:
    """Whether all ``numbers`` are among those that were ``given``. Of a set no worker of ours makes a range.

    The time it takes is that of reading the frame they came in.
    """
    if not numbers:
        return True
    if isinstance(numbers, tuple):
        return all(number in given for number in numbers)
    if not isinstance(given, range) or (len(numbers) > 1 and numbers.step % given.step):
        return False
    return numbers[0] in given and numbers[-1] in given


def _replaced(value: Any, store: Store) -> Any:
    from rlm_integrations.stored import StoredDocuments

    if type(value) is wire.Reference:
        return StoredDocuments(store, value.numbers) if value.many else store.document(value.numbers[0])
    if type(value) is list:
        return [_replaced(item, store) for item in value]
    return {key: _replaced(item, store) for key, item in value.items()} if type(value) is dict else value
