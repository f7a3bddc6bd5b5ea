"""RLMRunnable with a real model behind ``ChatOpenAI``; ``RECORD=1`` records what it says anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.documents import Document
from langchain_openai import ChatOpenAI

from rlm_integrations.langchain import RLMRunnable
from tests import cassettes

CASSETTES = Path(__file__).parent / "cassettes"
# llama.cpp with Qwen2.5-Coder 1.5B and a window of 16,384 tokens.
SERVER = "http://127.0.0.1:8089/v1"
pytestmark = [pytest.mark.timeout(900)] if cassettes.RECORDING else []

NOTES = [
    Document("The staging server listens on port 8443. The production server listens on port 443.", id="servers"),
    Document("Marta Okonkwo signs the contract on 3 May 2021 in Lagos.", id="contract", metadata={"page": 7}),
    Document("Lunch is at noon. The kitchen closes at two.", id="kitchen"),
]


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Any]:
    with cassettes.cassette(request, CASSETTES / f"{request.node.name}.yaml", place="uri") as tape:
        yield tape


@pytest.fixture
def chat() -> Iterator[ChatOpenAI]:
    client, async_client = httpx.Client(), httpx.AsyncClient()
    yield ChatOpenAI(
        model="qwen",
        base_url=SERVER,
        api_key="none",
        temperature=0,
        seed=1,
        max_tokens=300,
        stream_usage=True,
        http_client=client,
        http_async_client=async_client,
    )
    client.close()
    asyncio.run(async_client.aclose())


def test_a_question_about_documents(cassette: Any, chat: ChatOpenAI, make: Callable[..., RLMRunnable]) -> None:
    rlm = make(chat, output="result", max_iterations=8)
    with get_usage_metadata_callback() as usage:
        result = rlm.invoke({"query": "Which port does the staging server use?", "context": NOTES})
    assert (result.answer, result.status) == ("8443", "complete")
    assert result.usage.calls == len(cassette)
    (counts,) = usage.usage_metadata.values()
    assert counts["total_tokens"] == result.usage.tokens > 0
    assert result.citations
    for citation in result.citations:
        assert NOTES[0].page_content[citation.start : citation.end] == citation.quote


def test_a_question_streamed(cassette: Any, chat: ChatOpenAI, make: Callable[..., RLMRunnable]) -> None:
    rlm = make(chat, max_iterations=8)

    async def ask() -> str:
        context = "\n".join(f"order {n}: customer={('Ada', 'Dana', 'Kim')[n % 3]}" for n in range(100))
        return "".join(
            [piece async for piece in rlm.astream({"query": "How many orders are Dana's?", "context": context})]
        )

    assert asyncio.run(ask()) == "33"
