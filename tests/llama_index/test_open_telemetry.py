"""OpenInference exports a query as one trace, small, whole and with what each span is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool

from rlm_integrations import RLM, ModelError
from rlm_integrations.llama_index import RLMQueryEngine, RLMSynthesizer
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.llama_index.finding import Finding
from tests.llama_index.plays import CALLS, CELLS, CHILDREN, WRITTEN, deep, tooled
from tests.llama_index.scripted import ScriptedLLM
from tests.llama_index.telemetry import Exported, exporting
from tests.llama_index.ways import WAYS, Way
from tests.scripts import cell

Make = Callable[..., RLMQueryEngine]
MAX_BYTES = 10_000
SPANS = 2 + 1 + CALLS + CELLS + CHILDREN
# 2 MB each; what stands in the middle is in no excerpt that a model is shown.
CANARY = "CANARY-IN-THE-DOCUMENT"
DOCUMENTS = {
    "english": "word " * 200_000 + CANARY + " word" * 200_000,
    "cyrillic": "слово " * 90_000 + CANARY + " слово" * 90_000,
    "emoji": "😀" * 250_000 + CANARY + "😀" * 250_000,
    "control characters": "\x00\x01" * 500_000 + CANARY + "\x00\x01" * 500_000,
}
# OpenInference calls what pydantic has deprecated, and LlamaIndex keeps silent about what its handlers raise.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
ways = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture
def exported(caplog: pytest.LogCaptureFixture) -> Iterator[Exported]:
    """What is exported; nothing is to be warned of."""
    caplog.set_level(logging.WARNING)
    with exporting() as exported:
        yield exported
    assert [record.getMessage() for record in caplog.records if "opentelemetry" in record.name] == []
    assert [record.getMessage() for record in caplog.records if "openinference" in record.name] == []


def assert_small(exported: Exported) -> None:
    """No attribute is over 10 KB, and nothing of the document but its beginning is there."""
    size, what = exported.largest()
    assert size <= MAX_BYTES, what
    assert not any(CANARY in str(span.attributes) for span in exported.spans)


@pytest.mark.parametrize("text", DOCUMENTS)
@ways
def test_a_query_over_two_megabytes_is_one_small_trace(way: Way, text: str, make: Make, exported: Exported) -> None:
    assert way.ask(make(ScriptedLLM(deep), DOCUMENTS[text], max_depth=2, streaming=way.streams)) == WRITTEN
    (root,) = exported.roots
    assert (exported.traces, len(exported.spans), exported.open, exported.failed) == (1, SPANS, [], set())
    assert_small(exported)
    model = f"ScriptedLLM.{way.method}"
    a = "a" if way.is_async else ""
    leaf = ("RLM.run", model, "python")
    child = ("RLM.run", model, ("python", leaf, model, model))
    run = ("RLM.run", model, ("python", child, child, child), model, ("python", model))
    assert exported.shape(root) == (f"RLMQueryEngine.{a}query", (f"RLMQueryEngine._{a}query", run))
    assert exported.kinds() == {
        (f"RLMQueryEngine.{a}query", "CHAIN"),
        (f"RLMQueryEngine._{a}query", "CHAIN"),
        ("RLM.run", "CHAIN"),
        ("python", "TOOL"),
        (model, "LLM"),
    }
    counts = [span.attributes["llm.token_count.total"] for span in exported.spans if span.name == model]
    assert counts == [15] * CALLS


@pytest.mark.parametrize("text", DOCUMENTS)
@ways
def test_long_questions_cells_and_answers_are_cut(
    way: Way, text: str, sandbox: ProcessSandbox, exported: Exported
) -> None:
    document = DOCUMENTS[text]
    ask = cell("x = rlm_query('child: ' + context[:30_000], context[:30_000])\nFINAL(x[:5])")
    child = cell("print(context)\nFINAL(context[:30_000])")

    def say(messages: Any) -> str:
        return ask if "Question: root?" in messages[1].content else child

    llm = RLM(ScriptedModel(say), max_depth=1, sandbox=sandbox)
    assert way.ask(RLMQueryEngine.from_documents(document, llm=llm, streaming=way.streams)) == document[:5]
    assert exported.open == []
    assert_small(exported)


@pytest.mark.parametrize("text", DOCUMENTS)
@ways
def test_what_cells_print_turn_after_turn_is_long_in_the_spans_of_llms_alone(
    way: Way, text: str, make: Make, exported: Exported
) -> None:
    script = [cell(f"print(context[{4_000 * turn}:][:4_000])") for turn in range(4)] + [cell("FINAL(4)")]
    llm = ScriptedLLM(lambda messages: script[len(messages) // 2 - 1])
    assert way.ask(make(llm, DOCUMENTS[text], streaming=way.streams)) == "4"
    assert (len(llm.calls), exported.open, exported.failed) == (5, [], set())
    assert exported.largest()[0] > MAX_BYTES
    exported.spans = [span for span in exported.spans if span.name != f"ScriptedLLM.{way.method}"]
    assert_small(exported)


@pytest.mark.parametrize("text", DOCUMENTS)
@ways
def test_what_fails_is_small_too(way: Way, text: str, make: Make, exported: Exported) -> None:
    script = ScriptedLLM(lambda messages: ValueError("no") if len(messages) > 2 else cell("1 / 0"))
    with pytest.raises(ModelError, match="no"):
        way.ask(make(script, DOCUMENTS[text], streaming=way.streams))
    assert (exported.traces, len(exported.roots), exported.open) == (1, 1, [])
    assert exported.failed >= {"RLM.run", f"ScriptedLLM.{way.method}", exported.roots[0].name}
    assert_small(exported)


@ways
def test_calls_of_other_models_are_spans_with_their_names_and_tokens(
    way: Way, sandbox: ProcessSandbox, exported: Exported
) -> None:
    model = ScriptedModel([cell("print(len(context))"), cell("FINAL(len(context))")], name="maker/small-model")
    engine = RLMQueryEngine.from_documents("four", llm=RLM(model, sandbox=sandbox), streaming=way.streams)
    assert way.ask(engine) == "4"
    assert (exported.traces, len(exported.roots), exported.open) == (1, 1, [])
    calls = [span.attributes for span in exported.spans if span.name == "LanguageModel.chat"]
    assert len(calls) == 2
    for call in calls:
        assert call["openinference.span.kind"] == "LLM"
        assert call["llm.model_name"] == "maker/small-model"
        assert call["llm.token_count.prompt"] > 0
        assert call["llm.token_count.completion"] > 0
    assert calls[0]["llm.input_messages.1.message.role"] == "user"
    assert "print(len(context))" in calls[0]["llm.output_messages.0.message.content"]


@ways
def test_a_synthesizer_is_a_part_of_its_engines_trace(way: Way, sandbox: ProcessSandbox, exported: Exported) -> None:
    llm = ScriptedLLM(lambda messages: deep(messages).replace("context[at:", "context[0][at:"))
    synthesizer = RLMSynthesizer(llm, streaming=way.streams, max_depth=2, sandbox=sandbox)
    engine = RetrieverQueryEngine(Finding([TextNode(text="word " * 1_000)]), response_synthesizer=synthesizer)
    assert way.ask(engine, "word") == WRITTEN
    assert (exported.traces, len(exported.roots), exported.open, exported.failed) == (1, 1, [], set())
    assert_small(exported)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_tool_is_a_span_below_its_cell(is_async: bool, make: Make, exported: Exported) -> None:
    tool = FunctionTool.from_defaults(lambda word: word.upper(), name="upper")
    assert Way(is_async, streams=False).ask(make(ScriptedLLM(tooled("upper('x')")), tools=[tool])) == "X"
    python = next(span for span in exported.started if span.name == "python")
    (called,) = exported.shape(python)[1:]
    assert str(called).strip("('").startswith("FunctionTool.")
    assert (exported.traces, exported.open) == (1, [])


def test_ten_queries_at_once_are_ten_traces(make: Make, exported: Exported) -> None:
    engine = make(ScriptedLLM(deep, latency_s=0.01), "word " * 2_000, max_depth=2)

    async def ask() -> None:
        await asyncio.gather(*(engine.aquery("root?") for _ in range(10)))

    asyncio.run(ask())
    assert (exported.traces, len(exported.roots), len(exported.spans)) == (10, 10, 10 * SPANS)
    assert len({str(exported.shape(root)) for root in exported.roots}) == 1
