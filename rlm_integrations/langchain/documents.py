"""LangChain's documents as a context, and citations as LangChain's documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

from langchain_core.documents import Document as LangChainDocument

from rlm_integrations.context import Context, Document, DocumentsOnDisk
from rlm_integrations.result import RLMResult

__all__ = ["CitedDocument", "cited", "context_of", "plain"]


class CitedDocument(LangChainDocument):
    """A quote that stands word for word in a document of the context.

    ``page_content`` is the quote, ``metadata`` that of its document with ``start_index`` and ``end_index`` (characters)
    added, ``id`` the document's own. ``document_id`` names it as model code saw it.
    """

    document_id: str = ""

    @property
    def start(self) -> int:
        """Where the quote begins in its document, in characters."""
        start: int = self.metadata["start_index"]
        return start

    @property
    def end(self) -> int:
        """Where it ends."""
        end: int = self.metadata["end_index"]
        return end

    @property
    def quote(self) -> str:
        """The quote."""
        return self.page_content


def context_of(value: Any) -> Context:
    """``value`` as a context; LangChain's documents keep text, id and metadata. Raises ``InvalidInput``."""
    if isinstance(value, LangChainDocument):
        value = [value]
    if isinstance(value, list | tuple) and any(isinstance(item, LangChainDocument) for item in value):
        return Context.of(_documents(value))
    return Context.of(plain(value) if isinstance(value, dict | list) else value)


def _documents(values: Sequence[Any]) -> list[Document | str]:
    return [_document(value) if isinstance(value, LangChainDocument) else value for value in values]


def _document(document: LangChainDocument) -> Document:
    id = document.id or document.metadata.get("source")
    return Document(document.page_content, id=None if id is None else str(id), metadata=document.metadata)


def plain(value: Any) -> Any:
    """What a tool or a chain gave, as JSON values and documents that model code can work with."""
    match value:
        case str() | int() | float() | None:
            return value
        case LangChainDocument():
            return _document(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    return str(value)


def cited(result: RLMResult, given: Any) -> RLMResult:
    """``result`` with its citations as documents; ``given`` is the context as the caller passed it."""
    originals = _originals(given, {citation.document_id for citation in result.citations})
    documents = tuple(
        CitedDocument(
            page_content=citation.quote,
            id=None if (original := originals.get(citation.document_id)) is None else original.id,
            metadata={
                **({} if original is None else original.metadata),
                "start_index": citation.start,
                "end_index": citation.end,
            },
            document_id=citation.document_id,
        )
        for citation in result.citations
    )
    return dataclasses.replace(result, citations=documents)  # type: ignore[arg-type]


def _originals(given: Any, cited: Set[str]) -> dict[str, LangChainDocument | Document]:
    """The documents that were passed, by the ids that model code sees; of those on disk the ``cited`` ones, no text."""
    value = given.value if isinstance(given, Context) else given
    if isinstance(value, DocumentsOnDisk):
        return {id: Document("", id=id, metadata=metadata) for id, metadata in value.metadata_of(cited).items()}
    if isinstance(given, Context):
        own = value if isinstance(value, list) else []
        return {document.id: document for document in own if isinstance(document, Document) and document.id is not None}
    values = [given] if isinstance(given, LangChainDocument) else given
    if not isinstance(values, list | tuple) or not any(isinstance(value, LangChainDocument) for value in values):
        return {}
    ids = [id for id, _ in Context.of(_documents(values)).texts()]
    return {id: value for id, value in zip(ids, values, strict=True) if isinstance(value, LangChainDocument)}
