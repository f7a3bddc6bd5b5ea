"""The host's end of the prepared parent: starts it, asks it for workers, ends it."""

from __future__ import annotations

import array
import contextlib
import errno
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.zygote import REQUEST, SKIPPED

STOP_S = 5.0
END_S = 0.1
POSIX = os.name == "posix"
# On Windows: the interpreter of a virtual environment only starts the real one, and it is the real one that is to be
# held; sockets do not load without the system's folder; no console window, no Ctrl-C; and a directory that is the
# working directory of a process can't be removed.
PYTHON = sys.executable if POSIX else getattr(sys, "_base_executable", sys.executable)
KEPT = () if POSIX else ("SYSTEMROOT",)
CREATION_FLAGS = 0 if POSIX else 0x08000000 | 0x00000200  # CREATE_NO_WINDOW, CREATE_NEW_PROCESS_GROUP

# Sets come out in the same order in every session, so that a run that is resumed prints what it printed before. The
# seed of hashes is read from the environment only, so ``-I`` is not for us, which means ``-E -P -s``: no other variable
# is there to be read.
FLAGS = ("-P", "-s", "-S", "-B")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class Starter(Protocol):
    """Starts workers and ends them: the fork server below, or the warm pool of ``pool.py``."""

    takes_packs: bool
    """Whether its workers can be given the file of a stored context."""

    def launch(self, worker_end: socket.socket, memory_bytes: int, pack: int | None = None) -> bool:
        """Ask for a worker on ``worker_end``. False if so many were asked for that this one must be asked for again.

        ``pack`` is the descriptor of a file that the worker may read, if it ``takes_packs``. Raises ``SandboxError`` if
        no worker can be started here.
        """
        ...

    def kill(self, pid: int) -> None:
        """End the worker ``pid`` at once, if it is one of its own that still runs."""
        ...

    def trouble(self) -> str | None:
        """Why no worker starts, where that is not the worker's own fault."""
        ...

    def close(self) -> None:
        """End all workers. A later ``launch`` starts afresh."""
        ...


class Launcher:
    """Starts workers, for any number of threads. A forked copy of the host, or a lost parent, starts a new one."""

    takes_packs = True

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        self._skip = sum(1 << SKIPPED.index(name) for name in skip)
        self._lock = threading.Lock()
        self._parent: _Parent | None = None
        launchers.add(self)

    def launch(self, worker_end: socket.socket, memory_bytes: int, pack: int | None = None) -> bool:
        """See ``Starter``."""
        given = array.array("i", [worker_end.fileno()] if pack is None else [worker_end.fileno(), pack])
        with self._lock:
            for _ in range(2):
                if self._parent is None:
                    self._parent = _Parent()
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)]
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

    def kill(self, pid: int) -> None:
        """See ``Starter``. Only the parent can tell that ``pid`` has not come to mean another process."""
        with self._lock, contextlib.suppress(OSError):
            if self._parent is None:
                return
            try:
                self._parent.control.sendmsg([REQUEST.pack(pid, 0)])
            except BlockingIOError:
                # It is busy with hundreds of requests. A worker that goes on for ever is the greater harm.
                os.kill(pid, signal.SIGKILL)

    def trouble(self) -> str | None:
        """See ``Starter``."""
        with self._lock:
            code = None if self._parent is None else self._parent.exit_code()
        if code is None:
            return None
        return (
            f"the process that starts workers ended at once with exit code {code}: see whether this package is whole "
            "(pip check) and whether its files can be read"
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
        try:
            with theirs:
                self._process = spawn(str(theirs.fileno()), subprocess.DEVNULL, [theirs.fileno()])
        except BaseException:
            self.control.close()
            raise
        self.stop = weakref.finalize(self, _stop, self.control, self._process)

    def exit_code(self) -> int | None:
        """None while it runs; its sockets close a moment before it has ended."""
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return None

    def forget(self) -> None:
        self.stop.detach()
        self.control.close()
        # It is not this process' child.
        self._process.returncode = 0


STDERR: int | None = subprocess.DEVNULL


def spawn(control: str, stdin: int, descriptors: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """A new process of ``zygote.py``, with nothing of this one's. Raises ``SandboxError`` if it can't be started.

    ``control`` is its first argument: the descriptor it is told its work on, or ``POOLED`` for what is at its stdin.
    """
    folder = None
    try:
        # A directory that is gone: nothing can be made in it, and nothing stays behind.
        folder = tempfile.mkdtemp(prefix="rlm-")
        return subprocess.Popen(
            [PYTHON, *FLAGS, _script(), control, *_directories()],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=STDERR,
            cwd=folder if POSIX else os.path.dirname(PYTHON),
            env=ENVIRONMENT | {name: os.environ[name] for name in KEPT if name in os.environ},
            pass_fds=descriptors,
            start_new_session=POSIX,
            creationflags=CREATION_FLAGS,
        )
    except OSError as error:
        raise SandboxError(f"no process could be started for the sandbox: {error}") from error
    finally:
        if folder is not None:
            os.rmdir(folder)


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


class Forgetful(Protocol):
    """What must let go of the original's processes in a forked copy of the host."""

    def forget(self) -> None: ...


launchers: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(launchers):
        launcher.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
