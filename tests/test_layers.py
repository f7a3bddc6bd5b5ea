"""Imports only point one way, and heavy libraries stay behind the borders they belong to."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlm_integrations

PACKAGE = Path(rlm_integrations.__file__).parent
LAYERS = (
    ("errors", "messages", "context", "events", "stored"),
    ("ports", "budget", "prompts"),
    ("engine",),
    ("models", "sandbox"),
    ("cache", "run_settings", "saved_run", "saving", "sequel", "trajectory", "result", "rlm", "testing"),
    ("page",),
    ("langchain", "llama_index", "ray", "cli", "demo", "progress"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
BORDERS = {
    "litellm": "models",
    "openai": "models",
    "RestrictedPython": "sandbox",
    "pydantic_monty": "sandbox",
    "cachelib": "cache",
    "langchain_core": "langchain",
    "langgraph": "langchain",
    "llama_index": "llama_index",
    "pygments": "page",
    "ray": "ray",
    "pyarrow": "ray",
    "rich": "cli progress",
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules that a file imports at run time, with the line; not those for type checkers only."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            yield node.module, node.lineno


def layer(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_import_only_points_to_the_left(path: Path) -> None:
    own = layer(path)
    for module, line in imports(path):
        top, _, rest = module.partition(".")
        if top != "rlm_integrations" or not rest:
            continue
        other = rest.partition(".")[0]
        assert other == own or RANK[other] <= RANK[own], f"{path}:{line} imports {module}"
        assert not (
            other != own and RANK[own] == len(LAYERS) - 1 == RANK[other] and own in ("langchain", "llama_index")
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_heavy_library_is_imported_behind_its_border_only(path: Path) -> None:
    for module, line in imports(path):
        border = BORDERS.get(module.partition(".")[0])
        assert border is None or layer(path) in border.split(), f"{path}:{line} imports {module}"


def test_the_engine_and_all_below_it_know_no_framework_and_no_network() -> None:
    known = {"langchain_core", "llama_index", "litellm", "openai", "httpx", "requests", "socket", "subprocess"}
    for path in FILES:
        if RANK[layer(path)] <= RANK["engine"]:
            assert not known & {module.partition(".")[0] for module, _ in imports(path)}, path


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, rlm_integrations; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"litellm", "langchain_core", "llama_index", "openai", "pydantic", "RestrictedPython", "rich", "bs4"}
    assert not heavy & set(loaded)
