"""Annotations, read without running them: ``typing.get_type_hints`` and all that goes by annotations."""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from rlm_integrations.sandbox.guards import MODEL_MODULE, Type, guarded_getattr, is_model_made, own, plain_hint


def hints_of(obj: Any) -> dict[str, Any]:
    """The annotations of a class or function of the model's own, by name. Raises ``NameError`` for an unknown name."""
    if isinstance(obj, type):
        found: dict[str, Any] = {}
        for base in reversed(obj.__mro__):
            if is_model_made(base):
                found |= inspect.get_annotations(base)
    else:
        found = dict(getattr(own(obj), "__annotations__", {}))
    return {name: _hint(value) for name, value in found.items()}


def get_type_hints(obj: Any, globalns: Any = None, localns: Any = None, include_extras: bool = False) -> dict[str, Any]:
    """``typing.get_type_hints``, whose names are those of the cells."""
    return hints_of(obj)


def get_args(hint: Any, /) -> tuple[Any, ...]:
    """``typing.get_args``, with a forward reference as its text."""
    return tuple([plain_hint(part) for part in typing.get_args(hint)])


def get_origin(hint: Any, /) -> Any:
    """``typing.get_origin``, with ``type`` as model code knows it."""
    origin = typing.get_origin(hint)
    return Type if origin is type else origin


def _hint(value: Any) -> Any:
    value = plain_hint(value)
    if value is None:
        return type(None)
    return _Reader().read(ast.parse(value.strip(), mode="eval").body) if isinstance(value, str) else value


class _Reader:
    """Gives what an annotation names: it knows names, attributes, subscripts and ``|``, and calls nothing."""

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(str() as text):
                return _hint(text)
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self.name(name)
            case ast.Attribute(value, name):
                return guarded_getattr(self.read(value), name)
            case ast.Subscript(value, ast.Constant(str() as text)) if getattr(value, "id", "") == "Literal":
                return typing.Literal[text]
            case ast.Subscript(value, part):
                literal = getattr(value, "id", getattr(value, "attr", "")) == "Literal"
                return self.read(value)[ast.literal_eval(part) if literal else self.read(part)]
            case ast.Tuple(parts):
                return tuple([self.read(part) for part in parts])
            case ast.List(parts):
                return [self.read(part) for part in parts]
            case ast.BinOp(left, ast.BitOr(), right):
                return operator.or_(self.read(left), self.read(right))
        raise TypeError(f"an annotation can't hold {ast.unparse(node)} here")

    def name(self, name: str) -> Any:
        namespace: Mapping[str, Any] = vars(sys.modules[MODEL_MODULE])
        if name[:1] != "_" and name in namespace:
            return namespace[name]
        # Python's own builtins hold more than a cell finds: the loader of modules is a class there.
        found = None if name[:1] in "._" else namespace["__builtins__"].get(name)
        if not isinstance(found, type):
            raise NameError(f"name {name!r} is not defined", name=name)
        return found


def singledispatch(function: Any, /) -> Any:
    """``functools.singledispatch``."""
    registry: dict[Any, Any] = {object: function}

    def dispatch(kind: type, /) -> Any:
        return functools._find_impl(kind, registry)  # type: ignore[attr-defined]

    def register(kind: Any, implementation: Any = None, /) -> Any:
        parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        if all(isinstance(part, type) for part in parts):
            if implementation is None:
                return lambda implementation, /: register(kind, implementation)
            registry.update(dict.fromkeys(parts, implementation))
            return implementation
        hints = [hint for name, hint in hints_of(kind).items() if name != "return"] if callable(kind) else []
        if implementation is not None or not hints:
            raise TypeError(
                f"register() takes a class, or a function whose first argument has one as its hint: {kind!r}"
            )
        return register(hints[0], kind)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not args:
            raise TypeError(f"{getattr(function, '__name__', 'it')} requires at least 1 positional argument")
        return dispatch(type(args[0]))(*args, **kwargs)

    members = {"register": register, "dispatch": dispatch, "registry": types.MappingProxyType(registry)}
    for name, member in members.items():
        setattr(wrapper, name, member)
    for name in ("__name__", "__qualname__", "__doc__"):
        setattr(wrapper, name, getattr(function, name, None) or "")
    return wrapper


class singledispatchmethod:
    """``functools.singledispatchmethod``."""

    def __init__(self, function: Any, /) -> None:
        self._function = singledispatch(function)

    def register(self, kind: Any, implementation: Any = None, /) -> Any:
        """Take an implementation for first arguments of a class."""
        return self._function.register(kind, implementation)

    def __get__(self, obj: Any, owner: Any = None, /) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            return self._function.dispatch(type(args[0])).__get__(obj, owner)(*args, **kwargs)

        return method
