"""A context in the memory of a node, which all workers there read."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from rlm_integrations.ray.deliveries import Parcel
from rlm_integrations.sandbox.packed import Packed

__all__ = ["Shared"]


class Shared:
    """What lies in the object store, as a file without a name: gone with the last that holds this.

    Workers are given descriptors, and the store has none for one of its objects alone.
    """

    def __init__(self, parcel: Parcel, data: Any) -> None:
        writing, name = _file()
        try:
            rest = memoryview(data).cast("B")
            while rest:
                rest = rest[os.write(writing, rest) :]
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(writing)
            if not name.startswith("/proc/"):
                os.unlink(name)
        self.packed = Packed(fd, parcel.documents, parcel.table, parcel.kind, parcel.size)

    def __del__(self) -> None:
        if packed := getattr(self, "packed", None):
            os.close(packed.fd)


def _file() -> tuple[int, str]:
    """A new file that is open for writing, and the name by which it can be opened again."""
    if not hasattr(os, "memfd_create"):
        return tempfile.mkstemp(prefix="rlm-context-")
    fd = os.memfd_create("rlm-context", os.MFD_CLOEXEC)
    return fd, f"/proc/self/fd/{fd}"
