"""Sessions: limits, lost workers, closing, cancelling, and many at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rlm_integrations.errors import InvalidInput, SandboxError
from rlm_integrations.sandbox import CellOutput, ProcessSandbox, Resume, Run, SubCall
from tests.sandbox.conftest import run_cell


@pytest.fixture
def hasty() -> Any:
    with ProcessSandbox(timeout_s=0.3) as sandbox:
        yield sandbox


@pytest.mark.alone
def test_a_cell_past_its_time_is_stopped_and_the_session_goes_on(hasty: ProcessSandbox, run_in: Any) -> None:
    session = hasty.open({"context": "text"}, [])
    run_in(session, "x = 1")
    started = time.monotonic()
    output = run_in(session, "print('lost')\nwhile True: pass")
    assert 0.25 < time.monotonic() - started < 1
    assert output == CellOutput(
        "",
        "the cell was stopped: the worker took longer than 0.3 s. All variables were lost; `context` is in place.",
        restarted=True,
    )
    assert run_in(session, "print(context, 'x' in globals())").stdout == "text False\n"
    session.close()


def test_a_run_may_have_less_time_than_the_sandbox_gives() -> None:
    with ProcessSandbox(timeout_s=30) as sandbox:
        session = sandbox.open({"context": "x"}, [])
        output = session.advance(Run("while True: pass", timeout_s=0.1))
        assert isinstance(output, CellOutput)
        assert "0.1 s" in (output.error or "")


def test_the_clock_stops_while_the_host_serves_a_sub_call(hasty: ProcessSandbox, run_in: Any) -> None:
    def slow(call: SubCall) -> Resume:
        time.sleep(0.4)
        return Resume("done")

    session = hasty.open({"context": "x"}, ["f"])
    assert run_in(session, "f(1) + f(2)", slow).stdout == "donedone\n"
    session.close()


def test_time_is_counted_over_all_parts_of_a_cell(hasty: ProcessSandbox, run_in: Any) -> None:
    session = hasty.open({"context": "x"}, ["f"])
    output = run_in(session, "import time\nwhile True:\n    time.sleep(0.05)\n    f()", lambda call: Resume())
    assert output.restarted
    session.close()


def test_a_worker_killed_from_outside_is_replaced(sandbox: ProcessSandbox, run_in: Any) -> None:
    session = sandbox.open({"context": "text"}, ["f"])

    def kill(call: SubCall) -> Resume:
        os.kill(session._worker._pid, signal.SIGKILL)
        return Resume()

    output = run_in(session, "f()", kill)
    assert "died" in output.error
    assert output.restarted
    assert run_in(session, "print(context)").stdout == "text\n"
    session.close()


def test_a_worker_lost_between_cells_is_replaced_and_the_model_is_told(sandbox: ProcessSandbox, run_in: Any) -> None:
    session = sandbox.open({"context": "text"}, [])
    run_in(session, "x = 1")
    worker = session._worker
    os.kill(worker._pid, signal.SIGKILL)
    while not worker.is_spoilt():
        time.sleep(0.001)
    output = run_in(session, "print(context)")
    assert output.stdout == "text\n"
    assert output.restarted
    assert "all variables" in output.error
    assert run_in(session, "print(1)") == CellOutput("1\n")
    session.close()


def test_the_fourth_lost_worker_ends_the_session(hasty: ProcessSandbox, run_in: Any) -> None:
    session = hasty.open({"context": "text"}, [])
    for _ in range(3):
        assert run_in(session, "while True: pass").restarted
    with pytest.raises(SandboxError, match=r"lost its worker 4 times .* took longer than 0.3 s"):
        run_in(session, "while True: pass")
    with pytest.raises(SandboxError, match="closed"):
        run_in(session, "1")


def test_memory_is_limited_and_running_out_of_it_keeps_the_variables(run_in: Any) -> None:
    with ProcessSandbox(timeout_s=10, memory_mb=200) as sandbox:
        session = sandbox.open({"context": "x"}, [])
        run_in(session, "x = 1")
        assert "MemoryError" in run_in(session, "big = []\nwhile True: big.append('y' * 1000)").error
        assert run_in(session, "del big\nprint(x)").stdout == "1\n"
        session.close()


def test_a_context_larger_than_the_memory_given_is_an_error_that_says_so(run_in: Any) -> None:
    with ProcessSandbox(memory_mb=100) as sandbox:
        session = sandbox.open({"context": "x" * 150_000_000}, [])
        with pytest.raises(SandboxError, match="raise ProcessSandbox\\(memory_mb="):
            run_in(session, "1")


def test_an_answer_too_large_to_pass_on_is_an_error_that_model_code_can_catch(
    sandbox: ProcessSandbox, run_in: Any
) -> None:
    session = sandbox.open({"context": "x"}, ["f"])
    code = "try:\n    f()\nexcept RuntimeError as error:\n    print(error)"
    output = run_in(session, code, lambda call: Resume("x" * (64 << 20)))
    assert "at most 67,108,864 can be passed on" in output.stdout
    assert run_in(session, "len(f())", lambda call: Resume("x" * (60 << 20))).stdout == f"{60 << 20}\n"
    session.close()


def test_output_past_the_limit_shows_head_and_tail_and_says_how_much_is_missing(run_in: Any) -> None:
    with ProcessSandbox(max_output_chars=100) as sandbox:
        session = sandbox.open({"context": "x"}, [])
        output = run_in(session, "print('a' * 500 + 'z' * 500)").stdout
        assert output.startswith("a" * 60)
        assert output.endswith("z" * 30 + "\n")
        assert "[901 of 1,001 characters left out" in output
        assert run_in(session, "for i in range(100_000): print(end='')\nprint('b')").stdout == "b\n"
        many = run_in(session, "for i in range(100_000): print(i)").stdout
        assert many.startswith("0\n1\n2\n")
        assert many.endswith("99998\n99999\n")
        session.close()


def test_output_is_cleaned_of_what_a_terminal_would_act_on(cell: Any) -> None:
    output = cell("print('\\x1b[2J a\\tb\\r\\n\\x07' + chr(0xd800))\nraise ValueError('\\x1b')")
    assert output.stdout == "\\x1b[2J a\tb\n\\x07\\ud800\n"
    assert output.error.endswith("ValueError: \\x1b")


def test_a_cell_that_is_too_long_is_an_error_for_the_model(cell: Any) -> None:
    assert "longer than 200,000 bytes" in cell("#" * 200_001).error
    assert cell("print(1)").stdout == "1\n"


def test_closing_from_another_thread_ends_a_waiting_step(sandbox: ProcessSandbox) -> None:
    session = sandbox.open({"context": "x"}, [])
    session.advance(Run("1"))
    timer = threading.Timer(0.1, session.close)
    timer.start()
    with pytest.raises(SandboxError, match="closed"):
        session.advance(Run("while True: pass"))
    timer.join()
    session.close()
    with pytest.raises(SandboxError, match="closed"):
        session.advance(Run("1"))


def test_cancelling_a_step_kills_the_worker_at_once(sandbox: ProcessSandbox) -> None:
    async def main() -> None:
        session = await sandbox.aopen({"context": "x"}, [])
        await session.aadvance(Run("1"))
        worker = session._worker
        step = asyncio.create_task(session.aadvance(Run("while True: pass")))
        await asyncio.sleep(0.1)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await until(lambda: not alive(worker._pid))
        with pytest.raises(SandboxError, match="closed"):
            await session.aadvance(Run("1"))

    asyncio.run(main())


def test_an_interrupt_kills_the_worker_at_once(sandbox: ProcessSandbox, interruptible: None) -> None:
    session = sandbox.open({"context": "x"}, [])
    session.advance(Run("1"))
    pid = session._worker._pid
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.advance(Run("while True: pass"))
    timer.join()
    asyncio.run(until(lambda: not alive(pid)))


def test_a_step_out_of_turn_is_refused_and_harms_nothing(sandbox: ProcessSandbox) -> None:
    session = sandbox.open({"context": "x"}, ["f"])
    with pytest.raises(SandboxError, match="no sub-call waits"):
        session.advance(Resume("x"))
    assert isinstance(session.advance(Run("f()")), SubCall)
    with pytest.raises(SandboxError, match="waits for its Resume"):
        session.advance(Run("1"))
    assert session.advance(Resume("x")) == CellOutput("x\n")
    session.close()


def test_opening_and_closing_without_a_cell_leaves_nothing(sandbox: ProcessSandbox) -> None:
    for _ in range(20):
        sandbox.open({"context": "x"}, []).close()
    session = sandbox.open({"context": "x"}, [])
    assert run_cell(session, "print(1)").stdout == "1\n"
    session.close()


def test_many_sessions_open_at_once_in_one_loop(sandbox: ProcessSandbox) -> None:
    async def one(number: int) -> str:
        session = await sandbox.aopen({"context": str(number)}, [])
        try:
            output = await session.aadvance(Run("print(context)"))
            assert isinstance(output, CellOutput)
            return output.stdout
        finally:
            session.close()

    async def main() -> list[str]:
        return await asyncio.gather(*map(one, range(300)))

    assert asyncio.run(main()) == [f"{number}\n" for number in range(300)]


def test_many_threads_open_sessions_at_once(sandbox: ProcessSandbox) -> None:
    def one(number: int) -> str:
        session = sandbox.open({"context": str(number)}, [])
        try:
            return run_cell(session, "print(context)").stdout
        finally:
            session.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(80))) == [f"{number}\n" for number in range(80)]


ROWS = [{"n": number, "name": f"row {number}"} for number in range(100_000)]


@pytest.mark.alone
@pytest.mark.parametrize(
    ("context", "printed"),
    [("0123456789" * 3_000_000, "30000000"), (ROWS, "100000"), ({"rows": ROWS}, "1"), ([[ROWS]], "1")],
    ids=["text", "rows", "rows in a dict", "rows in lists"],
)
def test_a_large_context_does_not_stall_the_loop(context: Any, printed: str, sandbox: ProcessSandbox) -> None:
    stalls = [0.0]

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - before)

    async def main() -> CellOutput | SubCall:
        watcher = asyncio.create_task(watch())
        session = await sandbox.aopen({"context": context}, ["f"])
        output = await session.aadvance(Run("print(len(context), context == f())"))
        if isinstance(output, SubCall):
            output = await session.aadvance(Resume(context))
        session.close()
        watcher.cancel()
        return output

    assert asyncio.run(main()) == CellOutput(f"{printed} True\n")
    assert max(stalls) < 0.25


@pytest.mark.parametrize("depth", [250, 100_000])
def test_a_variable_too_deep_to_pass_on_is_refused(depth: int, sandbox: ProcessSandbox) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    with pytest.raises(InvalidInput, match="deeper than 200 levels"):
        sandbox.open({"context": value}, [])


def test_a_variable_that_holds_itself_is_refused(sandbox: ProcessSandbox) -> None:
    value: list[Any] = [1]
    value.append({"again": value})
    with pytest.raises(InvalidInput, match="holds itself"):
        sandbox.open({"context": value}, [])


def test_a_host_without_a_temporary_directory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with ProcessSandbox() as sandbox, pytest.raises(SandboxError, match="/nowhere"):
        sandbox.open({"context": "x"}, [])


def test_a_starter_that_does_not_live_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_integrations.sandbox.launcher._directories", lambda: ["/nowhere"])
    with ProcessSandbox() as sandbox, pytest.raises(SandboxError, match="exit code 1: see whether"):
        run_cell(sandbox.open({"context": "x"}, []), "1")


def test_a_lost_starter_is_replaced(sandbox: ProcessSandbox) -> None:
    with ProcessSandbox() as sandbox:
        session = sandbox.open({"context": "x"}, [])
        run_cell(session, "1")
        process = sandbox._launcher._parent._process
        process.kill()
        process.wait()
        assert run_cell(sandbox.open({"context": "x"}, []), "print(1)").stdout == "1\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": "5"},
        {"memory_mb": 1},
        {"memory_mb": True},
        {"max_output_chars": 0},
        {"max_output_chars": 1.5},
        {"isolation": "none"},
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ProcessSandbox(**settings)


@pytest.mark.parametrize("names", [({"not a name": 1}, []), ({}, ["__import__"]), ({"": 1}, []), ({}, [5])])
def test_a_name_that_no_variable_can_have_is_refused(names: Any, sandbox: ProcessSandbox) -> None:
    with pytest.raises(InvalidInput, match="identifier"):
        sandbox.open(*names)


def test_a_variable_that_is_no_json_value_is_refused(sandbox: ProcessSandbox) -> None:
    with pytest.raises(InvalidInput, match="set"):
        sandbox.open({"context": [{1, 2}]}, []).advance(Run("1"))


def test_importing_the_sandbox_loads_no_part_of_the_worker() -> None:
    import subprocess

    code = "import sys, rlm_integrations.sandbox\nprint({'RestrictedPython', 'sqlite3'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Any, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_resumed_cell_may_have_less_time_than_it_had(run_in: Any, sandbox: ProcessSandbox) -> None:
    session = sandbox.open({"context": "x"}, ["f"])
    started = time.monotonic()
    output = run_in(session, "f()\nwhile True: pass", lambda call: Resume("ok", timeout_s=0.2))
    assert output.restarted
    assert time.monotonic() - started < 2
    session.close()


def test_without_a_free_descriptor_a_session_says_so(sandbox: ProcessSandbox, monkeypatch: Any) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("socket.socketpair", none_left)
    with pytest.raises(SandboxError, match="Too many open files"):
        sandbox.open({"context": "x"}, [])
