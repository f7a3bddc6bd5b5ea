"""The builtins of a cell: Python's own where they are harmless, guarded ones, and refusals that help."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.sandbox import guards, hints
from rlm_integrations.sandbox.modules import PRELOADED, importers
from rlm_integrations.sandbox.output import Streams
from rlm_integrations.sandbox.streams import stream_facades

PLAIN = (
    "abs aiter all anext any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate "
    "filter float format frozenset hash hex id int isinstance issubclass iter len list map max memoryview min next "
    "object oct ord pow property range repr reversed round set slice sorted staticmethod str sum super tuple zip "
    "Ellipsis NotImplemented __build_class__"
)


def cell_builtins(facades: dict[str, guards.Facade], namespace: dict[str, Any], streams: Streams) -> dict[str, Any]:
    """All that code in ``namespace`` finds without having defined it."""
    found = {name: getattr(builtins, name) for name in PLAIN.split()}
    found |= {
        name: value
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    found |= guards.RUNTIME
    facades = {**facades, **stream_facades(streams)}
    found |= importers(facades, namespace)
    found |= {name: facades[name] for name in PRELOADED}
    found |= {name: _refusal(name, hint) for name, hint in hints.BUILTINS.items()}
    found |= {
        "type": guards.Type,
        "getattr": guards.guarded_getattr,
        "setattr": guards.guarded_setattr,
        "delattr": guards.guarded_delattr,
        "hasattr": guards.guarded_hasattr,
        ".ABC": facades["abc"].ABC,
        "Document": Document,
        "print": printer(streams),
        # C code imports through this; import statements of model code do not, and no source can name it.
        "__import__": builtins.__import__,
        "globals": lambda: guards.Variables(namespace),
        "locals": lambda: _locals(),
        "vars": lambda *obj: guards.guarded_vars(*obj) if obj else _locals(),
        "dir": lambda *obj: guards.guarded_dir(*obj) if obj else sorted(_locals()),
    }
    return found


def printer(streams: Streams) -> Callable[..., None]:
    """``print`` onto the cell's output, or onto any object with ``write``."""

    def print(*values: Any, sep: Any = " ", end: Any = "\n", file: Any = None, flush: Any = False) -> None:
        text = (" " if sep is None else sep).join([value if type(value) is str else str(value) for value in values])
        (streams.stdout if file is None else file).write(text + ("\n" if end is None else end))

    return print


def _locals() -> dict[str, Any]:
    return guards.visible(sys._getframe(2).f_locals)


def _refusal(name: str, hint: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        kind = PermissionError if name == "open" else RuntimeError
        raise kind(f"{name}() can't be used here: {hint}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
