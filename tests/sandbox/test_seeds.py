"""What model code draws and how its sets come out is the same in every session, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm_integrations.ports import Run
from rlm_integrations.sandbox import MontySandbox, ProcessSandbox
from rlm_integrations.sandbox.pool import PoolLauncher

CODE = """
import random
print({"a", "b", "cd", 2.5, ("e", 1)}, frozenset("text"), hash("x"), random.random(), random.sample(range(99), 9))
"""


def _of_pool() -> ProcessSandbox:
    sandbox = ProcessSandbox()
    sandbox._launcher = PoolLauncher()
    return sandbox


@pytest.mark.parametrize("make", [ProcessSandbox, _of_pool, MontySandbox])
def test_two_sessions_of_any_process_print_the_same(make: Callable[[], Any]) -> None:
    printed = []
    for _ in range(2):
        with make() as sandbox:
            for _ in range(2):
                session = sandbox.open({"context": "x"}, ())
                output = session.advance(Run(CODE))
                session.close()
                assert output.error is None
                printed.append(output.stdout)
    assert len(set(printed)) == 1, printed


def test_a_session_begins_anew_where_its_worker_was_killed() -> None:
    with ProcessSandbox(timeout_s=0.5) as sandbox:
        session = sandbox.open({"context": "x"}, ())
        first = session.advance(Run(CODE)).stdout
        assert session.advance(Run("while True: pass")).restarted
        assert session.advance(Run(CODE)).stdout == first
        session.close()
