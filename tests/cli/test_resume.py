"""``rlm resume``: a saved run goes on, in this process and after a signal."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, ModelError
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory
from tests.cli.conftest import Ended
from tests.scripts import cell

LOOK, ANSWER = cell("print(len(context))"), cell("FINAL(context[0][-6:].strip())")


@pytest.fixture
def stopped(tmp_path: Path, docs: Path, rlm: Callable[..., Ended]) -> Path:
    """The file of a run whose model failed after the first turn."""
    path = tmp_path / "run.jsonl"
    model = ScriptedModel([LOOK, ModelError("the server is down", model="scripted")], name="ollama/none")
    assert rlm("ask", "Which port?", docs, "--save", path, "--max-calls", 5, model=model).code == 4
    return path


def test_a_run_goes_on_and_its_answer_is_printed(stopped: Path, docs: Path, rlm: Callable[..., Ended]) -> None:
    ended = rlm("resume", stopped, docs, "--json", model=[ANSWER])
    assert ended.code == 0
    said = json.loads(ended.out)
    assert (said["answer"], said["status"], said["usage"]["calls"]) == ("8443.", "complete", 2)
    assert f"saved: {stopped}" in ended.err
    assert Trajectory.load(stopped)[-1].answer == "8443."
    # And once more: it is there already.
    before = stopped.read_bytes()
    again = rlm("resume", stopped, docs, model=[])
    assert (again.code, stopped.read_bytes()) == (0, before)
    assert "answer: 8443." in again.out
    assert "saved" not in again.err


def test_limits_are_those_of_the_run_unless_they_are_given(
    stopped: Path, docs: Path, rlm: Callable[..., Ended]
) -> None:
    ended = rlm("resume", stopped, docs, "--max-calls", 1, model=[])
    assert ended.code == 5
    assert "--max-calls 1" in ended.err
    looks = [cell(f"print({number})") for number in range(9)]
    ended = rlm("resume", stopped, docs, "-q", model=[*looks[:2], cell("FINAL(5)")])
    # Five calls were allowed, and four were made before the last.
    assert (ended.code, ended.out) == (0, "5\n")
    assert Trajectory.load(stopped)[-1].usage.calls == 4


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["resume", "none.jsonl"], "can't be read"),
        (["resume", "run.jsonl"], "does not hold the context"),
        (["resume", "run.jsonl", "none"], "no file or folder"),
        (["resume", "run.jsonl", "run.jsonl"], "not that of the record"),
    ],
)
def test_what_can_not_go_on_is_said_in_one_line(
    argv: list[str], told: str, stopped: Path, rlm: Callable[..., Ended]
) -> None:
    before = stopped.read_bytes()
    ended = rlm(*argv, model=[])
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert stopped.read_bytes() == before


def test_a_run_with_tools_or_an_output_type_is_left_to_its_code(
    tmp_path: Path, sandbox: Any, rlm: Callable[..., Ended]
) -> None:
    def look() -> str:
        """Look."""
        return "it"

    for settings, told in (({"tools": [look]}, "tools (look)"), ({"output_type": int}, "an output_type")):
        path = tmp_path / "run.jsonl"
        model = ScriptedModel([ModelError("down", model="scripted")])
        with pytest.raises(ModelError):
            RLM(model, sandbox=sandbox, **settings).run("q", "text", save=path, include_context=True)
        ended = rlm("resume", path, model=[])
        assert ended.code == 2
        assert told in ended.err


def test_a_key_is_not_sent_to_an_address_that_only_the_file_names(
    stopped: Path, docs: Path, rlm: Callable[..., Ended]
) -> None:
    header, *rest = stopped.read_bytes().splitlines(keepends=True)
    said = json.loads(header)
    said["settings"]["api_base"] = "http://127.0.0.1:1/v1"
    stopped.write_bytes(b"".join([json.dumps(said).encode() + b"\n", *rest]))
    ended = rlm("resume", stopped, docs)
    assert ended.code == 2
    assert "pass --api-base" in ended.err


@pytest.mark.parametrize(("setting", "option"), [("model", "--model"), ("recursive_model", "--recursive-model")])
def test_a_key_is_not_sent_to_a_model_that_is_an_address(
    stopped: Path, docs: Path, rlm: Callable[..., Ended], setting: str, option: str
) -> None:
    header, *rest = stopped.read_bytes().splitlines(keepends=True)
    said = json.loads(header)
    said["settings"][setting] = "huggingface/http://127.0.0.1:1/v1"
    stopped.write_bytes(b"".join([json.dumps(said).encode() + b"\n", *rest]))
    ended = rlm("resume", stopped, docs)
    assert ended.code == 2
    assert f"pass {option}" in ended.err


def test_a_run_that_was_saved_with_its_documents_goes_on_without_them(
    tmp_path: Path, docs: Path, rlm: Callable[..., Ended]
) -> None:
    path = tmp_path / "run.jsonl"
    model = ScriptedModel([LOOK, ModelError("the server is down", model="scripted")])
    assert rlm("ask", "Which port?", docs, "--save", path, "--include-context", model=model).code == 4
    (docs / "servers.txt").unlink()
    ended = rlm("resume", path, "-q", model=[ANSWER])
    assert (ended.code, ended.out) == (0, "8443.\n")


def test_a_run_ended_by_a_signal_goes_on(
    tmp_path: Path, docs: Path, start: Callable[..., Any], rlm: Callable[..., Ended]
) -> None:
    path = tmp_path / "run.jsonl"
    process = start("ask", "Which port?", docs, "--save", path, script={"script": [LOOK, ANSWER], "latency_s": 1.0})
    for line in process.stderr:
        if "printed" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate()
    assert process.returncode == 143
    ended = rlm("resume", path, docs, "-q", model=[ANSWER])
    assert (ended.code, ended.out) == (0, "8443.\n")


def test_a_live_run_goes_on_from_a_server_with_the_model_in_the_file(
    server: Any, tmp_path: Path, docs: Path, rlm: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-nobody")
    path = tmp_path / "run.jsonl"
    server.replies = [LOOK]
    model = ["--model", "openai/some", "--api-base", server.url]
    ended = rlm("ask", "Which port?", docs, "--save", path, "--max-calls", 1, *model)
    server.replies = [ANSWER]
    ended = rlm("resume", path, docs, "-q", "--api-base", server.url, "--max-calls", 9)
    assert (ended.code, ended.out) == (0, "8443.\n")
    assert server.replies == []
    assert b"a-key-of-nobody" not in path.read_bytes()
