"""Workers of the warm pool do all that forked ones do: the tests of sessions run once more, with a pool."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import ProcessSandbox, Run, process, worker
from rlm_integrations.sandbox.launcher import Launcher
from rlm_integrations.sandbox.pool import IDLE, PoolLauncher
from tests.sandbox import test_session
from tests.sandbox.conftest import run_cell
from tests.sandbox.snippets import FUNCTIONS, cells, judge, load
from tests.sandbox.test_leftovers import nothing_more, running, state, wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="counts processes as POSIX does")

# Those that have to do with how a worker starts and ends. (All of them pass, but take half a minute.)
AGAIN = """
    test_a_cell_past_its_time_is_stopped_and_the_session_goes_on
    test_a_worker_killed_from_outside_is_replaced
    test_a_worker_lost_between_cells_is_replaced_and_the_model_is_told
    test_memory_is_limited_and_running_out_of_it_keeps_the_variables
    test_a_context_larger_than_the_memory_given_is_an_error_that_says_so
    test_closing_from_another_thread_ends_a_waiting_step
    test_a_step_out_of_turn_is_refused_and_harms_nothing
    test_opening_and_closing_without_a_cell_leaves_nothing
    test_without_a_free_descriptor_a_session_says_so
"""
globals().update({name: getattr(test_session, name) for name in AGAIN.split()})
hasty = test_session.hasty


@pytest.fixture(autouse=True, scope="module")
def _without_fork() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "FORKS", False)
        yield


@pytest.fixture(scope="module")
def sandbox(_without_fork: None) -> Iterator[ProcessSandbox]:
    with ProcessSandbox(timeout_s=10) as sandbox:
        assert isinstance(sandbox._launcher, PoolLauncher)
        yield sandbox


def test_everyday_snippets_of_each_category_run_in_a_worker_of_the_pool(sandbox: ProcessSandbox) -> None:
    failed = []
    for item in {item["category"]: item for item in load("everyday.json")}.values():
        session = sandbox.open({"context": item["setup"]["context"], "query": "q"}, FUNCTIONS)
        printed = [run_cell(session, code, judge).stdout.strip() for code in cells(item)]
        session.close()
        if printed != [expected.strip() for expected in item["expect"]["stdout"]]:
            failed.append(item["id"])
    assert failed == []


def test_cancelling_a_step_ends_a_worker_of_the_pool_at_once(sandbox: ProcessSandbox) -> None:
    async def main() -> int:
        session = await sandbox.aopen({"context": "x"}, ["f"])
        await session.aadvance(Run("1"))
        pid: int = session._worker._pid
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.aadvance(Run("while True: pass")), 0.1)
        return pid

    pid = asyncio.run(main())
    wait_for(lambda: not running(pid))


def test_a_worker_of_the_pool_never_serves_two_sessions(sandbox: ProcessSandbox) -> None:
    pids = []
    for _ in range(5):
        session = sandbox.open({"context": "x"}, [])
        run_cell(session, "left_behind = 1")
        assert "left_behind" not in run_cell(sandbox.open({"context": "x"}, []), "print(sorted(globals()))").stdout
        pids.append(session._worker._pid)
        session.close()
    assert len({*pids}) == 5


def test_the_next_worker_waits_before_it_is_asked_for(sandbox: ProcessSandbox) -> None:
    launcher = sandbox._launcher
    assert isinstance(launcher, PoolLauncher)
    first, second = sandbox.open({"context": "x"}, []), sandbox.open({"context": "x"}, [])
    for session in (first, second):
        waiting = [process.pid for process in launcher._idle]
        assert len(waiting) == IDLE
        assert len(run_cell(session, "1").stdout) == 2
    waiting = [process.pid for process in launcher._idle]
    third = sandbox.open({"context": "x"}, [])
    run_cell(third, "1")
    assert third._worker._pid == waiting[0]
    for session in (first, second, third):
        session.close()


def test_a_waiting_process_that_was_killed_is_passed_over(sandbox: ProcessSandbox) -> None:
    launcher = sandbox._launcher
    assert isinstance(launcher, PoolLauncher)
    sandbox.open({"context": "x"}, []).close()
    for pid in [waiting.pid for waiting in launcher._idle]:
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait()
    session = sandbox.open({"context": "x"}, [])
    assert run_cell(session, "print(context)").stdout == "x\n"
    session.close()


def test_the_pool_says_so_if_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **options: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with ProcessSandbox() as sandbox, pytest.raises(SandboxError, match="temporarily unavailable"):
        sandbox.open({"context": "x"}, [])


@pytest.mark.parametrize("starter", [PoolLauncher, Launcher])
def test_a_starter_ends_the_worker_it_is_asked_to_end_and_no_other(starter: Any) -> None:
    with (
        ProcessSandbox(timeout_s=10) as sandbox,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger,
    ):
        sandbox._launcher = starter()
        first, second = sandbox.open({"context": "x"}, []), sandbox.open({"context": "x"}, [])
        run_cell(first, "1")
        run_cell(second, "1")
        assert first._worker is not None
        sandbox._launcher.kill(stranger.pid)
        sandbox._launcher.kill(first._worker._pid)
        wait_for(first._worker.is_spoilt)
        assert run_cell(second, "print(1)").stdout == "1\n"
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_worker_of_the_pool_sees_no_environment_and_no_descriptor_but_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLM_CANARY", "CANARY")
    code = "import os, sys\nprint(dict(os.environ), sys.argv, sys.path, sorted(os.listdir('/proc/self/fd'))[:-1])"
    with ProcessSandbox() as sandbox:
        sandbox._policy, sandbox._launcher = False, PoolLauncher(("seccomp", "landlock"))
        # The last descriptor is the one that lists them.
        output = run_cell(sandbox.open({"context": "x"}, []), code)
        assert output.stdout == "{} [] [] ['0', '1', '2', '3']\n"
        sandbox._launcher.close()
        # What the process was started with, as its own user may read it where nothing keeps that from it.
        sandbox._launcher = PoolLauncher(("seccomp", "landlock", "not_dumpable", "unprivileged_user"))
        read = run_cell(sandbox.open({"context": "x"}, []), "print(open('/proc/self/environ').read())")
        assert (read.stdout.replace("LC_CTYPE=C.UTF-8\0", ""), read.error) == ("PYTHONHASHSEED=0\\x00\n", None)
        gone = run_cell(sandbox.open({"context": "x"}, []), "import os\nos.getcwd()")
        assert "FileNotFoundError" in (gone.error or "")


@pytest.mark.parametrize("end", ["close", "collect"])
def test_nothing_is_left_after_a_sandbox_with_a_pool(end: str) -> None:
    gc.collect()
    before = state()
    sandbox = ProcessSandbox(timeout_s=10)
    sessions = [sandbox.open({"context": "x"}, ["f"]) for _ in range(3)]
    for session in sessions:
        session.advance(Run("f()"))
    if end == "close":
        sandbox.close()
    del sandbox, sessions, session
    gc.collect()
    wait_for(lambda: nothing_more(before))


@pytest.mark.alone
def test_closed_sessions_leave_nothing_but_the_processes_that_wait() -> None:
    gc.collect()
    _, threads, descriptors, folders = state()
    before = {child.pid for child in psutil.Process().children()}
    with ProcessSandbox() as sandbox:
        for _ in range(5):
            session = sandbox.open({"context": "x"}, ["f"])
            session.advance(Run("f()"))
            session.close()
        started = {child.pid for child in psutil.Process().children()} - before
        wait_for(lambda: sum(map(running, started)) == IDLE)
        assert state()[1:] == (threads, descriptors + IDLE, folders)
        # What has ended is taken note of by the next launch.
        sandbox.open({"context": "x"}, ["f"]).close()
        assert len({child.pid for child in psutil.Process().children()} - before) == IDLE + 1


SCRIPT = """
import os, sys, psutil
from rlm_integrations.sandbox import ProcessSandbox, Run, process
process.FORKS = False
sandbox = ProcessSandbox()
session = sandbox.open({"context": "x"}, ["f"])
session.advance(Run("f()"))
print(*[child.pid for child in psutil.Process().children()], flush=True)
"""


@pytest.mark.parametrize("ending", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_pool_ends_with_its_host(ending: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT + ending], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == IDLE + 1
        host.wait(10)
        wait_for(lambda: not any(map(running, pids)))


def test_a_forked_copy_of_the_host_gets_a_pool_of_its_own() -> None:
    script = SCRIPT + (
        "pid = os.fork()\n"
        "own = sandbox.open({'context': 'y'}, [])\n"
        "print(own.advance(Run('print(context)')).stdout.strip(), flush=True)\n"
        "if pid == 0:\n"
        "    session.close(); sandbox.close(); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "from rlm_integrations.sandbox import Resume\n"
        "print(session.advance(Resume('x')).stdout.strip(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert [line for line in done.stderr.splitlines() if "runs without" not in line] == []
    assert done.stdout.split()[IDLE + 1 :] == ["y", "y", "x"]


def test_the_report_says_that_a_worker_of_the_pool_is_not_bound_to_the_end_of_its_host(sandbox: ProcessSandbox) -> None:
    report = sandbox.report()
    assert {*report.missing} == ({"parent_death_signal"} if sys.platform == "linux" else {"landlock", "seccomp"})


def test_a_repl_is_prepared_over_a_socket_that_is_no_descriptor() -> None:
    repl = worker.prepare(by_socket=True)
    repl.begin({"context": "text"}, [], lambda *call: None, 100, policy=True)
    assert repl.run("print(context)")[0] == "text\n"
