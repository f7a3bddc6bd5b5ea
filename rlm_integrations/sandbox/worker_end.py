"""The host's end of one worker: starts it, gives it its variables, passes frames, ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from rlm_integrations.errors import SandboxError, WireError
from rlm_integrations.sandbox import wire
from rlm_integrations.sandbox.launcher import Starter
from rlm_integrations.sandbox.on_disk import OnDisk, is_on_disk
from rlm_integrations.sandbox.waiting import Steps, Wait
from rlm_integrations.sandbox.watchdog import Watchdog, is_needed

__all__ = ["Lost", "WorkerEnd"]

START_S = 60.0
RETRY_S = 0.005
# Delivering a context: no worker that reads at all is slower than this.
DELIVERY_BYTES_PER_S = 2_000_000
BATCH_CHARS = 5_000
# macOS may lose a socket on its way to another process if the sender closes it meanwhile.
HANDED_OVER_AT_ONCE = sys.platform != "darwin"
READ_BYTES = 1 << 16


class Lost(Exception):
    """The worker is of no more use; the message completes "the cell was stopped: ..."."""


class WorkerEnd:
    """The host's end of one worker."""

    def __init__(self, launcher: Starter, memory_bytes: int, disk: OnDisk | None = None) -> None:
        self._launcher, self._memory_bytes, self._disk = launcher, memory_bytes, disk
        try:
            self._socket, self._worker_end = socket.socketpair()
        except OSError as error:
            raise SandboxError(
                f"no session can be opened: {error} (fewer runs at once, or a higher ulimit -n)"
            ) from error
        self._socket.setblocking(False)
        self._reader = wire.FrameReader()
        self._handle: int | None = None
        self._host = os.getpid()
        self._pid: int | None = None
        self.layers: Mapping[str, str | None] | None = None
        self.watchdog: Watchdog | None = None
        self._launched = self._launch()

    def _launch(self) -> bool:
        """Ask for the process; False if the request does not fit in right now."""
        try:
            pack = self._disk.fd if self._disk is not None else None
            launched = self._launcher.launch(self._worker_end, self._memory_bytes, pack)
        except BaseException:
            self.close()
            raise
        if launched and HANDED_OVER_AT_ONCE:
            self._worker_end.close()
        return launched

    def start(self, opening: Mapping[str, Any], variables: Mapping[str, Any]) -> Steps[None]:
        deadline = time.monotonic() + START_S
        late = Lost(f"did not start within {START_S:g} s")
        while not self._launched:
            # Many sessions wait for the one control socket, and a loop tells only one of them: so each asks again.
            yield Wait(deadline=time.monotonic() + RETRY_S)
            if time.monotonic() > deadline:
                raise late
            self._launched = self._launch()
        try:
            hello = yield from self.receive(deadline, late, handles=True)
            if not isinstance(hello, wire.Hello):
                raise WireError("no greeting")
            self._pid = hello.pid
            self._worker_end.close()
            yield from self.send(wire.frame(opening), deadline, late)
            for value in variables.values():
                yield from self._give(value, Lost("did not take its variables"))
            # What is in a file is read only now.
            size = 0 if self._disk is None else self._disk.size
            ready = yield from self.receive(time.monotonic() + START_S + size / DELIVERY_BYTES_PER_S, late)
        except WireError as error:
            raise Lost(f"sent {error}") from None
        if not isinstance(ready, wire.Ready):
            raise Lost("sent a frame out of order")
        self.layers = ready.layers
        if is_needed(ready.layers):
            watchdog = Watchdog(hello.pid)
            self.layers = {**ready.layers, "memory_watchdog": watchdog.reason}
            self.watchdog = watchdog if watchdog.reason is None else None

    def _give(self, value: Any, late: Lost) -> Steps[None]:
        if self._disk is None or not is_on_disk(value):
            yield from self.deliver(value, late)
            return
        for data in self._disk.frames(value):
            yield from self.send(data, time.monotonic() + START_S, late)
            yield Wait()

    def deliver(self, value: Any, late: Lost, deadline: float | None = None) -> Steps[None]:
        """Send ``value`` in pieces, with turns for others in between; each by ``deadline``, or in a time of its own."""

        def post(data: bytes) -> Steps[None]:
            by = time.monotonic() + START_S + len(data) / DELIVERY_BYTES_PER_S if deadline is None else deadline
            yield from self.send(data, by, late)
            yield Wait()

        def post_batch() -> Steps[None]:
            for item in apart:
                if isinstance(item, str):
                    for data in wire.text_frames(item):
                        yield from post(data)
                else:
                    yield from self.deliver(item, late, deadline)
            yield from post(wire.frame(batch))

        shape = "dict" if isinstance(value, dict) else "list" if isinstance(value, list | tuple) else "value"
        yield from post(wire.frame({"shape": shape}))
        parts: Any = value.items() if shape == "dict" else value if shape == "list" else [value]
        batch: list[Any] = []
        apart: list[Any] = []
        size = 0
        for part in parts:
            batch.append(wire.tagged(part, apart))
            size += _weight(part)
            if size > BATCH_CHARS:
                yield from post_batch()
                batch, apart, size = [], [], 0
        yield from post_batch()
        yield from post(wire.frame(None))

    def send(self, data: bytes, deadline: float, late: Lost) -> Steps[None]:
        """All of ``data``, or ``Lost``."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                if not (yield Wait(self._socket.fileno(), deadline, write=True)):
                    raise late from None
            except OSError:
                raise Lost("died (out of memory, or a crash in native code)") from None

    def receive(self, deadline: float, late: Lost, handles: bool = False) -> Steps[Any]:
        """The next message, parsed. Raises ``Lost``, or ``WireError`` for bytes no worker of ours sends."""
        while (body := self._reader.next()) is None:
            if not (yield Wait(self._socket.fileno(), deadline)):
                raise late
            try:
                data = self._read(handles)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                raise Lost("died (out of memory, or a crash in native code)")
            self._reader.feed(data)
        return wire.parse(body, self._disk.check if self._disk is not None else None)

    def _read(self, handles: bool) -> bytes:
        if not handles or not hasattr(socket, "recv_fds"):
            return self._socket.recv(READ_BYTES)
        data, received, flags, _ = socket.recv_fds(self._socket, READ_BYTES, 1)
        if flags & socket.MSG_CTRUNC:
            # A worker that can't be killed gets no code.
            raise Lost("could not be taken hold of: no descriptor is free")
        if received:
            self._handle = received[0]
        return data

    def check_size(self) -> None:
        """Raise ``Lost`` if it holds more memory than it may."""
        if self.watchdog is not None and self.watchdog.size() > self._memory_bytes:
            raise Lost(f"held more than {self._memory_bytes >> 20} MB of memory")

    def is_spoilt(self) -> bool:
        """Whether it died, or sent something unasked."""
        if self._reader.buffer:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def kill(self) -> None:
        """End the process at once."""
        if self._host != os.getpid():
            return  # It belongs to the process this one was forked from.
        with contextlib.suppress(OSError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self._pid is not None:
                self._launcher.kill(self._pid)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the descriptors."""
        self._socket.close()
        self._worker_end.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _weight(part: Any) -> int:
    if isinstance(part, str):
        return 16 + (0 if len(part) > wire.LONG_CHARS else len(part))
    return 16 + len(part) * 64 if isinstance(part, dict | list) else 64
