"""Waiting in an event loop that can't tell when a socket is ready, as Windows' default one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest

from rlm_integrations.sandbox import CellOutput, ProcessSandbox, Resume, Run, SubCall
from rlm_integrations.sandbox.waiting import Wait, adrive


class Deaf(asyncio.SelectorEventLoop):
    """A loop that refuses what Windows' default loop refuses; its own wake-up goes by an inner method."""

    def add_reader(self, *args: Any) -> None:
        raise NotImplementedError

    add_writer = add_reader


def run(main: Any) -> Any:
    with asyncio.Runner(loop_factory=Deaf) as runner:
        return runner.run(main)


def test_cells_sub_calls_and_large_variables_go_through_a_loop_without_readers(sandbox: ProcessSandbox) -> None:
    async def main() -> list[Any]:
        session = await sandbox.aopen({"context": "x" * 5_000_000}, ["f"])
        outcomes = [await session.aadvance(Run("print(len(context))\nprint(f())"))]
        outcomes.append(await session.aadvance(Resume("answer")))
        session.close()
        return outcomes

    assert run(main()) == [SubCall("f", (), {}), CellOutput("5000000\nanswer\n")]


def test_a_cell_past_its_time_is_stopped_in_a_loop_without_readers() -> None:
    async def main() -> Any:
        session = await sandbox.aopen({"context": "x"}, [])
        return await session.aadvance(Run("while True: pass"))

    with ProcessSandbox(timeout_s=0.3) as sandbox:
        started = time.monotonic()
        assert run(main()).restarted
        assert 0.25 < time.monotonic() - started < 2


def test_waiting_without_readers_leaves_the_loop_to_others(sandbox: ProcessSandbox) -> None:
    async def one(number: int) -> str:
        session = await sandbox.aopen({"context": str(number)}, [])
        output = await session.aadvance(Run("import time\ntime.sleep(0.2)\nprint(context)"))
        session.close()
        assert isinstance(output, CellOutput)
        return output.stdout

    async def main() -> list[str]:
        return await asyncio.gather(*map(one, range(10)))

    started = time.monotonic()
    assert run(main()) == [f"{number}\n" for number in range(10)]
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("write", [False, True])
def test_a_wait_without_readers_ends_when_the_socket_is_ready_or_the_time_is_over(write: bool) -> None:
    def steps(end: socket.socket, deadline: float) -> Any:
        return (yield Wait(end.fileno(), deadline, write=write))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        if write:
            with contextlib.suppress(BlockingIOError):
                while ours.send(b"x" * 65_536):
                    pass
        assert run(adrive(steps(ours, time.monotonic() + 0.05))) is False
        if write:
            with contextlib.suppress(BlockingIOError):
                while theirs.recv(1 << 20):
                    pass
        else:
            theirs.send(b"x")
        assert run(adrive(steps(ours, time.monotonic() + 5))) is True
