"""Nothing is left behind: after close, the collector, a fork, the end of the interpreter, or SIGKILL."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.sandbox import ProcessSandbox, Run, launcher
from rlm_integrations.sandbox.session import ProcessSession
from tests.sandbox.conftest import run_cell

SCRIPT = """
import os, sys, time
from rlm_integrations.sandbox import ProcessSandbox, Run
sandbox = ProcessSandbox()
session = sandbox.open({"context": "x"}, ["f"])
session.advance(Run("1"))
print(session._worker._pid, sandbox._launcher._parent._process.pid, flush=True)
"""


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state() -> tuple[int, int, int, int]:
    me = psutil.Process()
    folders = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("rlm-")]
    return len(me.children(recursive=True)), threading.active_count(), me.num_fds(), len(folders)


def nothing_more(before: tuple[int, int, int, int]) -> bool:
    """Whether nothing was added; what an earlier test had just closed may have gone meanwhile."""
    return all(now <= then for now, then in zip(state(), before, strict=True))


@pytest.mark.parametrize("end", ["close", "collect", "timeout"])
def test_nothing_is_left_after_a_sandbox(end: str) -> None:
    gc.collect()
    before = state()
    sandbox = ProcessSandbox(timeout_s=0.2)
    sessions = [sandbox.open({"context": "x"}, ["f"]) for _ in range(5)]
    for session in sessions[:-1]:
        session.advance(Run("f()"))
    if end == "timeout":
        run_cell(sessions[-1], "while True: pass")
    if end != "collect":
        sandbox.close()
    del sandbox, sessions, session
    gc.collect()
    wait_for(lambda: nothing_more(before))


def test_nothing_is_left_after_a_cancelled_step() -> None:
    async def cancel(session: ProcessSession, code: str) -> None:
        task = asyncio.ensure_future(session.aadvance(Run(code)))
        while session._cell is None and code:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    gc.collect()
    before = state()
    with ProcessSandbox() as sandbox:
        for code in ("while True: pass", ""):  # in the middle of a cell, and of a start
            asyncio.run(cancel(sandbox.open({"context": "x"}, []), code))
    wait_for(lambda: nothing_more(before))


@pytest.mark.parametrize("failure", ["variable", "memory", "program"])
def test_nothing_is_left_after_a_failed_start(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = state()
    if failure == "program":
        monkeypatch.setattr(launcher, "PYTHON", "/nothing/python")
    with ProcessSandbox(memory_mb=64) as sandbox:
        variables = {"context": object() if failure == "variable" else "x" * (100 << 20)}
        with pytest.raises((SandboxError, InvalidInput)):
            sandbox.open(variables, []).advance(Run("1"))
        gc.collect()
    wait_for(lambda: nothing_more(before))


def test_nothing_is_left_after_restarts() -> None:
    gc.collect()
    before = state()
    with ProcessSandbox(timeout_s=0.1) as sandbox:
        session = sandbox.open({"context": "x"}, [])
        for _ in range(3):
            assert session.advance(Run("while True: pass")).restarted
        with pytest.raises(SandboxError, match="4 times"):
            session.advance(Run("while True: pass"))
    wait_for(lambda: nothing_more(before))


def test_a_worker_never_serves_two_runs() -> None:
    pids = list[int | None]()
    with ProcessSandbox() as sandbox:
        for _ in range(20):
            session = sandbox.open({"context": "x"}, [])
            assert session.advance(Run("print('made' in globals())\nmade = 1")).stdout == "False\n"
            pids.append(session._worker._pid)
            session.close()
    assert len(set(pids)) == len(pids)


def test_200_closed_sessions_leave_no_process_or_descriptor() -> None:
    processes, threads, descriptors, folders = state()
    with ProcessSandbox() as sandbox:
        for _ in range(200):
            session = sandbox.open({"context": "x"}, ["f"])
            session.advance(Run("f()"))
            session.close()
        # The prepared parent and the socket to it stay for the next session.
        wait_for(lambda: nothing_more((processes + 1, threads, descriptors + 1, folders)))


@pytest.mark.parametrize("ending", ["", "os._exit(0)", "session.advance(Run('while True: pass'))"])
def test_workers_end_with_their_host_and_leave_no_file(ending: str, tmp_path: Path) -> None:
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + ending], stdout=subprocess.PIPE, text=True, env=place
    ) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        if "while" in ending:
            host.send_signal(signal.SIGKILL)
        host.wait(10)
        wait_for(lambda: not any(map(running, pids)))
    assert list(tmp_path.iterdir()) == []


def test_a_forked_copy_of_the_host_gets_workers_of_its_own_and_keeps_its_hands_off_the_others() -> None:
    script = SCRIPT + (
        "pid = os.fork()\n"
        "own = sandbox.open({'context': 'y'}, [])\n"
        "print(own.advance(Run('print(context)')).stdout.strip(), flush=True)\n"
        "if pid == 0:\n"
        "    session.close(); sandbox.close(); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print(session.advance(Run('print(context)')).stdout.strip(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.stdout.split()[2:] == ["y", "y", "x"]


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        # A zombie that nobody has waited for yet does not run.
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
