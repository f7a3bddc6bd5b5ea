"""What a sandbox of ours is given: checked in one place."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.errors import InvalidInput
from rlm_integrations.sandbox.on_disk import bytes_of, is_on_disk
from rlm_integrations.sandbox.waiting import Steps, Wait

BASE_MEMORY_MB = 512
MIN_MEMORY_MB, MAX_MEMORY_MB = 64, 1 << 20
MAX_TIMEOUT_S = 1_000_000
MAX_OUTPUT_CHARS = 1_000_000
MAX_DEPTH = 200
VALUES_A_TURN = 250


def check_limits(timeout_s: float, memory_mb: float | None, max_output_chars: int) -> None:
    """Raise ``InvalidInput`` for a limit that can't be kept."""
    if not _is_number(timeout_s) or not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput(f"timeout_s is {timeout_s!r}: pass seconds above 0, at most {MAX_TIMEOUT_S:,}")
    if memory_mb is not None and (not _is_number(memory_mb) or not MIN_MEMORY_MB <= memory_mb <= MAX_MEMORY_MB):
        raise InvalidInput(
            f"memory_mb is {memory_mb!r}: pass {MIN_MEMORY_MB} to {MAX_MEMORY_MB:,}, or None (512 + 4 x context)"
        )
    if type(max_output_chars) is not int or not 1 <= max_output_chars <= MAX_OUTPUT_CHARS:
        raise InvalidInput(f"max_output_chars is {max_output_chars!r}: pass an int from 1 to {MAX_OUTPUT_CHARS:,}")


def check_names(names: Iterable[object]) -> None:
    """Raise ``InvalidInput`` for what no variable or function of model code can be called."""
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
            raise InvalidInput(f"{name!r} can't name a variable or function of model code: pass a plain identifier")


def memory_bytes(memory_mb: float | None, variables: Mapping[str, Any]) -> Steps[int]:
    """The limit in bytes: what was asked for, or 512 MB and four times the variables.

    Of a variable on disk as much is counted as is read of it at once.
    """
    if memory_mb is not None:
        return int(memory_mb * (1 << 20))
    sent = [value for value in variables.values() if not is_on_disk(value)]
    size = sum(map(bytes_of, variables.values()))
    return (BASE_MEMORY_MB << 20) + 4 * (size + (yield from size_of(sent)))


def size_of(value: Any) -> Steps[int]:
    """Bytes of memory ``value`` takes up, all in all. ``InvalidInput`` for one too deep, or that holds itself."""
    size = count = 0
    path: list[Iterator[Any]] = [iter((value,))]
    while path:
        for item in path[-1]:
            size += sys.getsizeof(item)
            count += 1
            if count % VALUES_A_TURN == 0:
                yield Wait()
            if inner := _parts(item):
                path.append(inner)
                break
        else:
            path.pop()
        if len(path) > MAX_DEPTH:
            raise InvalidInput(f"a variable is nested deeper than {MAX_DEPTH} levels, or holds itself: flatten it")
    return size


def _parts(value: Any) -> Iterator[Any] | None:
    if isinstance(value, dict):
        return chain(value, value.values())
    if isinstance(value, list | tuple):
        return iter(value)
    return iter((value.metadata,)) if isinstance(value, Document) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
