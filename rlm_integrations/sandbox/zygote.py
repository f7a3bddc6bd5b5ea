"""The prepared parent: imports everything once, then forks a worker for each request, in about a millisecond.

Run as a script, ``python -P -s -S -B zygote.py CONTROL DIRECTORY...``. A request on the control socket is the worker's
memory limit in 8 bytes, the layers it leaves out, its socket, and a file to read if its context lies on disk; a request
without a socket names a worker to end.
When the control socket closes, the host is gone or done: all workers are killed and reaped. It has a single thread,
so that a fork is safe and that its end, not a thread's, ends the workers.

With ``POOLED`` in place of CONTROL nothing is forked: the process itself becomes a worker (``pooled.py``).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
import types
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from rlm_integrations.sandbox.repl import Repl

REQUEST = struct.Struct("!QQ")
# Layers that tests may switch off: a bit each.
SKIPPED = (
    "landlock",
    "seccomp",
    "rlimits",
    "unprivileged_user",
    "parent_death_signal",
    "not_dumpable",
    "no_new_privileges",
)

POOLED = "pooled"
# Any number that is neither a place of a worker's descriptors nor a high one.
ABOVE = 16


def main() -> None:
    """Serve until the control socket closes."""
    control = sys.argv[1]
    prepare(sys.argv[2:])
    # What the standard library does after a fork mends locks that threads held. Here are no threads, and the workers
    # seed ``random`` themselves; it takes as long as the fork.
    os.register_at_fork = lambda **functions: None
    from rlm_integrations.sandbox import confine, worker

    repl = worker.prepare()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            confine._filter()
            confine._landlock_abi()
    os.environ.clear()
    sys.path.clear()
    sys.argv.clear()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if control == POOLED:
        from rlm_integrations.sandbox import pooled

        pooled.main(repl)
    else:
        # A host with many descriptors open has one of a high number here, which a worker would not close.
        low = os.dup(int(control))
        os.close(int(control))
        serve(socket.socket(fileno=low), repl)


def serve(control: socket.socket, repl: Repl) -> None:
    """Fork a worker for each request."""
    from rlm_integrations.sandbox import worker

    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    me, workers = os.getpid(), set[int]()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = [number for number, _ in poll.poll()]
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 1024)
            _reap(workers)
        if control.fileno() not in ready:
            continue
        request, given, _, _ = socket.recv_fds(control, REQUEST.size, 2)
        if len(request) < REQUEST.size:
            break
        memory_bytes, skip = REQUEST.unpack(request)
        if not given:
            if (pid := memory_bytes) in workers:
                os.kill(pid, signal.SIGKILL)
            continue
        pid = os.fork()
        if pid == 0:
            _become_worker(given)
            worker.main(memory_bytes, me, repl, tuple(name for bit, name in enumerate(SKIPPED) if skip >> bit & 1))
        workers.add(pid)
        for descriptor in given:
            os.close(descriptor)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def prepare(directories: list[str]) -> None:
    """Make the package importable without running its ``__init__``, which is the host's business."""
    package, *others = directories
    sys.path[:0] = others
    for name in ("rlm_integrations", "rlm_integrations.sandbox", "rlm_integrations.stored"):
        module = types.ModuleType(name)
        module.__path__ = [os.path.join(package, *name.split(".")[1:])]
        sys.modules[name] = module


def _reap(workers: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            workers.discard(pid)


def _become_worker(given: list[int]) -> None:
    """Have what was given, the connection and perhaps a pack, at 3 and 4, and nothing else."""
    signal.set_wakeup_fd(-1)
    # Copies above all numbers in question first: what was given may stand where another one goes.
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, ABOVE) for descriptor in given]
    for place, copy in enumerate(copies, 3):
        os.dup2(copy, place)
    os.closerange(3 + len(given), 256)


if __name__ == "__main__":
    main()
