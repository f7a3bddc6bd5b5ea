"""Runs a cookbook's script over the replies a real model gave it, or over the model itself with RECORD=1."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import vcr

COOKBOOKS = Path(__file__).parents[2] / "cookbooks"
CASSETTES = Path(__file__).parent / "cassettes"
RECORDING = bool(os.environ.get("RECORD"))
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


def pytest_configure(config: pytest.Config) -> None:
    # LiteLLM ignores this one itself, but pytest restores the filters after each test.
    config.addinivalue_line("filterwarnings", "ignore:Item .* on TypedDict class .* is using the .ReadOnly. qualifier")


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
        path = CASSETTES / f"{name}.yaml"
        if RECORDING:
            request.getfixturevalue("socket_enabled")
            path.unlink(missing_ok=True)
        recorder = vcr.VCR(
            record_mode="all" if RECORDING else "none",
            # The sub-calls of a batch come in any order: their bodies tell them apart.
            match_on=["method", "path", "body"],
            decode_compressed_response=True,
            before_record_request=_without_headers,
            before_record_response=_portable_response,
        )
        with recorder.use_cassette(str(path)) as tape:
            names = runpy.run_path(str(COOKBOOKS / f"{name}.py"), run_name="__main__")
        assert RECORDING or tape.all_played
        return Played(capsys.readouterr().out.splitlines(), names, len(tape))

    return play


def _without_headers(request: Any) -> Any:
    request.headers = {"content-type": "application/json"}
    return request


def _portable_response(response: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in response["headers"].items() if name.lower() == "content-type"}
    return response | {"headers": kept}
