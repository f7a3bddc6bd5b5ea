"""Where the system does not bound a worker's memory, the host does; where it does, the host does not look."""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil
import pytest

from rlm_integrations.sandbox import ProcessSandbox, watchdog
from rlm_integrations.sandbox.launcher import Launcher
from rlm_integrations.sandbox.waiting import Wait, Work, drive
from rlm_integrations.sandbox.watchdog import Watchdog, is_needed, watched
from tests.sandbox.conftest import run_cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="switches off a layer of Linux")

# Bounded, for the limit under which it runs is what is tested: 600 MB, in steps that a watchdog has time to look at.
FILL = """
import time
held = []
for step in range(60):
    held.append(b'x' * 10_000_000)
    time.sleep(0.005)
print(len(held))
"""


def test_a_worker_that_fills_memory_is_stopped_and_the_session_goes_on(run_in: Any) -> None:
    with ProcessSandbox(timeout_s=20, memory_mb=250) as sandbox:
        sandbox._launcher = Launcher(("rlimits",))
        session = sandbox.open({"context": "text"}, [])
        output = run_in(session, FILL)
        assert "the worker held more than 250 MB of memory" in output.error
        assert output.restarted
        assert run_in(session, "print(context)").stdout == "text\n"
        session.close()
        sandbox._launcher.close()


def test_a_worker_below_its_limit_is_left_alone(run_in: Any) -> None:
    with ProcessSandbox(timeout_s=20, memory_mb=800) as sandbox:
        sandbox._launcher = Launcher(("rlimits",))
        session = sandbox.open({"context": "text"}, [])
        assert run_in(session, FILL).stdout == "60\n"
        session.close()
        sandbox._launcher.close()


def test_the_report_says_whether_the_watchdog_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessSandbox() as sandbox:
        assert "memory_watchdog" not in sandbox.report().layers
        sandbox._launcher = Launcher(("rlimits",))
        assert sandbox.report().layers["memory_watchdog"]
        monkeypatch.setitem(sys.modules, "psutil", None)
        assert sandbox.report().missing["memory_watchdog"] == "psutil is not installed"
        assert run_cell(sandbox.open({"context": "x"}, []), "print(1)").stdout == "1\n"
        sandbox._launcher.close()


@pytest.mark.parametrize(
    ("platform", "layers", "needed"),
    [
        ("linux", {"rlimits": None}, False),
        ("linux", {"rlimits": "switched off"}, True),
        # macOS takes the limit of address space, and does not keep it.
        ("darwin", {"rlimits": None, "seatbelt": None}, True),
        ("win32", {"job_object": None}, False),
        ("win32", {"job_object": "no job"}, True),
        ("other", {}, True),
    ],
)
def test_a_watchdog_is_needed_where_no_layer_bounds_memory(
    platform: str, layers: dict[str, str | None], needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert is_needed(layers) is needed


def test_a_process_that_has_gone_has_no_size() -> None:
    with psutil.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()  # It has begun: before, it is a copy of nothing.
        dog = Watchdog(process.pid)
        assert dog.size() > 1_000_000
        process.communicate(b"\n")
    assert dog.size() == 0
    assert "can't be read" in (Watchdog(process.pid).reason or "")


def test_a_long_wait_is_cut_into_looks_and_ends_when_it_would_have_ended() -> None:
    looks, results = [], []
    deadline = time.monotonic() + 10 * watchdog.INTERVAL_S

    def steps() -> Any:
        results.append((yield Wait(5, deadline)))
        results.append((yield Wait(5, deadline)))
        return "done"

    turns = watched(steps(), lambda: looks.append(None))
    wait = next(turns)
    assert wait.descriptor == 5
    assert wait.deadline <= time.monotonic() + watchdog.INTERVAL_S
    turns.send(False)
    turns.send(False)
    assert (len(looks), results) == (2, [])
    turns.send(True)
    assert results == [True]
    while (left := deadline - time.monotonic()) > watchdog.INTERVAL_S / 2:
        time.sleep(left - watchdog.INTERVAL_S / 2)
    assert turns.send(False).deadline == deadline
    with pytest.raises(StopIteration, match="done"):
        turns.send(False)
    assert results == [True, False]


def test_work_of_the_host_is_carried_out_between_looks() -> None:
    def steps() -> Any:
        return [(yield Work(lambda: "done")), (yield Wait()), (yield Work(lambda: "again"))]

    assert drive(watched(steps(), lambda: None)) == ["done", True, "again"]
