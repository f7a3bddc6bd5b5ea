"""Prompts are measured text: how long they are, that they stay the same, and what they add to a direct solution."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from rlm_integrations import Context, Document, Message
from rlm_integrations.prompts import Prompts
from rlm_integrations.testing import ScriptedCall, ScriptedModel
from tests.scripts import cell
from tests.tokens import count

MAX_SYSTEM_TOKENS = 700
MAX_OVERHEAD_TOKENS = 1_000
# English and Python have about four characters a token in all encodings of today; o200k has 4.0 for this text.
CHARS_A_TOKEN = 4

QUESTION = "How many lamps did Ada buy in May?"
LINES = [
    f"{('Ada', 'Bob', 'Cleo')[i % 3]} bought {i % 7 + 1} lamps in {('April', 'May')[i % 2]}, as the shop wrote down."
    for i in range(1200)
]
COUNTED = str(sum(i % 7 + 1 for i in range(1200) if i % 3 == 0 and i % 2))
PAGES = ["\n".join(LINES[start : start + 12]) for start in range(0, 1200, 12)]
CONTEXTS: dict[str, tuple[Any, str]] = {
    "str": ("\n".join(LINES), "lines = context.splitlines()"),
    "100 documents": (
        [Document(text, id=f"shop/{n}.txt", metadata={"page": n}) for n, text in enumerate(PAGES)],
        "lines = [line for doc in context for line in doc.splitlines()]",
    ),
    "JSON": ({"sales": [{"text": line} for line in LINES]}, "lines = [sale['text'] for sale in context['sales']]"),
}
COMPUTE = """{lines}
rows = [line for line in lines if line.startswith("Ada") and " in May" in line]
total = sum(int(row.split()[2]) for row in rows)"""


def lookup(messages: Any) -> str:
    """A root that prints, asks a child, and answers; and a child that answers in two turns."""
    turn = sum(message.role == "assistant" for message in messages)
    if "root" in messages[1].content:
        return [
            cell("print(len(context))"),
            cell("found = rlm_query('how?', context)\nprint(found)"),
            cell("FINAL(found)"),
        ][turn]
    return [cell("print(len(context))"), cell("FINAL(len(context))")][turn]


def systems(model: ScriptedModel) -> set[str]:
    """The system prompts that a model was sent."""
    return {call.messages[0].content for call in model.calls if call.messages[0].role == "system"}


@pytest.mark.parametrize("final_write", [False, True])
def test_the_system_prompt_is_short(final_write: bool) -> None:
    assert count(Prompts().render_system({}, final_write)) < MAX_SYSTEM_TOKENS


def test_the_system_prompt_is_short_whatever_the_tokenizer() -> None:
    assert len(Prompts().render_system({})) < MAX_SYSTEM_TOKENS * CHARS_A_TOKEN


def test_the_system_prompt_is_the_same_for_every_turn_run_question_and_context(make_rlm: Any) -> None:
    def tool(place: str) -> str:
        """Says what the weather is like."""
        return place

    model = ScriptedModel(lookup)
    rlm = make_rlm(model, tools=[tool], final_write=True)
    for query, context in [("root", "a text"), ("root: $query?", [Document("b", id="$tools")]), ("root", {"$k": "v"})]:
        rlm.run(query, context)
        asyncio.run(rlm.arun(query, context))
    assert len(model.calls) == 6 * 5
    assert systems(model) == {Prompts().render_system({"tool": tool}, True)}


def test_an_equal_rlm_has_the_same_system_prompt(run: Any, make_rlm: Any) -> None:
    models = [ScriptedModel([cell("FINAL(len(context))")]) for _ in range(2)]
    for model in models:
        run(make_rlm(model), "How long?", "a text")
    assert systems(models[0]) == systems(models[1])


def test_each_call_begins_with_all_of_the_call_before(run: Any, make_rlm: Any) -> None:
    root = ScriptedModel(
        [
            cell("print(len(context))"),
            "no code",
            cell("rlm_query('how?', context)"),
            cell("1 / 0"),
            "",
            cell("print(context[:9])"),
            "Ada",
        ]
    )
    child = ScriptedModel([cell("print(query)"), "no code", cell("FINAL(len(context))")])
    run(make_rlm(root, recursive_model=child, max_iterations=6), "root", "\n".join(LINES))
    assert (len(root.calls), len(child.calls)) == (7, 3)
    for model in (root, child):
        for before, after in zip(model.calls, model.calls[1:], strict=False):
            assert after.messages[: len(before.messages)] == before.messages
            assert [message.role for message in after.messages[len(before.messages) :]] == ["assistant", "user"]


@pytest.mark.parametrize("kind", CONTEXTS)
def test_a_solution_in_one_cell_takes_one_call(run: Any, make_rlm: Any, kind: str) -> None:
    context, lines = CONTEXTS[kind]
    model = ScriptedModel([cell(COMPUTE.format(lines=lines) + "\nFINAL(total)")])
    result = run(make_rlm(model), QUESTION, context)
    assert (result.answer, result.status, len(model.calls)) == (COUNTED, "complete", 1)


@pytest.mark.parametrize("kind", CONTEXTS)
def test_a_solution_in_two_cells_takes_two_calls(run: Any, make_rlm: Any, kind: str) -> None:
    result, calls = solved(run, make_rlm, kind)
    assert (result.answer, result.status, len(calls)) == (COUNTED, "complete", 2)


# Measured: 764 tokens (str), 830 (documents), 766 (JSON).
@pytest.mark.parametrize("kind", CONTEXTS)
def test_what_the_engine_says_around_two_calls_is_short(run: Any, make_rlm: Any, kind: str) -> None:
    _, calls = solved(run, make_rlm, kind)
    said = [without_data(message.content) for message in sent(calls) if message.role != "assistant"]
    assert overhead(said) <= MAX_OVERHEAD_TOKENS


OVER = pytest.mark.xfail(strict=True, reason="the first message shows more than 1,000 tokens have room for")


# Measured: 1,344 tokens (str), 1,527 (documents), 946 (JSON). The first message is sent twice, with what it shows.
@pytest.mark.parametrize("kind", [pytest.param("str", marks=OVER), pytest.param("100 documents", marks=OVER), "JSON"])
def test_two_calls_have_little_overhead_with_all_that_is_shown_unasked(run: Any, make_rlm: Any, kind: str) -> None:
    result, calls = solved(run, make_rlm, kind)
    printed = [event.stdout for event in result.trajectory if event.kind == "cell_ended"]
    assert overhead([message.content for message in sent(calls)]) - sum(map(count, printed)) <= MAX_OVERHEAD_TOKENS


# What the first message shows of the context


def view(context: Any, found: str = "") -> str:
    return Prompts().view(Context.of(context), found)


def test_excerpts_of_a_text_are_whole_lines() -> None:
    begins, ends = view("\n".join(LINES)).split("\n\n")[:2]
    for excerpt, label in [(begins, "It begins:\n"), (ends, "It ends:\n")]:
        assert excerpt.startswith(label)
        assert set(excerpt.removeprefix(label).split("\n")) <= set(LINES)
    assert LINES[0] in begins
    assert LINES[-1] in ends


def test_an_excerpt_without_a_line_end_is_shown_as_it_is() -> None:
    assert view("x" * 1_000).count("x") == 360


@pytest.mark.parametrize("separator", [" | ", "\t", ";", ","])
def test_lines_that_all_split_in_the_same_way_are_shown_split(separator: str) -> None:
    rows = "\n".join(separator.join([f"row-{n}", "open", "Ada"]) for n in range(100))
    assert f"line.split({separator!r}) of the first line: ['row-0', 'open', 'Ada']" in view(rows)
    assert "line.split" not in view(rows.replace(separator, " ", 1))
    assert "line.split" not in view(rows[:400])
    assert "line.split" not in view("\n".join(LINES[:1] * 2) + "\n" + "x" * 5_000)


def test_fields_of_a_hostile_line_are_short() -> None:
    rows = "\n".join([",".join(["\u202e" + "x" * 200] * 4)] * 100)
    (fields,) = [part for part in view(rows).split("\n\n") if part.startswith("line.split")]
    assert "\u202e" not in fields
    assert len(fields) < 400


@pytest.mark.alone
@pytest.mark.parametrize("text", ["a | b | c\n" * 10_000_000, "x" * 100_000_000], ids=["lines", "one line"])
def test_what_is_shown_of_a_hundred_megabytes_costs_no_walk_through_them(text: str) -> None:
    context = Context.of(text)
    assert context.documents == 1
    started = time.perf_counter()
    assert len(view(context)) < 1_000
    assert time.perf_counter() - started < 0.01


# Measured: 965 tokens (str), 1,052 (documents), 763 (JSON): what is new in each call, and the rest is a cached prefix.
@pytest.mark.parametrize("kind", ["str", pytest.param("100 documents", marks=OVER), "JSON"])
def test_two_calls_have_little_overhead_where_prefixes_are_cached(run: Any, make_rlm: Any, kind: str) -> None:
    result, calls = solved(run, make_rlm, kind)
    printed = [event.stdout for event in result.trajectory if event.kind == "cell_ended"]
    said = [message.content for message in calls[-1].messages if message.role != "assistant"]
    assert overhead(said) - sum(map(count, printed)) <= MAX_OVERHEAD_TOKENS


def solved(run: Any, make_rlm: Any, kind: str) -> tuple[Any, list[ScriptedCall]]:
    """A strong model's solution: compute and print, then answer."""
    context, lines = CONTEXTS[kind]
    computed = COMPUTE.format(lines=lines) + "\nprint(total, *rows[:3], sep='\\n')"
    model = ScriptedModel([cell(computed), cell("FINAL(total)")])
    return run(make_rlm(model), QUESTION, context), model.calls


def sent(calls: list[ScriptedCall]) -> list[Message]:
    """All messages of all calls, but the system message, which is cached, once."""
    return [calls[0].messages[0], *(message for call in calls for message in call.messages[1:])]


def overhead(texts: list[str]) -> int:
    """Tokens of all texts but the question in them."""
    return sum(count(text.replace(QUESTION, "")) for text in texts)


def without_data(text: str) -> str:
    """``text`` without what it shows of the context or of an output."""
    return re.sub(r"<(\w+-\w+)>\n.*?\n</\1>", "", text, flags=re.DOTALL)
