"""What Monty is answered when it asks the host about a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlm_integrations.sandbox import hints

# Those of Python's that Monty has.
MODULES = (
    "asyncio base64 bisect collections copy csv dataclasses "
    "datetime decimal functools hashlib itertools json math random re sys time typing unicodedata"
)


def stub(name: str) -> Callable[..., Any]:
    """A function that Monty binds to ``name`` and asks the host about; it is never called itself."""

    def stub() -> None:
        raise AssertionError

    stub.__name__ = stub.__qualname__ = name
    return stub


def raised(message: str, kind: str = "RuntimeError") -> dict[str, Any]:
    """What makes a call raise an exception of ``kind`` in model code."""
    return {"exc_type": kind, "message": message.encode("utf-8", "replace").decode()}


def refusal(name: str, args: Sequence[Any]) -> dict[str, Any]:
    """What to use in place of something outside the sandbox."""
    if name == "import" and args:
        module = str(args[0])
        hint = hints.MODULES.get(module.partition(".")[0], "the modules here are " + ", ".join(MODULES.split()))
        return raised(f"No module named {module!r}; {hint}", "ModuleNotFoundError")
    hint = hints.SYSTEM if name.startswith("os.") else hints.CONTEXT
    return raised(f"{name}() can't be used here: {hint}", "PermissionError")
