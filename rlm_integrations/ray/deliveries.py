"""Contexts on their way to the nodes of a cluster: put into the object store once, for any number of sessions."""

from __future__ import annotations

import io
import itertools
import json
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import ray

from rlm_integrations.context import Document, is_large, texts_of
from rlm_integrations.engine.effects import Branch, Wait, Work
from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.on_disk import is_on_disk
from rlm_integrations.sandbox.settings import size_of
from rlm_integrations.sandbox.waiting import drive
from rlm_integrations.stored import write_pack

__all__ = ["Deliveries", "Delivery", "Kind", "Parcel", "to_deliver"]

# Contexts kept for runs to come, each of them in the memory of this process and of the nodes that had it too.
KEPT = 8
KEPT_BYTES = 2 << 30
SMALL_CHARS = 50_000

Kind = Literal["text", "list", "json"]

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a host is sent in place of a value: where its pack lies, and what it is to become again.

    ``ref`` is in a list, or Ray would fetch it before each call. ``size``: bytes of memory that the value takes up.
    """

    key: int
    ref: list[ray.ObjectRef[Any]]
    kind: Kind
    documents: int
    table: int
    size: int


class Delivery:
    """A value in the object store, for as long as anybody holds this."""

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel


class Deliveries:
    """What was put into the object store; the latest, of at most ``KEPT_BYTES`` in all, are kept for runs to come.

    Text, and a list of texts, is known again by what it holds; other values by being the same object. ``forget`` is
    called with the key of each that nobody needs any more, maybe by a finalizer.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self._lock = threading.Lock()
        # The values are kept too, or their identity could come to mean another. The latest stand last.
        self._kept: list[tuple[Any, Future[Delivery]]] = []

    def of(self, value: Any) -> Branch[Delivery]:
        """The delivery of ``value``, which is made where there is none yet."""
        with self._lock:
            known = next((one for one in self._kept if _is_same(one[0], value)), None)
            if known is None:
                # A list is the caller's, who may change it.
                mine = list(value) if _is_texts(value) else value
                entry: tuple[Any, Future[Delivery]] = mine, Future()
            else:
                entry = known
                self._kept.remove(known)
            self._kept.append(entry)
        delivery = entry[1]
        if known is None:
            try:
                delivery.set_result((yield Work(partial(self._put, entry[0]), is_long=True)))
            except BaseException as error:
                with self._lock:
                    self._kept = [one for one in self._kept if one is not entry]
                # Those that wait for it must not take the cancelling of this one for their own.
                gone = SandboxError("the context was not put into the object store: the run that did it was cancelled")
                delivery.set_exception(error if isinstance(error, Exception) else gone)
                raise
            self._let_go()
        found: Delivery = yield Wait(delivery)
        return found

    def _let_go(self) -> None:
        with self._lock:
            left = KEPT_BYTES
            kept: list[tuple[Any, Future[Delivery]]] = []
            for value, delivery in reversed(self._kept):
                if delivery.done() and delivery.exception() is None:
                    left -= delivery.result().parcel.size
                if kept and (left < 0 or len(kept) == KEPT):
                    break
                kept.append((value, delivery))
            self._kept = kept[::-1]

    def _put(self, value: Any) -> Delivery:
        import numpy

        file = io.BytesIO()
        try:
            size = drive(size_of(value))
            kind, documents = _parts(value)
            pack = write_pack(file, documents)
        except InvalidInput:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"a variable is not made of text and JSON values: {error}") from error
        data = file.getbuffer()
        try:
            # Ray writes an array to its store, and reads it there, without a copy in between.
            ref = ray.put(numpy.frombuffer(data, numpy.uint8))
        except ray.exceptions.ObjectStoreFullError as error:
            raise SandboxError(
                f"Ray's object store has no room for a context of {len(data):,} bytes: raise object_store_memory"
            ) from error
        delivery = Delivery(Parcel(next(_numbers), [ref], kind, pack.documents, pack.table, size))
        weakref.finalize(delivery, self._forget, delivery.parcel.key)
        return delivery


def to_deliver(variables: Mapping[str, Any]) -> str | None:
    """The name of the variable that should not go along with each session; a worker has no more than one as a file."""
    if any(map(is_on_disk, variables.values())):
        return None
    return next((name for name, value in variables.items() if not _is_small(value)), None)


def _is_small(value: Any) -> bool:
    return not is_large(value) and sum(len(text) for _, text in texts_of(value)) <= SMALL_CHARS


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON value, or hold the same text; compares no further than to the first difference."""
    if isinstance(one, str) and isinstance(other, str):
        return _is_same_text(one, other)
    if _is_texts(one) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same_text, one, other))
    return one is other


def _is_same_text(one: Any, other: Any) -> bool:
    if not isinstance(other, str) or not str.__eq__(one, other):
        return False
    if isinstance(one, Document) and isinstance(other, Document):
        return one.id == other.id and one.metadata == other.metadata
    return isinstance(one, Document) == isinstance(other, Document)


def _parts(value: Any) -> tuple[Kind, list[str]]:
    """``value`` as the documents of a pack."""
    if isinstance(value, str):
        return "text", [value]
    if _is_texts(value):
        return "list", value
    return "json", [json.dumps(wire.tagged(value), ensure_ascii=False)]
