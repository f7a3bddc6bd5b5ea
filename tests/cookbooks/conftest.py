"""Runs a cookbook's script over the replies a real model gave it, or over the model itself with RECORD=1."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import cassettes

COOKBOOKS = Path(__file__).parents[2] / "cookbooks"
CASSETTES = Path(__file__).parent / "cassettes"
# A llama.cpp server with Qwen2.5-Coder 1.5B, which it serves under any name.
SERVER = {
    "RLM_API_BASE": "http://127.0.0.1:8089/v1",
    "RLM_MODEL": "openai/qwen",
    "RLM_RECURSIVE_MODEL": "openai/qwen-sub",
}


@dataclass(frozen=True)
class Played:
    """What a script printed, the names it left, and how many requests it made."""

    lines: list[str]
    names: dict[str, Any]
    requests: int


@pytest.fixture
def play(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Played]:
    """``play(name)`` runs ``cookbooks/<name>.py`` to its end; each recorded reply is used exactly once."""
    for variable, value in SERVER.items():
        monkeypatch.setenv(variable, value)
    for variable in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)

    def play(name: str) -> Played:
        # The sub-calls of a batch come in any order: their bodies tell them apart.
        with cassettes.cassette(request, CASSETTES / f"{name}.yaml", place="path") as tape:
            names = runpy.run_path(str(COOKBOOKS / f"{name}.py"), run_name="__main__")
        return Played(capsys.readouterr().out.splitlines(), names, len(tape))

    return play
