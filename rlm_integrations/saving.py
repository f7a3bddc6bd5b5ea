"""Writes a run to a file while it goes on."""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs from one file
    fcntl = None  # type: ignore[assignment]

from rlm_integrations.context import Context, DocumentsOnDisk
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event, TextDelta
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saved_run import NEVER_KEPT, context_line, event_line, header_line

__all__ = ["Saver"]

logger = logging.getLogger(__name__)

# The keys of metadata under which this package and the frameworks' readers say which file a document came from.
SOURCES = ("path", "source", "file_path")


class Saver:
    """An observer that writes each event to ``path`` at once: what a killed process wrote is there.

    What ``path`` held before is kept until ``begin``; of what it held up to byte ``go_on_at``, all is kept for good. A
    line that can't be written, say because the disk is full, is logged, and is the last; ``error`` says why. Used by
    many threads at once; of two runs at once that want one file, the second is refused.

    Raises ``InvalidInput`` at once where ``path`` can't be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, include_context: bool = False, go_on_at: int | None = None
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InvalidInput(f"save={path!r}: pass the path of a file")
        self.path = os.fspath(path)
        self.error: OSError | None = None
        self._include_context = include_context
        self._go_on_at = go_on_at
        self._file: BinaryIO | None = None
        self._closed = False
        self._lock = threading.Lock()
        try:
            Path(self.path).open("ab").close()
        except (OSError, ValueError) as error:
            raise self._refusal(error) from error

    def begin(self, settings: RunSettings, context: Context) -> None:
        """Open the file and write what stands before the events; blocks, for a large context for seconds.

        Raises ``InvalidInput`` where it can't be opened, is one of the documents in ``context``, is being written by
        another run, or went on since it was read; and where a context that is on disk was to be kept in it.
        """
        if self._include_context and context.is_on_disk:
            raise InvalidInput(NEVER_KEPT)
        file = self._open(context)
        try:
            if self._go_on_at is None:
                if os.fstat(file.fileno()).st_size:
                    file.truncate(0)
                file.write(header_line(settings))
                if self._include_context:
                    file.writelines(context_line(context))
            else:
                file.seek(self._go_on_at)
                file.truncate()
            file.flush()
        except OSError as error:
            self._give_up(error)
        with self._lock:
            self._file = file
        # A run that was cancelled meanwhile has closed this without waiting for it.
        if self._closed:
            self.close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            return
        line = event_line(event)
        with self._lock:
            if self._file is None or self.error:
                return
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._closed = True
        with self._lock:
            file, self._file = self._file, None
        if not file:
            return
        _unlock(file)
        try:
            file.close()
        except OSError as error:  # what could not be written before
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            logger.error("the run goes on, but %r is not complete: %s", self.path, error.strerror or error)

    def _open(self, context: Context) -> BinaryIO:
        """The file, for this run alone, with all that it held."""
        try:
            # All is appended, so that a run which was thought dead can't write over what came after it.
            file = Path(self.path).open("ab" if self._go_on_at is None else "a+b")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            if not _lock(file):
                raise InvalidInput(
                    f"another run is being saved to {self.path!r}: wait for its end, or use another file"
                )
            self._check(file, context)
        except BaseException:
            _unlock(file)
            file.close()
            raise
        return file

    def _check(self, file: BinaryIO, context: Context) -> None:
        own = os.fstat(file.fileno())
        if self._go_on_at is not None:
            file.seek(self._go_on_at)
            if own.st_size < self._go_on_at or file.readline().endswith(b"\n"):
                raise InvalidInput(f"{self.path!r} was written by another run just now: resume it again")
        elif own.st_size and any(_is_file(own, metadata) for metadata in _metadata(context)):
            raise InvalidInput(f"{self.path!r} is one of the documents: save the run to another file")

    def _refusal(self, error: OSError | ValueError) -> InvalidInput:
        return InvalidInput(f"the run can't be saved to {self.path!r}: {getattr(error, 'strerror', None) or error}")


def _metadata(context: Context) -> Iterator[dict[str, Any]]:
    if isinstance(context.value, DocumentsOnDisk):
        yield from (metadata for _, metadata in context.value.heads())
    else:
        yield from (getattr(text, "metadata", {}) for _, text in context.texts())


def _is_file(own: os.stat_result, metadata: dict[str, Any]) -> bool:
    for source in (metadata.get(key) for key in SOURCES):
        try:
            if isinstance(source, str) and os.path.samestat(own, os.stat(source)):
                return True
        except (OSError, ValueError):  # no file of this machine
            continue
    return False


def _lock(file: BinaryIO) -> bool:
    """Whether ``file`` is no other run's; from now on, until its process ends at the latest, it is this one's."""
    # Any number of runs may write to a device.
    if fcntl and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True


def _unlock(file: BinaryIO) -> None:
    # Not left to close: a process that was forked meanwhile has the file open too.
    if fcntl:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
