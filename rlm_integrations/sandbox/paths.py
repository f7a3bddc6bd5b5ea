"""``pathlib`` for names of files: paths are taken apart and put together as text, and lead to no file."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rlm_integrations.sandbox.hints import CONTEXT


class PurePath:
    """``pathlib.PurePosixPath``."""

    __slots__ = ("_parts", "_root")

    def __init__(self, *segments: Any) -> None:
        text = posixpath.join("", *map(_text, segments))
        self._root = "/" if text.startswith("/") else ""
        self._parts = tuple(part for part in text.split("/") if part not in ("", "."))

    def _made(self, root: str, parts: Iterable[str]) -> Any:
        return type(self)(root + "/".join(parts))

    def __str__(self) -> str:
        return self._root + "/".join(self._parts) or "."

    __fspath__ = as_posix = __str__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, PurePath) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._key() < other._key() if isinstance(other, PurePath) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._key() <= other._key() if isinstance(other, PurePath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, ...]:
        return (self._root, *self._parts)

    def __truediv__(self, other: Any) -> Any:
        return self.joinpath(other)

    def __rtruediv__(self, other: Any) -> Any:
        return type(self)(other, self)

    def joinpath(self, *others: Any) -> Any:
        """This path followed by ``others``."""
        return type(self)(self, *others)

    @property
    def parts(self) -> tuple[str, ...]:
        return (self._root, *self._parts) if self._root else self._parts

    @property
    def root(self) -> str:
        return self._root

    anchor = root

    @property
    def drive(self) -> str:
        return ""

    @property
    def name(self) -> str:
        return self._parts[-1] if self._parts else ""

    @property
    def suffix(self) -> str:
        dot = self.name.rfind(".")
        return self.name[dot:] if 0 < dot < len(self.name) - 1 else ""

    @property
    def suffixes(self) -> list[str]:
        if self.name.endswith("."):
            return []
        return ["." + suffix for suffix in self.name.lstrip(".").split(".")[1:]]

    @property
    def stem(self) -> str:
        return self.name.removesuffix(self.suffix)

    @property
    def parent(self) -> Any:
        return self._made(self._root, self._parts[:-1])

    @property
    def parents(self) -> Sequence[Any]:
        return tuple(self._made(self._root, self._parts[:end]) for end in range(len(self._parts) - 1, -1, -1))

    def with_name(self, name: str) -> Any:
        """This path with another last part."""
        if not self.name or not name or "/" in name:
            raise ValueError(f"{self!r} has an empty name" if not self.name else f"Invalid name {name!r}")
        return self._made(self._root, (*self._parts[:-1], name))

    def with_stem(self, stem: str) -> Any:
        """This path with another name before its suffix."""
        return self.with_name(stem + self.suffix)

    def with_suffix(self, suffix: str) -> Any:
        """This path with another suffix."""
        if suffix and (not suffix.startswith(".") or suffix == "." or "/" in suffix):
            raise ValueError(f"Invalid suffix {suffix!r}")
        return self.with_name(self.stem + suffix)

    def is_absolute(self) -> bool:
        """Whether it starts at the root."""
        return bool(self._root)

    def is_relative_to(self, *other: Any) -> bool:
        """Whether it starts with ``other``."""
        start = PurePath(*other)._key()
        return self._key()[: len(start)] == start

    def relative_to(self, *other: Any) -> Any:
        """What follows ``other``, with which it starts."""
        start = PurePath(*other)
        if not self.is_relative_to(start):
            raise ValueError(f"{str(self)!r} is not in the subpath of {str(start)!r}")
        return self._made("", self._parts[len(start._parts) :])

    def match(self, pattern: Any) -> bool:
        """Whether its last parts are like those of the pattern."""
        wanted = PurePath(pattern)
        if wanted._root and (not self._root or len(wanted._parts) != len(self._parts)):
            return False
        ours = self._parts[len(self._parts) - len(wanted._parts) :]
        return len(ours) == len(wanted._parts) and all(map(fnmatch.fnmatchcase, ours, wanted._parts))


class PurePosixPath(PurePath):
    """A path."""

    __slots__ = ()


class Path(PurePosixPath):
    """A path which says that there is no file behind it."""

    __slots__ = ()


def _text(segment: Any) -> str:
    if isinstance(segment, PurePath):
        return str(segment)
    if not isinstance(segment, str):
        raise TypeError(f"argument should be a str or a path, not {type(segment).__name__!r}")
    return str.__str__(segment)


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(f"Path.{name}() can't be used here: {CONTEXT}")

    return refuse


_OF_FILES = (
    "absolute chmod cwd exists expanduser glob home is_dir is_file is_symlink iterdir mkdir open read_bytes "
    "read_text rename replace resolve rglob rmdir samefile stat symlink_to touch unlink walk write_bytes write_text"
)
for _name in _OF_FILES.split():
    setattr(Path, _name, staticmethod(_refusal(_name)))

PATHLIB: dict[str, Any] = {"PurePath": PurePosixPath, "PurePosixPath": PurePosixPath, "Path": Path, "PosixPath": Path}
