"""``create_rlm_documents_chain``: in the place of ``create_stuff_documents_chain``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate, format_document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.errors import InvalidInput
from rlm_integrations.langchain.asked import Asked
from rlm_integrations.langchain.runnable import RLMInput, RLMRunnable

__all__ = ["create_rlm_documents_chain"]

QUESTION_KEYS = ("input", "query", "question")
# Stands in a prompt where the documents stood.
PLACEHOLDER = "(the documents in `context`)"


def create_rlm_documents_chain(
    llm: Any,
    prompt: BasePromptTemplate[Any] | None = None,
    *,
    document_prompt: BasePromptTemplate[str] | None = None,
    document_variable_name: str = "context",
    output_parser: BaseOutputParser[Any] | None = None,
    **settings: Any,
) -> Runnable[dict[str, Any], Any]:
    """A chain that answers a question about documents, none of which is stuffed into a prompt.

    Takes a dict with documents under ``document_variable_name`` and the variables of ``prompt``, whose system messages
    are instructions for the answer and whose last human message is the question; without a prompt, "input", "query"
    or "question" is the question. Gives the answer, a ``str``. ``document_prompt`` makes the text of each document;
    ``settings`` are those of ``RLMRunnable``.

    Raises ``InvalidInput`` for a setting or an input that can't be used, and what ``RLM.run`` raises.
    """
    for name, value, kind in (
        ("prompt", prompt, BasePromptTemplate),
        ("document_prompt", document_prompt, BasePromptTemplate),
        ("output_parser", output_parser, Runnable),
    ):
        if value is not None and not isinstance(value, kind):
            raise InvalidInput(f"{name} is a {type(value).__name__}: pass a {kind.__name__}")
    chain = _DocumentsChain(
        runnable=RLMRunnable(llm, **{"name": "rlm_documents_chain", **settings}),
        prompt=prompt,
        document_prompt=document_prompt,
        variable=document_variable_name,
    )
    return chain | output_parser if output_parser else chain


class _DocumentsChain(RunnableSerializable[dict[str, Any], Any]):
    """Asks an ``RLMRunnable`` what a prompt asks, so that the only run to be traced is the one without documents."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    runnable: RLMRunnable
    prompt: Any = None
    document_prompt: Any = None
    variable: str = "context"

    @property
    def InputType(self) -> Any:
        return dict[str, Any]

    @property
    def OutputType(self) -> Any:
        return self.runnable.OutputType

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        runnable, asked = self._asking(input, self._bound(kwargs))
        return runnable.invoke(asked, config)

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        bound = self._bound(kwargs)
        async with bound._engine.rlm.settings.room.place():
            runnable, asked = await in_thread(lambda: self._asking(input, bound))
            return await runnable.ainvoke(asked, config)

    def stream(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        runnable, asked = self._asking(input, self._bound(kwargs))
        with closing(runnable.stream(asked, config)) as pieces:  # type: ignore[type-var]
            yield from pieces

    async def astream(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        bound = self._bound(kwargs)
        runnable, asked = await in_thread(lambda: self._asking(input, bound))
        async with aclosing(runnable.astream(asked, config)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    def _bound(self, settings: Mapping[str, Any]) -> RLMRunnable:
        return self.runnable._with(settings) if settings else self.runnable

    def _asking(self, input: dict[str, Any], bound: RLMRunnable) -> tuple[RLMRunnable, RLMInput]:
        if not isinstance(input, Mapping):
            raise InvalidInput(f'the input is a {type(input).__name__}: pass {{"{self.variable}": documents, ...}}')
        documents = input.get(self.variable)
        if documents is None and bound.retriever is None:
            raise InvalidInput(f'the input has no "{self.variable}": pass a list of documents')
        asked = self._asked(input)
        if self.document_prompt is not None and isinstance(documents, list):
            documents = [self._rendered(document) for document in documents]
        if asked.documents and isinstance(documents, list):
            documents = [*documents, *asked.documents]
        runnable = bound.model_copy()
        runnable._engine = bound._engine.instructed(asked.instructions)
        question = RLMInput(query=asked.query)
        return runnable, question if documents is None else {**question, "context": documents}

    def _asked(self, input: Mapping[str, Any]) -> Asked:
        if self.prompt is None:
            found = [input[key] for key in QUESTION_KEYS if isinstance(input.get(key), str)]
            if not found:
                raise InvalidInput(f"the input has no question: pass a str under one of {', '.join(QUESTION_KEYS)}")
            return Asked.of([HumanMessage(found[0])])
        given = {**input, self.variable: PLACEHOLDER}
        lacking = [name for name in self.prompt.input_variables if name not in given]
        if lacking:
            raise InvalidInput(f"the input has no {', '.join(lacking)}, which the prompt asks for")
        names = {*self.prompt.input_variables, *self.prompt.optional_variables} & given.keys()
        return Asked.of(self.prompt.format_prompt(**{name: given[name] for name in names}).to_messages())

    def _rendered(self, document: Any) -> Any:
        if not isinstance(document, Document):
            return document
        text = format_document(document, self.document_prompt)
        return Document(id=document.id, page_content=text, metadata=document.metadata)
