"""What the commands take, and how they refuse what they can't use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_integrations.cli
from rlm_integrations.cli.exits import Exit
from rlm_integrations.testing import ScriptedModel


@pytest.mark.parametrize("argv", [["--help"], ["ask", "--help"], ["demo", "--help"]])
def test_help_says_what_each_exit_code_means(rlm: Callable[..., Any], argv: list[str]) -> None:
    ended = rlm(*argv)
    assert ended.code == 0
    for code in Exit:
        assert f"  {code:>3}  {code.meaning}" in ended.out


def test_the_exit_codes_of_the_documentation_are_those_of_the_code() -> None:
    documentation = rlm_integrations.cli.__doc__ or ""
    rows = dict(line.split(maxsplit=1) for line in documentation.splitlines() if line[:1].isdigit())
    assert {int(code): meaning.removesuffix(' ("extracted")') for code, meaning in rows.items()} == {
        int(code): code.meaning for code in Exit
    }


def test_a_command_is_needed(rlm: Callable[..., Any]) -> None:
    ended = rlm()
    assert (ended.code, ended.out) == (2, "")
    assert "rlm [-h]" in ended.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["", "docs"], "the question is empty"),
        ([" \n", "docs"], "the question is empty"),
        (["q"], "PATH"),
        (["q", "missing.txt"], "there is no file or folder 'missing.txt'"),
        (["q", "binary.bin"], "'binary.bin' is not text"),
        (["q", "empty"], "no text files found"),
        (["q", "docs", "--max-depth", "-1"], "'-1' is not a whole number of at least 0"),
        (["q", "docs", "--max-iterations", "0"], "'0' is not a whole number of at least 1"),
        (["q", "docs", "--max-calls", "many"], "'many' is not a whole number of at least 1"),
        (["q", "docs", "--max-cost-usd", "0"], "'0' is not a number above 0"),
        (["q", "docs", "--max-seconds", "inf"], "'inf' is not a number above 0"),
        (["q", "docs", "--save", "nowhere/run.jsonl"], "--save 'nowhere/run.jsonl' can't be written: No such file"),
        (["q", "docs", "--save", "docs"], "--save 'docs' can't be written: Is a directory"),
        (["q", "docs", "--save", "docs/servers.txt"], "would overwrite one of the documents"),
        (["q", "docs", "--recursive-model", ""], "model is empty"),
        (["q", "docs", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_model_call(
    rlm: Callable[..., Any], docs: Path, argv: list[str], said: str
) -> None:
    Path("binary.bin").write_bytes(b"\x00\x01")
    Path("empty").mkdir()
    model = ScriptedModel([])
    ended = rlm("ask", *argv, model=model)
    assert (ended.code, ended.out, model.calls) == (2, "", [])
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert (docs / "servers.txt").read_text().startswith("Servers.")


def test_without_a_model_it_says_how_to_name_one(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", "q", docs)
    assert ended.code == 2
    assert "pass --model NAME or set RLM_MODEL" in ended.err


def test_help_and_bad_input_load_nothing_slow(docs: Path) -> None:
    program = """
import sys
from rlm_integrations.cli import main
for argv in (["--help"], ["ask", "q", "missing", "--model", "openai/x"], ["ask", "", "docs", "--model", "openai/x"]):
    try:
        main(argv)
    except SystemExit:
        pass
loaded = {"litellm", "openai", "rich", "pydantic", "langchain_core", "llama_index"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, "loaded:" in ended.stderr) == (0, False)
