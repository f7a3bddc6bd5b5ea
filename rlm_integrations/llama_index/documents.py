"""LlamaIndex's documents and nodes as a context, and citations as source nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import Document as LlamaIndexDocument

from rlm_integrations.context import Context, Document, DocumentsOnDisk
from rlm_integrations.events import Citation

__all__ = ["Sources", "prompting", "related", "shown_metadata", "start_in_source", "text_of"]

PROMPTING = (
    "excluded_embed_metadata_keys",
    "excluded_llm_metadata_keys",
    "metadata_template",
    "metadata_separator",
    "text_template",
)
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Sources:
    """A context, and what LlamaIndex's users know its texts as. ``originals`` are by the ids that model code sees."""

    context: Context
    originals: dict[str, BaseNode | Document] = field(repr=False)

    @classmethod
    def of(cls, given: Any) -> Sources:
        """``given`` as a context: LlamaIndex documents, nodes, nodes with score, one or a list, or a ``Context.of``.

        A node is shown as a ``Document`` without metadata in its text, and named after its file where its own id is a
        random one. Nodes without text are left out. Raises ``InvalidInput`` for what can't be a context.
        """
        items = [given] if isinstance(given, BaseNode | NodeWithScore) else given
        if not isinstance(items, list | tuple) or not any(isinstance(item, BaseNode | NodeWithScore) for item in items):
            context = Context.of(given)
            values = context.value if isinstance(context.value, list) else [context.value]
            return cls(context, {value.id: value for value in values if isinstance(value, Document) and value.id})
        nodes = [item.node if isinstance(item, NodeWithScore) else item for item in items]
        shown = [_document(node) if isinstance(node, BaseNode) else node for node in nodes]
        if any(shown):
            kept = [index for index, node in enumerate(nodes) if shown[index] or not isinstance(node, BaseNode)]
            nodes, shown = [nodes[index] for index in kept], [shown[index] for index in kept]
        context = Context.of(shown)
        originals: dict[str, BaseNode | Document] = {}
        for index, (node, value) in enumerate(zip(nodes, context.value, strict=True)):
            if isinstance(value, Document):
                originals.setdefault(value.id or str(index), node if isinstance(node, BaseNode) else value)
        return cls(context, originals)

    def cited(self, citations: Sequence[Citation]) -> list[NodeWithScore]:
        """Each quote as a node, without score; equal ones once, in order.

        ``start_char_idx`` and ``end_char_idx`` are characters in the whole document that ``SOURCE`` names, also where
        the quote is from a chunk of it; None where the chunk does not know its place there. Text that came without a
        document or an id has no ``SOURCE``.
        """
        originals: Mapping[str, BaseNode | Document] = self.originals
        value = self.context.value
        if isinstance(value, DocumentsOnDisk):
            known = value.metadata_of({citation.document_id for citation in citations})
            originals = {id: Document("", id=id, metadata=metadata) for id, metadata in known.items()}
        origins: dict[str, _Origin] = {}
        nodes: dict[tuple[str, str], NodeWithScore] = {}
        for citation in citations:
            id = citation.document_id
            if id not in origins:
                origins[id] = _origin(id, originals.get(id))
            node = origins[id].quoted(citation)
            nodes.setdefault((node.node_id, node.text), NodeWithScore(node=node))
        return list(nodes.values())


@dataclass(frozen=True, slots=True)
class _Origin:
    """What quotes from one text have in common. It is called ``id``, and begins at ``start`` in what that names.

    ``placed``: whether that is also what ``relation`` names.
    """

    id: str
    start: int = 0
    relation: RelatedNodeInfo | None = None
    fields: dict[str, Any] | None = None
    placed: bool = True

    def quoted(self, citation: Citation) -> TextNode:
        start, end = self.start + citation.start, self.start + citation.end
        return TextNode(
            id_=f"{self.id}:{start}-{end}",
            text=citation.quote,
            start_char_idx=start if self.placed else None,
            end_char_idx=end if self.placed else None,
            relationships={NodeRelationship.SOURCE: self.relation} if self.relation else {},
            **(self.fields or {}),
        )


def _origin(id: str, original: BaseNode | Document | None) -> _Origin:
    if original is None:
        return _Origin(id)
    if isinstance(original, Document):
        relation = RelatedNodeInfo(node_id=id, node_type=ObjectType.DOCUMENT, metadata=original.metadata)
        return _Origin(id, 0, relation, {"metadata": original.metadata})
    fields = {"metadata": original.metadata, **prompting(original)}
    source = None if isinstance(original, LlamaIndexDocument) else related(original, NodeRelationship.SOURCE)
    if source is None:
        # Without the hash that ``as_related_node_info`` makes: of a large document it takes long, of half characters it
        # can't be made.
        itself = RelatedNodeInfo(node_id=original.node_id, node_type=original.get_type(), metadata=original.metadata)
        return _Origin(original.node_id, 0, itself, fields)
    start = start_in_source(original)
    if start is None:
        return _Origin(original.node_id, 0, source, fields, placed=False)
    return _Origin(source.node_id, start, source, fields)


def text_of(node: BaseNode) -> str:
    """A node's text without its metadata."""
    return node.get_content(metadata_mode=MetadataMode.NONE)


def shown_metadata(node: BaseNode) -> dict[str, Any]:
    """A node's metadata as model code sees it: without what goes by a name in underscores, as what was masked does."""
    return {key: value for key, value in node.metadata.items() if not str(key).startswith("__")}


def related(node: BaseNode, relationship: NodeRelationship) -> RelatedNodeInfo | None:
    """The one node that ``node`` names as its ``SOURCE``, ``NEXT``, ..."""
    relation = node.relationships.get(relationship)
    return relation if isinstance(relation, RelatedNodeInfo) else None


def prompting(node: BaseNode) -> dict[str, Any]:
    """The fields that say how a node's metadata and text are put into prompts."""
    return {name: getattr(node, name) for name in PROMPTING if hasattr(node, name)}


def start_in_source(node: BaseNode) -> int | None:
    """Where the text of a node begins in its source document, in characters; None where that is not known."""
    start, end = getattr(node, "start_char_idx", None), getattr(node, "end_char_idx", None)
    # HierarchicalNodeParser counts from the parent's start; other text than was split (a sentence's window) starts
    # elsewhere.
    if start is None or NodeRelationship.PARENT in node.relationships:
        return None
    return None if end is not None and end - start != len(text_of(node)) else int(start)


def _document(node: BaseNode) -> Document:
    id, metadata = node.node_id, node.metadata
    # A random id is new at each load, and says nothing to a model.
    if UUID.fullmatch(id):
        id = str(metadata.get("file_name") or metadata.get("file_path") or id)
    return Document(text_of(node), id=id, metadata=shown_metadata(node))
