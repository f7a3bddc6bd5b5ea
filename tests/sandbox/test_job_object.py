"""What is asked of Windows for a worker's job. A played kernel32.dll: these calls were not tried on Windows."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from rlm_integrations.sandbox import confine, job_object
from rlm_integrations.sandbox.job_object import ExtendedLimits, hold, steps

JOB, PROCESS = 0x1234, SimpleNamespace(_handle=0x5678)
EXTENDED, SCREEN = 9, 4


class Kernel:
    """Keeps what it was asked, and answers a query with the limits that were set."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.limits: ExtendedLimits | None = None
        self.refuses = refuses
        for name in ("CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject", "CloseHandle"):
            setattr(self, name, self._call(name))
        self.QueryInformationJobObject = self._query

    def _call(self, name: str) -> Any:
        def call(*args: Any) -> int:
            args = tuple(getattr(arg, "_obj", arg) for arg in args)
            shown = tuple(getattr(arg, "value", arg) for arg in args)
            self.calls.append((name, *shown))
            if name == "SetInformationJobObject" and shown[1] == EXTENDED:
                self.limits = shown[2]
            return 0 if name == self.refuses else JOB

        return call

    def _query(self, job: None, kind: int, found: Any, size: Any, returned: None) -> int:
        assert (job, kind, size.value) == (None, EXTENDED, ctypes.sizeof(ExtendedLimits))
        if self.limits is None:
            return 0
        ctypes.pointer(found._obj)[0] = self.limits
        return 1


@pytest.mark.skipif(sys.maxsize < 2**32, reason="the sizes of 64 bits")
def test_the_limits_lie_where_windows_looks_for_them() -> None:
    assert ctypes.sizeof(ExtendedLimits) == 144
    places = {name: getattr(ExtendedLimits, name).offset for name, _ in ExtendedLimits._fields_}
    assert (places["LimitFlags"], places["ActiveProcessLimit"], places["IoInfo"]) == (16, 40, 64)
    assert (places["ProcessMemoryLimit"], places["JobMemoryLimit"]) == (112, 120)


def test_a_worker_is_put_into_a_job_of_one_process_with_a_limit_of_memory() -> None:
    kernel = Kernel()
    job = hold(PROCESS, 700 << 20, kernel)  # type: ignore[arg-type]
    names = [name for name, *_ in kernel.calls]
    assert names == ["CreateJobObjectW", *["SetInformationJobObject"] * 2, "AssignProcessToJobObject"]
    assert kernel.limits is not None
    assert kernel.limits.LimitFlags == 0x2000 | 0x400 | 0x100 | 0x8
    assert (kernel.limits.ActiveProcessLimit, kernel.limits.ProcessMemoryLimit) == (1, 700 << 20)
    assert (kernel.calls[1][1:3], kernel.calls[1][4]) == ((JOB, EXTENDED), 144)
    assert kernel.calls[2][1:] == (JOB, SCREEN, 0xFF, 4)
    assert kernel.calls[3][1:] == (JOB, 0x5678)
    job.close()
    job.close()
    assert kernel.calls[4:] == [("CloseHandle", JOB)]


@pytest.mark.parametrize("call", ["CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject"])
def test_a_call_that_windows_refuses_is_an_error_and_leaves_no_handle(call: str) -> None:
    kernel = Kernel(refuses=call)
    with pytest.raises(OSError, match=f"{call} failed"):
        hold(PROCESS, 1 << 30, kernel)  # type: ignore[arg-type]
    made, closed = (sum(name == wanted for name, *_ in kernel.calls) for wanted in ("CreateJobObjectW", "CloseHandle"))
    assert closed == (made if call != "CreateJobObjectW" else 0)


def test_a_worker_finds_out_whether_it_is_in_such_a_job() -> None:
    kernel = Kernel()
    check = steps(700 << 20, kernel)["job_object"]
    with pytest.raises(OSError, match="QueryInformationJobObject failed"):
        check()
    hold(PROCESS, 700 << 20, kernel)  # type: ignore[arg-type]
    check()
    with pytest.raises(OSError, match="no job with its limits"):
        steps(600 << 20, kernel)["job_object"]()
    assert kernel.limits is not None
    kernel.limits.LimitFlags &= ~0x2000
    with pytest.raises(OSError, match="no job with its limits"):
        check()


@pytest.mark.skipif(sys.platform == "win32", reason="plays Windows where there is none of it")
def test_on_windows_a_layer_counts_only_if_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    missing = "only Linux has it, and this is win32"
    assert confine.lock(1 << 30, 1) == {
        "job_object": "only Windows has Job Objects",
        "landlock": missing,
        "seccomp": missing,
    }
    kernel = Kernel()
    hold(PROCESS, 1 << 30, kernel)  # type: ignore[arg-type]
    monkeypatch.setattr(job_object, "_kernel32", lambda: kernel)
    assert confine.lock(1 << 30, 1)["job_object"] is None
