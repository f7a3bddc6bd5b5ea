"""``warnings``: nobody reads them here, unless model code asks for them itself."""

from __future__ import annotations

import sys
from functools import update_wrapper
from types import SimpleNamespace
from typing import Any


def warnings() -> dict[str, Any]:
    """The functions of the module, with filters and a record of their own."""
    kept: list[list[Any]] = []
    actions: list[tuple[str, type[Warning]]] = []

    def warn(message: Any, category: Any = None, *args: Any, **options: Any) -> None:
        warning = message if isinstance(message, Warning) else (category or UserWarning)(message)
        action = next((action for action, kind in reversed(actions) if isinstance(warning, kind)), "default")
        if action == "error":
            raise warning
        if action != "ignore" and kept:
            kept[-1].append(SimpleNamespace(message=warning, category=type(warning), filename="<cell>", lineno=1))

    def simplefilter(action: str, category: Any = Warning, *args: Any, **options: Any) -> None:
        actions.append((action, category))

    def filterwarnings(action: str, message: str = "", category: Any = Warning, *args: Any, **options: Any) -> None:
        # A filter by message would need the message matched: what it silences or records stays as it is.
        if not message:
            actions.append((action, category))

    class catch_warnings:
        """Puts the filters back when it is left."""

        def __init__(self, *, record: bool = False, action: str | None = None, category: Any = Warning) -> None:
            self._record, self._action, self._category = record, action, category

        def __enter__(self) -> list[Any] | None:
            self._before = list(actions)
            if self._action:
                simplefilter(self._action, self._category)
            if not self._record:
                return None
            kept.append([])
            return kept[-1]

        def __exit__(self, *error: object) -> None:
            actions[:] = self._before
            if self._record:
                kept.pop()

    class deprecated:
        """Warns when what it decorates is called."""

        def __init__(self, message: str, /, *, category: Any = DeprecationWarning, stacklevel: int = 1) -> None:
            self.message, self.category = message, category

        def __call__(self, function: Any, /) -> Any:
            if isinstance(function, type) or self.category is None:
                return function

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                warn(self.message, self.category)
                return function(*args, **kwargs)

            return update_wrapper(wrapper, function)

    return {
        "warn": warn,
        **({"deprecated": deprecated} if sys.version_info >= (3, 13) else {}),
        "simplefilter": simplefilter,
        "filterwarnings": filterwarnings,
        "resetwarnings": actions.clear,
        "catch_warnings": catch_warnings,
    }
