"""The language layer: which Python a cell may hold, and how names that lead out of it are refused or guarded.

The process is the boundary; this is the second line. What an attribute load may do depends on nothing but its name,
except for the few names in ``GUARDS``: so nearly all loads are decided here and run at full speed. A guard is called
by a name that no source can spell (``.write``), so that no parameter, import or class can take its place.
"""

from __future__ import annotations
import __future__

import ast
from types import CodeType
from typing import Any, NoReturn

from RestrictedPython.transformer import INSPECT_ATTRIBUTES, RestrictingNodeTransformer

from rlm_integrations.sandbox.except_star import plain_try

MAX_SOURCE_CHARS = 200_000
ECHO = ".echo"

# Dunder names a class may define, and code may read.
_METHODS = (
    "abs add aenter aexit aiter and anext await bool bytes call ceil class_getitem complex contains copy deepcopy "
    "del delitem divmod enter eq exit float floor floordiv format ge getitem gt hash iadd iand ifloordiv ilshift "
    "imatmul imod imul index init init_subclass instancecheck int invert ior ipow irshift isub iter itruediv ixor "
    "le len length_hint lshift lt matmul missing mod mul ne neg new next or pos post_init pow radd rand rdivmod "
    "replace repr reversed rfloordiv rlshift rmatmul rmod rmul ror round rpow rrshift rshift rsub rtruediv rxor "
    "set_name setitem sizeof slots str sub subclasscheck subclasshook fspath truediv trunc version xor author "
    "all"
)
_ONLY_DEFINED = "getattr setattr delattr get set delete match_args doc"
_ONLY_READ = "name qualname doc module cause context notes members suppress_context"
_HOOKS = (
    "_getattr_ _getitem_ _getiter_ _write_ _print_ _print _apply_ _inplacevar_ _unpack_sequence_ "
    "_iter_unpack_sequence_ __metaclass__"
)
METHODS = frozenset(f"__{name}__" for name in _METHODS.split())
DEFINED = METHODS | {f"__{name}__" for name in _ONLY_DEFINED.split()}
READ = METHODS | {f"__{name}__" for name in _ONLY_READ.split()}
# A class hands these out unbound, and they take any ``self``; ``__new__`` takes a class, which it checks.
UNBOUND = METHODS - {"__new__", "__all__", "__version__", "__author__"}
# Private names of the standard library that people use.
PUBLIC_ANYWAY = frozenset(
    {"_asdict", "_fields", "_field_defaults", "_make", "_replace", "_missing_", "_generate_next_value_"}
)
# Loads that go through a guard, by name of the guard; ``own`` is for every other private name.
GUARDS = {
    "format": ".format",
    "format_map": ".format",
    "obj": ".unless_error",
    "from_file": ".zone",
    "__defaults__": ".own",
    "__kwdefaults__": ".own",
    "__members__": ".dict",
    "__mro__": ".bases",
    "__bases__": ".bases",
    "__base__": ".bases",
    "__wrapped__": ".wrapped",
    "__class__": ".class",
    "__dict__": ".dict",
    "__annotations__": ".dict",
    "__dataclass_fields__": ".dict",
    "__setattr__": ".setattr",
    "__delattr__": ".setattr",
}
# Guards that are told the name and give the attribute; the others give the object it may be loaded from.
BY_NAME = frozenset({".bases", ".dict", ".format", ".method", ".setattr", ".wrapped", ".zone"})
# Methods of the standard library that hand out frames, read files, or make a class of what a module holds.
UNREACHABLE = frozenset(
    {"get_stack", "print_stack", "_convert_", "_create_", "_add_member_", "_add_alias_", "_add_value_alias_"}
)
# Hooks of RestrictedPython: they do nothing here, and a cell that takes their names means no good.
HOOKS = frozenset(_HOOKS.split())
STORED = METHODS | {"__doc__", "__name__", "__qualname__"}
NAMES_READ = frozenset({"__name__", "__doc__", "__debug__"})
INSTEAD = {
    "__import__": "write a plain import statement",
    "__builtins__": "the usual builtins are there by name",
    "__file__": "there are no files here: the documents are in `context`",
    "__subclasses__": "use isinstance(), or keep a list of your own",
    "__traceback__": "str(error) says what went wrong; traceback.format_exc() shows where",
    "__bases__": "use isinstance() or issubclass()",
    "__base__": "use isinstance() or issubclass()",
    "__getattribute__": "define __getattr__, or use getattr()",
    "__mro__": "use isinstance() or issubclass()",
}


NO_METACLASS = "a class can't have a metaclass here: use __init_subclass__ in a base class, or a class decorator"


class NotAllowed(SyntaxError):
    """The cell holds something the language layer refuses; nothing of it was run."""


def compile_cell(source: str, filename: str) -> CodeType:
    """``source`` under the policy; the value of a trailing expression is left in the variable ``ECHO``.

    Raises ``SyntaxError``, ``NotAllowed`` among them, before anything was run.
    """
    tree = ast.parse(source, filename)
    transformer = CellTransformer(source, filename)
    tree = transformer.visit(tree)
    return _compile(tree, filename, transformer.flags)


