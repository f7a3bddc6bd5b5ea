"""Functions of the standard library that could be led to reach attributes or compile source, kept from it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import random
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from rlm_integrations.sandbox.guards import MODEL_MODULE, write
from rlm_integrations.sandbox.policy import NotAllowed, check_store, load_guard


def wraps(wrapped: Any, /) -> Callable[[Any], Any]:
    """``functools.wraps`` with nothing to configure."""
    return lambda wrapper, /: update_wrapper(wrapper, wrapped)


def update_wrapper(wrapper: Any, wrapped: Any, /) -> Any:
    """``functools.update_wrapper`` with nothing to configure."""
    if isinstance(wrapper, type):
        # The annotations of a class become source, if it is a dataclass.
        raise TypeError("a class can't be a wrapper here")
    return functools.update_wrapper(write(wrapper), wrapped)


def total_ordering(cls: Any, /) -> Any:
    """``functools.total_ordering``, for classes of the model's own."""
    return functools.total_ordering(write(cls))


def dataclass(cls: Any = None, /, **options: Any) -> Any:
    """``dataclasses.dataclass``, for classes of the model's own."""

    def decorate(cls: Any, /) -> Any:
        names = [*inspect.get_annotations(write(cls))]
        for base in cls.__mro__:
            names += [field.name for field in getattr(base, _FIELDS, {}).values()]
        for name in names:
            # The names of fields become source that the standard library compiles.
            if type(name) is not str or not name.isidentifier():
                raise TypeError(f"a field can't be called {name!r}")
            check_store(name)
        made: Any = dataclasses.dataclass(**options)(cls)
        setattr(made, _FIELDS, _Fields(vars(made)[_FIELDS]))
        if _PATTERN in vars(made):
            setattr(made, _PATTERN, matched(getattr(made, _PATTERN)))
        return made

    return decorate if cls is None else decorate(cls)


_FIELDS, _PATTERN = "__dataclass_fields__", "__match_args__"


class _Fields:
    """The fields of a dataclass, which no instance can have others in place of: their names are loaded unguarded."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __get__(self, obj: object, owner: object = None) -> dict[str, Any]:
        return self._fields

    def __set__(self, obj: object, value: object) -> None:
        raise AttributeError(f"{_FIELDS} can't be set here")


def matched(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` for ``__match_args__``, or none if one of them needs a guard: patterns load attributes without."""
    names = tuple(names)
    try:
        return () if any(load_guard(name) for name in names) else names
    except NotAllowed:
        return ()


def namedtuple(typename: Any, field_names: Any, **options: Any) -> Any:
    """``collections.namedtuple``; ``typing.NamedTuple`` makes its classes with it too."""
    options["module"] = options.get("module") or sys._getframe(1).f_globals.get("__name__", MODEL_MODULE)
    made: Any = _namedtuple(typename, field_names, **options)
    setattr(made, _PATTERN, matched(made._fields))
    return made


_namedtuple = collections.namedtuple


def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """``uuid.uuid1`` of a made-up machine: the real one's number is its own business."""
    return uuid.uuid1(random.getrandbits(48) | 1 << 40 if node is None else node, clock_seq)
