"""Cited passages in their documents: short documents whole, of long ones what stands around each citation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rlm_integrations.context import Context, DocumentsOnDisk
from rlm_integrations.events import Citation
from rlm_integrations.page.text import flat, shown

__all__ = ["evidence"]

MAX_DOCUMENTS = 1_000
MAX_ALL_CHARS = 4_000_000
WHOLE_CHARS = 30_000
AROUND_CHARS = 1_500
HEAD_CHARS = 2_000


def evidence(citations: Sequence[Citation], context: Context | None) -> dict[str, Any]:
    """The citations, numbered from 1, and the documents with their pieces, those that are cited first.

    A citation's ``document`` is None where its quote does not stand at its place in ``context``. A document's pieces
    are ``[text, numbers of the citations it belongs to]``, or a count of characters left out.
    """
    found: dict[str, list[int]] = {}
    texts = _texts(context) if context else {}
    for number, citation in enumerate(citations, 1):
        text = texts.get(citation.document_id)
        if text is not None and citation.quote == text[citation.start : citation.end] != "":
            found.setdefault(citation.document_id, []).append(number)
    order = [*found, *(id for id in texts if id not in found)][:MAX_DOCUMENTS]
    about = _metadata(context, set(order)) if context else {}
    places = {number: order.index(id) for id, numbers in found.items() for number in numbers if id in order}
    room = MAX_ALL_CHARS
    documents = []
    for id in order:
        spans = [(citations[number - 1].start, citations[number - 1].end, number) for number in found.get(id, ())]
        text = texts[id]
        pieces = list(_pieces(text, spans, room))
        room -= sum(len(piece[0]) for piece in pieces if isinstance(piece, list))
        marks = [[number, start] for start, _, number in spans]
        documents.append(
            {"id": flat(id, 500), "chars": len(text), "marks": marks, "pieces": pieces} | about.get(id, {})
        )
    return {
        "citations": [
            {
                "quote": shown(citation.quote[:AROUND_CHARS]) + ("…" if len(citation.quote) > AROUND_CHARS else ""),
                "id": flat(citation.document_id, 500),
                "start": citation.start,
                "end": citation.end,
                "document": places.get(number),
            }
            for number, citation in enumerate(citations, 1)
        ],
        "documents": documents,
        "documents_left_out": max(0, len(texts) - len(order)),
    }


class _TextsOnDisk(Mapping[str, str]):
    """The texts of a context by their ids, each read when it is asked for."""

    def __init__(self, documents: DocumentsOnDisk) -> None:
        self._documents = documents
        self._numbers = {id: number for number, (id, _) in enumerate(documents.heads())}

    def __getitem__(self, id: str) -> str:
        return self._documents[self._numbers[id]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _texts(context: Context) -> Mapping[str, str]:
    value = context.value
    return _TextsOnDisk(value) if isinstance(value, DocumentsOnDisk) else dict(context.texts())


def _metadata(context: Context, ids: set[str]) -> dict[str, dict[str, str]]:
    """What the documents ``ids`` say about themselves, on a line."""
    if not context.is_documents:
        return {}
    value = context.value
    known: Iterable[tuple[str, Mapping[str, Any] | None]]
    if isinstance(value, DocumentsOnDisk):
        known = value.metadata_of(ids).items()
    else:
        pairs = zip(context.texts(), value, strict=True)
        known = ((id, getattr(document, "metadata", None)) for (id, _), document in pairs if id in ids)
    return {
        id: {"about": flat(", ".join(f"{key}: {value}" for key, value in of.items()), 500)} for id, of in known if of
    }


def _pieces(text: str, spans: list[tuple[int, int, int]], room: int) -> Iterator[list[Any] | int]:
    at = 0
    for start, end in _windows(len(text), spans, room):
        if start > at:
            yield start - at
        cuts = sorted({start, end, *(cut for a, b, _ in spans for cut in (a, b) if start < cut < end)})
        for begin, until in pairwise(cuts):
            yield [shown(text[begin:until]), [number for a, b, number in spans if a <= begin and until <= b]]
        at = end
    if at < len(text):
        yield len(text) - at


def _windows(chars: int, spans: list[tuple[int, int, int]], room: int) -> list[tuple[int, int]]:
    """Where to show a text, in order and apart from each other; no more than ``room`` characters but for citations."""
    if chars <= min(WHOLE_CHARS, room):
        return [(0, chars)]
    if not spans:
        return [(0, min(HEAD_CHARS, room))] if room > 0 else []
    around = AROUND_CHARS if room > 0 else 0
    windows: list[tuple[int, int]] = []
    for start, end, _ in sorted(spans):
        # A quote of any length shows its head.
        begin, until = max(0, start - around), min(chars, min(end, start + WHOLE_CHARS) + around)
        if windows and begin <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(windows[-1][1], until))
        else:
            windows.append((begin, until))
    return windows
