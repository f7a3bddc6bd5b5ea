"""The README is true: its snippets run and print what it says, its commands exist, its tables match the code.

A comment after ``print`` in a snippet is what the line prints. Snippets name real models; here a model so named says
what ``REPLIES`` holds for the section, in place of the provider, and the rest is real.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from llama_index.core import Settings

from rlm_integrations import RLM, Budget, Message, errors, events
from rlm_integrations.cli.arguments import parser
from rlm_integrations.cli.exits import Exit
from rlm_integrations.engine.sub_calls import FUNCTIONS
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.models.provider import KEY_VARIABLES
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.sandbox.modules import PRELOADED
from rlm_integrations.testing import ScriptedModel
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell, play

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
# What LiteLLM asks of its dependencies is none of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Item .* on TypedDict class .* is using the .ReadOnly. qualifier")

# Cells that a model might write, by section; each runs over the snippet's own context.
REPLIES = {
    "Quick start": {
        "How many orders did Dana place?": "n = context.count('customer=Dana')\nprint(n)\nFINAL(n)",
        "When does the lease end?": "FINAL(re.search(r'ends on (.*)\\.', context[0])[1])",
        "Which city is the office in?": "FINAL(context['offices'][0]['city'])",
    },
    "Providers": {"What is the code?": "FINAL(re.search(r'\\d+', context)[0])"},
    "Costs and limits": {"How many lines are there?": "print(len(context.splitlines()))"},
    "Citations": {
        "How much is the deposit?": "text = search('deposit')[0]\nstart = text.index('The deposit')\n"
        "FINAL('900 EUR', quotes=[text[start:]])"
    },
    "Scale": {"How many errors are there?": "FINAL(sum(document.count('ERROR') for document in context))"},
    "Output types": {
        "List all invoices over 100 EUR.": "rows = re.findall(r'(\\w+): ([\\d.]+) EUR', context)\n"
        "FINAL([{'vendor': v, 'total': float(t)} for v, t in rows if float(t) > 100])"
    },
    "Tools": {
        "What is the total in EUR?": "rows = [line.split() for line in context.splitlines()]\n"
        "FINAL(sum(float(amount) * exchange_rate(currency) for amount, currency in rows))"
    },
    "Events": {
        "How many words are there?": "FINAL(len(context.split()))",
        "all told?": "try:\n    FINAL(seen)\nexcept NameError:\n    seen = len(context.split())\n    print(seen)",
        "When was it built?": "FINAL(re.search(r'\\d{4}', context)[0])",
    },
    "LangChain": {
        "Who pays more?": "FINAL(max(context, key=lambda d: int(re.search(r'\\d+', d)[0])).split()[0])",
        "What do they pay together?": "FINAL(f'{sum(int(re.search(r\"[0-9]+\", d)[0]) for d in context)} EUR')",
        "What is it that Ada rents?": "text = search('Ada')[0]\nFINAL(text[-5:-1], quotes=[text[-13:-1]])",
        "Who signed?": "FINAL(re.search(r'by (\\w+)', context[0])[1])",
        "What does Bo rent?": "FINAL('a ' + context[1].split()[-1].rstrip('.'))",
        "Who pays less?": "FINAL(min(context, key=lambda d: int(re.search(r'\\d+', d)[0])).split()[0])",
    },
    "LlamaIndex": {
        "Who pays more?": "FINAL(max(context, key=lambda d: int(re.search(r'\\d+', d)[0])).split()[0])",
        "What is it that Ada rents?": "text = search('Ada')[0]\nFINAL(text[-5:-1], quotes=[text[-13:-1]])",
        "How many clauses": "FINAL(sum(d.count('Clause') for d in context))",
    },
    "Sandbox": {},
    "Testing your code": {},
}


def blocks(language: str) -> list[Any]:
    """The fenced blocks of a language, each with the name of its section and the number of its line."""
    found = []
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL):
        before = README[: match.start()]
        section = re.findall(r"^## (.+)$", before, flags=re.MULTILINE)[-1]
        line = before.count("\n") + 1
        found.append(pytest.param(section, match[1], id=f"{section}, line {line}"))
    return found


def table(header: str) -> list[list[str]]:
    """The cells of the table that follows ``header``, its first column without backticks."""
    text = README[README.index(header) :]
    rows = re.findall(r"^\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, flags=re.MULTILINE)[0]
    cells = [re.split(r"(?<!\\) *\| *", row.strip("| \n")) for row in rows.splitlines()]
    return [[first.strip("`"), *rest] for first, *rest in cells]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """``said(section)``: models given by name answer as ``REPLIES`` has it; keys are set, and two reports are there."""
    (tmp_path / "reports").mkdir()
    for name in ("spring.md", "summer.txt"):
        (tmp_path / "reports" / name).write_text("All is well.", "utf-8")
    monkeypatch.chdir(tmp_path)
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_API_KEY"):
        monkeypatch.setenv(variable, "not-a-key")

    def said(section: str) -> None:
        def answer(messages: Sequence[Message]) -> str:
            asked = messages[1].content
            return cell(next(code for query, code in REPLIES[section].items() if query in asked))

        play(monkeypatch, ScriptedModel(answer))

        def chat(messages: Any) -> str:
            return answer([Message("user", str(message.text)) for message in messages])

        monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda name, **settings: ScriptedChat(chat))

    return said


@pytest.mark.parametrize(("section", "code"), blocks("python"))
def test_a_snippet_runs_to_its_end_and_prints_what_it_says(
    section: str, code: str, said: Callable[[str], None]
) -> None:
    said(section)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, f"README.md, {section}", "exec"), {"__name__": "__main__"})
    promised = re.findall(r"(?:print\(|rlm\.run\(|rlm\.stream\().*  # (.+)$", code, flags=re.MULTILINE)
    printed = out.getvalue().splitlines()
    assert [line.removeprefix("code: ") for line in printed] == [line.removeprefix("code: ") for line in promised]


@pytest.mark.parametrize(("section", "code"), [block for block in blocks("python") if block.values[0] == "LlamaIndex"])
def test_a_snippet_needs_no_more_than_the_extra_of_its_section(
    section: str, code: str, said: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Settings of the other tests would hide that an LLM is made where none is set.
    for setting in ("_llm", "_embed_model"):
        monkeypatch.setattr(Settings, setting, None)
    for package in ("openai", "openai_like"):
        monkeypatch.setitem(sys.modules, f"llama_index.llms.{package}", None)
    test_a_snippet_runs_to_its_end_and_prints_what_it_says(section, code, said)


@pytest.mark.parametrize(("section", "code"), blocks("python"))
def test_the_models_a_snippet_names_are_models_litellm_knows(section: str, code: str) -> None:
    for name in re.findall(r'(?:RLM|LiteLLMModel)\("([^"]+)"|_model="([^"]+)"', code):
        LiteLLMModel("".join(name), api_key="not-a-key").check()


def test_the_providers_are_named_as_litellm_names_them() -> None:
    for _, name, variables in table("## Providers"):
        model = re.findall(r"`(.+?)`", name)[0]
        LiteLLMModel(model, api_key="not-a-key").check()
        if "api_base" not in name and (keys := KEY_VARIABLES.get(model.partition("/")[0])):
            assert f"`{keys[0]}`" in variables


@pytest.mark.parametrize(("section", "text"), blocks("bash"))
def test_a_command_exists_with_its_options(section: str, text: str) -> None:
    for line in text.splitlines():
        for command in line.split("|"):
            words = shlex.split(command, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            _check_command(words)


def _check_command(words: list[str]) -> None:
    match words:
        case ["rlm", *arguments]:
            parser().parse_args(arguments)
        case ["make", target, *settings]:
            assert all(re.match(r"[A-Z_]+=", setting) for setting in settings)
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
        case ["pip", "install", what]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
            assert what in [".", *(f".[{extra}]" for extra in project["optional-dependencies"])]
        case ["python", script]:
            assert (ROOT / script).is_file()
        case ["git" | "cd", *_]:
            pass
        case _:
            raise AssertionError(f"nobody checks {words}")


@pytest.mark.parametrize(
    ("header", "documented"),
    [("`RLM(model, ...)`:", RLM), ("`Budget(...)`,", Budget), ("`ProcessSandbox(...)`,", ProcessSandbox)],
)
def test_the_table_of_settings_holds_every_parameter_with_its_default(header: str, documented: type) -> None:
    def shown(parameter: inspect.Parameter) -> tuple[str, str]:
        default = parameter.default
        if default is parameter.empty:
            return str(parameter).partition(":")[0], ""
        return parameter.name, f"`{default.__name__ if isinstance(default, type) else repr(default)}`"

    rows = [(name, default) for name, default, _ in table(header)]
    assert rows == [shown(parameter) for parameter in inspect.signature(documented).parameters.values()]


def test_the_table_of_options_holds_every_option_of_rlm_ask() -> None:
    commands = parser()._subparsers._group_actions[0].choices
    options = {action.option_strings[-1]: action for action in commands["ask"]._actions if action.option_strings}
    documented = {name.split()[0].strip("`,"): row for name, *row in table("## The command line")}
    assert documented.keys() == options.keys() - {"--help"}
    shared = {action.option_strings[-1] for action in commands["demo"]._actions if action.option_strings} - {"--help"}
    assert shared == {name for name, (of, _) in documented.items() if "demo" in of}


def test_the_table_of_exit_codes_is_that_of_the_command_line() -> None:
    assert [(int(code), meaning) for code, meaning in table("| exit code")] == [(code, code.meaning) for code in Exit]


def test_every_error_has_its_cause_and_its_fix() -> None:
    assert {row[0] for row in table("## Troubleshooting")} == set(errors.__all__) - {"RLMError"}


def test_every_event_is_named() -> None:
    section = README[README.index("## Events") : README.index("## Sandbox")]
    kinds = {event.__name__ for event in events.Event.__args__}
    assert kinds <= set(re.findall(r"`(\w+)`", section))
    assert len(kinds) == 13  # "one of thirteen events"


def test_everything_model_code_can_call_is_named() -> None:
    section = README[README.index("### What model code sees") : README.index("## The command line")]
    named = set(re.findall(r"`(\w+)", section))
    wanted = {*FUNCTIONS, *PRELOADED, "FINAL", "FINAL_VAR", "SHOW_VARS", "answer", "context", "query", "search"}
    assert wanted <= named


def test_the_transcript_is_the_recording_of_the_cookbook_it_names() -> None:
    tape = yaml.safe_load((ROOT / "tests/cookbooks/cassettes/basic.yaml").read_text("utf-8"))["interactions"]
    replies = [json.loads(interaction["response"]["body"]["string"]) for interaction in tape]
    sent = json.loads(tape[-1]["request"]["body"])["messages"]
    codes = [reply["choices"][0]["message"]["content"].replace("```python", "").strip("`\n") for reply in replies]
    outputs = [
        out for message in sent for out in re.findall(r"<output-\w+>\n(.+)\n</output", message["content"], re.DOTALL)
    ]
    recorded = [part for pair in zip_longest(codes, outputs) for part in pair if part]
    ((section, transcript),) = (block.values for block in blocks("text"))
    assert section == "How it works"
    assert re.split(r"^--- .*\n", transcript, flags=re.MULTILINE)[1:] == [f"{part}\n" for part in recorded]
    tokens = sum(reply["usage"]["prompt_tokens"] for reply in replies)
    about, calls = re.findall(r"was sent about ([\d,]+) tokens in (\w+) calls?\b", README)[0]
    assert tokens == pytest.approx(int(about.replace(",", "")), rel=0.1)
    assert calls == ["no", "one", "two", "three", "four"][len(replies)]


def test_every_link_within_the_repository_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert target[1:] in headings if target.startswith("#") else (ROOT / target).is_file(), target
