"""The lock a worker puts on itself: nothing but computing, talking on its connection, and reading the pack it is given.

Written against the kernel's own interfaces with ctypes: landlock(7), seccomp(2), prctl(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
from collections.abc import Callable, Collection

from rlm_integrations.sandbox import job_object, seatbelt

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

LAYERS = (
    "unprivileged_user",
    "rlimits",
    "parent_death_signal",
    "not_dumpable",
    "no_new_privileges",
    "landlock",
    "seccomp",
)
NOBODY = 65534
LIMITS = {
    **dict.fromkeys(("RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"), 0),
    "RLIMIT_NOFILE": 8,
}

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SIGKILL = 9
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446
SECCOMP_MODE_FILTER = 2
EPERM = 1

# (AUDIT_ARCH of the kernel's headers, number of the seccomp call, allowed calls). A number that is not listed fails
# with EPERM: so do those that only close a descriptor, since a worker has one, or tell who and where it is.
_X86_64 = {
    "read": 0, "write": 1, "poll": 7, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigreturn": 15,
    "pread64": 17, "sched_yield": 24, "mremap": 25, "madvise": 28, "gettimeofday": 96, "time": 201, "futex": 202,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "getrandom": 318,
}  # fmt: skip
_AARCH64 = {
    "read": 63, "write": 64, "pread64": 67, "ppoll": 73, "exit_group": 94, "futex": 98, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128, "rt_sigreturn": 139,
    "gettimeofday": 169, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233,
    "getrandom": 278,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, 317, _X86_64), "aarch64": (0xC00000B7, 277, _AARCH64)}
# What the low half of an argument must be: (its place, bits that are looked at, values they may have).
_ARGUMENTS = {
    # The worker's connection and what stands below it, whatever else was left open.
    "read": [(0, ~0b11, [0])],
    "write": [(0, ~0b11, [0])],
    # The pack of a stored context, and nothing else.
    "pread64": [(0, ~0, [4])],
    # Not executable; private, and neither locked nor of huge pages, of which the machine has only so many.
    "mmap": [(2, 0x4, [0]), (3, 0x1 | 0x2000 | 0x40000, [0])],
    "mprotect": [(2, 0x4, [0])],
    "madvise": [(2, ~0, [4, 8])],  # MADV_DONTNEED, MADV_FREE
    # FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, private or not, by either clock: not the ones that lend priority.
    "futex": [(1, ~(128 | 256), [0, 1, 9])],
    # The system's clocks, not those of other processes.
    **{name: [(0, ~0xF, [0])] for name in ("clock_gettime", "clock_getres", "clock_nanosleep")},
}


def lock(memory_bytes: int, parent: int, skip: Collection[str] = ()) -> dict[str, str | None]:
    """Confine this process for good. For each layer: None where it is in force, else the reason why it is not.

    ``parent`` is the process whose end must end this one. ``skip`` leaves layers out, for tests of the others.
    """
    reasons: dict[str, str | None] = {}
    for layer, step in _steps(memory_bytes, parent).items():
        try:
            if layer in skip:
                raise OSError("switched off")
            step()
            reasons[layer] = None
        except (OSError, AttributeError, ImportError, ValueError) as error:
            reasons[layer] = str(error) or type(error).__name__
    return reasons


def _steps(memory_bytes: int, parent: int) -> dict[str, Callable[[], None]]:
    """The layers of this platform, in their order. Landlock and seccomp are missed everywhere but on Linux."""
    if sys.platform == "linux":
        return {
            "unprivileged_user": _drop_root,
            "rlimits": lambda: _limit(memory_bytes),
            "parent_death_signal": lambda: _die_with(parent),
            "not_dumpable": lambda: _prctl(PR_SET_DUMPABLE, 0),
            "no_new_privileges": lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1),
            "landlock": _landlock,
            "seccomp": _seccomp,
        }
    steps = {"landlock": _not_here, "seccomp": _not_here}
    if sys.platform == "darwin":
        return {**seatbelt.steps(), **steps}
    return {**job_object.steps(memory_bytes), **steps} if sys.platform == "win32" else steps


def _not_here() -> None:
    raise OSError(f"only Linux has it, and this is {sys.platform}")


@functools.cache
def unavailable() -> dict[str, str]:
    """Which of Landlock and seccomp this kernel does not offer, and why; asks without changing anything."""
    reasons: dict[str, str] = {}
    for layer, probe in (("landlock", _landlock_abi), ("seccomp", _filter)):
        if sys.platform != "linux":
            probe = _not_here
        try:
            probe()
        except (OSError, AttributeError) as error:
            reasons[layer] = str(error)
    return reasons


def _drop_root() -> None:
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit(memory_bytes: int) -> None:
    if resource is None:
        raise OSError(f"{sys.platform} does not have it")
    for name, value in (LIMITS | {"RLIMIT_AS": memory_bytes}).items():
        number = getattr(resource, name, None)
        if number is None:  # not on every system
            continue
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))


def _die_with(parent: int) -> None:
    _prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


@functools.cache
def _libc() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} does not have it")
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(option: int, value: int, pointer: object = 0) -> None:
    _check(_libc().prctl(option, ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)))


@functools.cache
def _landlock_abi() -> int:
    try:
        return _check(_libc().syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1)))
    except OSError as error:
        raise OSError(f"the kernel has no Landlock ({error.strerror or error})") from None


def _landlock() -> None:
    """A ruleset that handles every right its ABI knows and grants none."""
    libc, abi = _libc(), _landlock_abi()
    files = (1 << (16 if abi >= 5 else 15 if abi >= 3 else 14 if abi >= 2 else 13)) - 1
    rights = struct.pack("<QQQ", files, 0b11, 0b11)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _check(libc.syscall(LANDLOCK_CREATE, rights, ctypes.c_size_t(len(rights)), ctypes.c_uint(0)))
    try:
        _check(libc.syscall(LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)))
    finally:
        os.close(ruleset)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp() -> None:
    code = _filter()
    program = _Program(len(code) // 8, code)
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


@functools.cache
def _filter() -> bytes:
    """The allow-list as classic BPF: one jump for each allowed call, and EPERM for the rest."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 2**32:
        raise OSError(f"no seccomp filter for {sys.platform} on {machine}")
    if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail") and os.path.exists("/proc/sys"):
        raise OSError("the kernel has no seccomp filters")
    arch, _, calls = _MACHINES[machine]
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | EPERM, 0x80000000
    load, equal, mask, give = 0x20, 0x15, 0x54, 0x06

    def op(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, true, false, value & 0xFFFFFFFF)

    # seccomp_data: number at 0, arch at 4, arguments from 16 on, 8 bytes each, the low half first.
    program = [op(load, 0, 0, 4), op(equal, 1, 0, arch), op(give, 0, 0, kill), op(load, 0, 0, 0)]
    for name, number in calls.items():
        checks: list[bytes] = []
        for place, looked_at, values in _ARGUMENTS.get(name, ()):
            checks += [op(load, 0, 0, 16 + 8 * place), op(mask, 0, 0, looked_at)]
            checks += [op(equal, len(values) - index, 0, value) for index, value in enumerate(values)]
            checks += [op(give, 0, 0, refuse)]
        program += [op(equal, 0, len(checks) + 1, number), *checks, op(give, 0, 0, allow)]
    return b"".join([*program, op(give, 0, 0, refuse)])
