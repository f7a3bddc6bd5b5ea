"""Many questions at once: failures stay in their rows, few runs are under way, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda

from rlm_integrations import InvalidInput, ModelUnavailable
from rlm_integrations.engine.conversation import Conversation
from rlm_integrations.engine.tree import Tree
from rlm_integrations.langchain import ChatRLM, RLMRunnable, create_rlm_documents_chain
from rlm_integrations.langchain.async_reporting import AsyncReporting
from rlm_integrations.sandbox.session import ProcessSession
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell

Make = Callable[..., RLMRunnable]
ROWS = 40


def say(messages: list[BaseMessage]) -> str:
    if "fails" in str(messages[1].content):
        raise ConnectionError("the provider said no")
    return cell("FINAL(len(context))")


class Crowd(ScriptedChat):
    """Says how long the context is, or fails; ``most`` calls were under way together."""

    now: int = 0
    most: int = 0

    def __init__(self) -> None:
        super().__init__(say, latency_s=0.01)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super()._agenerate(*args, **kwargs)
        finally:
            self.now -= 1


def batch(rlm: Any, inputs: list[Any], **settings: Any) -> list[Any]:
    return list(rlm.batch(inputs, **settings))


def abatch(rlm: Any, inputs: list[Any], **settings: Any) -> list[Any]:
    return asyncio.run(rlm.abatch(inputs, **settings))


def batch_as_completed(rlm: Any, inputs: list[Any], **settings: Any) -> list[Any]:
    rows = dict(rlm.batch_as_completed(inputs, **settings))
    return [rows[i] for i in range(len(inputs))]


def abatch_as_completed(rlm: Any, inputs: list[Any], **settings: Any) -> list[Any]:
    async def ask() -> dict[int, Any]:
        return {i: row async for i, row in rlm.abatch_as_completed(inputs, **settings)}

    rows = asyncio.run(ask())
    return [rows[i] for i in range(len(inputs))]


def inputs(count: int = ROWS) -> list[Any]:
    """Every tenth is one that the model fails at, every tenth one whose context can't be used."""
    queries = [f"{'fails' if i % 10 == 0 else 'answers'} {i}" for i in range(count)]
    return [{"query": query, "context": 7 if i % 10 == 5 else "x" * (i + 1)} for i, query in enumerate(queries)]


def kinds(rows: list[Any]) -> list[Any]:
    return [row if isinstance(row, str) else type(row) for row in rows]


def left(*types: type) -> list[str]:
    gc.collect()
    return [type(one).__name__ for one in gc.get_objects() if isinstance(one, types)]


EXPECTED = [ModelUnavailable if i % 10 == 0 else InvalidInput if i % 10 == 5 else str(i + 1) for i in range(ROWS)]


@pytest.mark.parametrize("ask", [batch, abatch, batch_as_completed, abatch_as_completed])
def test_failures_stay_in_their_rows_and_nothing_is_left_behind(make: Make, ask: Callable[..., list[Any]]) -> None:
    assert left(Tree, Conversation) == []
    rows = ask(make(Crowd()), inputs(), return_exceptions=True)
    assert kinds(rows) == EXPECTED
    assert all(row.partial.status == "failed" for row in rows[::10])
    assert left(Tree, Conversation, ProcessSession) == []
    del rows
    assert left(AsyncReporting) == []


@pytest.mark.parametrize("ask", [abatch, abatch_as_completed])
@pytest.mark.parametrize("given", [{}, {"temperature": 0.5}], ids=["as it is", "with bound settings"])
def test_no_more_than_max_runs_are_under_way(make: Make, ask: Callable[..., list[Any]], given: dict[str, Any]) -> None:
    model = Crowd()
    rlm: Any = make(model, max_runs=3)
    rows = ask(rlm.bind(**given) if given else rlm, inputs(), return_exceptions=True)
    assert kinds(rows) == EXPECTED
    assert model.most == 3


@pytest.mark.parametrize("chain", [False, True], ids=["runnable", "documents chain"])
def test_what_is_bound_to_one_runnable_has_one_limit_too(make: Make, sandbox: Any, chain: bool) -> None:
    """Each call makes the runnable with the bound settings again."""
    model = Crowd()
    rlm: Any = create_rlm_documents_chain(model, sandbox=sandbox, max_runs=5) if chain else make(model, max_runs=5)
    questions = [{"query": f"q{i}", "context": [Document("text")]} for i in range(12)]
    assert abatch(rlm.bind(max_runs=2), questions) == ["1"] * 12
    assert model.most == 2
    other = Crowd()
    assert abatch(rlm.bind(llm=other), questions) == ["1"] * 12
    assert other.most == 5


def test_what_waits_is_not_told_of_as_begun(make: Make) -> None:
    """Callbacks would else see thousands of runs open, each with its context checked and hashed."""

    class Open(BaseCallbackHandler):
        run_inline = True
        now = most = 0

        def on_chain_start(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
            if parent_run_id is None:
                self.now += 1
                self.most = max(self.most, self.now)

        def on_chain_end(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
            self.now -= parent_run_id is None

    handler = Open()
    questions = [{"query": f"q{i}", "context": "text"} for i in range(12)]
    assert abatch(make(Crowd(), max_runs=2), questions, config={"callbacks": [handler]}) == ["4"] * 12
    assert (handler.most, handler.now) == (2, 0)


def test_a_chat_model_takes_max_runs_too(make: Make, sandbox: Any) -> None:
    model = Crowd()
    answers = asyncio.run(ChatRLM(llm=model, sandbox=sandbox, max_runs=2).abatch(["how long?"] * 8))
    assert [answer.text for answer in answers] == ["1"] * 8
    assert model.most == 2


def test_nothing_is_retrieved_for_chats_that_wait(sandbox: Any) -> None:
    now = most = 0

    def find(query: str) -> list[Document]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        return [Document("text")]

    def watch(event: Any) -> None:
        nonlocal now
        now -= event.parent_id is None and event.kind == "run_ended"

    chat = ChatRLM(llm=Crowd(), sandbox=sandbox, max_runs=2, retriever=RunnableLambda(find), observers=[watch])
    assert [answer.text for answer in asyncio.run(chat.abatch(["how long?"] * 8))] == ["1"] * 8
    assert (most, now) == (2, 0)


@pytest.mark.parametrize("max_runs", [0, 2.5])
def test_max_runs_is_checked(make: Make, max_runs: Any) -> None:
    with pytest.raises(InvalidInput, match="max_runs"):
        make(Crowd(), max_runs=max_runs)
