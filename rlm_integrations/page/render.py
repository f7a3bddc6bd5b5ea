"""Puts the page together: markup, style, script, and a run as data that the script shows as text."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

from rlm_integrations.context import Context
from rlm_integrations.page.data import page_data
from rlm_integrations.trajectory import Trajectory

__all__ = ["render_page"]

SCRIPTS = ("dom", "search", "tree", "detail", "timeline", "usage", "evidence", "main")
# What would end the data's element, or a line of a script in old browsers.
_ESCAPES = {mark: f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


def render_page(trajectory: Trajectory, context: Context | None = None) -> str:
    """The page as HTML, to be written as UTF-8. It loads nothing, and nothing in it is run but its own script.

    ``context``: the documents that citations are shown in; by default those that ``trajectory`` holds. Raises
    ``InvalidInput`` where the trajectory holds no run.
    """
    data = json.dumps(page_data(trajectory, context or trajectory.context), ensure_ascii=False, allow_nan=False)
    for mark, escape in _ESCAPES.items():
        data = data.replace(mark, escape)
    style, script = _style(), _script()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    parts = {"policy": policy, "style": style, "data": data, "script": script}
    page = _read("page.html")
    pieces = [page]
    for name, text in parts.items():
        before, after = pieces.pop().split(f"{{{{{name}}}}}")
        pieces += [before, text, after]
    return "".join(pieces)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _style() -> str:
    return _read("page.css")


@cache
def _script() -> str:
    return "".join(["'use strict';\n{\n", *(_read(f"{name}.js") for name in SCRIPTS), "}\n"])


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
