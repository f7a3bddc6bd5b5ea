"""Functions of the standard library that could be led to reach attributes or compile source, kept from it."""

from __future__ import annotations

import dataclasses
import enum
import functools
import random
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from rlm_integrations.sandbox.guards import write


def wraps(wrapped: Any, /) -> Callable[[Any], Any]:
    """``functools.wraps`` with nothing to configure."""
    return lambda wrapper, /: update_wrapper(wrapper, wrapped)


def update_wrapper(wrapper: Any, wrapped: Any, /) -> Any:
    """``functools.update_wrapper`` with nothing to configure."""
    return functools.update_wrapper(write(wrapper), wrapped)


def dataclass(cls: Any = None, /, **options: Any) -> Any:
    """``dataclasses.dataclass``, for classes of the model's own."""

    def decorate(cls: Any, /) -> Any:
        # Fields make match patterns, which load attributes unguarded: those of a string lead out.
        if issubclass(cls, str):
            raise TypeError("a dataclass can't be a str here")
        for base in cls.__mro__:
            for field in vars(base).get("__dataclass_fields__", {}).values():
                # The names of fields become source that the standard library compiles.
                if type(field.name) is not str or not field.name.isidentifier():
                    raise TypeError(f"a field can't be called {field.name!r}")
        return dataclasses.dataclass(**options)(write(cls))

    return decorate if cls is None else decorate(cls)


def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """``uuid.uuid1`` of a made-up machine: the real one's number is its own business."""
    return uuid.uuid1(random.getrandbits(48) | 1 << 40 if node is None else node, clock_seq)


def seal_forward_refs() -> None:
    """Have nobody subclass ``typing.ForwardRef``, whose private methods run the text of an annotation."""

    def refuse(cls: Any, /, **options: Any) -> None:
        raise TypeError("a forward reference can't be a base class here")

    typing.ForwardRef.__init_subclass__ = classmethod(refuse)  # type: ignore[assignment]


def check_enum_names() -> None:
    """Have ``Enum("Name", members)`` refuse dunder members: they would become attributes of the class."""
    create = enum.EnumMeta._create_  # type: ignore[attr-defined]

    def _create_(cls: Any, class_name: Any, names: Any, **options: Any) -> Any:
        if not isinstance(names, str):
            names = dict(names) if isinstance(names, Mapping) else [*names]
        plain = names.replace(",", " ").split() if isinstance(names, str) else names
        for name in plain:
            if str(name if isinstance(name, str) else name[0]).startswith("_"):
                raise ValueError(f"an enum can't have the member {name!r} here")
        return create(cls, class_name, names, **options)

    enum.EnumMeta._create_ = _create_  # type: ignore[attr-defined]
