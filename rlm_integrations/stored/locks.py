"""Tells whether anybody uses a file, by locks that go with the processes that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is in use can't be removed
    fcntl = None  # type: ignore[assignment]

__all__ = ["alone", "share", "unused", "used"]


def share(fd: int) -> bool:
    """Use the file of ``fd`` until it is closed, as any number may; False where somebody removes it."""
    return _lock(fd, is_shared=True)


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """Use a folder, so that nobody takes it for left behind, under whatever name."""
    fd = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fd is not None:
            share(fd)
        yield
    finally:
        if fd is not None:
            os.close(fd)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits until nobody else does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether nobody uses the file or folder, which may also be missing; nor can anybody begin to, meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        yield not path.exists()
        return
    try:
        yield _lock(fd, is_shared=False)
    finally:
        os.close(fd)


def _lock(fd: int, *, is_shared: bool) -> bool:
    if fcntl:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks, where nothing can be known to be unused
            return is_shared
    return True
