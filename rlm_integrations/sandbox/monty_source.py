"""A cell's source as Monty takes it: lines stay where they are, and the prelude fills in what Monty does not have."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from dataclasses import dataclass

# What a ``Document`` has and a ``str`` of Monty's has not.
FIELDS = ("id", "metadata", "start")

FIELD = """
def _rlm_field_{name}(value):
    if isinstance(value, str) and id(value) in _rlm_fields and {name!r} in _rlm_fields[id(value)][1]:
        return _rlm_fields[id(value)][1][{name!r}]
    return value.{name}
"""
PRELUDE = """
import re, json, math, datetime, collections, itertools, random, functools, hashlib, csv
random.seed(0)  # as in the other sandbox, so that a run can be resumed

_rlm_fields = {}
for _rlm_path, _rlm_found_fields in _rlm_documents:
    _rlm_text = eval(_rlm_path[0])
    for _rlm_key in _rlm_path[1:]:
        _rlm_text = _rlm_text[_rlm_key]
    # With the text itself, so that its identity can't come to mean another one.
    _rlm_fields[id(_rlm_text)] = [_rlm_text, _rlm_found_fields]

answer = _rlm_answer = {"content": None, "ready": False}

def _rlm_echo(value):
    if value is not None:
        print(value if isinstance(value, str) else repr(value))

def _rlm_variables():
    found = {}
    for name in _rlm_names():
        try:
            found[name] = eval(name)
        except NameError:
            pass
    return found

def _rlm_take_answer():
    if answer is _rlm_answer and answer.get("ready"):
        answer["ready"] = False
        FINAL(answer.get("content"))

def _rlm_search(words, n=5, brief=False):
    passages = []
    for text, fields in _rlm_found(words, n, brief):
        _rlm_fields[id(text)] = [text, fields]
        passages.append(text)
    return passages

def _rlm_final_var(name, quotes=()):
    if isinstance(name, str) and name.isidentifier():
        try:
            name = eval(name)
        except NameError:
            made = ", ".join(SHOW_VARS()) or "none"
            raise NameError(f"there is no variable {name!r} to give as the answer; yours are: {made}")
    FINAL(name, quotes)

def _rlm_show_vars():
    shown = {}
    for name, value in _rlm_variables().items():
        kind = type(value).__name__
        if kind != "module" and name not in _rlm_given:
            sized = isinstance(value, (str, list, dict, set, tuple))
            shown[name] = f"{kind} of {len(value)}" if sized else kind
    return shown
""" + "".join(FIELD.format(name=name) for name in FIELDS)
HOST_NAMES = "search, FINAL_VAR, SHOW_VARS, globals = _rlm_search, _rlm_final_var, _rlm_show_vars, _rlm_variables"

_PARSER = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell to run: its source for Monty, and the names it may come to define."""

    source: str
    names: tuple[str, ...]


def prepare(source: str) -> Cell:
    """``source`` with the echo of its trailing expression, and with the fields of documents read through the prelude.

    What this Python can't read goes to Monty as it is, for Monty to say what is wrong.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    try:
        # Python 3.11 mixes up the depths of trees that two threads build at once.
        with _PARSER:
            tree = ast.parse(source)
        return Cell(_edited(source, list(_edits(tree))), tuple(dict.fromkeys(_names(tree))))
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return Cell(source, ())


Edit = tuple[tuple[int, int], tuple[int, int], str]


def _edits(tree: ast.Module) -> Iterator[Edit]:
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        start, end = _span(last)
        yield end, end, "))"
        yield start, start, "_rlm_echo(("
    fields = set(_fields(tree))
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        # Python 3.11 does not know where the parts of an f-string stand, so that it is replaced as a whole.
        if isinstance(node, ast.JoinedStr | ast.Attribute) and not fields.isdisjoint(ast.walk(node)):
            start, end = _span(node)
            text = ast.unparse(_Reads(fields).visit(node))
            yield start, end, f"({text}{chr(10) * (end[0] - start[0] - text.count(chr(10)))})"
        else:
            nodes.extend(ast.iter_child_nodes(node))


def _span(node: ast.expr | ast.stmt) -> tuple[tuple[int, int], tuple[int, int]]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _fields(tree: ast.Module) -> Iterator[ast.AST]:
    """Reads of what may be a field of a document; a method is none."""
    methods = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in methods:
            continue
        if node.attr in FIELDS and isinstance(node.ctx, ast.Load):
            yield node


class _Reads(ast.NodeTransformer):
    """Reads of fields become calls of the prelude's functions."""

    def __init__(self, fields: set[ast.AST]) -> None:
        self._fields = fields

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        found = node in self._fields
        self.generic_visit(node)
        return ast.Call(ast.Name(f"_rlm_field_{node.attr}", ast.Load()), [node.value], []) if found else node


def _edited(source: str, edits: list[Edit]) -> str:
    lines: list[bytes | None] = [line.encode() for line in source.split("\n")]
    for (line, column), (end_line, end_column), text in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        first, last = lines[line - 1] or b"", lines[end_line - 1] or b""
        # One entry stays for each line, so that the entries of earlier edits keep their numbers.
        lines[line - 1 : end_line] = [first[:column] + text.encode() + last[end_column:], *[None] * (end_line - line)]
    return b"\n".join(line for line in lines if line is not None).decode()


def _names(tree: ast.AST) -> Iterator[str]:
    """Names that code at the top level binds."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0]
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp() | ast.Lambda():
                pass
            case _:
                yield from _names(node)
