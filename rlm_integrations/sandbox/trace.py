"""Exceptions as model code sees them: its own lines and the reason, without a path or a frame of the machinery."""

from __future__ import annotations

import difflib
import linecache
import sys
from collections.abc import Iterable
from types import TracebackType

CELL = "<cell "
NO_MAGIC = "there is no shell and no IPython here: write plain Python; nothing can be installed"
MAX_MESSAGE_CHARS = 2_000
SHOWN_LINES = 4


def remember(filename: str, source: str) -> None:
    """Keep the lines of a cell, for errors in functions it defines."""
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)


def describe(error: BaseException, filename: str, variables: Iterable[str] = ()) -> str:
    """The lines of model code that led to ``error``, and what it says. ``filename`` is the cell that ran."""
    lines = _lines(error.__traceback__, filename)
    if len(lines) > 2 * SHOWN_LINES:
        left_out = f"... {len(lines) - 2 * SHOWN_LINES} more lines ..."
        lines = [*lines[:SHOWN_LINES], left_out, *lines[-SHOWN_LINES:]]
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL):
        line = (error.text or "").strip()
        lines = [f"line {error.lineno}: {line}"]
        if line.startswith(("%", "!", "pip install")):
            return "\n".join([*lines, f"{_say(error, variables)} ({NO_MAGIC})"])
    cause = error.__cause__
    if cause is not None and cause is not error:
        lines.append(f"(caused by {_say(cause, ())})")
    return "\n".join([*lines, _say(error, variables)])


def format_exc(*args: object, **options: object) -> str:
    """``traceback.format_exc``, with the model's own lines only."""
    error = sys.exc_info()[1]
    return "NoneType: None\n" if error is None else describe(error, "") + "\n"


def _lines(trace: TracebackType | None, filename: str) -> list[str]:
    lines = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(CELL):
            where = f"line {trace.tb_lineno}"
            if code.co_filename != filename and filename:
                where = f"{code.co_filename.strip('<>')}, {where}"
            if not code.co_name.startswith("<"):
                where += f", in {code.co_name}"
            lines.append(f"{where}: {linecache.getline(code.co_filename, trace.tb_lineno).strip()[:200]}")
        trace = trace.tb_next
    return lines


def _say(error: BaseException, variables: Iterable[str]) -> str:
    name = type(error).__name__
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        message = "(its message can't be shown)"
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + f"... [{len(message) - MAX_MESSAGE_CHARS:,} more characters]"
    if isinstance(error, NameError) and not isinstance(error, UnboundLocalError) and isinstance(error.name, str):
        near = difflib.get_close_matches(error.name, list(variables), 1)
        message += f"; did you mean {near[0]!r}?" if near else ""
    if isinstance(error, RecursionError):
        message += " (too many nested calls: use a loop)"
    return f"{name}: {message}" if message else name
