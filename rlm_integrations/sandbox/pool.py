"""A warm pool of workers, where there is no ``fork``: each is a process of its own, prepared and waiting."""

from __future__ import annotations

import array
import contextlib
import socket
import subprocess
import threading
import weakref

from rlm_integrations.errors import SandboxError
from rlm_integrations.sandbox import job_object
from rlm_integrations.sandbox.launcher import POSIX, STOP_S, launchers, spawn
from rlm_integrations.sandbox.zygote import POOLED, REQUEST, SKIPPED

__all__ = ["PoolLauncher"]

IDLE = 2


class PoolLauncher:
    """Starts workers ahead of need, for any number of threads: the next one whenever one is taken, in no thread.

    A worker serves one session and ends with it; the next launch takes note of its end. On Windows it is put into a
    Job Object first. Works on POSIX too, but there a worker that never looks up outlives a host killed by SIGKILL.
    """

    takes_packs = False

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        self._skip = sum(1 << SKIPPED.index(name) for name in skip)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._taken: list[_Process] = []
        self._stop = weakref.finalize(self, _stop, self._idle, self._taken)
        launchers.add(self)

    def launch(self, worker_end: socket.socket, memory_bytes: int, pack: int | None = None) -> bool:
        """See ``Starter``."""
        with self._lock:
            self._taken[:] = [process for process in self._taken if process.runs()]
            request = REQUEST.pack(memory_bytes, self._skip)
            while True:
                # One that waited may have been killed from outside; a new one fails only where nothing can be had.
                fresh = not self._idle
                process = _Process() if fresh else self._idle.pop(0)
                self._taken.append(process)
                if process.take(request, worker_end, memory_bytes):
                    break
                if fresh:
                    raise SandboxError("a process for the sandbox ended at once: check the memory left")
            # Those that wait are a gain in time only: that there can be no more now is told to who needs one.
            with contextlib.suppress(SandboxError):
                while len(self._idle) < IDLE:
                    self._idle.append(_Process())
            return True

    def kill(self, pid: int) -> None:
        """See ``Starter``. A process that was not waited for keeps its number, so that it can mean no other."""
        with self._lock:
            for process in self._taken:
                if process.pid == pid:
                    process.kill()

    def trouble(self) -> str | None:
        """See ``Starter``; here each worker has only itself."""
        return None

    def close(self) -> None:
        """End all workers, those that wait and those at work."""
        with self._lock:
            _stop(self._idle, self._taken)

    def forget(self) -> None:
        """In a forked copy of the host: let go of what belongs to the original."""
        self._lock = threading.Lock()
        for process in (*self._idle, *self._taken):
            process.forget()
        del self._idle[:], self._taken[:]


class _Process:
    """One process of the pool: waiting for its request at first, then a worker."""

    def __init__(self) -> None:
        self._job: job_object.Job | None = None
        self._control: socket.socket | None = None
        if not POSIX:
            self._process = spawn(POOLED, subprocess.PIPE)
            return
        try:
            self._control, theirs = socket.socketpair()
        except OSError as error:
            raise SandboxError(f"no process could be started for the sandbox: {error}") from error
        try:
            with theirs:
                self._process = spawn(POOLED, theirs.fileno())
        except BaseException:
            self._control.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def take(self, request: bytes, worker_end: socket.socket, memory_bytes: int) -> bool:
        """Make it the worker on ``worker_end``. False if it has ended."""
        try:
            if self._control is not None:
                with self._control:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [worker_end.fileno()]))]
                    self._control.sendmsg([request], rights)
            else:
                # Where this fails, the worker finds itself in no such job and reports the layer as missing.
                with contextlib.suppress(OSError):
                    self._job = job_object.hold(self._process, memory_bytes)
                share: bytes = worker_end.share(self.pid)  # type: ignore[attr-defined]
                assert self._process.stdin is not None
                with self._process.stdin as stdin:
                    stdin.write(request + share)
        except OSError:
            return False
        return True

    def runs(self) -> bool:
        """Whether it has not ended; takes note of its end."""
        if self._process.poll() is None:
            return True
        self._let_go()
        return False

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill it, and wait until it has gone."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._let_go()

    def forget(self) -> None:
        # It is not this process' child.
        self._process.returncode = 0
        self._let_go()

    def _let_go(self) -> None:
        for held in (self._control, self._process.stdin, self._job):
            if held is not None:
                with contextlib.suppress(OSError):
                    held.close()


def _stop(*groups: list[_Process]) -> None:
    for group in groups:
        for process in group:
            process.kill()
    for group in groups:
        for process in group:
            process.end()
        group.clear()
