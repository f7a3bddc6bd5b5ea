"""``except*`` without the opcode, which before 3.13.2 takes whatever a group's own ``split`` gives for a pair.

A statement becomes a plain ``try`` whose one handler asks a ``Raised`` for the part of the group each clause is for.
"""

from __future__ import annotations

import ast
from typing import Any


class Raised:
    """What a ``try`` block raised, on its way through the clauses."""

    __slots__ = ("_leaves", "_matched", "_new", "_original", "_rest")

    def __init__(self, error: BaseException, /) -> None:
        self._original = error
        self._rest: BaseException | None = error
        self._matched: Any = None
        self._new: list[BaseException] = []
        self._leaves: set[int] = set()

    def matches(self, kinds: Any, /) -> bool:
        """Whether some of what is left is for the clause of ``kinds``, and takes it."""
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            if not isinstance(kind, type) or not issubclass(kind, BaseException):
                raise TypeError("catching classes that do not inherit from BaseException is not allowed")
            if issubclass(kind, BaseExceptionGroup):
                raise TypeError("catching ExceptionGroup with except* is not allowed. Use except instead.")
        rest = self._rest
        if rest is None:
            return False
        if isinstance(rest, BaseExceptionGroup):
            self._matched, self._rest = BaseExceptionGroup.split(rest, kinds)
        elif isinstance(rest, kinds):
            self._matched, self._rest = BaseExceptionGroup("", [rest]), None
        else:
            self._matched = None
        return self._matched is not None

    def throw(self) -> None:
        """Raise the part the clause is for."""
        raise self._matched

    def leave(self, error: BaseException, /) -> None:
        """Take what the clause raised: the same part again, or something new."""
        if error is self._matched:
            self._leaves |= _leaves(error)
        else:
            self._new.append(error)

    def end(self) -> None:
        """Raise what no clause was for and what clauses raised."""
        original, rest = self._original, self._rest
        if not isinstance(original, BaseExceptionGroup):
            if rest is not None:
                raise original
            if self._new or self._leaves:
                raise self._new[0] if self._new else self._matched
            return
        left = self._leaves | (_leaves(rest) if rest is not None else set())
        again = BaseExceptionGroup.subgroup(original, lambda error: id(error) in left) if left else None
        if self._new:
            raise BaseExceptionGroup("", [*self._new, again] if again is not None else self._new)
        if again is not None:
            raise again


def _leaves(error: BaseException) -> set[int]:
    if isinstance(error, BaseExceptionGroup):
        return {leaf for part in error.exceptions for leaf in _leaves(part)}
    return {id(error)}


def plain_try(node: Any, number: int) -> ast.Try:
    """The statement that does what ``node``, an ``ast.TryStar``, does. ``number`` tells nested ones apart."""
    raised, error, again = f".raised{number}", f".error{number}", f".again{number}"

    def ask(method: str, *args: ast.expr) -> ast.Call:
        return ast.Call(ast.Attribute(ast.Name(raised, ast.Load()), method, ast.Load()), [*args], [])

    body: list[ast.stmt] = [
        ast.Assign(
            [ast.Name(raised, ast.Store())],
            ast.Call(ast.Name(".raised", ast.Load()), [ast.Name(error, ast.Load())], []),
        )
    ]
    for clause in node.handlers:
        own = ast.ExceptHandler(ast.Name(".BaseException", ast.Load()), clause.name, clause.body)
        leave = ast.Expr(ask("leave", ast.Name(again, ast.Load())))
        handled = ast.Try([ast.Expr(ask("throw"))], [own], [], [])
        outside = ast.ExceptHandler(ast.Name(".BaseException", ast.Load()), again, [leave])
        taken: ast.stmt = ast.If(ask("matches", clause.type), [ast.Try([handled], [outside], [], [])], [])
        body.append(ast.copy_location(taken, clause))
    body.append(ast.Expr(ask("end")))
    handler = ast.ExceptHandler(ast.Name(".BaseException", ast.Load()), error, body)
    return ast.fix_missing_locations(
        ast.copy_location(ast.Try(node.body, [handler], node.orelse, node.finalbody), node)
    )
