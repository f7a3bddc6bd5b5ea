"""``FINAL_WRITE``: the model writes the answer as text, which streams, and which is what the run returns."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_integrations import Budget
from rlm_integrations.events import ModelCallStarted, TextDelta
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell, events

TEXT = "The cat sat on the mat. The dog did not."
LOOK = cell("print(context[:23])")
WRITTEN = "A cat sat.\nA dog did not."


def test_the_text_that_the_model_writes_is_the_answer(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([LOOK, cell("FINAL_WRITE('two lines')\nprint('after')"), WRITTEN])
    result = run(make_rlm(model), "Who sat?", TEXT)
    assert (result.answer, result.status) == (WRITTEN, "complete")
    asked = model.calls[2].messages
    assert asked[:-1] == (*model.calls[1].messages, asked[-2])
    assert "How to write it: two lines" in asked[-1].content
    assert "Who sat?" in asked[-1].content
    purposes = [event.purpose for event in result.trajectory if isinstance(event, ModelCallStarted)]
    assert purposes == ["turn", "turn", "answer"]
    assert result.usage.calls == 3


def test_notes_are_shown_to_the_model_as_data(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([cell("FINAL_WRITE('short', {'cats': context.count('cat')})"), WRITTEN])
    assert run(make_rlm(model), "?", TEXT).answer == WRITTEN
    note = model.calls[1].messages[-1].content
    assert '"cats": 1' in note
    assert "<output-" in note.partition('"cats"')[0]


def test_quotes_are_checked_before_anything_is_written(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel(
        [
            cell("FINAL_WRITE('short', 'n', quotes=['The cow sat'])"),
            cell("FINAL_WRITE('short', 'n', quotes=['The cat sat'])"),
            WRITTEN,
        ]
    )
    result = run(make_rlm(model), "?", TEXT)
    assert [(citation.quote, citation.start) for citation in result.citations] == [("The cat sat", 0)]
    assert "does not stand in the context" in model.calls[1].messages[-1].content
    assert len(model.calls) == 3


@pytest.mark.parametrize(
    ("call", "settings", "reason"),
    [
        ("FINAL_WRITE('x')", {}, "nothing to write from"),
        ("FINAL_WRITE('', 'notes')", {}, "instructions must be"),
        ("FINAL_WRITE(5, 'notes')", {}, "instructions must be"),
        ("FINAL_WRITE('x', 'notes')", {"output_type": int}, "give it with FINAL"),
        ("FINAL_WRITE('x', 'notes', quotes=5)", {}, "quotes must be"),
        ("FINAL_WRITE('x', 'notes', quotes=True)", {}, "quotes must be"),
        ("FINAL_WRITE('x', 'notes', quotes=['The cat', ['sat']])", {}, "quotes must be"),
        ("FINAL_WRITE()", {}, "missing 1 required positional argument"),
    ],
)
def test_a_call_that_can_bring_no_answer_costs_nothing_and_says_why(
    call: str, settings: Any, reason: str, run: Any, make_rlm: Any
) -> None:
    model = ScriptedModel([cell(call), cell("FINAL(len(context))")])
    assert int(run(make_rlm(model, **settings), "?", TEXT).answer) == len(TEXT)
    assert reason in model.calls[1].messages[-1].content


def test_the_first_answer_of_a_cell_counts(run: Any, make_rlm: Any) -> None:
    first = ScriptedModel([LOOK, cell("FINAL_WRITE('x')\nFINAL('value')"), WRITTEN])
    assert run(make_rlm(first), "?", TEXT).answer == WRITTEN
    second = ScriptedModel([LOOK, cell("FINAL(context[4:7])\nFINAL_WRITE('x')")])
    assert run(make_rlm(second), "?", TEXT).answer == "cat"


def test_nothing_written_is_an_error_for_the_model(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([LOOK, cell("FINAL_WRITE('x')"), "<think>hm</think> ", cell("FINAL(context[4:7])")])
    assert run(make_rlm(model), "?", TEXT).answer == "cat"
    assert "nothing was written" in model.calls[3].messages[-1].content


def test_without_budget_for_it_the_model_is_told_to_give_a_value(run: Any, make_rlm: Any) -> None:
    code = "try:\n    FINAL_WRITE('x', 'n')\nexcept RuntimeError as error:\n    FINAL(str(error)[:30] + context[4:7])"
    model = ScriptedModel([LOOK, cell(code)])
    result = run(make_rlm(model, budget=Budget(max_calls=2)), "?", TEXT)
    assert result.answer.endswith("cat")
    assert len(model.calls) == 2


def test_the_text_streams_as_it_is_written(make_rlm: Any) -> None:
    model = ScriptedModel([LOOK, cell("FINAL_WRITE('x')"), WRITTEN])
    seen = list(make_rlm(model).stream("?", TEXT))
    call = next(event for event in seen if isinstance(event, ModelCallStarted) and event.purpose == "answer")
    assert "".join(e.text for e in seen if isinstance(e, TextDelta) and e.id == call.id) == WRITTEN


def test_only_a_model_that_should_use_it_is_told_of_it(make_rlm: Any) -> None:
    for told in (False, True):
        model = ScriptedModel([cell("FINAL(context[4:7])")])
        result = make_rlm(model, final_write=told).run("?", TEXT)
        assert ("FINAL_WRITE(" in model.calls[0].messages[0].content) == told
        assert events(result, "run_ended")
