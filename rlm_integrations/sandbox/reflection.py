"""``inspect`` for functions of the model's own."""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import types
from collections.abc import Callable
from typing import Any

from rlm_integrations.sandbox.guards import guarded_dir, guarded_getattr, is_model_made
from rlm_integrations.sandbox.trace import CELL
from rlm_integrations.sandbox.type_hints import hints_of

_ASKED = (
    "isfunction isclass ismethod isbuiltin isgenerator isgeneratorfunction iscoroutine iscoroutinefunction "
    "isasyncgenfunction isabstract isroutine cleandoc getdoc"
)
_EMPTY = inspect.Parameter.empty


class Signature:
    """The parameters of a function: ``str`` shows them, ``parameters`` holds their names, kinds and defaults."""

    def __init__(self, text: str, parameters: dict[str, Any], return_annotation: Any) -> None:
        self._text, self.parameters, self.return_annotation = text, parameters, return_annotation

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Signature {self._text}>"


def signature(function: Any, /) -> Signature:
    """``inspect.signature`` of a function or class of the model's own: what a default of others is stays their own."""
    plain = function.__func__ if isinstance(function, types.MethodType) else function
    if not isinstance(plain, types.FunctionType | type) or not is_model_made(plain) or "__signature__" in vars(plain):
        # Python evaluates a signature that is text.
        raise ValueError("inspect.signature() takes functions and classes of your own here")
    real = inspect.signature(function)
    known = isinstance(inspect.unwrap(function), types.FunctionType) and is_model_made(inspect.unwrap(function))
    try:
        hints = hints_of(function)
    except (NameError, TypeError, AttributeError, SyntaxError):
        hints = {}
    real = real.replace(
        parameters=[
            parameter.replace(annotation=hints.get(name, parameter.annotation))
            for name, parameter in real.parameters.items()
        ],
        return_annotation=hints.get("return", real.return_annotation),
    )
    parameters = {
        name: types.SimpleNamespace(
            name=name,
            kind=parameter.kind,
            default=parameter.default if known or parameter.default is _EMPTY else repr(parameter.default),
            annotation=parameter.annotation,
            empty=_EMPTY,
        )
        for name, parameter in real.parameters.items()
    }
    return Signature(str(real), parameters, real.return_annotation)


def getsource(function: Any, /) -> str:
    """The lines of a function or class of the model's own."""
    function = function.__func__ if isinstance(function, types.MethodType) else function
    if isinstance(function, type) and is_model_made(function):
        return _source_of_class(function.__qualname__)
    if not isinstance(function, types.FunctionType) or not is_model_made(function):
        raise TypeError("inspect.getsource() takes functions and classes of your own here")
    code = function.__code__
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    return "".join(inspect.getblock(lines))


def _source_of_class(name: str) -> str:
    for filename in reversed([*linecache.cache]):
        lines = linecache.getlines(filename) if filename.startswith(CELL) else []
        with contextlib.suppress(SyntaxError):
            for node in reversed(ast.parse("".join(lines)).body):
                if isinstance(node, ast.ClassDef) and node.name == name:
                    first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
                    return "".join(lines[first - 1 : node.end_lineno])
    raise OSError("could not find class definition")


def getmembers(obj: Any, wanted: Callable[[Any], Any] | None = None, /) -> list[tuple[str, Any]]:
    """The public attributes of ``obj``, by name."""
    found = [(name, guarded_getattr(obj, name, None)) for name in sorted(guarded_dir(obj))]
    return [item for item in found if wanted is None or wanted(item[1])]


class Parameter:
    """The kinds of parameters, and what stands for no default and no annotation."""

    empty = _EMPTY
    POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = inspect._ParameterKind


INSPECT: dict[str, Any] = {
    "Parameter": Parameter,
    **{name: getattr(inspect, name) for name in _ASKED.split()},
    "signature": signature,
    "getsource": getsource,
    "getmembers": getmembers,
}
