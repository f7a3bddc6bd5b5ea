"""``RLMQueryEngine``: an RLM in the place of any of LlamaIndex's query engines."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index.core.storage.docstore.types import BaseDocumentStore
from pydantic import BaseModel

from rlm_integrations.context import Context
from rlm_integrations.engine.tree import Observer
from rlm_integrations.errors import InvalidInput
from rlm_integrations.llama_index.answering import Answering, aempty_response, empty_response, streams
from rlm_integrations.llama_index.documents import Sources
from rlm_integrations.llama_index.given import Given, Tools, checked_docstore
from rlm_integrations.llama_index.prompts import templates, with_templates
from rlm_integrations.llama_index.retrieving import afound, aretrieve, found
from rlm_integrations.rlm import RLM

__all__ = ["RLMQueryEngine"]

Documents = str | Sequence[Any] | Mapping[str, Any] | BaseNode | NodeWithScore | Context


class RLMQueryEngine(BaseQueryEngine):
    """Answers questions about documents that may be far longer than any prompt; made by ``from_documents``.

    ``source_nodes`` of a response are the passages that the answer cites, each with ``start_char_idx`` and
    ``end_char_idx`` (characters in its document) and the document as its SOURCE relation; ``metadata`` has "status",
    "usage" and "run_id".

    Raises ``InvalidInput`` for a setting that can't be used; ``query`` and ``aquery`` raise what ``RLM.run`` raises.
    """

    def __init__(
        self,
        given: Given,
        *,
        sources: Sources | None = None,
        retriever: BaseRetriever | None = None,
        docstore: BaseDocumentStore | None = None,
    ) -> None:
        if not isinstance(given, Given):
            raise InvalidInput("make an RLMQueryEngine with from_documents(documents, ...) or from_retriever(...)")
        self._docstore = checked_docstore(docstore)
        self._engine = given.engine(retriever)
        self._streaming = streams(self._engine, given.streaming)
        self._sources = sources
        self._retriever = retriever
        super().__init__(callback_manager=given.callback_manager)

    @classmethod
    def from_documents(
        cls,
        documents: Documents,
        llm: LLM | RLM | None = None,
        recursive_llm: LLM | None = None,
        streaming: bool = False,
        output_cls: type[BaseModel] | None = None,
        tools: Tools = (),
        callback_manager: CallbackManager | None = None,
        **settings: Any,
    ) -> Self:
        """An engine over ``documents``: a list of ``Document`` or nodes, or whatever ``RLM.run`` takes as a context.

        Pass documents as they were loaded: the nodes of an index overlap, and what is counted over them is wrong.
        ``llm``: an ``LLM`` or an ``RLM`` (default: ``Settings.llm``); ``recursive_llm`` takes the sub-calls (default:
        the same). ``streaming``: respond with the answer's text as it is written. ``output_cls``: a pydantic class;
        the response is a ``PydanticResponse``, which does not stream. ``tools``: functions, LlamaIndex tools or query
        engines that model code may call by name. ``settings`` are those of ``RLM``.
        """
        given = Given(llm, recursive_llm, streaming, output_cls, tools, callback_manager, settings)
        return cls(given, sources=_sources(documents))

    @classmethod
    def from_retriever(
        cls,
        retriever: BaseRetriever,
        llm: LLM | RLM | None = None,
        recursive_llm: LLM | None = None,
        streaming: bool = False,
        output_cls: type[BaseModel] | None = None,
        tools: Tools = (),
        callback_manager: CallbackManager | None = None,
        *,
        documents: Documents | None = None,
        docstore: BaseDocumentStore | None = None,
        **settings: Any,
    ) -> Self:
        """An engine whose model code may call ``retrieve(query, k)``.

        Without ``documents`` the retriever also chooses the context of each question: the documents that the nodes it
        finds belong to, whole where ``docstore`` (say ``index.docstore``) has them, else the nodes. A question that it
        finds nothing for is answered "Empty Response", with the status "empty". The rest is as in ``from_documents``.
        """
        if not isinstance(retriever, BaseRetriever):
            raise InvalidInput(
                f"retriever is a {type(retriever).__name__}: pass a retriever, e.g. index.as_retriever()"
            )
        given = Given(llm, recursive_llm, streaming, output_cls, tools, callback_manager, settings)
        sources = None if documents is None else _sources(documents)
        return cls(given, sources=sources, retriever=retriever, docstore=docstore)

    def observed_by(self, *observers: Observer) -> Self:
        """The same engine, which also tells ``observers`` of each event: functions of one ``Event``, called at once."""
        for observer in observers:
            if not callable(observer):
                raise InvalidInput(f"observed_by was given {observer!r}: pass functions of one Event")
        observed = copy.copy(self)
        observed._engine = self._engine.observed_by(observers)
        return observed

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """What the retriever finds. Raises ``NotImplementedError`` where there is none."""
        return super().retrieve(query_bundle) if self._retriever is None else self._retriever.retrieve(query_bundle)

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._event(query_bundle) as event:
            sources = self._sources or found(self.retrieve(query_bundle), self._docstore)
            if sources is None:
                response: RESPONSE_TYPE = empty_response(self._streaming)
            else:
                response = self._answering(sources).respond(query_bundle.query_str)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        # What a stream's run has a place for is not over when the response is there.
        async with nullcontext() if self._streaming else self._engine.rlm.settings.room.place():
            with self._event(query_bundle) as event:
                sources = self._sources or await afound(await self.aretrieve(query_bundle), self._docstore)
                if sources is None:
                    response: RESPONSE_TYPE = aempty_response(self._streaming)
                else:
                    response = await self._answering(sources).arespond(query_bundle.query_str)
                event.on_end(payload={EventPayload.RESPONSE: response})
            return response

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """The same, without blocking the event loop."""
        if self._retriever is None:
            return super().retrieve(query_bundle)
        return await aretrieve(self._retriever, query_bundle)

    def _answering(self, sources: Sources) -> Answering:
        return Answering(self._engine, sources, streams=self._streaming)

    def _event(self, query_bundle: QueryBundle) -> Any:
        return self.callback_manager.event(CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str})

    def _get_prompts(self) -> PromptDictType:
        return templates(self._engine.prompts)

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._engine = self._engine.prompted(with_templates(self._engine.prompts, prompts))

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # All that it is made of is shared; prompts are replaced, never changed.
        return copy.copy(self)


def _sources(documents: Documents) -> Sources:
    if isinstance(documents, Mapping) and any(
        isinstance(value, BaseNode | NodeWithScore) for value in documents.values()
    ):
        raise InvalidInput("documents is a dict of documents: pass a list, such as list(documents.values())")
    if isinstance(documents, list | tuple):
        for item in documents:
            if isinstance(item, list | tuple) and any(isinstance(value, BaseNode | NodeWithScore) for value in item):
                raise InvalidInput("documents holds a list of documents: pass one list of them all")
    return Sources.of(documents)
