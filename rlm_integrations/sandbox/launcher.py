"""The host's end of the prepared parent: starts it, asks it for workers, ends it."""

from __future__ import annotations

import array
import contextlib
import errno
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.zygote import REQUEST, SKIPPED

STOP_S = 5.0


class Launcher:
    """Starts workers, for any number of threads. A forked copy of the host, or a lost parent, starts a new one."""

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        self._skip = sum(1 << SKIPPED.index(name) for name in skip)
        self._lock = threading.Lock()
        self._parent: _Parent | None = None
        _launchers.add(self)

    def launch(self, worker_end: socket.socket, memory_bytes: int) -> bool:
        """Ask for a worker on ``worker_end``. False if so many were asked for that this one must be asked for again.

        Raises ``SandboxError`` if no worker can be started here.
        """
        if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
            raise SandboxError(f"ProcessSandbox needs POSIX, not {sys.platform}: pass another sandbox, or use WSL")
        with self._lock:
            for _ in range(2):
                if self._parent is None:
                    self._parent = _Parent()
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [worker_end.fileno()]))]
                try:
                    self._parent.control.sendmsg([REQUEST.pack(memory_bytes, self._skip)], rights)
                    return True
                except OSError as error:
                    if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                        return False
                    self._parent.stop()
                    self._parent = None
            raise SandboxError(
                "the process that starts workers does not stay alive: check `report()` and the memory left"
            )

    def close(self) -> None:
        """End the parent and all its workers."""
        with self._lock:
            if self._parent is not None:
                self._parent.stop()
                self._parent = None

    def forget(self) -> None:
        """In a forked copy of the host: let go of what belongs to the original."""
        self._lock = threading.Lock()
        if self._parent is not None:
            self._parent.forget()
            self._parent = None


class _Parent:
    """One prepared parent process."""

    def __init__(self) -> None:
        try:
            self.control, theirs = socket.socketpair()
        except OSError as error:
            raise SandboxError(f"no process could be started for the sandbox: {error}") from error
        self.control.setblocking(False)
        # A directory that is gone: nothing can be made in it, and nothing stays behind.
        folder = tempfile.mkdtemp(prefix="rlm-")
        number = str(theirs.fileno())
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", _script(), number, *_directories()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=STDERR,
                    cwd=folder,
                    env={},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            self.control.close()
            raise SandboxError(f"no process could be started for the sandbox: {error}") from error
        finally:
            os.rmdir(folder)
        self.stop = weakref.finalize(self, _stop, self.control, self._process)

    def forget(self) -> None:
        self.stop.detach()
        self.control.close()
        # It is not this process' child.
        self._process.returncode = 0


STDERR: int | None = subprocess.DEVNULL


def _stop(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 9)
        process.wait()


def _script() -> str:
    return str(Path(wire.__file__).with_name("zygote.py"))


def _directories() -> list[str]:
    found = importlib.util.find_spec("RestrictedPython")
    if found is None or not found.submodule_search_locations:
        raise SandboxError("RestrictedPython is not installed: pip install 'RestrictedPython>=9,<10'")
    return [
        str(Path(wire.__file__).parents[1]),
        *{str(Path(place).parent) for place in found.submodule_search_locations},
    ]


_launchers: weakref.WeakSet[Launcher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_launchers):
        launcher.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
