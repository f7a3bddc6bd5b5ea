"""What the lock lets through to the kernel: every number of the machine's table is tried in a locked worker, and the
filter is run for both machines by a small interpreter of classic BPF.

    read write                    the worker's connection and what stands below it (/dev/null); no other descriptor
    pread64                       the file of a context on disk, which has a place of its own, and no other descriptor
    poll (ppoll)                  readiness of a descriptor
    mmap mprotect                 private memory that is not executable; of no file but the one it may read anyway
    munmap mremap brk             its own memory
    madvise                       MADV_DONTNEED and MADV_FREE
    futex                         wait and wake; no priority inheritance
    clock_gettime clock_getres    the system's clocks, not those of other processes
    clock_nanosleep gettimeofday time sched_yield getrandom
    rt_sigreturn restart_syscall  the way back from a signal, and from having been stopped
    exit_group

The kernel lets ``uprobe`` and ``uretprobe`` (x86_64) past every filter; outside a probe, which only root can place,
they do nothing or end the process.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rlm_integrations.sandbox import ProcessSandbox, confine
from rlm_integrations.sandbox.launcher import Launcher
from tests.sandbox.conftest import run_cell

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in confine._MACHINES, reason="a filter of Linux"
)

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
NUMBERS = range(600)
X32 = 0x40000000
ENDING = {"exit_group", "rt_sigreturn", "restart_syscall"}  # They end the worker, or do nothing outside a handler.
PAST_FILTERS = {335, 336} if os.uname().machine == "x86_64" else set[int]()

PROBE = """
import ctypes, json
call = ctypes.CDLL(None, use_errno=True).syscall
def errno(number, *args):
    ctypes.set_errno(0)
    full = [*args, *[0] * (6 - len(args))]
    result = call(ctypes.c_long(number), *map(ctypes.c_ulong, full))
    return ctypes.get_errno() if result == -1 else 0
"""


def verdict(machine: str, number: int, *args: int, arch: int | None = None) -> int:
    """What the filter of ``machine`` says to a call."""
    words = [*args, *[0] * (6 - len(args))]
    data = struct.pack("<IIQ6Q", number, confine._MACHINES[machine][0] if arch is None else arch, 0, *words)
    code, accumulator, at = program(machine), 0, 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += true if accumulator == value else false
            case 0x06:
                return value


def program(machine: str) -> list[tuple[int, int, int, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6", "1", machine)))
        return list(struct.iter_unpack("=HBBI", confine._filter.__wrapped__()))


@pytest.fixture(params=sorted(confine._MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def native() -> dict[str, int]:
    """This machine's numbers."""
    return confine._MACHINES[os.uname().machine][2]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    with ProcessSandbox(timeout_s=20) as sandbox:
        sandbox._policy = False
        yield sandbox


def probe(sandbox: ProcessSandbox, code: str) -> dict[str, int]:
    """``code`` prints a dict as JSON, in a locked worker without the language layer."""
    session = sandbox.open({"context": "x"}, [])
    output = run_cell(session, PROBE + code)
    session.close()
    assert output.error is None
    found: dict[str, int] = json.loads(output.stdout)
    return found


def test_exactly_the_listed_calls_get_through(sandbox: ProcessSandbox, native: dict[str, int]) -> None:
    skipped = {native[name] for name in ENDING} | PAST_FILTERS
    code = f"print(json.dumps({{n: errno(n) for n in range({len(NUMBERS)}) if n not in {skipped!r}}}))"
    through = {int(number) for number, error in probe(sandbox, code).items() if error != 1}
    # With zeros for arguments ``madvise`` gives advice that is not on the list, and ``pread64`` reads the input.
    assert through | {native["madvise"], native["pread64"]} == set(native.values()) - skipped


def test_the_filter_allows_what_is_listed_and_refuses_all_other_numbers(machine: str) -> None:
    listed = confine._MACHINES[machine][2]
    good = {"madvise": (0, 0, 4), "pread64": (4,)}
    allowed = {number for name, number in listed.items() if verdict(machine, number, *good.get(name, ())) == ALLOW}
    assert allowed == set(listed.values())
    others = {*NUMBERS, *range(X32, X32 + 600), 2**32 - 1} - allowed
    assert {verdict(machine, number) for number in others} == {REFUSE}


@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0xC000003E ^ 0x80000000, 0])
def test_a_call_by_another_abi_is_the_end(machine: str, arch: int) -> None:
    assert {verdict(machine, number, arch=arch) for number in NUMBERS} == {KILL}


