"""Runs a notebook from top to bottom as Jupyter does: in one namespace, inside a running event loop."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
from pathlib import Path
from typing import Any


class Notebook:
    """A notebook on disk. ``outputs`` are the texts stored with its code cells, None where there are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.cells: list[dict[str, Any]] = [cell for cell in self._whole["cells"] if cell["cell_type"] == "code"]

    @property
    def outputs(self) -> list[str]:
        """What each code cell printed when it was recorded."""
        return ["".join(text for output in cell["outputs"] for text in output["text"]) for cell in self.cells]

    def run(self) -> tuple[list[str], dict[str, Any]]:
        """What each code cell prints, and the names they leave."""
        names: dict[str, Any] = {"__name__": "__main__"}
        return asyncio.run(self._run(names)), names

    async def _run(self, names: dict[str, Any]) -> list[str]:
        printed = []
        for number, cell in enumerate(self.cells):
            code = compile(
                "".join(cell["source"]),
                f"{self._path.name}, cell {number + 1}",
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                dont_inherit=True,
            )
            with contextlib.redirect_stdout(io.StringIO()) as output:
                outcome = eval(code, names)
                if asyncio.iscoroutine(outcome):
                    await outcome
            printed.append(output.getvalue())
        return printed

    def save(self, outputs: list[str]) -> None:
        """Store ``outputs`` with the cells."""
        for number, (cell, text) in enumerate(zip(self.cells, outputs, strict=True), 1):
            cell["execution_count"] = number
            lines = text.splitlines(keepends=True)
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if text else []
        self._path.write_text(json.dumps(self._whole, indent=1, ensure_ascii=False) + "\n", "utf-8")
