"""Replies of models kept on disk, for any run of any process to use again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlm_integrations.engine.drivers import is_async
from rlm_integrations.engine.reply_cache import ReplyCache
from rlm_integrations.errors import InvalidInput, MissingExtra

__all__ = ["DiskCache", "reply_cache"]

# A folder of its own: cachelib takes all files in one for its own.
FOLDER = "rlm-replies"
SETS_BETWEEN_TRIMS = 1_000
# How much of its limit a cache that was too large is left with, so that it is not trimmed again at once.
TRIMMED_SHARE = 0.9


class DiskCache:
    """Texts by key below the folder ``path``, which is made where there is none: a ``Cache``.

    Each is a file that the user alone may read; any number of threads and processes may share them. Where there are
    more than ``max_mb`` (10**6 bytes), those that were written first go, now and then. Raises ``InvalidInput`` for a
    folder that can't be written, and ``MissingExtra`` without the extra ``cache``.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_mb: float = 1_000) -> None:
        try:
            from cachelib import FileSystemCache
        except ImportError as error:
            raise MissingExtra("cache", f"cache={os.fspath(path)!r}") from error
        self._folder = Path(path, FOLDER)
        self._max_bytes = max_mb * 1e6
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cache={os.fspath(path)!r}: replies can't be kept in this folder: {error}") from error
        files: Any = FileSystemCache(str(self._folder), threshold=0, default_timeout=0, hash_method=hashlib.sha256)
        # Without this, what anybody wrote to the folder would be unpickled, and could run code.
        files.serializer = _Text()
        self._files = files

    def get(self, key: str) -> str | None:
        """The text kept under ``key``; None where there is none. Raises ``ValueError`` for bytes that are no text."""
        text: str | None = self._files.get(key)
        return text

    def set(self, key: str, value: str) -> None:
        """Keep ``value`` under ``key``. Raises ``OSError`` where it can't be written."""
        # By chance, since to look through a large folder takes seconds, and most of those who write are soon gone.
        if secrets.randbelow(SETS_BETWEEN_TRIMS) == 0:
            self._trim()
        if not self._files.set(key, value):
            raise OSError(f"no reply can be kept in {str(self._folder)!r}")

    def _trim(self) -> None:
        files: list[tuple[float, int, str]] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process trims too
                    found = entry.stat()
                    files.append((found.st_mtime, found.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        too_many = total - TRIMMED_SHARE * self._max_bytes if total > self._max_bytes else 0.0
        for _, size, path in sorted(files):
            if too_many <= 0:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            too_many -= size


class _Text:
    """Writes text and reads it, as cachelib wants it."""

    def dump(self, value: str | int, file: Any) -> None:
        file.write(str(value).encode("utf-8"))

    def load(self, file: Any) -> str:
        text: str = file.read().decode("utf-8")
        return text


def reply_cache(cache: Any, options: Mapping[str, Any]) -> ReplyCache | None:
    """The setting ``cache`` for calls with ``options``: None, the path of a folder, or an object with get and set.

    Raises ``InvalidInput`` for what can't be used, and what ``DiskCache`` raises.
    """
    if cache is None:
        return None
    try:
        json.dumps(options, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"with cache=, options of models must be JSON values: {error}") from error
    if isinstance(cache, str | os.PathLike):
        path = os.fspath(cache)
        if not isinstance(path, str) or not path.strip():
            raise InvalidInput(f"cache={cache!r}: pass the path of a folder")
        return ReplyCache(DiskCache(path))
    methods = [getattr(cache, name, None) for name in ("get", "set")]
    if isinstance(cache, type) or not all(callable(method) and not is_async(method) for method in methods):
        raise InvalidInput(
            f"cache={cache!r}: pass the path of a folder, or an object with get(key) and set(key, value), both blocking"
        )
    return ReplyCache(cache)
