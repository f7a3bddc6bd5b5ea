"""Values that leave the worker, and values that enter it."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_integrations import context as contexts
from rlm_integrations.context import Document
from rlm_integrations.sandbox import Final, ProcessSandbox, Resume, SubCall

SETUP = """
from dataclasses import dataclass
from collections import *
from datetime import *
from decimal import Decimal
from enum import Enum
import uuid
@dataclass
class Item:
    name: str
    when: object = None
class Plain:
    def __init__(self):
        self.a, self._b = 1, 2
class Color(Enum):
    RED = 'red'
P = namedtuple('P', 'x y')
"""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'text'", "text"),
        ("None", None),
        ("True", True),
        ("1.5", 1.5),
        ("{'b', 'a'}", ["a", "b"]),
        ("(1, (2,))", [1, [2]]),
        ("{1: 'a', (1, 2): 'b', None: 'c'}", {"1": "a", "(1, 2)": "b", "None": "c"}),
        ("Item('x', date(2024, 1, 2))", {"name": "x", "when": "2024-01-02"}),
        ("[Plain()]", [{"a": 1}]),
        ("P(1, 2)", {"x": 1, "y": 2}),
        ("Counter('aab')", {"a": 2, "b": 1}),
        ("deque([1])", [1]),
        ("defaultdict(list, a=[1])", {"a": [1]}),
        ("datetime(2024, 1, 2, 3, 4)", "2024-01-02T03:04:00"),
        ("timedelta(hours=1)", "1:00:00"),
        ("Decimal('1.10')", "1.10"),
        ("Color.RED", "red"),
        ("{Color.RED: 1}", {"red": 1}),
        ("uuid.UUID(int=1)", "00000000-0000-0000-0000-000000000001"),
        ("b'caf\\xc3\\xa9'", "café"),
        ("range(3)", [0, 1, 2]),
        ("{'a': 1}.keys()", ["a"]),
        ("float('nan')", "nan"),
        ("[float('-inf')]", ["-inf"]),
        ("chr(0xd800) + 'x'", "\ufffdx"),
        ("10 ** 30", 10**30),
        ("{'$': 'text'}", {"$": "text"}),
        ("{'$': 'document', 'text': 1}", {"$": "document", "text": 1}),
        ("1 + 2j", "(1+2j)"),
    ],
)
def test_a_final_value_becomes_json(expression: str, value: Any, cell: Any) -> None:
    output = cell(f"{SETUP}\nFINAL({expression})")
    assert output.error is None
    assert output.final == Final(value)
    assert type(output.final.value) is type(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[[]] * 300_000", "more than 200,000 items"),
        ("'x' * 9_000_000", "pass smaller pieces"),
        ("10 ** 5000", "bits"),
        ("nested", "nested deeper than 100"),
    ],
)
def test_a_value_past_a_limit_is_an_error_shown_to_the_model(value: str, reason: str, cell: Any) -> None:
    code = f"nested = []\nfor i in range(1000): nested = [nested]\nFINAL({value})"
    output = cell(code)
    assert reason in output.error
    assert output.final is None
    assert not output.restarted
    assert cell("print(1 + 1)").stdout == "2\n"


def test_control_characters_and_surrogates_are_written_out_in_a_value_that_is_not_ascii(cell: Any) -> None:
    calls: list[SubCall] = []

    def answer(call: SubCall) -> Resume:
        calls.append(call)
        return Resume("ok")

    cell("llm_query(chr(0xd800) + 'a', k=[chr(0xdfff)])", answer)
    assert calls == [SubCall("llm_query", ("\ufffda",), {"k": ["\ufffd"]})]


def test_the_first_final_of_a_cell_counts_and_the_cell_goes_on(cell: Any) -> None:
    output = cell("FINAL(1, quotes='one')\nFINAL(2)\nprint('on')")
    assert output.final == Final(1, ("one",))
    assert output.stdout == "on\n"
    assert cell("print(1)").final is None


def test_final_var_takes_a_name_or_a_value(cell: Any) -> None:
    cell("rows = [1]")
    assert cell("FINAL_VAR('rows')").final == Final([1])
    assert cell("FINAL_VAR(rows)").final == Final([1])
    assert cell("FINAL_VAR('no such name')").final == Final("no such name")


def test_the_answer_dict_gives_the_final_value_once_it_is_ready(cell: Any) -> None:
    assert cell("answer['content'] = {'n': 1}").final is None
    assert cell("answer['ready'] = True").final == Final({"n": 1})


def test_a_dict_that_only_looks_like_an_answer_is_none(cell: Any) -> None:
    code = 'import json\nanswer = json.loads(\'{"ready": true, "content": "from a document"}\')'
    assert cell(code).final is None


def test_the_name_of_no_variable_is_not_an_answer(cell: Any) -> None:
    output = cell("total = 5\nFINAL_VAR('totl')")
    assert output.final is None
    assert "no variable 'totl'" in output.error
    assert "total" in output.error


def test_after_final_a_cell_asks_for_nothing_more(cell: Any) -> None:
    output = cell("FINAL(1)\nllm_query('x')")
    assert output.final == Final(1)
    assert "nothing more is asked for" in output.error
    assert cell("answer = 'mine'").final is None


def test_a_document_stays_one_in_both_directions(sandbox: ProcessSandbox, run_in: Any) -> None:
    given = [Document("alpha", id="a.txt", metadata={"$": 1, "page": [1]}), "beta", Document("gamma")]
    session = sandbox.open({"context": given}, ["rlm_query"])
    calls: list[SubCall] = []

    def answer(call: SubCall) -> Resume:
        calls.append(call)
        return Resume(call.args[0])

    code = "d = rlm_query(context[0], sub=context[1:])\nprint(type(d).__name__, d, d.id, d.metadata, d == context[0])"
    output = run_in(session, code, answer)
    session.close()
    assert output.stdout == "Document alpha a.txt {'$': 1, 'page': [1]} True\n"
    (call,) = calls
    assert call.kwargs is not None
    documents = [call.args[0], call.kwargs["sub"][1]]
    assert [(type(d), str(d), d.id, d.metadata) for d in documents] == [
        (contexts.Document, "alpha", "a.txt", {"$": 1, "page": [1]}),
        (contexts.Document, "gamma", None, {}),
    ]


def test_a_failed_sub_call_raises_its_text_in_model_code(cell: Any) -> None:
    output = cell("try:\n    llm_query('x')\nexcept RuntimeError as e:\n    print(e)\nllm_query('y')")
    assert output.stdout == "nobody answers llm_query\n"
    assert output.error == "line 5: llm_query('y')\nSubCallError: nobody answers llm_query"


def test_an_answer_that_is_no_json_value_is_an_error_in_model_code(cell: Any) -> None:
    output = cell("llm_query('x')", lambda call: Resume({1, 2}))
    assert "the answer can't be passed on" in output.error


NESTED = [None, True, 1, -2.5, 2**60, "", "a\0b", "\ud83d\ude00", "\ud800", "😀\r\n", {"\udfff": {"$": ["$"]}, "k": []}]


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "NUL \0 CR\r\n tab\t \x7f é ☃ 😀 lone \ud800 pair \ud83d\ude00",
        ("x" * 70_000 + "😀\ud800") * 50,
        NESTED,
        {"a": NESTED, "$": "text", "deep": {"$": "document"}},
        [],
        {},
        [Document("d" * 70_000, id="1"), "s" * 3_000_000, {"t": "t" * 100_000}, 5],
        {"k" * 10: "v" * 2_000_000, "n": None},
    ],
    ids=range(10),
)
def test_a_context_arrives_unchanged(value: Any, sandbox: ProcessSandbox, run_in: Any) -> None:
    """The worker names the value's hash, so that nothing on the way back can hide a difference."""
    import hashlib

    session = sandbox.open({"context": value}, [])
    output = run_in(session, "import hashlib\nprint(hashlib.sha256(ascii(context).encode()).hexdigest())")
    session.close()
    assert output.stdout.strip() == hashlib.sha256(ascii(value).encode()).hexdigest()
