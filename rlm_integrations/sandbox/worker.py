"""The process model code runs in: it locks itself, takes its variables, and runs one cell after the other."""

from __future__ import annotations

import io
import os
import random
import select
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from rlm_integrations.sandbox import confine, modules, wire
from rlm_integrations.sandbox.references import References, opened
from rlm_integrations.sandbox.repl import Repl, SubCallError
from rlm_integrations.sandbox.spin import is_ready_soon
from rlm_integrations.sandbox.values import MAX_CHARS, Unsendable
from rlm_integrations.stored.pack import Pack

CONNECTION, PACK = 3, 4
SEED = 0
WARM_UP_TIMES = 10
WARM_UP = ("n = len('text')\nfor i in range(3):\n    n += i\nprint(f'{n}')\nFINAL(n)", "1 / 0")
WARM_UP_FRAMES = b"".join(
    map(
        wire.frame,
        (
            {"functions": ["f"], "variables": ["context"], "max_output_chars": 10, "policy": True},
            {"shape": "value"},
            ["text"],
            None,
            *[{"cell": "", "code": cell} for cell in WARM_UP],
        ),
    )
)


def main(
    memory_bytes: int,
    parent: int,
    repl: Repl,
    skip: tuple[str, ...] = (),
    connection: int | socket.socket = CONNECTION,
    unfit: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Serve the host on ``connection`` until it closes the other end. Never returns.

    ``skip`` leaves layers of the lock out for tests, ``unfit`` those that do not fit this way of starting, with why.
    """
    # What is drawn is the same in every session, so that a run can be resumed.
    random.seed(SEED)
    _say_hello(connection)
    host = _host(connection)
    layers = confine.lock(memory_bytes, parent, (*skip, *unfit))
    layers.update((name, reason) for name, reason in unfit.items() if name in layers)
    try:
        _serve(host, repl, layers)
    finally:
        # Nothing of the prepared parent, whose copy this is, may go on running here.
        os._exit(0)


def prepare(by_socket: bool = os.name != "posix") -> Repl:
    """A REPL for the workers that are forked from this process. Cells have run before in another one: what Python
    writes down when code runs for the first times, no forked copy has to write again."""
    facades = modules.build()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(WARM_UP_TIMES):
            connection = theirs if by_socket else theirs.fileno()
            _say_hello(connection)
            if hasattr(socket, "recv_fds"):
                for handle in socket.recv_fds(ours, 1000, 1)[1]:
                    os.close(handle)
            else:
                ours.recv(1000)
            host = _host(connection)
            ours.sendall(WARM_UP_FRAMES)
            repl = Repl(facades)
            _begin(host, repl, {})
            for cell in WARM_UP:
                host.message()
                host.finish(*repl.run(cell))
            ours.recv(10_000)
    return Repl(facades)


def _host(connection: int | socket.socket) -> _Host:
    return _Host(connection) if isinstance(connection, int) else _HostBySocket(connection)


def _say_hello(connection: int | socket.socket) -> None:
    """Tell the host which process this is, with a handle that can't come to mean another one."""
    hello = wire.frame({"type": "hello", "pid": os.getpid()})
    with socket.socket(fileno=os.dup(connection)) if isinstance(connection, int) else connection.dup() as host:
        if not hasattr(os, "pidfd_open"):
            host.sendall(hello)
            return
        try:
            handle = os.pidfd_open(os.getpid())
        except OSError:  # from a kernel that does not have it, or a jail that forbids it
            host.sendall(hello)
            return
        socket.send_fds(host, [hello], [handle])
        os.close(handle)


def _serve(host: _Host, repl: Repl, layers: dict[str, str | None]) -> None:
    _begin(host, repl, layers)
    while True:
        step = host.message()
        host.cell = step["cell"]
        stdout, error, final = repl.run(step["code"])
        host.finish(stdout, error, final, repl.spent)


def _begin(host: _Host, repl: Repl, layers: dict[str, str | None]) -> None:
    opening = host.message()
    variables = {name: host.value() for name in opening["variables"]}
    reference = host.references.of if host.references is not None else None
    limit, policy = opening["max_output_chars"], opening["policy"]
    repl.begin(variables, opening["functions"], host.call, limit, policy=policy, reference=reference)
    host.send({"type": "ready", "layers": layers})


class _Host:
    """The worker's end of the wire."""

    references: References | None = None

    def __init__(self, connection: int) -> None:
        self.cell = ""
        self._connection = connection
        self._reader = io.BufferedReader(io.FileIO(connection, closefd=False), 1 << 16)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def message(self) -> dict[str, Any]:
        _, body = self._frame()
        message: dict[str, Any] = wire.loads(body)
        return message

    def value(self) -> Any:
        """What the host delivers: a shape, then parts in batches; what is long or large comes before its batch."""
        message = self.message()
        return self._stored(message) if message["shape"] == "stored" else self._container(message["shape"])

    def _stored(self, told: dict[str, Any]) -> Any:
        """A value that stands in the file which this worker was given."""
        if told["numbers"] is not None:
            numbers = wire.numbers_of(told["numbers"])
        else:
            numbers = tuple(number for some in iter(self._numbers, None) for number in some)
        pack = Pack(PACK, told["documents"], told["table"])
        if told["kind"] in ("documents", "document"):
            self.references = References(pack)
        return opened(pack, told["kind"], numbers)

    def _numbers(self) -> list[int] | None:
        numbers: list[int] | None = wire.loads(self._frame()[1])
        return numbers

    def _container(self, shape: str) -> Any:
        whole: Any = {} if shape == "dict" else []
        apart: list[Any] = []
        while True:
            kind, body = self._frame()
            if kind != wire.JSON:
                apart.append(self._text(kind, body))
                del body
                continue
            batch = wire.loads(body)
            if batch is None:
                return whole[0] if shape == "value" else whole
            if type(batch) is dict:
                apart.append(self._container(batch["shape"]))
                continue
            taken = _taking(apart)
            parts = [wire.untagged(item, taken) for item in batch]
            del apart[:]
            whole.update(parts) if shape == "dict" else whole.extend(parts)

    def _text(self, kind: int, body: bytes) -> str:
        text = ""
        # On a local CPython grows the string in place, so that there is never a second copy. A ``while`` loop is never
        # warmed up to that in 3.11.
        for piece in self._pieces(kind, body):
            text += piece
        return text

    def _pieces(self, kind: int, body: bytes) -> Iterator[str]:
        while True:
            piece = body.decode("utf-8", "surrogatepass")
            del body
            yield piece
            if kind == wire.TEXT_END:
                return
            kind, body = self._frame()

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What the host answers to a call of one of its functions. Raises ``SubCallError`` if it failed."""
        self.send(
            {
                "type": "call",
                "cell": self.cell,
                "name": name,
                "args": wire.tagged(args),
                "kwargs": wire.tagged(kwargs),
            }
        )
        is_ready_soon(self._poll)
        answer = self.message()
        if answer["error"] is not None:
            raise SubCallError(answer["error"])
        return self.value() if answer["apart"] else wire.untagged(answer["value"])

    def finish(self, stdout: str, error: str | None, final: tuple[Any, list[str]] | None, spent: bool = False) -> None:
        """The cell has ended."""
        done: dict[str, Any] = {"type": "done", "cell": self.cell, "stdout": stdout, "error": error}
        done |= {"final": None, "spent": spent}
        if final is not None:
            done["final"] = {"value": wire.tagged(final[0]), "quotes": final[1]}
        try:
            self.send(done)
        except Unsendable as refused:
            self.send({**done, "final": None, "error": f"{error or ''}{refused}"})

    def send(self, message: dict[str, Any]) -> None:
        data = wire.frame(message)
        if len(data) > wire.MAX_FRAME_BYTES:
            raise Unsendable(f"{len(data):,} bytes at once are too many: pass pieces of less than {MAX_CHARS // 4:,}")
        self._write(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._connection, rest) :]

    def _frame(self) -> tuple[int, bytes]:
        header = self._reader.read(wire.HEADER.size)
        if len(header) < wire.HEADER.size:
            raise EOFError
        length, kind = wire.HEADER.unpack(header)
        body = self._reader.read(length)
        if len(body) < length:
            raise EOFError
        return kind, body


class _HostBySocket(_Host):
    """The same where a socket is no descriptor to read and write: on Windows."""

    def __init__(self, connection: socket.socket) -> None:
        self.cell = ""
        self._socket = connection
        # What ``makefile`` gives would keep the socket open after its end.
        self._reader = io.BufferedReader(socket.SocketIO(connection, "r"), 1 << 16)  # type: ignore[arg-type]
        self._poll = None  # type: ignore[assignment]

    def _write(self, data: bytes) -> None:
        self._socket.sendall(data)


def _taking(parts: list[Any]) -> Iterator[Any]:
    parts.reverse()
    while parts:
        yield parts.pop()
