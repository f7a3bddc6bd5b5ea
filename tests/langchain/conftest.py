"""What the tests of LangChain's face share: RLMRunnables in the shared sandbox, and a LangSmith of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlm_integrations.langchain import RLMRunnable
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain.langsmith_server import LangSmith


@pytest.fixture
def make(sandbox: ProcessSandbox) -> Callable[..., RLMRunnable]:
    """An RLMRunnable in the shared sandbox."""

    def make(llm: Any, **settings: Any) -> RLMRunnable:
        return RLMRunnable(llm, **{"sandbox": sandbox, **settings})

    return make


@pytest.fixture(scope="module")
def ending() -> Iterator[set[threading.Thread]]:
    """Threads that were told to end, and look for it a few times a second: all of them have ended with the module."""
    threads = set[threading.Thread]()
    yield threads
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def langsmith(
    socket_enabled: None, monkeypatch: pytest.MonkeyPatch, ending: set[threading.Thread]
) -> Iterator[LangSmith]:
    """Tracing is on, to a server of the test's own."""
    from langsmith import Client, run_trees, utils

    threads = set(threading.enumerate())
    server = LangSmith()
    for name in ("LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING_V2", "LANGCHAIN_PROJECT", "LANGCHAIN_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    monkeypatch.setenv("LANGSMITH_API_KEY", "no-key")
    monkeypatch.setenv("LANGSMITH_PROJECT", "tests")
    cached = (utils.get_env_var, utils.get_tracer_project)
    for function in cached:
        function.cache_clear()
    server.client = Client()
    monkeypatch.setattr(run_trees, "_CLIENT", server.client)
    try:
        yield server
    finally:
        server.client.flush()
        server.client.close()
        server.close()
        for function in cached:
            function.cache_clear()
        ending.update(thread for thread in set(threading.enumerate()) - threads if "tracing" in thread.name)
