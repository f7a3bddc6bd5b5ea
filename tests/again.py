"""A run with turns, sub-calls and a child run, for tests that carry it out again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlm_integrations import Message
from tests.scripts import cell

CONTEXT = "Ada paid 12 dollars.\n" * 10
QUERY = "Who paid?"
ROOT = (
    cell(
        "import random\nparts = context.split('\\n')\nprint(len(parts), set('abcdefgh'), random.sample(range(99), 5))"
    ),
    cell("notes = llm_query_batched([f'note {i}' for i in range(3)])\nprint(notes, set(notes))"),
    cell("child = rlm_query('Count it', context[:50])\nprint(child)"),
    cell("FINAL(f'{child} {notes}')"),
)
CHILD = (cell("print(set(context))"), cell("FINAL(len(context))"))
CALLS = 9
ANSWER = "50 ['re note 0', 're note 1', 're note 2']"


def say(messages: Sequence[Message]) -> str:
    """The reply to a conversation, whichever call it belongs to."""
    if messages[0].role != "system":
        return f"re {messages[0].content}"
    turn = sum(message.role == "assistant" for message in messages)
    return (CHILD if "Count it" in messages[1].content else ROOT)[turn]


def lines(path: Path) -> list[bytes]:
    """The lines of a saved run."""
    return path.read_bytes().splitlines(keepends=True)
