"""Reads a model's reply: the cell in it, or what is missing. Never an answer out of prose."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Cell", "NoCell", "Problem", "parsed", "parses", "read_reply", "spoken"]

MAX_CODE_CHARS = 200_000
MAX_REPLY_CHARS = 400_000
MAX_KEPT_PROSE_CHARS = 2_000
MAX_CLOSING_FENCES = 20

PARSE_TRIES = 3

LANGUAGES = ("", "python", "python3", "py", "repl")

Problem = Literal["empty", "prose", "cut", "too long"]

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*\{?\.?([\w+.-]*)\}?(?:[ \t][^`]*)?$")
# Some chat templates open the tag in the prompt, so that a reply only closes it.
_THINKING = re.compile(
    r"\A(?:\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)|(?:(?!<think).)*?</think(?:ing)?>)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Code to run. ``kept`` is the reply as the history holds it: what follows the code is cut."""

    code: str
    kept: str


@dataclass(frozen=True, slots=True)
class NoCell:
    """A reply with nothing to run."""

    problem: Problem
    kept: str


def read_reply(text: str) -> Cell | NoCell:
    """The first fenced block of ``text`` as a cell, or all of it where it is nothing but Python."""
    text = spoken(text[: MAX_REPLY_CHARS + 1]).replace("\r\n", "\n")
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
        elif fence[2].lower() in LANGUAGES:
            return _read_block(lines, number, fence[1])
        else:
            # A block in another language, say JSON, is passed over as a whole.
            number = (_closing(lines, number + 1, fence[1]) or len(lines)) + 1
    return _read_unfenced(text)


def spoken(text: str) -> str:
    """``text`` without the reasoning that some models write out before it."""
    return _THINKING.sub("", text)


def _read_block(lines: list[str], start: int, fence: str) -> Cell | NoCell:
    """The block that opens at ``start``; it ends at the first closing fence that makes it parse."""
    before = _shortened("\n".join(lines[:start]))
    if start + 1 < len(lines) and lines[start].strip() == fence and lines[start + 1].strip().lower() in LANGUAGES:
        start += 1  # the language's name, one line too late
    closings: list[int] = []
    end = _closing(lines, start + 1, fence)
    while end is not None and len(closings) < MAX_CLOSING_FENCES:
        closings.append(end)
        end = _closing(lines, end + 1, fence)
    # A block that generation stopped in, at a stop sequence or at a limit, has no closing fence.
    candidates = ["\n".join(_dedented(lines[start + 1 : end])) for end in closings or [len(lines)]]
    code = next((code for code in candidates if parses(code)), candidates[0])
    if len(code) > MAX_CODE_CHARS:
        return NoCell("too long", before or "(code)")
    kept = (f"{before}\n" if before else "") + f"```python\n{code}\n```"
    if not code.strip():
        return NoCell("empty", kept)
    if not closings and not parses(code):
        return NoCell("cut", kept)
    return Cell(code, kept)


def _read_unfenced(text: str) -> Cell | NoCell:
    code = text.strip()
    if len(code) > 1 and code[0] == code[-1] == "`":
        code = code.strip("`").strip()
    if not code:
        return NoCell("empty", "(empty reply)")
    tree = parsed(code) if len(code) <= MAX_CODE_CHARS else None
    if tree is not None and _does_something(tree):
        return Cell(code, f"```python\n{code}\n```")
    return NoCell("prose", _shortened(text))


def _does_something(tree: ast.Module) -> bool:
    """Words alone can be Python too: "Paris", "not found", and "Answer: FINAL(42)" as an annotation."""
    if any(isinstance(statement, ast.AnnAssign) and statement.value is None for statement in tree.body):
        return False
    doing = (ast.Call, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Import, ast.ImportFrom)
    return any(isinstance(node, doing) for node in ast.walk(tree))


def parses(code: str) -> bool:
    """Whether ``code`` is Python, as far as syntax goes."""
    return len(code) <= MAX_CODE_CHARS and parsed(code) is not None


def parsed(code: str) -> ast.Module | None:
    """``code`` as a syntax tree, None where it is no Python."""
    for _ in range(PARSE_TRIES):
        try:
            return ast.parse(code)
        except SystemError:
            # Python 3.11 counts the depth of all threads' trees together, and may lose count where two are built.
            continue
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return None


def _closing(lines: list[str], start: int, fence: str) -> int | None:
    for number in range(start, len(lines)):
        match = _FENCE.match(lines[number])
        if match and match[0].strip() == match[1] and match[1].startswith(fence):
            return number
    return None


def _dedented(lines: list[str]) -> list[str]:
    """Code without the margin that a list item gives it."""
    margins = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    margin = min(margins, default=0)
    return [line[margin:] for line in lines]


def _shortened(text: str) -> str:
    text = text.strip()
    if len(text) <= MAX_KEPT_PROSE_CHARS:
        return text
    return f"{text[:MAX_KEPT_PROSE_CHARS]} [... {len(text) - MAX_KEPT_PROSE_CHARS:,} more characters]"
