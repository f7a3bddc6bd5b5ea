"""``zoneinfo`` from memory: the time zones are read before the lock, since behind it there are no files."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import os
import zoneinfo
from typing import Any


def read_zones() -> dict[str, Any]:
    """The members of ``zoneinfo``, which from here on finds zones in memory only."""
    zones = {}
    for key in sorted(zoneinfo.available_timezones()):
        with contextlib.suppress(OSError, ImportError):
            zones[key] = _file(key)

    def load_tzdata(key: str) -> io.BytesIO:
        if key not in zones:
            raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return io.BytesIO(zones[key])

    _use(load_tzdata)
    return {
        "ZoneInfo": zoneinfo.ZoneInfo,
        "ZoneInfoNotFoundError": zoneinfo.ZoneInfoNotFoundError,
        "available_timezones": lambda: set(zones),
    }


def _file(key: str) -> bytes:
    for folder in zoneinfo.TZPATH:
        with contextlib.suppress(OSError), open(os.path.join(folder, key), "rb") as file:
            return file.read()
    return importlib.resources.files("tzdata.zoneinfo").joinpath(key).read_bytes()


def _use(load_tzdata: Any) -> None:
    """Have ``ZoneInfo``, which is C code, load zones with ``load_tzdata``: the one way left without a search path."""
    zoneinfo._common.load_tzdata = load_tzdata
    zoneinfo.reset_tzpath(to=[])