def compile_plain(source: str, filename: str) -> CodeType:
    """``source`` with no policy at all, for the tests of what the locked process alone can stop."""
    return _compile(ast.parse(source, filename), filename, 0)


def _compile(tree: ast.Module, filename: str, flags: int) -> CodeType:
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name(ECHO, ast.Store())], last.value), last)
    ast.fix_missing_locations(tree)
    code: CodeType = compile(tree, filename, "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def load_guard(name: str) -> str | None:
    """The guard through which an attribute of this name is loaded, None for none. ``NotAllowed`` if it never may be."""
    if name in GUARDS:
        return GUARDS[name]
    if name in INSPECT_ATTRIBUTES or name in UNREACHABLE:
        raise NotAllowed(f"the attribute {name!r} can't be used here: it leads to frames, code or modules")
    if name in UNBOUND:
        return ".method"
    if not name.startswith("_") or name in READ or name in PUBLIC_ANYWAY:
        return None
    if name.startswith("__") and name.endswith("__"):
        raise NotAllowed(f"the attribute {name!r} can't be used here{_instead(name)}")
    return ".own"


def store_guard(name: str) -> str:
    """The guard through which an attribute of this name is set. ``NotAllowed`` if it never may be."""
    check_store(name)
    return ".write_own" if name.startswith("_") and name not in STORED else ".write"


def check_store(name: str) -> None:
    """Raises ``NotAllowed`` for a name that no attribute may be given."""
    if name in INSPECT_ATTRIBUTES or (name.startswith("__") and name.endswith("__") and name not in STORED):
        raise NotAllowed(f"the attribute {name!r} can't be set here")


def check_name(name: str, defined_in_class: bool = False) -> None:
    """Raises ``NotAllowed`` for a name that no variable may have."""
    if name in HOOKS:
        raise NotAllowed(f"the name {name!r} is reserved: choose another one")
    if name.startswith("__") and name.endswith("__") and name != "__":
        # Patterns load what ``__match_args__`` names unguarded, so they are read where a class is made, and only there.
        if name in DEFINED and (defined_in_class or name != "__match_args__"):
            return
        raise NotAllowed(f"the name {name!r} can't be used here{_instead(name)}")


def _instead(name: str) -> str:
    return f": {INSTEAD[name]}" if name in INSTEAD else ""


class CellTransformer(RestrictingNodeTransformer):
    """Refuses what RestrictedPython refuses, except for the constructs below, which are checked in another way."""

    def __init__(self, source: str, filename: str) -> None:
        super().__init__()
        self.source, self.filename, self.flags = source, filename, 0
        self._in_class = False
        self._tries = 0

    def error(self, node: ast.AST, info: str) -> NoReturn:
        """Stop at the first thing that is refused, showing its line."""
        line = getattr(node, "lineno", 1)
        lines = self.source.splitlines()
        text = lines[line - 1] if line <= len(lines) else ""
        raise NotAllowed(info, (self.filename, line, None, text))

    def _ask(self, node: ast.AST, check: Any, *args: Any) -> Any:
        try:
            return check(*args)
        except NotAllowed as refused:
            self.error(node, refused.msg)

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        if name is not None:
            self._ask(node, check_name, name, allow_magic_methods and self._in_class)

    # Names and attributes

    def visit_Name(self, node: ast.Name) -> Any:
        if not (isinstance(node.ctx, ast.Load) and node.id in NAMES_READ):
            self.check_name(node, node.id, allow_magic_methods=True)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        node = self.node_contents_visit(node)
        if isinstance(node.ctx, ast.Load):
            guard = self._ask(node, load_guard, node.attr)
        else:
            guard = self._ask(node, store_guard, node.attr)
        if guard == ".class":
            return self._guarded(guard, node.value)
        if guard in BY_NAME:
            return self._guarded(guard, node.value, ast.copy_location(ast.Constant(node.attr), node))
        if guard is not None:
            node.value = self._guarded(guard, node.value)
        return node

    def _guarded(self, guard: str, value: ast.expr, *args: ast.expr) -> ast.expr:
        function = ast.copy_location(ast.Name(guard, ast.Load()), value)
        return ast.copy_location(ast.Call(function, [value, *args], []), value)

    # Constructs that need no guard, since subscripts, iteration and arithmetic reach only what code already holds

    def _contents(self, node: Any) -> Any:
        return self.node_contents_visit(node)

    visit_Subscript = visit_Call = visit_Assign = visit_AugAssign = visit_For = visit_comprehension = _contents
    visit_With = visit_Await = visit_AsyncFor = visit_AsyncWith = visit_NamedExpr = visit_Module = _contents
    visit_Match = visit_match_case = visit_MatchValue = visit_MatchSingleton = visit_MatchSequence = _contents
    visit_MatchOr = visit_TypeAlias = _contents

    def visit_TryStar(self, node: Any) -> Any:
        self._tries += 1
        number = self._tries
        return plain_try(self._contents(node), number)

    # Names that are bound other than through a Name

    def visit_Nonlocal(self, node: ast.Nonlocal | ast.Global) -> Any:
        for name in node.names:
            self.check_name(node, name)
        return node

    visit_Global = visit_Nonlocal

    def visit_MatchStar(self, node: ast.MatchStar | ast.MatchAs) -> Any:
        self.check_name(node, node.name)
        return self._contents(node)

    visit_MatchAs = visit_MatchStar

    def visit_MatchMapping(self, node: ast.MatchMapping) -> Any:
        self.check_name(node, node.rest)
        return self._contents(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> Any:
        for name in node.kwd_attrs:
            self._check_matched(node, name)
        return self._contents(node)

    def _check_matched(self, node: ast.AST, name: str) -> None:
        """A pattern loads attributes without a guard, so it may only name what needs none."""
        if self._ask(node, load_guard, name) is not None:
            self.error(node, f"a pattern can't match the attribute {name!r}")

    def visit_TypeVar(self, node: Any) -> Any:
        self.check_name(node, node.name)
        return self._contents(node)

    visit_ParamSpec = visit_TypeVarTuple = visit_TypeVar

    # Functions and classes

    def visit_FunctionDef(self, node: Any) -> Any:
        self.check_name(node, node.name, allow_magic_methods=True)
        self.check_function_argument_names(node)
        if node.returns is not None:
            node.returns = self._as_text(node.returns)
        in_class, self._in_class = self._in_class, False
        node = self._contents(node)
        self._in_class = in_class
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> Any:
        if node.annotation is not None:
            node.annotation = self._as_text(node.annotation)
        return node

    def _as_text(self, annotation: ast.expr) -> ast.expr:
        """The annotation of a function, which need not name what is there."""
        return ast.copy_location(ast.Constant(ast.unparse(annotation)), annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """In a class annotations make fields; elsewhere they do nothing, and are left out."""
        if not self._in_class:
            target = self.visit(node.target)
            if node.value is None:
                # A bare annotation still makes its name local to a function.
                return ast.copy_location(ast.AnnAssign(target, ast.Constant(None), None, node.simple), node)
            return ast.copy_location(ast.Assign([target], self.visit(node.value)), node)
        return self._contents(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.check_name(node, node.name)
        for keyword in list(node.keywords):
            if keyword.arg == "metaclass":
                named = keyword.value
                if getattr(named, "attr", getattr(named, "id", None)) != "ABCMeta":
                    self.error(node, NO_METACLASS)
                node.keywords.remove(keyword)
                node.bases.append(ast.copy_location(ast.Name(".ABC", ast.Load()), node))
        for statement in node.body:
            self._check_match_args(statement)
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.bases = [item if getattr(item, "id", "") == ".ABC" else self.visit(item) for item in node.bases]
        node.keywords = [self.visit(item) for item in node.keywords]
        for parameter in getattr(node, "type_params", ()):
            self.visit(parameter)
        in_class, self._in_class = self._in_class, True
        body: list[ast.stmt] = []
        for statement in node.body:
            visited = self.visit(statement)
            body.extend(visited if isinstance(visited, list) else [visited])
        self._in_class = in_class
        node.body = body
        return node

    def _check_match_args(self, statement: ast.stmt) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id == "__match_args__":
                value = getattr(statement, "value", None)
                names = value.elts if isinstance(statement, ast.Assign) and isinstance(value, ast.Tuple) else [node]
                for item in names:
                    if not isinstance(item, ast.Constant) or type(item.value) is not str:
                        self.error(node, "__match_args__ must be a tuple of names written out")
                    self._check_matched(node, item.value)

    # Imports

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """Assignments of what ``.import`` finds: the opcode itself would look a missing name up in ``sys.modules``."""
        bindings = []
        for alias in node.names:
            found = self._call(".import" if alias.asname else ".import_top", alias.name)
            bindings.append(self._binding(node, alias.asname or alias.name.partition(".")[0], found))
        return bindings

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        if node.module == "__future__":
            for alias in node.names:
                if alias.name not in __future__.all_feature_names:
                    self.error(node, f"future feature {alias.name!r} is not defined")
                self.flags |= getattr(__future__, alias.name).compiler_flag
            return [ast.copy_location(ast.Pass(), node)]
        module = "." * node.level + (node.module or "")
        if node.names[0].name == "*":
            return [self._located(ast.Expr(self._call(".import_all", module)), node)]
        return [
            self._binding(node, alias.asname or alias.name, self._call(".import_from", module, alias.name))
            for alias in node.names
        ]

    def _binding(self, node: ast.stmt, name: str, value: ast.expr) -> ast.stmt:
        self.check_name(node, name)
        return self._located(ast.Assign([ast.Name(name, ast.Store())], value), node)

    def _call(self, function: str, *args: str) -> ast.Call:
        return ast.Call(ast.Name(function, ast.Load()), [ast.Constant(arg) for arg in args], [])

    def _located(self, new: ast.stmt, node: ast.stmt) -> ast.stmt:
        return ast.fix_missing_locations(ast.copy_location(new, node))
