"""What is read out of a reply."""

from __future__ import annotations

import pytest

from rlm_integrations.engine.reply import Cell, NoCell, read_reply


@pytest.mark.parametrize("language", ["python", "py", "repl", "Python", "python3", ""])
def test_a_fenced_block_is_the_cell(language: str) -> None:
    read = read_reply(f"Let me look.\n```{language}\nprint(1)\n```\nDone.")
    assert read == Cell("print(1)", "Let me look.\n```python\nprint(1)\n```")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("~~~python\nprint(1)\n~~~", "print(1)"),
        ("````python\nprint('''\n```\n''')\n````", "print('''\n```\n''')"),
        ("1. Look:\n   ```python\n   if x:\n       print(1)\n   ```", "if x:\n    print(1)"),
        ("```python\r\nprint(1)\r\n```", "print(1)"),
        ("```json\n{}\n```\n```python\nprint(2)\n```", "print(2)"),
        ("```python\nprint(1)", "print(1)"),
        ("<think>\n```python\nprint(0)\n```\n</think>\n```python\nprint(1)\n```", "print(1)"),
        ("```\npython\nprint(1)\n```", "print(1)"),
        ("So:\n```\n Repl\nprint(1)", "print(1)"),
        ("~~~\npy\nprint(1)\n~~~", "print(1)"),
        ("```\n\nprint(1)\n```", "print(1)"),
        ("```python\npy\nprint(1)\n```", "py\nprint(1)"),
        ("```\nx = 1\npython\n```", "x = 1\npython"),
        ("print(1)\nx = 2", "print(1)\nx = 2"),
        ("FINAL(42)", "FINAL(42)"),
        ("`FINAL(42)`", "FINAL(42)"),
    ],
)
def test_the_cell_is_found(text: str, code: str) -> None:
    read = read_reply(text)
    assert isinstance(read, Cell)
    assert read.code == code


def test_a_block_that_holds_a_fence_ends_where_it_parses() -> None:
    code = 'text = """\n```\nnot the end\n```\n"""\nprint(text)'
    read = read_reply(f"```python\n{code}\n```\nAnd so on.\n```python\nprint(2)\n```")
    assert isinstance(read, Cell)
    assert read.code == code


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("```python\n\n```", "empty"),
        ("<think>hm</think>", "empty"),
        ("<think>never ends ```python\nprint(1)\n```", "empty"),
        ("The answer is 42.", "prose"),
        ("Paris", "prose"),
        ("not found", "prose"),
        ("42", "prose"),
        ("'FINAL(42)'", "prose"),
        ("Answer: FINAL(42)", "prose"),
        ("So FINAL(42)", "prose"),
        ("```json\n{}\n```", "prose"),
        ("```\npython\n```", "empty"),
        ("```\npython", "empty"),
        ("```python\nprint(", "cut"),
        ("```python\n" + "x = 1\n" * 40_000 + "```", "too long"),
    ],
)
def test_a_reply_without_a_cell_has_a_problem(text: str, problem: str) -> None:
    read = read_reply(text)
    assert isinstance(read, NoCell)
    assert read.problem == problem
    assert read.kept.strip()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "```python\n" + "(" * 100_000 + "\n```",
        "-" * 100_000 + "1",
        "```json\n```\n" * 30_000,
        "```python\n```\n" * 30_000,
        "\0```python\nprint(1)\n```",
        "```python\nx = '\0'\n```",
        "\ud800" * 1000,
    ],
)
def test_hostile_text_is_read_in_bounded_time_without_a_crash(text: str) -> None:
    assert len(read_reply(text).kept) < 250_000


def test_long_prose_before_a_cell_is_shortened() -> None:
    read = read_reply("word " * 10_000 + "\n```python\nprint(1)\n```")
    assert isinstance(read, Cell)
    assert len(read.kept) < 2_200
