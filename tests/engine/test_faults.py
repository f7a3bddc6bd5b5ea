"""A lost worker costs the run its variables, never the run; the fourth one ends it, and nothing seen is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_integrations import RLM
from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell, events

KEPT = cell("print('x' in globals(), len(context))")


@pytest.fixture
def hasty() -> Iterator[ProcessSandbox]:
    with ProcessSandbox(timeout_s=0.3, memory_mb=200) as sandbox:
        yield sandbox


@pytest.fixture
def killing(hasty: ProcessSandbox) -> Any:
    """A tool of the host that kills the worker of the cell that calls it."""

    def kill() -> None:
        for session in hasty._sessions:
            os.kill(session._worker._pid, signal.SIGKILL)

    return kill


@pytest.mark.parametrize(
    ("code", "reason"),
    [("x = 1\nwhile True: pass", "took longer than 0.3 s"), ("x = 1\nkill()", "died")],
    ids=["stuck", "killed"],
)
def test_the_model_is_told_what_happened_and_the_run_goes_on(
    code: str, reason: str, run: Any, hasty: ProcessSandbox, killing: Any
) -> None:
    model = ScriptedModel([cell(code), KEPT, cell("FINAL(context[:3])")])
    rlm = RLM(model, sandbox=hasty, tools=[_named("kill", killing)])
    result = run(rlm, "?", "abcdef")
    told, kept = (call.messages[-1].content for call in model.calls[1:])
    assert result.answer == "abc"
    assert reason in told
    assert "All variables were lost; `context` is in place" in told
    assert "False 6" in kept


def test_a_cell_that_needs_more_memory_than_there_is_keeps_its_variables(run: Any, hasty: ProcessSandbox) -> None:
    model = ScriptedModel([cell("x = len(context)\nbig = 'y' * (1 << 30)"), cell("FINAL(x)")])
    result = run(RLM(model, sandbox=hasty), "?", "text")
    assert result.answer == "4"
    assert "MemoryError" in model.calls[1].messages[-1].content


def test_three_lost_workers_are_made_up_for(run: Any, hasty: ProcessSandbox) -> None:
    # No two cells are the same, or the model would be told that it repeats itself.
    stuck = [cell(f"while {number}: pass") for number in (1, 2, 3)]
    assert run(RLM(ScriptedModel([*stuck, cell("FINAL(len(context))")]), sandbox=hasty), "?", "text").answer == "4"


def test_the_fourth_lost_worker_ends_the_run_which_keeps_what_it_saw(run: Any, hasty: ProcessSandbox) -> None:
    stuck = [cell(f"while {number}: pass") for number in (1, 2, 3, 4)]
    rlm = RLM(ScriptedModel([cell("print('seen')"), *stuck]), sandbox=hasty)
    with pytest.raises(SandboxError, match="lost its worker 4 times") as failure:
        run(rlm, "?", "text")
    partial = failure.value.partial
    assert partial.usage.calls == 5
    assert next(event.stdout for event in events(partial, "cell_ended")) == "seen\n"


def _named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function
