"""Windows' Job Object: bounds the memory of a worker, keeps it from starting others, and ends it with its host.

The host puts a worker into its job, the worker looks whether it is in one: what is reported is what was found. It has
not been tried on Windows: its tests play the part of kernel32.dll. A job does not keep files or the network away.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from typing import Any

__all__ = ["Job", "hold", "steps"]

# winnt.h: numbers of information classes, limits of JOBOBJECT_BASIC_LIMIT_INFORMATION, and all JOB_OBJECT_UILIMIT_*
# there are (handles, clipboard, system parameters, display settings, global atoms, desktops, log-off).
BASIC_UI_RESTRICTIONS, EXTENDED_LIMIT_INFORMATION = 4, 9
ACTIVE_PROCESS, PROCESS_MEMORY, DIE_ON_UNHANDLED_EXCEPTION, KILL_ON_JOB_CLOSE = 0x8, 0x100, 0x400, 0x2000
LIMITS = ACTIVE_PROCESS | PROCESS_MEMORY | DIE_ON_UNHANDLED_EXCEPTION | KILL_ON_JOB_CLOSE
ALL_UI_LIMITS = 0xFF


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION of 64-bit Windows, its parts in one: 144 bytes."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


class Job:
    """A job of one process; closing it ends the process, and so does the end of this one, which closes it."""

    def __init__(self, handle: int, kernel32: Any) -> None:
        self._handle, self._kernel32 = handle, kernel32

    def close(self) -> None:
        """End the process in it. Twice is fine."""
        handle, self._handle = self._handle, 0
        if handle:
            self._kernel32.CloseHandle(ctypes.c_void_p(handle))


def hold(process: subprocess.Popen[bytes], memory_bytes: int, kernel32: Any = None) -> Job:
    """Put ``process`` into a job of its own with at most ``memory_bytes``. Raises ``OSError`` where Windows refuses."""
    kernel32 = kernel32 or _kernel32()
    kernel32.CreateJobObjectW.restype = ctypes.c_void_p
    # Without a name, and with handles that no child inherits.
    handle = kernel32.CreateJobObjectW(None, None)
    if not handle:
        raise _error("CreateJobObjectW")
    job = Job(handle, kernel32)
    limits = ExtendedLimits(LimitFlags=LIMITS, ActiveProcessLimit=1, ProcessMemoryLimit=memory_bytes)
    screen = ctypes.c_uint32(ALL_UI_LIMITS)
    try:
        for kind, value in ((EXTENDED_LIMIT_INFORMATION, limits), (BASIC_UI_RESTRICTIONS, screen)):
            size = ctypes.c_uint32(ctypes.sizeof(value))
            if not kernel32.SetInformationJobObject(ctypes.c_void_p(handle), kind, ctypes.byref(value), size):
                raise _error("SetInformationJobObject")
        process_handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined]
        if not kernel32.AssignProcessToJobObject(ctypes.c_void_p(handle), process_handle):
            raise _error("AssignProcessToJobObject")
    except BaseException:
        job.close()
        raise
    return job


def steps(memory_bytes: int, kernel32: Any = None) -> dict[str, Callable[[], None]]:
    """The lock of Windows, for ``confine``: by layer, what raises ``OSError`` where it is not in force."""
    return {"job_object": lambda: _check(memory_bytes, kernel32 or _kernel32())}


def _check(memory_bytes: int, kernel32: Any) -> None:
    found = ExtendedLimits()
    size = ctypes.c_uint32(ctypes.sizeof(found))
    # In place of a handle NULL: the job of the process that asks.
    if not kernel32.QueryInformationJobObject(None, EXTENDED_LIMIT_INFORMATION, ctypes.byref(found), size, None):
        raise _error("QueryInformationJobObject")
    if found.LimitFlags & LIMITS != LIMITS or found.ActiveProcessLimit != 1 or found.ProcessMemoryLimit > memory_bytes:
        raise OSError("the worker is in no job with its limits")


def _kernel32() -> Any:
    load = getattr(ctypes, "WinDLL", None)
    if load is None:
        raise OSError("only Windows has Job Objects")
    return load("kernel32", use_last_error=True)


def _error(call: str) -> OSError:
    code = getattr(ctypes, "get_last_error", int)()
    return OSError(f"{call} failed (Windows error {code})")
