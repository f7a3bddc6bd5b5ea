"""A worker of the warm pool: prepared, it waits at its standard input for the one request it will ever serve."""

from __future__ import annotations

import os
import socket
import sys

from rlm_integrations.sandbox import worker
from rlm_integrations.sandbox.repl import Repl
from rlm_integrations.sandbox.zygote import REQUEST, SKIPPED

UNBOUND = "a worker of the pool is started by a thread of the host, which may end before the host does"


def main(repl: Repl) -> None:
    """Wait for the request, then serve the host. An end of input means that no request will come."""
    if os.name == "posix":
        with socket.socket(fileno=os.dup(0)) as stdin:
            request, sockets, _, _ = socket.recv_fds(stdin, REQUEST.size, 1)
        if len(request) < REQUEST.size or not sockets:
            return
        connection: int | socket.socket = take(sockets[0])
    else:
        request = sys.stdin.buffer.read(REQUEST.size)
        share = sys.stdin.buffer.read()
        if len(request) < REQUEST.size:
            return
        connection = socket.fromshare(share)  # type: ignore[attr-defined]
    memory_bytes, skip = REQUEST.unpack(request)
    skipped = tuple(name for bit, name in enumerate(SKIPPED) if skip >> bit & 1)
    worker.main(memory_bytes, os.getppid(), repl, skipped, connection, {"parent_death_signal": UNBOUND})


def take(connection: int) -> int:
    """Have ``connection`` where a worker has it, nothing at the standard input, and no other descriptor."""
    if connection != worker.CONNECTION:
        os.dup2(connection, worker.CONNECTION)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(worker.CONNECTION + 1, 256)
    return worker.CONNECTION
