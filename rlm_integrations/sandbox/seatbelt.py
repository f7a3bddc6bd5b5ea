"""The lock of macOS: Seatbelt, and such limits as its kernel keeps.

By sandbox_init(3) of libSystem, which Apple calls deprecated and its own system and all browsers stand on. It has not
been tried on macOS: its tests play the part of libSystem. Memory is not among the limits: see ``watchdog.py``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

__all__ = ["steps"]

# Computing, and using descriptors that are open already, asks for no permission.
PROFILE = b"(version 1)\n(deny default)\n"
NOBODY = -2 & 0xFFFFFFFF
LIMITS = {"RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 0, "RLIMIT_NOFILE": 8}


def steps(library: Any = None) -> dict[str, Callable[[], None]]:
    """The lock of macOS, for ``confine``: by layer, what puts it in force or raises ``OSError``."""
    return {
        "unprivileged_user": _drop_root,
        "rlimits": _limit,
        "seatbelt": lambda: _deny_all(library or ctypes.CDLL(None)),
    }


def _drop_root() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _limit() -> None:
    for name, value in LIMITS.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def _deny_all(library: Any) -> None:
    message = ctypes.c_char_p()
    # int sandbox_init(const char *profile, uint64_t flags, char **errorbuf); without flags the profile is its text.
    if library.sandbox_init(PROFILE, ctypes.c_uint64(0), ctypes.byref(message)) != 0:
        reason = (message.value or b"no reason given").decode("utf-8", "replace")
        library.sandbox_free_error(message)
        raise OSError(f"sandbox_init refused: {reason}")
