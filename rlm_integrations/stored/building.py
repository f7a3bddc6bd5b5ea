"""Builds stores from files, or finds the one that was built of the same files before."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rlm_integrations.context import NO_FILES, Digest, File, files_of, own_ids, read_files
from rlm_integrations.errors import InvalidInput
from rlm_integrations.stored.documents import StoredDocuments
from rlm_integrations.stored.locks import alone, unused, used
from rlm_integrations.stored.lookup import IndexWriter
from rlm_integrations.stored.pack import Pack, PackWriter
from rlm_integrations.stored.store import FACTS, INDEX, PACK, VERSION, Facts, Store

__all__ = ["stored_files"]

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_NEWS = 5.0
BUFFER_BYTES = 1 << 20
UNFINISHED, LOCK, TEMPORARY = ".building-", ".lock", "rlm-store-"
# So long after it was made, whoever builds in a folder has locked it.
SETTLED_S = 60.0

PathLike = str | os.PathLike[str]


def stored_files(paths: Sequence[PathLike], index: PathLike | None = None) -> StoredDocuments:
    """The documents at ``paths`` in a store: one in the folder ``index`` that still fits, else a new one.

    Without ``index`` it lies in the temporary folder, and goes when nobody holds it. Raises ``InvalidInput`` for what
    ``Context.from_files`` refuses, and where the store can't be written.
    """
    if index is not None and not isinstance(index, str | os.PathLike):
        raise InvalidInput(f"index={index!r}: pass the path of a folder, or None")
    if not hasattr(os, "pread"):
        raise InvalidInput("documents can stay on disk on Linux and macOS only: leave out lazy=True")
    files = _with_own_ids(files_of(paths))
    if not files:
        raise InvalidInput(NO_FILES)
    try:
        store = _temporary(files) if index is None else _kept(paths, files, Path(os.path.realpath(index)))
    except (OSError, sqlite3.Error) as error:
        where = tempfile.gettempdir() if index is None else os.fspath(index)
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(
            f"the documents can't be stored in {where!r}: {reason} (about 1.2 times the size of their text is needed; "
            "index= names another folder)"
        ) from error
    return store.documents()


def _temporary(files: Sequence[File]) -> Store:
    _tidy_temporary()
    folder = tempfile.mkdtemp(prefix=TEMPORARY)
    try:
        with used(Path(folder)):
            _build(Path(folder), files)
            store = Store.open(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(store, _remove, folder, os.getpid())
    return store


def _tidy_temporary() -> None:
    """Remove what programs left behind that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > SETTLED_S:
                with unused(folder) as is_unused:
                    if is_unused:
                        _remove_unused(folder, PACK)


def _remove(folder: str, owner: int) -> None:
    # A process that was forked from the owner ends before it, perhaps.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _kept(paths: Sequence[PathLike], files: Sequence[File], index: Path) -> Store:
    _check_apart(paths, index)
    given = _hash([VERSION, *map(os.path.realpath, paths)])[:12]
    place = index / f"{given}-{_hash(_facts_of(files))[:32]}"
    if place.is_dir():
        try:
            return Store.open(place)
        except InvalidInput as error:
            logger.warning("built again: %s", error)
            shutil.rmtree(place, ignore_errors=True)
    index.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with alone(index / LOCK):
            _tidy(index, UNFINISHED, "")
            folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=index))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(used(folder))
        _build(folder, files)
        try:
            folder.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) or not place.is_dir():
                raise
            # Another process was quicker.
        store = Store.open(place)
    with alone(index / LOCK):
        _tidy(index, f"{given}-", PACK, but=place)
    return store


def _check_apart(paths: Sequence[PathLike], index: Path) -> None:
    """Raise ``InvalidInput`` where the store would be read as documents the next time."""
    for given in paths:
        folder = Path(os.path.realpath(given))
        if index.is_relative_to(folder) and not any(part.startswith(".") for part in index.relative_to(folder).parts):
            raise InvalidInput(
                f"index={str(index)!r} is in {str(given)!r}, and would be read as documents: name a folder outside of "
                "it, or a hidden one"
            )


def _tidy(index: Path, prefix: str, lock: str, but: Path | None = None) -> None:
    """Remove what is left of killed builds, or stores of files as they once were, unless ``lock`` there is used."""
    for folder in index.glob(f"{prefix}*"):
        if folder != but:
            _remove_unused(folder, lock)


def _remove_unused(folder: Path, lock: str) -> None:
    with unused(folder / lock) as is_unused:
        if is_unused:
            shutil.rmtree(folder, ignore_errors=True)


def _with_own_ids(files: Iterator[File]) -> list[File]:
    """As a context numbers documents that share an id: those of a file that is given twice."""
    listed = list(files)
    for number, own in own_ids([file.id for file in listed]).items():
        listed[number] = listed[number]._replace(id=own)
    return listed


def _facts_of(files: Sequence[File]) -> Iterator[tuple[str, str, int, int]]:
    """What changes when a file does."""
    for file in files:
        status = file.path.stat()
        yield os.path.realpath(file.path), file.id, status.st_size, status.st_mtime_ns


def _hash(values: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value).encode() + b"\n")
    return digest.hexdigest()


def _build(folder: Path, files: Sequence[File]) -> None:
    """Write a store into the empty ``folder``; the facts come last, so that without them it is not whole."""
    digest = Digest("list")
    keys: set[str] = set()
    news = _News(len(files))
    index = IndexWriter(str(folder / INDEX))
    try:
        with open(folder / PACK, "wb+", buffering=BUFFER_BYTES) as file:
            pack = PackWriter(file)
            for number, document in enumerate(read_files(files)):
                pack.add(document)
                digest.add(document.id or "", document)
                index.add(number, document)
                keys.update(document.metadata)
                news.tell(number + 1, len(document))
            size = pack.end()
            if not size.documents:
                raise InvalidInput(NO_FILES)
            written = Pack(file.fileno(), size.documents, size.table)
            digest.add_metadata(written.head(number)[1] for number in range(size.documents))
            index.end()
            os.fsync(file.fileno())
    finally:
        index.close()
    facts = Facts(
        size.documents,
        size.table,
        size.chars,
        size.largest,
        digest.hexdigest(),
        tuple(sorted(keys)),
        (folder / INDEX).stat().st_size,
    )
    (folder / FACTS).write_text(facts.dumps(), "utf-8")


class _News:
    """Tells the log how far a build is, now and then."""

    def __init__(self, files: int) -> None:
        self._files = files
        self._chars = 0
        self._started = self._told = time.monotonic()

    def tell(self, done: int, chars: int) -> None:
        """``done`` files are stored, the last of ``chars`` characters."""
        self._chars += chars
        now = time.monotonic()
        if now - self._told > SECONDS_BETWEEN_NEWS:
            self._told = now
            seconds = now - self._started
            logger.info(
                "stored %s of at most %s documents, %.0f million characters, in %.0f s",
                f"{done:,}",
                f"{self._files:,}",
                self._chars / 1e6,
                seconds,
            )
