"""Python as models write it runs, and prints what CPython prints."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from typing import Any

import pytest

from rlm_integrations.sandbox import ProcessSandbox
from tests.sandbox.snippets import FUNCTIONS, SUITES, cells, judge, load

MORE = (SUITES / "more_everyday.txt").read_text().split("# ---\n")


@pytest.mark.parametrize("item", load("everyday.json"), ids=lambda item: item["id"])
def test_every_snippet_of_the_suite_prints_what_it_should(
    item: dict[str, Any], sandbox: ProcessSandbox, run_in: Any
) -> None:
    session = sandbox.open({"context": item["setup"]["context"], "query": "q"}, FUNCTIONS)
    try:
        for number, (code, expected) in enumerate(zip(cells(item), item["expect"]["stdout"], strict=True)):
            output = run_in(session, code, judge)
            assert output.stdout.strip() == expected.strip()
            assert (output.error is not None) == (number in item.get("allow_error_in", []))
    finally:
        session.close()


@pytest.mark.parametrize("number", range(len(MORE)))
def test_other_snippets_print_what_they_print_in_plain_python(number: int, cell: Any, monkeypatch: Any) -> None:
    module = types.ModuleType("__main__")
    printed = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setitem(sys.modules, "__main__", module)
        exec(compile(MORE[number], "cell", "exec", dont_inherit=True), vars(module))
    output = cell(MORE[number])
    assert output.error is None
    assert output.stdout == printed.getvalue()


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("1 + 1", "2\n"),
        ("'text'", "text\n"),
        ("['text']", "['text']\n"),
        ("None", ""),
        ("print('a')", "a\n"),
        ("x = 5", ""),
        ("x = 5\nx", "5\n"),
        ("import asyncio\nawait asyncio.sleep(0, 'done')", "done\n"),
        ("", ""),
        ("# only a comment", ""),
    ],
)
def test_the_value_of_a_trailing_expression_is_shown_once(code: str, stdout: str, cell: Any) -> None:
    output = cell(code)
    assert (output.stdout, output.error) == (stdout, None)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("open('a.txt')", "already in `context`"),
        ("import pandas as pd", "csv, statistics"),
        ("import requests", "no network"),
        ("import urllib.request", "no network"),
        ("from pathlib import Path\nPath('x').read_text()", "already in `context`"),
        ("from pathlib import Path\nPath.cwd()", "already in `context`"),
        ("import matplotlib.pyplot as plt", "print() the figures"),
        ("import tiktoken", "len(text) // 4"),
        ("import yaml", "use json"),
        ("from bs4 import BeautifulSoup", "html.unescape()"),
        ("from langchain_text_splitters import CharacterTextSplitter", "llm_query(prompt)"),
        ("from tqdm import tqdm", "loop over the items"),
        ("import tokenize", "write the code itself"),
        ("import ast\nast.parse('1')", "write the code itself"),
        ("import os\nos.environ['HOME']", "`context`"),
        ("class M(type): pass", "__init_subclass__"),
        ("class A(metaclass=M): pass", "__init_subclass__"),
        ("import threading\nthreading.Event().wait()", "llm_query_batched"),
        ("import timeit\ntimeit.timeit('1')", "lambda"),
        ("import subprocess", "no operating system"),
        ("import asyncio\nasyncio.open_connection", "no network"),
        ("import asyncio\nasyncio.get_event_loop().create_server()", "no network"),
        ("import asyncio\nasyncio.create_subprocess_shell('ls')", "llm_query_batched"),
        ("import logging\nlogging.FileHandler('x')", "print()"),
        ("import hashlib\nhashlib.file_digest", "hashlib.sha256(data)"),
        ("import random\nrandom.SystemRandom()", "random.random()"),
        ("import threading\nthreading.Condition()", "llm_query_batched"),
        ("from threading import Timer", "llm_query_batched"),
        ("import inspect\ninspect.stack()", "traceback.format_exc()"),
        ("import collections\ncollections.Foo", "dir(collections)"),
        ("import multiprocessing", "llm_query_batched"),
        ("import os\nos.listdir('.')", "the documents are in `context`"),
        ("from os import environ", "`context`"),
        ("import os\nos.path.exists('x')", "already in `context`"),
        ("import pickle", "use json"),
        ("import nosuchmodule", "the modules here are abc"),
        ("eval('1')", "write the code itself"),
        ("exec('1')", "write the code itself"),
        ("input('?')", "nobody can answer"),
        ("__import__('os')", "import statement"),
        ("().__class__.__bases__", "isinstance"),
        ("exit()", "FINAL(answer)"),
        ("%timeit 1 + 1", "write plain Python"),
        ("!pip install numpy", "nothing can be installed"),
        ("contxt", "did you mean 'context'"),
    ],
)
def test_an_error_about_the_outside_names_what_to_use_instead(code: str, hint: str, cell: Any) -> None:
    assert hint in cell(code).error


def test_an_exception_shows_the_models_own_lines_and_the_reason(cell: Any) -> None:
    cell("def half(text):\n    return text / 2")
    output = cell("total = 1\nprint('before')\ntotal += half('x')")
    assert output.stdout == "before\n"
    assert output.error.splitlines() == [
        "line 3: total += half('x')",
        "cell 1, line 2, in half: return text / 2",
        "TypeError: unsupported operand type(s) for /: 'str' and 'int'",
    ]
    assert cell("total").stdout == "1\n"


@pytest.mark.parametrize("name", ["FINAL", "FINAL_VAR"])
def test_a_call_without_its_argument_says_so_by_the_name_it_has(name: str, cell: Any) -> None:
    assert cell(f"{name}()").error.startswith(f"line 1: {name}()\nTypeError: {name}() missing 1 required positional")


def test_the_source_of_what_a_cell_defined_can_be_shown(cell: Any) -> None:
    cell("class Box:\n    def fill(self):\n        return 1\n")
    assert cell("import inspect\nprint(inspect.getsource(Box), end='')").stdout.startswith("class Box:\n    def fill")
    assert cell("print(inspect.getsource(Box().fill), end='')").stdout == "    def fill(self):\n        return 1\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_what_is_new_in_3_13_is_there(cell: Any) -> None:
    code = "import copy, warnings\nfrom dataclasses import dataclass\n@dataclass\nclass P: x: int; y: int = 0\n"
    output = cell(f"{code}@warnings.deprecated('no')\ndef f(): return copy.replace(P(1), y=5)\nprint(f())")
    assert (output.stdout, output.error) == ("P(x=1, y=5)\n", None)


def test_a_syntax_error_shows_its_line(cell: Any) -> None:
    assert cell("x = 1\nif x\n    print(x)").error == "line 2: if x\nSyntaxError: expected ':'"


def test_a_refusal_shows_its_line_and_runs_nothing_of_the_cell(cell: Any) -> None:
    output = cell("print('ran')\nf = (lambda: 1).__code__")
    assert output.stdout == ""
    assert output.error.startswith("line 2: f = (lambda: 1).__code__\nNotAllowed: the attribute '__code__'")


def test_names_served_by_the_host_come_back_in_the_next_cell(cell: Any) -> None:
    cell("print = FINAL = search = llm_query = 5\nmath = 'mine'")
    output = cell("print(callable(FINAL), callable(search), callable(llm_query), math)")
    assert output.stdout == "True True True mine\n"


def test_leaving_the_interpreter_is_an_error_like_any_other(cell: Any) -> None:
    assert cell("raise SystemExit(3)").error == "line 1: raise SystemExit(3)\nSystemExit: 3"
    assert "KeyboardInterrupt" in cell("raise KeyboardInterrupt").error
    assert cell("print('still here')").stdout == "still here\n"


def test_show_vars_names_what_the_model_made(cell: Any) -> None:
    cell("import re\nrows = [1, 2]\ndef f(): pass\n_n = 3")
    assert cell("SHOW_VARS()").stdout == "{'rows': 'list of 2', 'f': 'function', '_n': 'int'}\n"


@pytest.mark.parametrize(
    ("first", "second", "stdout"),
    [
        ("def f(x): return x + n", "n = 1\nprint(f(2))", "3\n"),
        ("def deco(f): return lambda: f() * 2", "@deco\ndef g(): return 4\nprint(g())", "8\n"),
        ("class A:\n    x = 1", "class A:\n    x = 2\nprint(A.x)", "2\n"),
        ("a = 1\nraise ValueError('x')\nb = 2", "print(a, 'b' in globals())", "1 False\n"),
        ("list = [1]; sum = 0; str = 'x'; input = context", "print(list, sum, str, input)", "[1] 0 x one two three\n"),
        ("x = 1\r\nif x:\r\n\ty = 2\r\n", "print(y)", "2\n"),
        ("context = 'mine'", "print(context)", "mine\n"),
        ("def f(n): return f(n + 1)\nf(0)", "print('alive')", "alive\n"),
        ("async def f():\n    yield 1", "async for i in f():\n    print(i)", "1\n"),
    ],
)
def test_state_made_in_a_cell_is_there_in_the_next(first: str, second: str, stdout: str, cell: Any) -> None:
    cell(first)
    output = cell(second)
    assert (output.stdout, output.error) == (stdout, None)


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        (
            "from functools import partial\nprint(list(map(partial(recursive_llm, 'q'), ['a', 'bb'])))",
            "['LLM(q,1)', 'LLM(q,2)']\n",
        ),
        (
            "import threading\nout = {}\ndef ask(i): out[i] = recursive_llm('q', 'x' * i)\n"
            "ts = [threading.Thread(target=ask, args=(i,)) for i in range(2)]\nfor t in ts: t.start()\n"
            "for t in ts: t.join()\nprint(out)",
            "{0: 'LLM(q,0)', 1: 'LLM(q,1)'}\n",
        ),
        (
            "parts = [context[i:i + 5] for i in range(0, len(context), 5)]\nprint(llm_query_batched(parts))",
            "['B0:5', 'B1:5', 'B2:3']\n",
        ),
        (
            "import asyncio\nasync def ask(p): return recursive_llm('q', p)\n"
            "print(await asyncio.gather(*(ask(p) for p in context.split())))",
            "['LLM(q,3)', 'LLM(q,3)', 'LLM(q,5)']\n",
        ),
        ("try:\n    recursive_llm()\nexcept Exception as e:\n    print(type(e).__name__)", "SubCallError\n"),
    ],
)
def test_sub_calls_are_functions_like_any_other(code: str, stdout: str, sandbox: ProcessSandbox, run_in: Any) -> None:
    session = sandbox.open({"context": "one two three"}, FUNCTIONS)
    try:
        output = run_in(session, code, judge)
        assert (output.stdout, output.error) == (stdout, None)
    finally:
        session.close()
