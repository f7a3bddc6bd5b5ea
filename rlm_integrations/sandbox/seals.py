"""Changes to the standard library of a process that only runs cells, where it could be led past the policy."""

from __future__ import annotations

import asyncio
import collections
import copy
import dataclasses
import enum
import inspect
import linecache
import typing
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from rlm_integrations.sandbox.adapted import namedtuple
from rlm_integrations.sandbox.guards import is_model_made
from rlm_integrations.sandbox.policy import check_store
from rlm_integrations.sandbox.trace import CELL


def seal() -> None:
    """Make them all. Nothing takes them back: it is for workers, and never for the process of the host."""
    sealed: tuple[Any, ...] = (typing.ForwardRef, dataclasses.Field)
    for cls in sealed:
        cls.__init_subclass__ = classmethod(_refuse_subclass)
    enum.EnumMeta._create_ = _checked_create(enum.EnumMeta._create_)  # type: ignore[attr-defined]
    collections.namedtuple = namedtuple
    copy._reconstruct = _checked_reconstruct(copy._reconstruct)  # type: ignore[attr-defined]
    inspect._signature_fromstr = _checked_fromstr(inspect._signature_fromstr)  # type: ignore[attr-defined]
    # Whatever shows lines of source finds those of cells, which are in the cache, and reads no file.
    linecache.updatecache = lambda filename, module_globals=None: []
    # What a task shows of itself names files of the standard library.
    asyncio.format_helpers._get_function_source = lambda func: None  # type: ignore[attr-defined]
    asyncio.coroutines._format_coroutine = _without_path(asyncio.coroutines._format_coroutine)  # type: ignore[attr-defined]


def _without_path(shown: Any) -> Any:
    def _format_coroutine(coro: Any) -> str:
        text = str(shown(coro))
        return text if CELL in text else text.partition(" running at ")[0].partition(" done, defined at ")[0]

    return _format_coroutine


def _refuse_subclass(cls: Any, /, **options: Any) -> None:
    # Private methods of a forward reference run its text, and the name of a field becomes source.
    raise TypeError("this class can't be a base class here")


def _checked_create(create: Any) -> Any:
    """``Enum("Name", members)`` that refuses dunder members: they would become attributes of the class."""

    def _create_(cls: Any, class_name: Any, names: Any, **options: Any) -> Any:
        if not isinstance(names, str):
            names = dict(names) if isinstance(names, Mapping) else [*names]
        plain = names.replace(",", " ").split() if isinstance(names, str) else names
        for name in plain:
            if str(name if isinstance(name, str) else name[0]).startswith("_"):
                raise ValueError(f"an enum can't have the member {name!r} here")
        return create(cls, class_name, names, **options)

    return _create_


def _checked_reconstruct(reconstruct: Any) -> Any:
    """The part of ``copy`` that makes an object and sets its attributes, which one of the model's own may direct."""

    def _reconstruct(x: Any, memo: Any, func: Any, args: Any, state: Any = None, *rest: Any, **options: Any) -> Any:
        if not is_model_made(x) and type(x) is not SimpleNamespace:
            return reconstruct(x, memo, func, args, state, *rest, **options)

        def make(*args: Any, **kwargs: Any) -> Any:
            made = func(*args, **kwargs)
            if type(made) is not type(x):
                raise TypeError(f"the copy of a {type(x).__name__!r} object can't be a {type(made).__name__!r} here")
            return made

        if isinstance(state, tuple) and len(state := tuple(state)) == 2 and state[1] is not None:
            state = state[0], dict(state[1])
            for name in state[1]:
                if type(name) is not str:
                    raise TypeError("attribute name must be string")
                check_store(name)
        return reconstruct(x, memo, make, args, state, *rest, **options)

    return _reconstruct


def _checked_fromstr(fromstr: Any) -> Any:
    """The part of ``inspect`` that evaluates the text of a signature: a class of the model's own may not bring one."""

    def _signature_fromstr(cls: Any, obj: Any, *args: Any, **options: Any) -> Any:
        if is_model_made(obj):
            raise ValueError("no signature found")
        return fromstr(cls, obj, *args, **options)

    return _signature_fromstr
