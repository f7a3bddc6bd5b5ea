"""The snippets of cookbooks/scale.md run, and print what they say."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from rlm_integrations.testing import ScriptedModel
from tests.cookbooks.conftest import COOKBOOKS
from tests.langchain.scripted import ScriptedChat
from tests.openai_server import OpenAIServer
from tests.scripts import cell, play

TEXT = (COOKBOOKS / "scale.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
ON_RAY = [code for code in SNIPPETS if code.startswith("import ray")]
HERE = [code for code in SNIPPETS if code not in ON_RAY]
CODE = cell("texts = [context] if isinstance(context, str) else context\nFINAL(sum(t.count('ERROR') for t in texts))")


def promised(code: str) -> list[str]:
    """What the comments after ``print`` say."""
    return re.findall(r"^print\(.*  # (.+)$", code, flags=re.MULTILINE)


@pytest.mark.parametrize("code", HERE, ids=lambda code: re.findall(r"[\w.]+\(", code)[0][:-1])
def test_a_snippet_prints_what_it_says(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch, ScriptedModel(lambda _: CODE))
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda *_, **__: ScriptedChat(lambda _: CODE))
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "scale.md", "exec"), {"__name__": "__main__"})
    assert out.getvalue().splitlines() == promised(code)
    assert promised(code)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A provider that counts the errors in any context."""
    server = OpenAIServer(lambda _: CODE)
    yield server
    server.close()


@pytest.mark.ray
@pytest.mark.enable_socket
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_the_snippets_on_ray_print_what_they_say(server: OpenAIServer, tmp_path: Path) -> None:
    """One after the other in a process of its own, which starts a cluster and ends it."""
    assert len(ON_RAY) == 2
    script = tmp_path / "script.py"
    script.write_text(
        "import ray\n\ndef main():\n" + textwrap.indent("\n".join(ON_RAY), "    ") + "\n\nmain()\nray.shutdown()\n"
    )
    settings = {
        "OPENAI_API_KEY": "not-a-key",
        "OPENAI_API_BASE": server.url,
        "OPENAI_BASE_URL": server.url,
        "RAY_ADDRESS": "local",
    }
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, **settings, "PYTHONPATH": str(COOKBOOKS.parent), "RAY_DATA_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not re.match(r"\x1b|\(|Running|.*it/s|.*INFO", line)]
    assert lines == [line for code in ON_RAY for line in promised(code)]


def test_no_figure_is_left_to_be_filled_in() -> None:
    assert "TODO" not in TEXT


def test_the_table_of_the_simulation_is_what_it_prints() -> None:
    import runpy

    names = runpy.run_path(str(COOKBOOKS / "scale_simulation.py"), run_name="scale_simulation")
    (table,) = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)
    heading, *rows = table.splitlines()
    assert heading == next(names["rows"]())
    assert [row[: len(name)] for row, name in zip(rows, names["CASES"], strict=True)] == list(names["CASES"])