ARGUMENTS = [
    ("read", (3,), (4,)),
    ("read", (0,), (408,)),
    ("write", (3,), (2**32 - 1,)),
    ("pread64", (4,), (3,)),
    ("pread64", (4,), (5,)),
    ("pread64", (4,), (2**32 - 1,)),
    ("mmap", (0, 4096, 3, 0x22), (0, 4096, 7, 0x22)),
    ("mmap", (0, 4096, 0, 0x20022), (0, 4096, 4, 0x22)),
    ("mmap", (0, 4096, 3, 0x4022), (0, 4096, 3, 0x21)),
    ("mmap", (0, 4096, 3, 0x32), (0, 4096, 3, 0x40022)),
    ("mmap", (0, 4096, 3, 0x22), (0, 4096, 3, 0x23)),
    ("mmap", (0, 4096, 3, 0x22), (0, 4096, 3, 0x2022)),
    ("mprotect", (0, 4096, 3), (0, 4096, 5)),
    ("madvise", (0, 4096, 4), (0, 4096, 12)),
    ("madvise", (0, 4096, 8), (0, 4096, 100)),
    ("futex", (0, 128), (0, 6)),
    ("futex", (0, 1), (0, 128 | 12)),
    ("futex", (0, 128 | 256 | 9), (0, 11)),
    ("clock_gettime", (1,), (2**32 - 6,)),
    ("clock_getres", (4,), (16,)),
    ("clock_nanosleep", (0,), (2**32 - 38,)),
]


@pytest.mark.parametrize(("name", "good", "bad"), ARGUMENTS)
def test_an_argument_decides(machine: str, name: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    number = confine._MACHINES[machine][2][name]
    assert verdict(machine, number, *good) == ALLOW
    assert verdict(machine, number, *bad) == REFUSE
    # Only the low half is what the kernel looks at.
    assert verdict(machine, number, *(word | 1 << 40 for word in bad)) == REFUSE


def test_the_kernel_decides_as_the_filter_says(sandbox: ProcessSandbox, native: dict[str, int]) -> None:
    calls = [(native[name], args) for name, _, args in ARGUMENTS]
    code = f"print(json.dumps({{str(call): errno(call[0], *call[1]) for call in {calls!r}}}))"
    assert set(probe(sandbox, code).values()) == {1}


def test_no_memory_of_a_worker_can_be_made_executable(sandbox: ProcessSandbox, native: dict[str, int]) -> None:
    code = f"""
buffer = ctypes.create_string_buffer(8192)
page = (ctypes.addressof(buffer) + 4095) & ~4095
print(json.dumps({{"readable": errno({native["mprotect"]}, page, 4096, 3),
                  "executable": errno({native["mprotect"]}, page, 4096, 7)}}))"""
    assert probe(sandbox, code) == {"readable": 0, "executable": 1}


# The machine code of ``getpid`` by the gates for 32-bit and x32 programs, in a process that locks itself first. It is
# harmless: without a lock it gives the number of the process. With one, the end tells the error: 50 + EPERM.
GATES = {
    "int 0x80": ("b8 14 00 00 00 cd 80 c3", -signal.SIGSYS),
    "x32": ("b8 27 00 00 40 0f 05 c3", 51),
    "native": ("b8 27 00 00 00 0f 05 c3", 51),
}
GATE = """
import ctypes, mmap, sys
from rlm_integrations.sandbox import confine
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex(sys.argv[1]))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if sys.argv[2] == "locked":
    confine._prctl(confine.PR_SET_NO_NEW_PRIVS, 1)
    confine._seccomp()
result = call()
confine._libc()._exit(50 - result if result < 0 else 100)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="gates of x86_64")
@pytest.mark.parametrize("gate", GATES)
def test_the_other_gates_into_the_kernel_are_shut(gate: str) -> None:
    code, end = GATES[gate]
    done = subprocess.run([sys.executable, "-c", GATE, code, "locked"], capture_output=True, timeout=30, check=False)
    assert done.returncode == end, done.stderr
    if gate == "native":
        done = subprocess.run([sys.executable, "-c", GATE, code, "open"], capture_output=True, timeout=30, check=False)
        assert done.returncode == 100


def test_a_switched_off_filter_is_seen(native: dict[str, int]) -> None:
    with ProcessSandbox() as sandbox:
        sandbox._policy, sandbox._launcher = False, Launcher(("seccomp",))
        harmless = {"x86_64": 39, "aarch64": 172}[os.uname().machine]
        assert probe(sandbox, f"print(json.dumps({{'getpid': errno({harmless})}}))") == {"getpid": 0}
        sandbox._launcher.close()
