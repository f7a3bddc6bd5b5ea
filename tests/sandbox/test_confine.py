"""Each layer of the lock holds by itself, and its test goes red when that layer alone is switched off."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import ProcessSandbox, Run, confine
from rlm_integrations.sandbox.launcher import Launcher
from rlm_integrations.sandbox.zygote import SKIPPED
from tests.sandbox.conftest import run_cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="layers of Linux")


def output_of(code: str, *skip: str, policy: bool = False) -> str:
    """What harmless code prints, or its error, with layers left out."""
    with ProcessSandbox(timeout_s=10) as sandbox:
        sandbox._policy, sandbox._launcher = policy, Launcher(skip)
        session = sandbox.open({"context": "x"}, [])
        output = run_cell(session, code)
        session.close()
        sandbox._launcher.close()
        return (output.stdout + (output.error or "")).strip()


# Memory that may be read, written and executed, private and of no file.
EXECUTABLE = """
import ctypes
mmap = ctypes.CDLL(None).mmap
mmap.restype = ctypes.c_void_p
print("refused" if mmap(None, 4096, 7, 0x22, -1, 0) == 2**64 - 1 else "mapped")
"""


@pytest.fixture
def canary(open_path: Path) -> str:
    (open_path / "canary").write_text("CANARY")
    return str(open_path / "canary")


@pytest.fixture
def listener() -> Iterator[int]:
    import pytest_socket

    pytest_socket.enable_socket()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
    pytest_socket.disable_socket(allow_unix_socket=True)


def test_landlock_alone_keeps_files_from_being_read_and_made(canary: str) -> None:
    read, make = f"print(open({canary!r}).read())", f"import os\nprint(os.mkdir({canary + '-made'!r}))"
    assert "PermissionError" in output_of(read, "seccomp")
    assert "PermissionError" in output_of(make, "seccomp")
    assert output_of(read, "seccomp", "landlock") == "CANARY"
    assert output_of(make, "seccomp", "landlock") == "None"


def test_landlock_alone_keeps_the_network_away(listener: int) -> None:
    connect = f"import socket\ns = socket.create_connection(('127.0.0.1', {listener}), 2)\ns.close()\nprint('reached')"
    assert "PermissionError" in output_of(connect, "seccomp")
    assert output_of(connect, "seccomp", "landlock") == "reached"


def test_seccomp_alone_refuses_calls_that_are_not_listed(canary: str, listener: int) -> None:
    codes = {
        f"print(open({canary!r}).read())": "CANARY",
        "import os\nprint(os.getppid() > 0)": "True",
        "import socket\nsocket.socket().close()\nprint('made')": "made",
        EXECUTABLE: "mapped",
    }
    for code, effect in codes.items():
        assert output_of(code, "landlock") != effect
        assert output_of(code, "landlock", "seccomp") == effect


def test_rlimits_alone_bound_memory() -> None:
    # Never touched, or the host would see that it is held.
    code = "import mmap\nprint(len(mmap.mmap(-1, 1 << 30, flags=0x22)))"
    assert "Cannot allocate memory" in output_of(code)
    assert output_of(code, "rlimits") == str(1 << 30)


# By limit: harmless code, and the word that tells that it had an effect.
BOUNDED = {
    "FSIZE": ("with open({made!r}, 'wb', 0) as file:\n    print('wrote', file.write(b'x'))", "wrote 1"),
    "NOFILE": ("import os\nprint('opened', len([os.dup(0) for _ in range(20)]))", "opened 20"),
    "NPROC": ("import os\nif os.fork() == 0:\n    os._exit(0)\nprint('forked', os.wait()[1])", "forked 0"),
    "MEMLOCK": ("import ctypes\nprint('locked', ctypes.CDLL(None).mlock(ctypes.c_void_p(id(ctypes)), 1))", "locked 0"),
    "CORE": ("import resource as r\nprint('core', r.getrlimit(r.RLIMIT_CORE)[1] != 0)", "core True"),
    "MSGQUEUE": ("import resource as r\nprint('queue', r.getrlimit(r.RLIMIT_MSGQUEUE)[1] != 0)", "queue True"),
}


@pytest.mark.parametrize("limit", BOUNDED)
def test_rlimits_alone_bound_what_a_process_may_take(limit: str, canary: str) -> None:
    assert {f"RLIMIT_{name}" for name in BOUNDED} == set(confine.LIMITS)
    code, effect = BOUNDED[limit]
    code = code.format(made=canary + "-made")
    assert effect not in output_of(code, "seccomp", "landlock")
    assert output_of(code, "seccomp", "landlock", "rlimits") == effect


@pytest.mark.parametrize("layer", [None, "parent_death_signal"])
def test_the_parent_death_signal_alone_ends_a_worker_whose_parent_was_killed(layer: str | None) -> None:
    with ProcessSandbox() as sandbox:
        sandbox._launcher = launcher = Launcher((layer,) if layer else ())
        session = sandbox.open({"context": "x"}, [])
        session.advance(Run("1"))
        parent = launcher._parent._process
        parent.kill()
        parent.wait()
        output = session.advance(Run("print(context)"))
        assert output.restarted == (layer is None)
        session.close()
        launcher.close()


def test_a_worker_alone_keeps_others_of_its_user_from_looking_into_it() -> None:
    # A process that gives up being root is made so by the kernel, too.
    code, others = "import ctypes\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))", ("seccomp", "unprivileged_user")
    assert output_of(code, *others) == "0"
    assert output_of(code, *others, "not_dumpable") == "1"


def test_no_new_privileges_alone_can_be_given_to_a_worker_that_then_locks_itself() -> None:
    code = "print([line for line in open('/proc/thread-self/status') if line.startswith('NoNewPrivs')][0].split()[1])"
    assert output_of(code, "seccomp", "landlock") == "1"
    assert output_of(code, "seccomp", "landlock", "no_new_privileges") == "0"
    with ProcessSandbox() as sandbox:
        sandbox._launcher = Launcher(("no_new_privileges",))
        assert set(sandbox.report().missing) == {"no_new_privileges", "landlock", "seccomp"}
        sandbox._launcher.close()


def test_every_layer_can_be_switched_off() -> None:
    assert set(confine.LAYERS) <= set(SKIPPED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
def test_a_worker_of_root_is_nobody_and_in_no_group() -> None:
    code = "import os\nprint(os.getuid(), os.getgid(), os.getgroups())"
    assert output_of(code, "seccomp") == "65534 65534 []"
    assert output_of(code, "seccomp", "unprivileged_user").startswith("0 0")


def test_the_policy_alone_refuses_what_leads_out_of_the_language() -> None:
    code = "print((lambda: 0).__globals__['__name__'])"
    assert "NotAllowed" in output_of(code, policy=True)
    assert output_of(code) == "__main__"


def test_a_worker_sees_no_environment_no_arguments_and_no_descriptor_but_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLM_CANARY", "CANARY")
    code = "import os, sys\nprint(dict(os.environ), sys.argv, sys.path, sorted(os.listdir('/proc/self/fd'))[:-1])"
    # The last descriptor is the one that lists them.
    assert output_of(code, "seccomp", "landlock") == "{} [] [] ['0', '1', '2', '3']"
    assert "CANARY" not in output_of("import os\nprint(os.environ)")


def test_a_worker_has_no_descriptor_but_its_own_where_the_host_has_many() -> None:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(300)]
    try:
        code = "import os\nprint(sorted(os.listdir('/proc/self/fd'))[:-1])"
        assert output_of(code, "seccomp", "landlock") == "['0', '1', '2', '3']"
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_nothing_can_be_made_in_the_working_directory() -> None:
    assert "FileNotFoundError" in output_of("open('x', 'w')", "seccomp", "landlock", "unprivileged_user")


def test_the_kernel_says_that_the_worker_is_locked(sandbox: ProcessSandbox) -> None:
    session = sandbox.open({"context": "x"}, [])
    session.advance(Run("1"))
    status = Path(f"/proc/{session._worker._pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    session.close()
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["Threads"]) == ("1", "2", "1")
    assert fields["CapEff"] == fields["CapPrm"] == "0000000000000000"


def test_the_report_names_every_layer(sandbox: ProcessSandbox) -> None:
    report = sandbox.report()
    assert set(report.layers) == {"process", "policy", *confine.LAYERS}
    assert report.strict == (not report.missing)
    assert {name for name, in_force in report.layers.items() if not in_force} == set(report.missing)


def test_the_report_says_why_a_layer_is_missing() -> None:
    with ProcessSandbox() as sandbox:
        sandbox._launcher = Launcher(("landlock",))
        report = sandbox.report()
        sandbox._launcher.close()
    assert report.missing == {"landlock": "switched off"}
    assert not report.strict


def test_strict_refuses_to_start_without_landlock_or_seccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "unavailable", lambda: {"landlock": "the kernel has no Landlock"})
    with ProcessSandbox(isolation="strict") as sandbox, pytest.raises(SandboxError, match="no Landlock"):
        sandbox.open({}, [])


@pytest.mark.parametrize("layer", ["landlock", "seccomp", "rlimits"])
def test_strict_refuses_a_worker_that_could_not_lock_itself(layer: str) -> None:
    with ProcessSandbox(isolation="strict") as sandbox:
        sandbox._launcher = Launcher((layer,))
        session = sandbox.open({"context": "x"}, [])
        with pytest.raises(SandboxError, match=f"needs {layer}"):
            session.advance(Run("1"))
        sandbox._launcher.close()


def test_auto_warns_once_of_a_missing_layer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(confine, "unavailable", lambda: {"landlock": "too old a kernel"})
    monkeypatch.setattr("rlm_integrations.sandbox.session._warned", set())
    with caplog.at_level(logging.WARNING), ProcessSandbox() as sandbox:
        sandbox.open({}, []).close()
        sandbox.open({}, []).close()
    assert [record.message for record in caplog.records] == ["the sandbox runs without landlock: too old a kernel"]


def test_a_layer_that_a_worker_could_not_put_in_force_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rlm_integrations.sandbox.session._warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            output_of("1", "seccomp")
    assert [record.message for record in caplog.records] == ["the sandbox runs without seccomp: switched off"]
