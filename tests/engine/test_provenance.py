"""Computed answers are told from typed ones."""

from __future__ import annotations

import pytest

from rlm_integrations.engine.provenance import is_typed_in

SOURCES = ("context", "search", "llm_query")


@pytest.mark.parametrize(
    "code",
    [
        "FINAL('42')",
        "FINAL(6 * 7)",
        "print(context[:100])\nFINAL('42')",
        "x = '42'\nFINAL(x)",
        "x = 4\nx += 2\nFINAL(f'{x}')",
        "FINAL({'name': 'Ada', 'tags': ['a']})",
        "x = '42'\nFINAL_VAR('x')",
        "answer['content'] = '42'\nanswer['ready'] = True",
        "n = len(context)\nFINAL('42')",
    ],
)
def test_constants_are_typed_in(code: str) -> None:
    assert is_typed_in([code], SOURCES)


@pytest.mark.parametrize(
    "code",
    [
        "FINAL(len(context))",
        "FINAL(search('x')[0])",
        "n = context.count('a')\nFINAL(n)",
        "if 'a' in context:\n    FINAL('yes')\nelse:\n    FINAL('no')",
        "n = 0\nfor line in context.splitlines():\n    n += 1\nFINAL(n)",
        "found = []\nfor line in context.splitlines():\n    found.append('x')\nFINAL(len(found))",
        "found = {}\nfor line in context.split():\n    found[line] = 1\nFINAL(found)",
        "FINAL([word for word in context.split()])",
        "def count():\n    return context.count('a')\nFINAL(count())",
        "x = llm_query('what?')\nFINAL_VAR('x')",
        "x = max((w for w in context.split()), key=len)\nFINAL(x)",
        "if (m := context.find('a')) >= 0:\n    FINAL(m)",
        "with_it = 'no'\nwhile 'a' in context[3:]:\n    with_it = 'yes'\n    break\nFINAL(with_it)",
        "try:\n    context.index('zz')\n    r = 'found'\nexcept ValueError:\n    r = 'missing'\nFINAL(r)",
        "match context[0]:\n    case 'a':\n        FINAL('starts with a')",
        "answer['content'] = context[0]\nanswer['ready'] = True",
    ],
)
def test_what_depends_on_the_context_is_computed(code: str) -> None:
    assert not is_typed_in([code], SOURCES)


def test_variables_of_earlier_cells_count() -> None:
    assert not is_typed_in(["n = len(context)", "FINAL(n)"], SOURCES)
    assert is_typed_in(["n = 42", "FINAL(n)"], SOURCES)


@pytest.mark.parametrize("code", ["print(1)", "FINAL(", "x = 'FINAL(42)'"])
def test_without_an_answer_nothing_is_typed_in(code: str) -> None:
    assert not is_typed_in([code], SOURCES)
