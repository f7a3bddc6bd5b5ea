"""Nothing that model code can import is a module, or leads to one."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_integrations.sandbox import builtin_names, modules, seals, zones
from rlm_integrations.sandbox.guards import Facade
from rlm_integrations.sandbox.output import Streams
from rlm_integrations.sandbox.policy import NotAllowed, load_guard

OUTSIDE = (types.ModuleType, types.FrameType, types.CodeType, types.TracebackType)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Everything a cell finds by name."""
    with pytest.MonkeyPatch.context() as patch:
        # They change the standard library, which is for a process that only runs cells.
        patch.setattr(seals, "seal", lambda: None)
        patch.setattr(zones, "_use", lambda load: None)
        facades = modules.build()
    found = builtin_names.cell_builtins(facades, {}, Streams(100))
    return {**found, **{f"import {name}": found[".import"](name) for name in facades}}


def loadable(value: Any) -> Iterator[tuple[str, Any]]:
    """What a plain load of an attribute can give."""
    for name in value.__all__ if isinstance(value, Facade) else dir(value):
        try:
            guarded = load_guard(name) is not None
        except NotAllowed:
            continue
        if not guarded:
            try:
                yield name, getattr(value, name)
            except Exception:
                continue


def leaks(names: dict[str, Any]) -> tuple[list[str], int]:
    """The paths from ``names`` that lead to a module, a frame or code, and how many values were looked at."""
    found, paths, seen = list[str](), list(names.items()), set[int]()
    for path, value in paths:
        if isinstance(value, OUTSIDE):
            found.append(path)
        if id(value) in seen or path.count(".") > 6:
            continue
        seen.add(id(value))
        if isinstance(value, Facade | type | types.FunctionType | types.MethodType):
            paths.extend((f"{path}.{name}", part) for name, part in loadable(value))
        if isinstance(value, dict | list | tuple) and len(value) < 1000:
            parts = value.values() if isinstance(value, dict) else value
            paths.extend((f"{path}[]", part) for part in parts)
    return found, len(seen)


def private(names: dict[str, Any]) -> list[str]:
    """The facades' names that begin with an underscore."""
    facades = {path: value for path, value in names.items() if isinstance(value, Facade)}
    return [f"{path}.{name}" for path, facade in facades.items() for name in facade.__all__ if name.startswith("_")]


def test_no_name_leads_to_a_module_a_frame_or_code(names: dict[str, Any]) -> None:
    found, seen = leaks(names)
    assert found == []
    assert seen > 1500


def test_no_facade_shows_a_private_name(names: dict[str, Any]) -> None:
    assert private(names) == []
    for path, value in names.items():
        if isinstance(value, Facade):
            # The import machinery would look a name that is missing up by this one, in sys.modules.
            assert not hasattr(value, "__name__"), path


def test_no_facade_can_be_changed(names: dict[str, Any]) -> None:
    facade = names["json"]
    for change in (
        lambda: setattr(facade, "dumps", None),
        lambda: delattr(facade, "dumps"),
        lambda: facade.__init__("json", {}),
    ):
        with pytest.raises((AttributeError, TypeError)):
            change()


@pytest.mark.parametrize("name", [name for name in modules.MEMBERS if "." not in name])
def test_every_module_on_the_list_can_be_imported(name: str, cell: Any) -> None:
    assert cell(f"import {name}\nprint(len(dir({name})) > 0)").stdout == "True\n"
