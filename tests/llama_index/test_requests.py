"""Over HTTP: each logical call of an LLM is one request, and nothing waits for itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse, LLMMetadata
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.llms.openai_like import OpenAILike
from pydantic import PrivateAttr

from rlm_integrations.errors import MissingKey, ModelError, ModelNotFound, ModelUnavailable, RateLimited, WindowExceeded
from rlm_integrations.llama_index import RLMQueryEngine
from tests.llama_index.plays import CALLS, WRITTEN, deep
from tests.llama_index.scripted import ScriptedLLM
from tests.openai_server import OpenAIServer, Refused
from tests.scripts import cell

TEXT = "word " * 2000
Make = Callable[..., RLMQueryEngine]


def _played(messages: list[dict[str, Any]]) -> str:
    return deep([ChatMessage(message["content"], role=message["role"]) for message in messages])


@pytest.fixture
def server(socket_enabled: None) -> Iterator[OpenAIServer]:
    server = OpenAIServer(_played)
    yield server
    server.close()


def _llm(server: OpenAIServer, **settings: Any) -> OpenAILike:
    given = {"model": "local", "api_base": server.url, "api_key": "none", "is_chat_model": True, "max_retries": 0}
    return OpenAILike(**{**given, **settings})


def _query(engine: RLMQueryEngine) -> Any:
    response = engine.query("root?")
    return response.get_response() if isinstance(response, StreamingResponse) else response


async def _aask(engine: RLMQueryEngine) -> Any:
    response = await engine.aquery("root?")
    return await response.get_response() if isinstance(response, AsyncStreamingResponse) else response


def _aquery(engine: RLMQueryEngine) -> Any:
    return asyncio.run(_aask(engine))


WAYS: list[Callable[[RLMQueryEngine], Any]] = [_query, _aquery]


@pytest.mark.parametrize("streaming", [False, True])
def test_requests_are_as_many_as_calls_over_repeated_sync_and_async_use(
    streaming: bool, server: OpenAIServer, make: Make
) -> None:
    engine = make(_llm(server), TEXT, max_depth=2, streaming=streaming)
    for asked, way in enumerate(WAYS * 3, 1):
        response = way(engine)
        assert str(response) == WRITTEN
        usage = response.metadata["usage"]
        assert len(server.bodies) == asked * CALLS == asked * usage["calls"]
        counted = (usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"])
        assert counted == (CALLS * 10, CALLS * 5, CALLS * 4)
    assert {bool(body.get("stream")) for body in server.bodies} == {streaming}


def test_a_blocking_call_inside_a_running_loop_works(server: OpenAIServer, make: Make) -> None:
    engine = make(_llm(server), TEXT, max_depth=2)

    async def run() -> list[str]:
        return [
            str(response) for response in (_query(engine), await _aask(engine), _query(engine), await _aask(engine))
        ]

    assert asyncio.run(run()) == [WRITTEN] * 4
    assert len(server.bodies) == 4 * CALLS


@pytest.mark.parametrize("streaming", [False, True])
def test_twenty_questions_at_once_are_as_many_requests_as_calls(
    streaming: bool, server: OpenAIServer, make: Make
) -> None:
    engine = make(_llm(server), TEXT, max_depth=2, streaming=streaming)

    async def run() -> list[Any]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*[_aask(engine) for _ in range(20)])

    responses = asyncio.run(run())
    assert [str(response) for response in responses] == [WRITTEN] * 20
    assert {response.metadata["usage"]["calls"] for response in responses} == {CALLS}
    assert len(server.bodies) == 20 * CALLS


def test_questions_from_many_threads_and_tasks_at_once(server: OpenAIServer, make: Make) -> None:
    engine = make(_llm(server), TEXT, max_depth=2)

    async def run() -> list[Any]:
        return await asyncio.gather(*[_aask(engine) for _ in range(4)])

    with ThreadPoolExecutor(5) as pool:
        blocking = [pool.submit(_query, engine) for _ in range(4)]
        awaited = pool.submit(lambda: asyncio.run(run()))
        answers = [str(one.result()) for one in blocking] + [str(one) for one in awaited.result()]
    assert answers == [WRITTEN] * 8
    assert len(server.bodies) == 8 * CALLS


class Local(CustomLLM):
    """A model in this process, which blocks for as long as it thinks; ``together`` of its calls go on at once."""

    together: int
    thinks_s: float = 0.0
    _barrier: Any = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        self._barrier = threading.Barrier(self.together)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="local")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._barrier.wait(20)
        time.sleep(self.thinks_s)
        return CompletionResponse(text=cell("FINAL(str(len(context)))"))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        yield self.complete(prompt, formatted)


@pytest.mark.alone
def test_blocking_models_think_side_by_side_and_do_not_stall_the_loop(make: Make) -> None:
    # More than the loop's own executor has threads for: it would never let all of them in.
    engine = make(Local(together=40, thinks_s=0.5), TEXT)
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def run() -> list[Any]:
        beating = asyncio.ensure_future(beat())
        try:
            return await asyncio.gather(*[engine.aquery("?") for _ in range(40)])
        finally:
            beating.cancel()

    assert [str(response) for response in asyncio.run(run())] == [str(len(TEXT))] * 40
    assert max(after - before for before, after in pairwise(beats)) < 0.4


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(400, message="too long", code="context_length_exceeded"), WindowExceeded),
        (Refused(401, message="bad key", code="invalid_api_key"), MissingKey),
        (Refused(429, message="slow down"), RateLimited),
        (Refused(500, message="oops", type="server_error"), ModelUnavailable),
        (Refused(400, message="what is this"), ModelError),
        (Refused(404, message="there is no such model"), ModelNotFound),
    ],
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_refusal_is_said_with_the_providers_words(
    streaming: bool,
    way: Callable[[RLMQueryEngine], Any],
    refused: Refused,
    kind: type[ModelError],
    server: OpenAIServer,
    make: Make,
) -> None:
    def refuse(messages: Any) -> str:
        raise refused

    server.answer = refuse
    with pytest.raises(kind, match=refused.error["message"]) as raised:
        way(make(_llm(server), TEXT, streaming=streaming))
    assert type(raised.value) is kind
    assert raised.value.model == "local"
    assert raised.value.partial.usage.calls == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streaming", [False, True])
def test_no_failure_says_the_key_that_a_server_echoes(
    streaming: bool, way: Callable[[RLMQueryEngine], Any], server: OpenAIServer, make: Make
) -> None:
    def refuse(messages: Any) -> str:
        raise Refused(401, message="Incorrect API key provided: sk-hunter2hunter2")

    server.answer = refuse
    with pytest.raises(MissingKey, match=r"provided: \[key\]") as raised:
        way(make(_llm(server, api_key="sk-hunter2hunter2"), TEXT, streaming=streaming))
    assert "hunter2" not in f"{raised.value} {list(raised.value.partial.trajectory)}"


@pytest.mark.parametrize("refused", ["stop", "stream_options"])
@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_that_the_model_does_not_take_is_left_out_from_then_on(
    way: Callable[[RLMQueryEngine], Any], refused: str, server: OpenAIServer, make: Make
) -> None:
    def refuse(messages: Any) -> str:
        if refused in server.bodies[-1]:
            raise Refused(400, message=f"Unsupported parameter: '{refused}' is not supported with this model.")
        return _played(messages)

    server.answer = refuse
    engine = make(_llm(server), TEXT, max_depth=2, streaming=True)
    for _ in range(2):
        response = way(engine)
        assert str(response) == WRITTEN
        assert response.metadata["usage"]["input_tokens"] > CALLS
    assert len(server.bodies) == 2 * CALLS + 1
    assert [refused in body for body in server.bodies].count(True) == 1


def test_scripted_trees_are_the_same_without_a_server(make: Make) -> None:
    llm = ScriptedLLM(deep)
    engine = make(llm, TEXT, max_depth=2)
    for asked, way in enumerate(WAYS * 2, 1):
        assert str(way(engine)) == WRITTEN
        assert len(llm.calls) == asked * CALLS


def test_nobody_is_there(make: Make, server: OpenAIServer) -> None:
    gone = OpenAIServer(_played)
    gone.close()
    assert gone.url != server.url
    for way in WAYS:
        with pytest.raises(ModelUnavailable, match=r"local: Connection error\."):
            way(make(_llm(gone), TEXT))
