"""What the scripted models of the benchmarks say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm_integrations import Message

__all__ = ["batch_script", "tree_script", "turns_script"]

Script = Callable[[Sequence[Message]], str]


def turns_script(turns: int) -> Script:
    """A run of ``turns`` turns: in each a new figure is printed, in the last the answer is given."""

    def say(messages: Sequence[Message]) -> str:
        turn = _turn(messages)
        return _cell("FINAL(n)" if turn == turns - 1 else f"n = len(context) + {turn}\nprint(n)")

    return say


def batch_script(sub_calls: int) -> Script:
    """A run of two turns, whose first makes one batch of ``sub_calls``."""

    def say(messages: Sequence[Message]) -> str:
        if messages[0].role != "system":
            return "ok"
        if _turn(messages) == 0:
            return _cell(f"answers = llm_query_batched(['say ok'] * {sub_calls})\nprint(len(answers), set(answers))")
        return _cell("FINAL(len(answers))")

    return say


def tree_script(messages: Sequence[Message]) -> str:
    """A root run of three turns with three child runs of two turns, each with a batch of two sub-calls."""
    if messages[0].role != "system":
        return "ok"
    turn = _turn(messages)
    if "child question" in messages[1].content:
        code = ["found = llm_query_batched([context, context])\nprint(found)", "FINAL(' '.join(found))"][turn]
    else:
        children = "found = rlm_query_batched(['child question'] * 3, [context[:20], context[20:40], context[40:60]])"
        code = [f"{children}\nprint(found)", "n = len(context)\nprint(n)", "FINAL(found[0])"][turn]
    return _cell(code)


def _turn(messages: Sequence[Message]) -> int:
    return sum(message.role == "assistant" for message in messages)


def _cell(code: str) -> str:
    return f"```python\n{code}\n```"
