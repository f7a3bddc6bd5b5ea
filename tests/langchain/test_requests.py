"""Over HTTP: each logical call of a model is one request, and nothing waits for itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from rlm_integrations.errors import MissingKey, ModelError, ModelNotFound, ModelUnavailable, RateLimited, WindowExceeded
from rlm_integrations.langchain import RLMRunnable
from tests.langchain import ways
from tests.langchain.plays import CALLS, WRITTEN, deep
from tests.langchain.recorder import Recorder
from tests.langchain.scripted import ScriptedChat
from tests.openai_server import OpenAIServer, Refused
from tests.scripts import cell

ASK = {"query": "root?", "context": "word " * 2000}
KINDS = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


def _played(messages: list[dict[str, Any]]) -> str:
    said: list[BaseMessage] = [KINDS[message["role"]](message["content"]) for message in messages]
    return deep(said)


@pytest.fixture
def server(socket_enabled: None) -> Iterator[OpenAIServer]:
    server = OpenAIServer(_played)
    yield server
    server.close()


@pytest.fixture
def rlm(server: OpenAIServer, make: Callable[..., RLMRunnable]) -> RLMRunnable:
    return make(_chat(server), max_depth=2)


def _chat(server: OpenAIServer, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(model="local", base_url=server.url, api_key="none", stream_usage=True, **settings)


def test_requests_are_as_many_as_calls_over_repeated_sync_and_async_use(rlm: RLMRunnable, server: OpenAIServer) -> None:
    asked = 0
    for _ in range(2):
        for way in ways.WAYS:
            with get_usage_metadata_callback() as usage:
                answers = way(rlm, ASK, None)
            assert set(answers) == {WRITTEN}
            asked += len(answers)
            assert len(server.bodies) == asked * CALLS
            counts = usage.usage_metadata["local"]
            assert counts["total_tokens"] == len(answers) * CALLS * 15
            assert counts["input_token_details"]["cache_read"] == len(answers) * CALLS * 4


def test_usage_is_what_the_provider_counted(server: OpenAIServer, make: Callable[..., RLMRunnable]) -> None:
    rlm = make(_chat(server), max_depth=2, output="result")
    for way in (ways.invoke, ways.ainvoke, ways.stream, ways.astream):
        (result,) = way(rlm, ASK, None)
        usage = result.usage
        assert (usage.calls, usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (
            CALLS,
            CALLS * 10,
            CALLS * 5,
            CALLS * 4,
        )
        assert {depth: part.calls for depth, part in usage.by_depth.items()} == {0: 3, 1: 3, 2: 9}


def test_a_blocking_call_inside_a_running_loop_works(rlm: RLMRunnable, server: OpenAIServer) -> None:
    async def ask() -> list[str]:
        first = rlm.invoke(ASK)
        return [first, await rlm.ainvoke(ASK), "".join(rlm.stream(ASK)), rlm.invoke(ASK), await rlm.ainvoke(ASK)]

    assert asyncio.run(ask()) == [WRITTEN] * 5
    assert len(server.bodies) == 5 * CALLS


def test_calls_from_many_threads_and_tasks_at_once(rlm: RLMRunnable, server: OpenAIServer) -> None:
    async def ask() -> list[str]:
        return list(await asyncio.gather(*[rlm.ainvoke(ASK) for _ in range(4)]))

    with ThreadPoolExecutor(5) as pool:
        blocking = [pool.submit(rlm.invoke, ASK) for _ in range(4)]
        awaited = pool.submit(lambda: asyncio.run(ask()))
        assert [one.result() for one in blocking] == awaited.result() == [WRITTEN] * 4
    assert len(server.bodies) == 8 * CALLS


class Slow(BaseCallbackHandler):
    """A blocking handler, which async runs call in the executor of their loop."""

    def __init__(self) -> None:
        self.starts = 0
        self._lock = threading.Lock()

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.001)
        with self._lock:
            self.starts += 1


@pytest.mark.parametrize("limit", [None, 10])
def test_a_batch_of_fifty_with_blocking_handlers_ends(limit: int | None, make: Callable[..., RLMRunnable]) -> None:
    handler = Slow()
    rlm = make(ScriptedChat(deep), max_depth=2)
    started = time.monotonic()
    answers = asyncio.run(rlm.abatch([ASK] * 50, {"callbacks": [handler], "max_concurrency": limit}))
    assert answers == [WRITTEN] * 50
    assert handler.starts == 50 * CALLS
    assert time.monotonic() - started < 20


def test_a_batch_whose_blocking_tools_wait_for_runs_in_the_same_loop_ends(make: Callable[..., RLMRunnable]) -> None:
    inner = make(ScriptedChat(lambda _: cell("FINAL(len(context))")))
    loops: list[asyncio.AbstractEventLoop] = []
    recorder = Recorder()

    @tool
    def count(text: str) -> str:
        """Counts, by another run."""
        asked = inner.ainvoke({"query": "?", "context": text}, {"callbacks": [Slow()]})
        return str(asyncio.run_coroutine_threadsafe(asked, loops[0]).result())

    async def ask() -> list[str]:
        loops.append(asyncio.get_running_loop())
        outer = make(ScriptedChat(lambda _: cell("FINAL(count(context))")), tools=[count])
        async with asyncio.timeout(20):
            return await outer.abatch([ASK] * 50, {"callbacks": [recorder]})

    assert asyncio.run(ask()) == [str(len(ASK["context"]))] * 50
    (shape,) = {str(shape) for shape in recorder.shape()}
    assert shape == str(["chain", ["llm"], ["tool", ["tool"]]])
    assert recorder.open == set()


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(400, message="too long", code="context_length_exceeded"), WindowExceeded),
        (Refused(401, message="bad key", code="invalid_api_key"), MissingKey),
        (Refused(429, message="slow down"), RateLimited),
        (Refused(500, message="oops", type="server_error"), ModelUnavailable),
        (Refused(400, message="what is this"), ModelError),
        (Refused(400, message="the request exceeds the available context size"), WindowExceeded),
        (Refused(413, message="prompt is too long"), WindowExceeded),
        (Refused(404, message="there is no such model"), ModelNotFound),
        (Refused(403, message="not yours"), MissingKey),
    ],
)
@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke, ways.stream, ways.astream])
def test_a_refusal_is_said_with_the_providers_words(
    way: ways.Way, refused: Refused, kind: type[ModelError], server: OpenAIServer, make: Callable[..., RLMRunnable]
) -> None:
    def refuse(messages: Any) -> str:
        raise refused

    server.answer = refuse
    with pytest.raises(kind, match=refused.error["message"]) as raised:
        way(make(_chat(server, max_retries=0)), ASK, None)
    assert type(raised.value) is kind
    assert raised.value.model == "local"
    assert raised.value.partial.usage.calls == 0


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke, ways.stream, ways.astream])
def test_no_failure_says_the_key_that_a_server_echoes(
    way: ways.Way, server: OpenAIServer, make: Callable[..., RLMRunnable]
) -> None:
    def refuse(messages: Any) -> str:
        raise Refused(401, message="Incorrect API key provided: sk-hunter2hunter2")

    server.answer = refuse
    chat = ChatOpenAI(model="local", base_url=server.url, api_key="sk-hunter2hunter2", max_retries=0)
    with pytest.raises(MissingKey, match=r"provided: \[key\]") as raised:
        way(make(chat.bind(seed=1)), ASK, None)
    assert "hunter2" not in f"{raised.value} {list(raised.value.partial.trajectory)}"


@pytest.mark.parametrize("way", [ways.invoke, ways.ainvoke, ways.stream, ways.astream])
def test_a_parameter_that_the_model_does_not_take_is_left_out_from_then_on(
    way: ways.Way, server: OpenAIServer, make: Callable[..., RLMRunnable]
) -> None:
    def refuse(messages: Any) -> str:
        if "stop" in server.bodies[-1]:
            raise Refused(400, message="Unsupported parameter: 'stop' is not supported with this model.")
        return _played(messages)

    server.answer = refuse
    rlm = make(_chat(server), max_depth=2)
    assert way(rlm, ASK, None) == [WRITTEN]
    assert way(rlm, ASK, None) == [WRITTEN]
    assert len(server.bodies) == 2 * CALLS + 1
    assert ["stop" in body for body in server.bodies].count(True) == 1


def test_a_model_is_given_by_name(
    server: OpenAIServer, make: Callable[..., RLMRunnable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    rlm = make("openai:by-name", recursive_llm="openai:smaller", max_depth=2, temperature=0.5)
    assert rlm.invoke(ASK) == asyncio.run(rlm.ainvoke(ASK)) == WRITTEN
    models = [body["model"] for body in server.bodies]
    assert (models.count("by-name"), models.count("smaller")) == (2 * 3, 2 * (CALLS - 3))
    assert {body["temperature"] for body in server.bodies} == {0.5}


def test_nobody_is_there(make: Callable[..., RLMRunnable], server: OpenAIServer) -> None:
    url, server_gone = server.url, OpenAIServer(_played)
    gone = server_gone.url
    server_gone.close()
    assert url != gone
    chat = ChatOpenAI(model="local", base_url=gone, api_key="none", max_retries=0)
    with pytest.raises(ModelUnavailable, match=r"local: Connection error\."):
        make(chat).invoke(ASK)
