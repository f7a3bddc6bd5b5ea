"""One answer of a ``ChatRLM``, whole or in pieces."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from langchain_core.messages import LC_ID_PREFIX, AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from rlm_integrations.errors import InvalidInput
from rlm_integrations.langchain.asked import Asked
from rlm_integrations.langchain.documents import context_of
from rlm_integrations.langchain.endings import ended
from rlm_integrations.langchain.schema import as_text
from rlm_integrations.langchain.stops import UpToStop
from rlm_integrations.result import RLMResult

if TYPE_CHECKING:
    from rlm_integrations.langchain.chat import ChatRLM

__all__ = ["Answering"]


class Answering:
    """What one call of ``model`` asks, and the answer to it. Raises ``InvalidInput`` for what can't be asked."""

    def __init__(
        self,
        model: ChatRLM,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        run_manager: Any,
        given: dict[str, Any],
    ) -> None:
        unknown = sorted(given.keys() - {"stream", "ls_structured_output_format"})
        if unknown:
            raise InvalidInput(
                f"ChatRLM takes no {', '.join(unknown)} with a call: set what there is on ChatRLM(...) or on its llm"
            )
        asked = Asked.of(messages)
        self.engine = model._engine.instructed(asked.instructions)
        self.query = asked.query
        self.chunks: list[ChatGenerationChunk] = []
        self._asked = asked
        self._retriever = None if asked.documents else model.retriever
        self._is_text = self.engine.rlm.settings.answer_type.type is str
        self._text = UpToStop((stop or model.stop or []) if self._is_text else [])
        self._id = f"{LC_ID_PREFIX}-{run_manager.run_id}" if run_manager else None

    def found(self, config: RunnableConfig) -> Any:
        """The context, from the retriever where the conversation has none."""
        if self._retriever is None:
            return self._asked.context
        return context_of(list(self._retriever.invoke(self._asked.query, config)) or self._asked.context)

    async def afound(self, config: RunnableConfig) -> Any:
        """The same, without blocking the event loop."""
        if self._retriever is None:
            return self._asked.context
        async with ended(config["callbacks"]):
            found = list(await self._retriever.ainvoke(self._asked.query, config))
        return context_of(found or self._asked.context)

    def stream(self, config: RunnableConfig) -> Iterator[ChatGenerationChunk]:
        """The answer in pieces; the last has its metadata."""
        stream = self.engine.stream(self.query, self.found(config), config["callbacks"], config)
        with closing(stream):  # type: ignore[type-var]
            for piece in stream:
                yield from self._read(piece)

    async def astream(self, config: RunnableConfig) -> AsyncIterator[ChatGenerationChunk]:
        """The same, without blocking the event loop."""
        stream = self.engine.astream(self.query, await self.afound(config), config["callbacks"], config)
        async with aclosing(stream):  # type: ignore[type-var]
            async for piece in stream:
                for chunk in self._read(piece):
                    yield chunk

    def result(self, result: RLMResult) -> ChatResult:
        """The whole answer at once."""
        text = self._text.add(as_text(result.answer)) + self._text.rest()
        message = AIMessage(text, id=self._id, response_metadata=_metadata(result))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def whole(self) -> ChatResult:
        """The whole answer, when its pieces have been streamed."""
        whole = self.chunks[0]
        for chunk in self.chunks[1:]:
            whole += chunk
        message = AIMessage(whole.text, id=self._id, response_metadata=whole.message.response_metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _read(self, piece: str | RLMResult) -> Iterator[ChatGenerationChunk]:
        if isinstance(piece, str):
            if self._is_text and (text := self._text.add(piece)):
                yield self._chunk(text)
            return
        rest = self._text.rest() if self._is_text else as_text(piece.answer)
        yield self._chunk(rest, response_metadata=_metadata(piece), chunk_position="last")

    def _chunk(self, text: str, **fields: Any) -> ChatGenerationChunk:
        return ChatGenerationChunk(message=AIMessageChunk(content=text, id=self._id, **fields))


def _metadata(result: RLMResult) -> dict[str, Any]:
    about = {
        "status": result.status,
        "run_id": result.run_id,
        "usage": dataclasses.asdict(result.usage),
        "citations": [dataclasses.asdict(citation) for citation in result.citations],
    }
    return {"rlm": about}
