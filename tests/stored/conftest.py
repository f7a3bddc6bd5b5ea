"""Files to store, and what a context over them is when it is all in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_integrations import Context

TEXTS = {
    "a.txt": "The quick fox jumps.\n" * 3_000
    + "The staging server listens on port 8443.\n"
    + "Nothing else.\n" * 3_000,
    "b/empty.md": "",
    "b/grüße.txt": "Grüße \U0001f600 aus Köln.\n" * 500 + "Die Ärztin notierte 17,5 Einheiten.\n" + "Ende \u2028\r\n",
    "c.csv": "name,port\nproduction,8444\n",
    "d.html": "<p>The <b>release</b> is due in May.</p><script>no()</script>",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files of all kinds, one of them no text."""
    root = tmp_path / "docs"
    for name, text in TEXTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    (root / "image.png").write_bytes(b"\x89PNG\0\0")
    (root / ".hidden").write_text("no")
    return root


@pytest.fixture
def eager(folder: Path) -> Context:
    """The files in memory."""
    return Context.from_files(folder)


@pytest.fixture
def lazy(folder: Path) -> Context:
    """The files on disk."""
    return Context.from_files(folder, lazy=True)
