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
from rlm_integrations.sandbox import ProcessSandbox, Run, confine, process
from rlm_integrations.sandbox.launcher import Launcher
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
def canary(tmp_path: Path) -> str:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o777)
    (tmp_path / "canary").write_text("CANARY")
    return str(tmp_path / "canary")


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


def test_rlimits_alone_bound_memory_and_files() -> None:
    code = "import resource as r\nprint(len(bytearray(1 << 30)))"
    assert "MemoryError" in output_of(code)
    assert output_of(code, "rlimits") == str(1 << 30)
    limits = "import resource as r\nprint([r.getrlimit(n)[1] for n in (r.RLIMIT_FSIZE, r.RLIMIT_CORE, r.RLIMIT_NPROC)])"
    assert output_of(limits, "seccomp") == "[0, 0, 0]"


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


def test_strict_refuses_a_worker_that_could_not_lock_itself() -> None:
    with ProcessSandbox(isolation="strict") as sandbox:
        sandbox._launcher = Launcher(("seccomp",))
        session = sandbox.open({"context": "x"}, [])
        with pytest.raises(SandboxError, match="needs seccomp"):
            session.advance(Run("1"))
        sandbox._launcher.close()


def test_auto_warns_once_of_a_missing_layer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(confine, "unavailable", lambda: {"landlock": "too old a kernel"})
    monkeypatch.setattr(process, "_warned", set())
    with caplog.at_level(logging.WARNING), ProcessSandbox() as sandbox:
        sandbox.open({}, []).close()
        sandbox.open({}, []).close()
    assert [record.message for record in caplog.records] == ["the sandbox runs without landlock: too old a kernel"]
