"""``rlm export``."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rlm = Callable[..., Any]
REPLY = "```python\nprint(context[0][:20])\nFINAL(context[0].split()[-1], quotes=['listens on port'])\n```"


@pytest.fixture
def saved(rlm: Rlm, docs: Path, tmp_path: Path) -> Path:
    """A run that was saved."""
    path = tmp_path / "run.jsonl"
    assert rlm("ask", "Which port?", docs, "--save", path, "-q", model=[REPLY]).code == 0
    return path


def test_a_saved_run_becomes_a_page(rlm: Rlm, saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    ended = rlm("export", saved, page)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"written: {page} ({page.stat().st_size:,} bytes)\n"
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "Which port?" in text
    assert "The staging server" not in text.split("Head of the context")[0]


def test_documents_named_behind_the_page_come_along(rlm: Rlm, saved: Path, docs: Path, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    assert rlm("export", saved, page, docs).code == 0
    assert '["listens on port", [1]]' in page.read_text("utf-8")
    assert "are not those that the run was asked about" not in page.read_text("utf-8")
    (docs / "servers.txt").write_text("Something else.")
    assert rlm("export", saved, page, docs).code == 0
    assert "are not those that the run was asked about" in page.read_text("utf-8")


def test_what_is_no_page_s_name_is_not_written_over(rlm: Rlm, saved: Path, docs: Path) -> None:
    before = (docs / "servers.txt").read_text()
    ended = rlm("export", saved, docs / "servers.txt")
    assert ended.code == 2
    assert "give it a name that ends in .html" in ended.err
    assert (docs / "servers.txt").read_text() == before


def test_a_document_in_html_is_not_taken_for_the_page(rlm: Rlm, saved: Path, docs: Path, tmp_path: Path) -> None:
    document = docs / "port.html"
    document.write_text("<title>Ports</title>")
    ended = rlm("export", saved, document, docs / "servers.txt")
    assert ended.code == 2
    assert "is there already and is no page of a run: give the page another name" in ended.err
    assert document.read_text() == "<title>Ports</title>"
    # A page itself is written anew.
    assert [rlm("export", saved, tmp_path / "run.html").code for _ in range(2)] == [0, 0]


def test_what_came_from_stdin_can_come_again(
    rlm: Rlm, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (docs / "servers.txt").read_bytes()

    def pipe() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))

    pipe()
    assert rlm("ask", "Which port?", "-", "--save", "run.jsonl", "-q", model=[REPLY]).code == 0
    pipe()
    assert rlm("export", "run.jsonl", "run.html", "-").code == 0
    assert '["listens on port", [1]]' in (tmp_path / "run.html").read_text("utf-8")


@pytest.mark.parametrize("content", ["", "not a run\n", '{"rlm_trajectory": 99}\n', '{"rlm_trajectory": 2}\n'])
def test_a_file_that_holds_no_run_is_refused_in_one_line(rlm: Rlm, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.jsonl").write_text(content)
    ended = rlm("export", "run.jsonl", "run.html")
    assert ended.code == 2
    assert ended.err.startswith("rlm: ")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run.html").exists()


def test_missing_files_and_folders_are_said(rlm: Rlm, saved: Path, tmp_path: Path) -> None:
    assert "no.jsonl" in rlm("export", "no.jsonl", "run.html").err
    assert "nowhere" in rlm("export", saved, "run.html", "nowhere").err
    ended = rlm("export", saved, "no-folder/run.html")
    assert (ended.code, ended.err) == (2, "rlm: 'no-folder/run.html' can't be written: No such file or directory\n")
