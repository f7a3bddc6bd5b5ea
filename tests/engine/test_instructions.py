"""``instructions``: what the answer must be like, said to the model that answers and to no other."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_integrations import RLM, InvalidInput
from rlm_integrations.prompts import Prompts
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell

TEXT = "The cat sat on the mat."


def test_instructions_stand_at_the_end_of_the_system_message(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("FINAL(context[4:7])")])
    assert run(make_rlm(model, instructions=" Answer in $French. "), "Who?", TEXT).answer == "cat"
    system = model.calls[0].messages[0].content
    assert system.startswith(Prompts().render_system({}))
    assert system.endswith("must follow these instructions:\nAnswer in $French.")


def test_a_run_below_is_not_told_the_instructions(run: Any, make_rlm: Any) -> None:
    child = cell("FINAL(context[4:7])")
    model = ScriptedModel([cell("v = rlm_query('Who?', context)\nFINAL(v)"), child])
    assert run(make_rlm(model, instructions="Answer in French."), "Who?", TEXT).answer == "cat"
    told = ["Answer in French." in call.messages[0].content for call in model.calls]
    assert told == [True, False]


def test_without_instructions_the_system_message_is_as_ever(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("FINAL(context[4:7])")])
    run(make_rlm(model), "Who?", TEXT)
    assert model.calls[0].messages[0].content == Prompts().render_system({})


def test_the_answer_drawn_at_the_end_follows_the_instructions_too(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("print(context)"), "le chat"])
    result = run(make_rlm(model, max_iterations=1, instructions="Answer in French."), "Who?", TEXT)
    assert (result.answer, result.status) == ("le chat", "extracted")
    assert "Answer in French." in model.calls[-1].messages[0].content


def test_instructions_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="pass a str"):
        RLM(ScriptedModel([]), instructions=["Answer in French."])  # type: ignore[arg-type]
