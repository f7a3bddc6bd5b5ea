"""``RaySandbox`` on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rlm_integrations.ports import CellOutput, Run
from rlm_integrations.ray import RaySandbox
from rlm_integrations.testing import SANDBOX_CHECKS, check_sandbox

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]


@pytest.fixture(scope="module")
def sandbox(cluster: Any) -> Iterator[RaySandbox]:
    with RaySandbox(timeout_s=10) as sandbox:
        yield sandbox


def test_a_cell_runs(sandbox: RaySandbox) -> None:
    session = sandbox.open({"context": "x" * 200_000}, ())
    assert session.advance(Run("print(len(context))")) == CellOutput("200000\n")
    session.close()


@pytest.mark.parametrize("name", SANDBOX_CHECKS)
def test_it_keeps_the_promises_of_a_sandbox(sandbox: RaySandbox, name: str) -> None:
    assert check_sandbox(sandbox, only=[name]) == (name,)
