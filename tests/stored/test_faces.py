"""Documents on disk go through LangChain and LlamaIndex without being read as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, CellEnded, Context
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell

QUOTE = "The staging server listens on port 8443."
REPLIES = [cell("print(search('staging port', 1))"), cell(f"FINAL('8443', quotes=[{QUOTE!r}])")]
DOCUMENT_CHARS = 1_000_000


@pytest.fixture
def large(tmp_path: Path) -> Context:
    """Ten documents of a million characters, the ninth of which has the answer."""
    for number in range(10):
        text = ("Nothing of note.\n" * (DOCUMENT_CHARS // 17)).ljust(DOCUMENT_CHARS)
        (tmp_path / f"{number}.txt").write_text(text[: -len(QUOTE)] + QUOTE if number == 8 else text)
    return Context.from_files(tmp_path, lazy=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """How many bytes this process read at once, up to now."""
    sizes: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    return lambda: sizes


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_langchain_takes_them_and_cites_them(
    make_rlm: Callable[..., RLM], large: Context, read: Callable[[], list[int]], is_async: bool, bare: bool
) -> None:
    runnable_of = pytest.importorskip("rlm_integrations.langchain").RLMRunnable
    runnable = runnable_of(make_rlm(ScriptedModel(REPLIES)), output="result")
    asked = {"query": "Which port?", "context": large.value if bare else large}
    result = asyncio.run(runnable.ainvoke(asked)) if is_async else runnable.invoke(asked)
    [cited] = result.citations
    assert (result.answer, cited.page_content, cited.document_id) == ("8443", QUOTE, "8.txt")
    assert cited.metadata["path"].endswith("8.txt")
    assert (cited.start, cited.end) == (DOCUMENT_CHARS - len(QUOTE), DOCUMENT_CHARS)
    # To find the quote, its bytes are looked through; no other document is read.
    assert sum(read()) < 3 * large.chars
    assert all(size < 20 << 20 for size in read())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_langchain_tool_that_takes_a_list_is_given_one_unless_it_is_too_long(
    make_rlm: Callable[..., RLM], large: Context, is_async: bool
) -> None:
    tool = pytest.importorskip("langchain_core.tools").tool
    runnable_of = pytest.importorskip("rlm_integrations.langchain").RLMRunnable

    @tool  # type: ignore[untyped-decorator]
    def sizes(texts: list[str]) -> list[int]:
        """The size of each text."""
        assert type(texts) is list
        return [len(text) for text in texts]

    code = "print(sizes(context[:2]), sizes(texts=list(context)[3:4]))\nsizes(context)"
    rlm = make_rlm(ScriptedModel([cell(code), cell("FINAL(1)")]), max_iterations=2)
    runnable = runnable_of(rlm, tools=[sizes], output="result")
    asked = {"query": "Which port?", "context": large}
    result = asyncio.run(runnable.ainvoke(asked)) if is_async else runnable.invoke(asked)
    first = next(event for event in result.trajectory if isinstance(event, CellEnded))
    assert first.stdout == f"[{DOCUMENT_CHARS}, {DOCUMENT_CHARS}] [{DOCUMENT_CHARS}]\n"
    assert "these 10 documents have 10,000,000 characters in all, and this tool takes at most 8,000,000" in first.error


@pytest.mark.parametrize("is_async", [False, True])
def test_llama_index_takes_them_and_cites_them(
    make_rlm: Callable[..., RLM], large: Context, read: Callable[[], list[int]], is_async: bool
) -> None:
    engine_of: Any = pytest.importorskip("rlm_integrations.llama_index").RLMQueryEngine
    engine = engine_of.from_documents(large, make_rlm(ScriptedModel(REPLIES)))
    response = asyncio.run(engine.aquery("Which port?")) if is_async else engine.query("Which port?")
    [node] = response.source_nodes
    assert (str(response), node.node.text) == ("8443", QUOTE)
    assert (node.node.start_char_idx, node.node.end_char_idx) == (DOCUMENT_CHARS - len(QUOTE), DOCUMENT_CHARS)
    assert node.node.metadata["path"].endswith("8.txt")
    assert node.node.source_node.node_id == "8.txt"
    assert sum(read()) < 3 * large.chars
