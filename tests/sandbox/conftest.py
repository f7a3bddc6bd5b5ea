from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.sandbox import CellOutput, ProcessSandbox, Resume, Run, Session, SubCall

Answer = Callable[[SubCall], Resume]
# The folders above a test's own that pytest keeps to its user; pytest-xdist adds one for each of its processes.
KEPT = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2


def no_answer(call: SubCall) -> Resume:
    return Resume(error=f"nobody answers {call.name}")


def run_cell(session: Session, code: str, answer: Answer = no_answer, timeout_s: float | None = None) -> CellOutput:
    outcome = session.advance(Run(code, timeout_s))
    while isinstance(outcome, SubCall):
        outcome = session.advance(answer(outcome))
    return outcome


async def arun_cell(session: Session, code: str, answer: Answer = no_answer) -> CellOutput:
    outcome = await session.aadvance(Run(code))
    while isinstance(outcome, SubCall):
        outcome = await session.aadvance(answer(outcome))
    return outcome


@pytest.fixture(params=["sync", "async"])
def run_in(request: pytest.FixtureRequest) -> Callable[..., CellOutput]:
    """Runs a cell of a session: blocking, and in an event loop."""
    if request.param == "sync":
        return run_cell
    return lambda *args: asyncio.run(arun_cell(*args))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[ProcessSandbox]:
    with ProcessSandbox(timeout_s=10) as sandbox:
        yield sandbox


@pytest.fixture
def session(sandbox: ProcessSandbox) -> Iterator[Session]:
    session = sandbox.open({"context": "one two three", "query": "?"}, ["llm_query"])
    yield session
    session.close()


@pytest.fixture
def cell(session: Session) -> Callable[..., Any]:
    """Runs a cell of one session, blocking."""
    return lambda code, answer=no_answer: run_cell(session, code, answer)


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that any user may read and write in: what keeps a worker out of it is its lock."""
    for folder in (tmp_path, *list(tmp_path.parents)[:KEPT]):
        folder.chmod(0o777)
    return tmp_path


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Where no connection of hostile code must arrive: ``accept`` does not wait for one."""
    import pytest_socket

    pytest_socket.enable_socket()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
    pytest_socket.disable_socket(allow_unix_socket=True)
