"""Scripts for LLMs that make whole trees: three levels deep, three wide, with an answer written as text."""

from __future__ import annotations

from collections.abc import Callable

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from tests.scripts import cell

WRITTEN = "The answer, written as text."
PARTS = "[context[at:at + 900] for at in (0, 1000, 2000)]"
FAN_OUT = cell(f"found = rlm_query_batched(['child? a', 'child? b', 'child? c'], {PARTS})\nfound")
# Each child has prompts of its own: equal ones of a tree are asked once.
CHILD = cell("leaf = rlm_query('leaf?', context[:100])\nFINAL([leaf, llm_query_batched([query + 'p', query + 'q'])])")
LEAF = cell("FINAL(len(context))")
ANSWER = cell("FINAL_WRITE('in one sentence', found)")
# What one question costs and what it leaves behind: calls of the model, cells, and child runs.
CALLS, CELLS, CHILDREN = 3 + 3 * (1 + 1 + 2), 2 + 3 * 2, 3 * 2


def deep(messages: list[ChatMessage]) -> str:
    """Plays every model of a tree of depth 2 with a fan-out of 3."""
    if messages[0].role != MessageRole.SYSTEM:
        return "said"
    asked, last = messages[1].content or "", messages[-1].content or ""
    if "How to write it" in last:
        return WRITTEN
    if "child?" in asked:
        return CHILD
    if "leaf?" in asked:
        return LEAF
    return FAN_OUT if len(messages) == 2 else ANSWER


def tooled(*calls: str) -> Callable[[list[ChatMessage]], str]:
    """Runs one cell with ``calls``, then answers with what they gave."""
    script = [cell("\n".join([f"v{i} = {call}" for i, call in enumerate(calls)] + ["v0"])), cell("FINAL(v0)")]

    def say(messages: list[ChatMessage]) -> str:
        return script[sum(message.role == MessageRole.ASSISTANT for message in messages)]

    return say
