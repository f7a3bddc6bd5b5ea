"""The lock of macOS: what is asked of libSystem, and, on macOS only, that it holds."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import ProcessSandbox, confine, seatbelt
from tests.sandbox.conftest import run_cell


class System:
    """Plays libSystem's two calls."""

    def __init__(self, reason: bytes | None = None) -> None:
        self.reason, self.calls = reason, list[Any]()

    def sandbox_init(self, profile: bytes, flags: Any, message: Any) -> int:
        self.calls.append((profile, flags.value))
        message._obj.value = self.reason
        return -1 if self.reason else 0

    def sandbox_free_error(self, message: Any) -> None:
        self.calls.append(message.value)


def test_everything_is_denied_by_a_profile_given_as_text() -> None:
    system = System()
    seatbelt.steps(system)["seatbelt"]()
    assert system.calls == [(b"(version 1)\n(deny default)\n", 0)]


def test_a_profile_that_is_refused_is_a_layer_missing_with_the_reason() -> None:
    system = System(b"no such thing")
    with pytest.raises(OSError, match="sandbox_init refused: no such thing"):
        seatbelt.steps(system)["seatbelt"]()
    assert system.calls[1:] == [b"no such thing"]


@pytest.mark.skipif(sys.platform == "darwin", reason="would lock the tests themselves")
def test_on_macos_every_layer_is_tried_and_reported_as_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    tried, system = [], System()
    monkeypatch.setattr(seatbelt, "_drop_root", lambda: tried.append("root"))
    monkeypatch.setattr(seatbelt.resource, "setrlimit", lambda number, limits: tried.append((number, limits)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: system)
    missing = "only Linux has it, and this is darwin"
    own: dict[str, str | None] = dict.fromkeys(("unprivileged_user", "rlimits", "seatbelt"))
    assert confine.lock(1 << 30, 1) == {**own, "landlock": missing, "seccomp": missing}
    assert tried[0] == "root"
    assert (seatbelt.resource.RLIMIT_NPROC, (0, 0)) in tried
    assert len(tried) == 1 + len(seatbelt.LIMITS)
    system.reason = b"refused"
    assert confine.lock(1 << 30, 1)["seatbelt"] == "sandbox_init refused: refused"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_strict_is_refused_where_there_is_no_linux(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    confine.unavailable.cache_clear()
    monkeypatch.setattr(sys, "platform", platform)
    try:
        with (
            ProcessSandbox(isolation="strict") as sandbox,
            pytest.raises(
                SandboxError, match=f"needs Landlock and seccomp .*only Linux has it, and this is {platform}"
            ),
        ):
            sandbox.open({}, [])
    finally:
        confine.unavailable.cache_clear()


def test_what_linux_alone_has_is_warned_of_once_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    confine.unavailable.cache_clear()
    monkeypatch.setattr("rlm_integrations.sandbox.session._warned", set())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        confine.unavailable()
    with ProcessSandbox() as sandbox:
        sandbox.open({}, []).close()
        sandbox.open({}, []).close()
    confine.unavailable.cache_clear()
    missing = "only Linux has it, and this is darwin"
    assert {record.message for record in caplog.records} == {
        f"the sandbox runs without {name}: {missing}" for name in ("landlock", "seccomp")
    }
    assert len(caplog.records) == 2


@pytest.mark.skipif(sys.platform != "darwin", reason="needs macOS")
def test_seatbelt_keeps_files_and_programs_away(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("CANARY")
    with ProcessSandbox() as sandbox:
        sandbox._policy = False
        assert sandbox.report().layers["seatbelt"]
        session = sandbox.open({"context": "x"}, [])
        assert "Error" in run_cell(session, f"print(open({str(tmp_path / 'canary')!r}).read())").error  # type: ignore[operator]
        assert "Error" in run_cell(session, f"open({str(tmp_path / 'made')!r}, 'w')").error  # type: ignore[operator]
        assert "Error" in run_cell(session, "import os\nprint(os.fork())").error  # type: ignore[operator]
        assert run_cell(session, "print(1)").stdout == "1\n"
        session.close()
