"""``rlm export``: a saved run as one web page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rlm_integrations.cli.ask import read
from rlm_integrations.cli.exits import Exit
from rlm_integrations.cli.text import flat
from rlm_integrations.errors import InvalidInput, MissingExtra
from rlm_integrations.page import render_page
from rlm_integrations.trajectory import Trajectory

__all__ = ["export"]

ENDINGS = (".html", ".htm")
MARK = b"<title>RLM run</title>"
MARK_WITHIN = 2_000


def export(args: argparse.Namespace) -> Exit:
    """Write the run in ``args.run`` to ``args.page``; its citations show in the documents at ``args.paths``."""
    try:
        # Nobody should lose a document over a forgotten word.
        if not args.page.lower().endswith(ENDINGS):
            raise InvalidInput(f"the page is called {args.page!r}: give it a name that ends in .html")
        if _holds_something_else(args.page):
            raise InvalidInput(f"{args.page!r} is there already and is no page of a run: give the page another name")
        trajectory = Trajectory.load(args.run)
        page = render_page(trajectory, read(args.paths) if args.paths else None)
        _write(args.page, page)
    except (InvalidInput, MissingExtra) as error:
        print(f"rlm: {flat(str(error), 2_000)}", file=sys.stderr)
        return Exit.USAGE
    print(f"written: {flat(args.page)} ({os.path.getsize(args.page):,} bytes)", file=sys.stderr)
    return Exit.COMPLETE


def _holds_something_else(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(MARK_WITHIN)
    except OSError:  # There is none, or it can't be written either.
        return False
    return bool(start) and MARK not in start


def _write(path: str, page: str) -> None:
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path!r} can't be written: {error.strerror or error}") from error
