"""Every script in cookbooks/ runs to its end over recorded replies and prints the right answer."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import cassettes
from tests.cookbooks.conftest import CASSETTES, COOKBOOKS, Played

Play = Callable[[str], Played]
# The simulation asks no model; it has tests of its own.
SCRIPTS = sorted(path for path in COOKBOOKS.glob("*.py") if path.stem != "scale_simulation")
# A real model on a CPU takes its time.
pytestmark = [pytest.mark.timeout(3600)] if cassettes.RECORDING else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_short_and_says_what_it_shows_and_how_to_run_it(script: Path) -> None:
    source = script.read_text("utf-8")
    assert 25 <= len(source.splitlines()) <= 60
    assert f"python cookbooks/{script.name}" in (ast.get_docstring(ast.parse(source)) or "")


def test_basic(play: Play) -> None:
    played = play("basic")
    orders = [dict(part.split("=") for part in line.split()) for line in played.names["log"].splitlines()]
    truth = sum((order["customer"], order["status"]) == ("Dana", "returned") for order in orders)
    assert played.lines[-1].startswith(f"answer: {truth} (complete, ")


def test_local_model(play: Play) -> None:
    played = play("local_model")
    answer, model = played.lines
    assert "Ilse Brandt" in answer
    assert answer.endswith("(complete)")
    assert model.startswith(f"model: openai/qwen, {played.requests} calls")
    assert model.endswith("cost: None")


def test_long_document(play: Play) -> None:
    played = play("long_document")
    (answer,) = (line for line in played.lines if line.startswith("--- answer: "))
    assert "Marta Okonkwo" in answer
    assert answer.endswith("(complete)")
    start = played.names["journal"].index("Entry 13579.")
    places = [place for line in played.lines for place in re.findall(r"^--- characters ([\d,]+) to ([\d,]+): ", line)]
    assert places
    for place in places:
        first, end = (int(number.replace(",", "")) for number in place)
        assert start <= first < end <= played.names["journal"].index("Entry 13580.")
    text = "\n".join(played.lines)
    assert text.index("```python") < text.index("--- the code printed:") < text.index("--- answer:")


def test_structured_extraction(play: Play) -> None:
    played = play("structured_extraction")
    (truth,) = (invoice for invoice in played.names["ledger"]() if invoice["number"] == "71848")
    assert played.names["invoice"] == played.names["Invoice"](
        number="71848", vendor=truth["vendor"], total=truth["total"]
    )
    assert played.lines[-1] == f"{truth['vendor']} gets {truth['total']:.2f} EUR"


def test_many_files(play: Play) -> None:
    played = play("many_files")
    assert played.lines[0] == "1500 files, the first is ticket-0000.md"
    tickets = played.names["context"].value
    truth = sum(bool(re.search(r"^service: billing\nseverity: high$", str(t), re.MULTILINE)) for t in tickets)
    assert played.lines[1] == f"answer: {truth} (complete)"


def test_two_models(play: Play) -> None:
    played = play("two_models")
    assert played.lines[0] == "answer: 3 of 6 reviews (complete)"
    calls = dict(re.findall(r"^(.+): (\d+) calls", "\n".join(played.lines), flags=re.MULTILINE))
    assert calls.keys() == {"openai/qwen", "openai/qwen-sub"}
    assert int(calls["openai/qwen-sub"]) == len(played.names["REVIEWS"])


def test_configuration_and_budgets(play: Play) -> None:
    played = play("configuration_and_budgets")
    rows = [line.split(" sensor=") for line in played.names["readings"].splitlines()]
    truth = rows.count(["2024-03", "B"])
    stopped, seen, answer, events, usage = played.lines
    assert stopped == "stopped by max_calls: 1 of 1 used"
    assert seen.startswith("seen until then: ")
    assert answer == f"answer: {truth} (complete)"
    counted: dict[str, Any] = ast.literal_eval(events.removeprefix("events: "))
    assert counted["run_started"] == counted["run_ended"] == 1
    assert counted["model_call_ended"] == played.requests - 1
    assert usage.endswith(" of 50,000 tokens")


# Last, so that they look at what was just recorded.


def test_every_script_has_a_test_and_a_recording() -> None:
    names = {script.stem for script in SCRIPTS}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_") and name[5:] in names}
    assert tested == names
    notebooks = {notebook.stem for notebook in COOKBOOKS.glob("*.ipynb")}
    assert {cassette.stem for cassette in CASSETTES.glob("*.yaml")} == names | notebooks


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_recording_holds_no_headers_but_the_content_type(script: Path) -> None:
    cassette = CASSETTES / f"{script.stem}.yaml"
    headers = re.findall(r"^    headers:\n((?:      .*\n)+)", cassette.read_text("utf-8"), flags=re.MULTILINE)
    names = {name.lower() for block in headers for name in re.findall(r"^      ([\w-]+):", block, flags=re.MULTILINE)}
    assert names == {"content-type"}
