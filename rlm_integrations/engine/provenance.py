"""Tells an answer that was computed from one that was typed in, from the code alone.

Names are followed through assignments, loops, calls and conditions, without regard to order: an answer counts as
computed if anything that it depends on leads back to the context or to a call that reads it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator

from rlm_integrations.engine.reply import parsed

__all__ = ["is_typed_in"]

ENDINGS = ("FINAL", "FINAL_VAR")


def is_typed_in(cells: Iterable[str], sources: Iterable[str]) -> bool:
    """Whether every answer given in ``cells`` is made of constants only.

    ``sources`` are the names that hold or read the context. Code that does not parse counts as computed: it runs in
    the sandbox first, and what it gave is judged there.
    """
    flow = _Flow()
    for code in cells:
        tree = parsed(code)
        try:
            if tree is None:
                return False
            flow.visit(tree)
        except (RecursionError, MemoryError):
            return False
    return bool(flow.answers) and not flow.reach(flow.answers) & set(sources)


class _Flow(ast.NodeVisitor):
    """Which names each name is made of, and which the answers are."""

    def __init__(self) -> None:
        self.made_of: dict[str, set[str]] = defaultdict(set)
        self.answers: set[str] = set()
        self._conditions: list[set[str]] = []

    def reach(self, names: Iterable[str]) -> set[str]:
        """``names`` and all that they are made of."""
        seen: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(self.made_of[name])
        return seen

    def visit_Assign(self, node: ast.Assign) -> None:
        self._flow(node.targets, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._flow([node.target], node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._flow([node.target], node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._flow([node.target], node.value)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._flow([node.target], node.iter)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._flow([node.target], node.iter)
        self._under(_names(node.iter), [*node.body, *node.orelse])

    def visit_While(self, node: ast.While) -> None:
        self._under(_names(node.test), [node.test, *node.body, *node.orelse])

    def visit_If(self, node: ast.If) -> None:
        self._under(_names(node.test), [node.test, *node.body, *node.orelse])

    def visit_Match(self, node: ast.Match) -> None:
        self._under(_names(node.subject), [node.subject, *node.cases])

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is not None:
                self._flow([item.optional_vars], item.context_expr)
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        # How far the body gets, and whether a handler runs, depends on all that the body touches.
        names = {name for statement in node.body for name in _names(statement)}
        self._under(names, [*node.body, *node.handlers, *node.orelse, *node.finalbody])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.made_of[node.name] |= _names(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        arguments = {name for part in [*node.args, *node.keywords] for name in _names(part)}
        if isinstance(node.func, ast.Name) and node.func.id in ENDINGS:
            self.answers |= arguments | _named_variables(node) | self._condition()
            # An answer of constants alone is made of nothing, but it is still an answer.
            self.answers.add(f"<{node.func.id}>")
        elif isinstance(node.func, ast.Attribute):
            # found.append(x) makes found of x.
            for name in _names(node.func.value):
                self.made_of[name] |= arguments | self._condition()
        self.generic_visit(node)

    def _flow(self, targets: Iterable[ast.expr], value: ast.expr) -> None:
        names = _names(value) | self._condition()
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    self.made_of[part.id] |= names
            if isinstance(target, ast.Subscript) and _names(target.value) == {"answer"}:
                self.answers |= names
                self.answers.add("<answer>")
        self.visit(value)

    def _under(self, condition: set[str], body: Iterable[ast.AST]) -> None:
        self._conditions.append(condition)
        for node in body:
            self.visit(node)
        self._conditions.pop()

    def _condition(self) -> set[str]:
        return {name for condition in self._conditions for name in condition}


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _named_variables(call: ast.Call) -> set[str]:
    """``FINAL_VAR("total")`` names its variable as text."""

    def texts() -> Iterator[str]:
        for argument in call.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value

    return set(texts()) if isinstance(call.func, ast.Name) and call.func.id == "FINAL_VAR" else set()
