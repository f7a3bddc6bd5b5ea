"""What the commands take, and how they refuse what they can't use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_integrations.cli
from rlm_integrations.cli.arguments import parser
from rlm_integrations.cli.exits import Exit
from rlm_integrations.testing import ScriptedModel


@pytest.mark.parametrize("argv", [["--help"], ["ask", "--help"], ["demo", "--help"], ["resume", "--help"]])
def test_help_says_what_each_exit_code_means(rlm: Callable[..., Any], argv: list[str]) -> None:
    ended = rlm(*argv)
    assert ended.code == 0
    for code in Exit:
        assert f"  {code:>3}  {code.meaning}" in ended.out


@pytest.mark.parametrize("command", ["show", "export"])
def test_help_of_a_command_that_asks_no_model_names_the_exit_codes_it_can_have(
    rlm: Callable[..., Any], command: str
) -> None:
    said = rlm(command, "--help").out.partition("exit codes:\n")[2]
    assert [line.split()[0] for line in said.splitlines()] == ["0", "1", "2", "130"]


@pytest.mark.parametrize(
    ("argv", "limits"),
    [
        ([], {}),
        (["--max-calls", "400", "--max-seconds", "1.5"], {"max_calls": 400, "max_seconds": 1.5}),
        (["--max-calls", "none", "--max-cost-usd", "none"], {"max_calls": None, "max_cost_usd": None}),
        (["--max-depth", "0", "--max-iterations", "30"], {"max_depth": 0, "max_iterations": 30}),
    ],
)
def test_resuming_takes_the_limits_that_were_given_and_leaves_the_others_as_they_were_saved(
    argv: list[str], limits: dict[str, Any]
) -> None:
    args = vars(parser().parse_args(["resume", "run.jsonl", "docs", *argv]))
    assert {name: value for name, value in args.items() if name.startswith("max_")} == limits
    assert (args["run"], args["paths"], args["model"], args["recursive_model"]) == ("run.jsonl", ["docs"], None, None)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["show"], "RUN"),
        (["export", "run.jsonl"], "PAGE"),
        (["resume"], "RUN"),
        (["resume", "run.jsonl", "--max-calls", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_line(rlm: Callable[..., Any], argv: list[str], said: str) -> None:
    ended = rlm(*argv)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert said in ended.err


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
        (["q", "docs", "--save", "nowhere/run.jsonl"], "can't be saved to 'nowhere/run.jsonl': No such file"),
        (["q", "docs", "--save", "docs"], "can't be saved to 'docs': Is a directory"),
        (["q", "docs", "--save", "docs/servers.txt"], "'docs/servers.txt' is one of the documents"),
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
for argv in (["--help"], ["ask", "q", "missing", "--model", "openai/x"], ["ask", "", "docs", "--model", "openai/x"],
             ["show", "--help"], ["show", "missing"]):
    try:
        main(argv)
    except SystemExit:
        pass
loaded = {"litellm", "openai", "rich", "pydantic", "langchain_core", "llama_index"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, "loaded:" in ended.stderr) == (0, False)
