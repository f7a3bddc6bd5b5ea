"""Attacks have no effect on the host: with the language layer, and with nothing but the locked process.

Hostile code runs in fully locked workers only, which are an ordinary user's processes even where the tests are root's.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.sandbox import ProcessSandbox, Resume, SubCall
from tests.sandbox.conftest import run_cell
from tests.sandbox.snippets import FUNCTIONS, SUITES, cells, judge, load
from tests.sandbox.test_leftovers import nothing_more, state, wait_for

TIMEOUT_S = 1
# What does nothing but take time shows no more of itself in more time.
SPIN_S = 0.3
SNIPPETS = [pytest.param(item, id=item["id"]) for item in load("hostile.json") + load("own_hostile.json")]
# Attacks that end without an error under the policy, with what they print: a refusal they catch, or text left as it is.
QUIET = {
    "last_line_eval": "none\n",
    "own_fmt_logging_style": "{0.__globals__}\n",
    "own_p_asyncio_handler": "PermissionError(",
    "own_p_getattr_default": "none\n",
    "own_tamper_asyncio_outlives": "",
}
MORE = (SUITES / "more_hostile.txt").read_text().split("# ---\n")
MORE[0] = MORE[0].split("\n\n", 1)[1]


@pytest.fixture(scope="module", params=[True, False], ids=["policy", "process"])
def locked(request: pytest.FixtureRequest) -> Iterator[ProcessSandbox]:
    with ProcessSandbox(timeout_s=TIMEOUT_S) as sandbox:
        sandbox._policy = request.param
        # What stands between the sessions is no snippet's doing.
        sandbox.open({"context": ""}, []).close()
        yield sandbox


@pytest.mark.parametrize("item", SNIPPETS)
def test_a_hostile_snippet_has_no_effect_on_the_host(
    item: dict[str, Any],
    locked: ProcessSandbox,
    listener: socket.socket,
    open_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLM_CANARY_KEY", "CANARY-ENV-1")
    secret, mark = open_path / "secret", open_path / "mark"
    secret.write_text("CANARY-FILE-1")
    # Anyone may read the one and make the other: what stops the worker is the lock.
    secret.chmod(0o644)
    environment, seen, outputs = dict(os.environ), [], []
    before = state()

    def answer(call: SubCall) -> Resume:
        seen.append(repr(call))
        return judge(call)

    context = ["doc0: text", "doc1: text"]
    timeout_s = SPIN_S if item["category"] == "cpu" else TIMEOUT_S
    session = locked.open({"context": context}, FUNCTIONS)
    try:
        for code in cells(item):
            for name, value in (("SECRET", secret), ("MARK", mark), ("PORT", listener.getsockname()[1])):
                code = code.replace("{{" + name + "}}", str(value))
            started = time.monotonic()
            output = run_cell(session, code, answer, timeout_s)
            assert time.monotonic() - started < timeout_s + 2
            seen.append(repr(output))
            outputs.append(output)
        output = run_cell(session, "print(1 + 1)")
        if output.restarted:
            # Code without the language layer may have spoilt the worker it ran in.
            output = run_cell(session, "print(1 + 1)")
        assert output.stdout == "2\n"
    finally:
        session.close()
    assert not mark.exists()
    assert "CANARY-" not in "".join(seen)
    assert dict(os.environ) == environment
    assert context == ["doc0: text", "doc1: text"]
    with pytest.raises(BlockingIOError):
        listener.accept()
    wait_for(lambda: nothing_more(before))
    if locked._policy and item["expect"] == "blocked":
        assert any(output.error for output in outputs) == (item["id"] not in QUIET)
        assert QUIET.get(item["id"], "") in outputs[0].stdout


@pytest.mark.parametrize("code", MORE)
def test_the_policy_stops_what_would_lead_out_of_the_language(code: str, cell: Any) -> None:
    output = cell(code)
    assert "LEAKED-" not in output.stdout
    assert output.error or output.stdout == "unchanged\n"
    assert cell("print(1 + 1)").stdout == "2\n"
