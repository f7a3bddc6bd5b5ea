"""Where the runs of rows are saved, so that a later job goes on with them and pays for nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two processes from one row
    fcntl = None  # type: ignore[assignment]

from rlm_integrations.context import Context
from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import RunStarted
from rlm_integrations.result import RLMResult
from rlm_integrations.rlm import RLM
from rlm_integrations.saved_run import read_event

__all__ = ["SavedRows"]

LOOK_AGAIN_S = 0.5
MAX_ID_CHARS = 60
LOCKS = ".locks"


class SavedRows:
    """The files of rows below ``folder``, which is made where there is none. Used in one event loop.

    Raises ``InvalidInput`` for a folder that can't be written.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # One file for all, of which each row has a byte: nothing is left behind for each of many rows.
            self._locks = (self._folder / LOCKS).open("ab")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"save_to={folder!r}: rows can't be saved in this folder: {error}") from error
        self._in_use: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def path(self, id: str | None, question: str, context: Context) -> str:
        """The file of the row with this ``id``; without one, of this question and context."""
        of = f"id\0{id}" if id is not None else f"asked\0{question}\0{context.sha256}"
        digest = hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()
        named = re.sub(r"[^A-Za-z0-9._-]+", "-", id)[:MAX_ID_CHARS] + "-" if id is not None else ""
        # In many folders, since a million files in one are slow to find.
        return str(self._folder / digest[:2] / f"{named.lstrip('.')}{digest[2:26]}.jsonl")

    async def run(self, rlm: RLM, path: str, question: str, context: Context) -> RLMResult:
        """The result that ``path`` holds, or of the run that begins in it or goes on from it.

        One that another row of the same key has begun, here or on another node, is waited for. Raises ``InvalidInput``
        for the run of another question or context, and what ``RLM.arun`` raises.
        """
        async with self._alone(path):
            start = await in_thread(partial(_start, path))
            if start is None:
                return await rlm.arun(question, context, save=path)
            if start.query != question or start.context.sha256 != context.sha256:
                raise InvalidInput(
                    f"{path!r} holds the run of a row with this id that asked something else, or of another context: "
                    "remove it, or save to another folder"
                )
            return await rlm.aresume(path, context)

    @asynccontextmanager
    async def _alone(self, path: str) -> AsyncIterator[None]:
        """Have ``path`` for this row alone, among those of all processes."""
        async with self._in_use.setdefault(path, asyncio.Lock()):
            byte = int(hashlib.sha256(os.path.basename(path).encode()).hexdigest()[:15], 16)
            while not self._lock(byte):
                await asyncio.sleep(LOOK_AGAIN_S)
            try:
                yield
            finally:
                if fcntl:
                    fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, byte)

    def _lock(self, byte: int) -> bool:
        # A process that ends, or is killed, loses its locks.
        try:
            if fcntl:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks
            pass
        return True


def _start(path: str) -> RunStarted | None:
    """How the run in the file at ``path`` began; None where no run has, or was killed before the line that says so."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with open(path, "rb") as file:
            file.readline()
            line = file.readline()
    except FileNotFoundError:
        return None
    if not line.endswith(b"\n"):
        return None
    try:
        start = read_event(line)
    except ValueError as error:
        raise InvalidInput(f"{path!r} is not the saved run of a row: {error}") from error
    if not isinstance(start, RunStarted):
        raise InvalidInput(f"{path!r} is not the saved run of a row: it does not begin with one")
    return start
