"""``rlm demo``: recorded replies, over the language reference of this Python, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from rlm_integrations.cli.demo import Recording, reference

LOOK = "```python\nprint(context[0])\n```"


def test_the_recorded_code_finds_the_answers_and_their_evidence_in_this_pythons_reference(
    rlm: Callable[..., Any],
) -> None:
    ended = rlm("demo")
    assert ended.code == 0
    mentions = sum("metaclass" in text for text in topics.values())
    answers = [line.removeprefix("answer: ") for line in ended.out.splitlines() if line.startswith("answer: ")]
    assert "unlimited" in answers[0]
    assert answers[1:] == [str(mentions)]
    start = topics["identifiers"].index("Identifiers are unlimited in length.")
    assert f"evidence: identifiers, characters {start:,} to " in ended.out
    assert '"Identifiers are unlimited in length.  Case is significant."' in ended.out


def test_it_says_what_is_recorded_what_is_real_and_how_to_run_it_live(rlm: Callable[..., Any]) -> None:
    recording = Recording.load()
    first, real, about = rlm("demo").out.splitlines()[:3]
    assert first == f"Recorded: the model's replies, made by {recording.model} ({recording.made})."
    assert real.startswith("Real: everything else, here and now. The code in the replies runs in a sandbox over ")
    assert f"{len(topics)} topics, {sum(map(len, topics.values())):,} characters" in about
    assert "rlm demo --model ollama/" in rlm("demo").out


def test_it_shows_each_turn_as_the_model_wrote_it(rlm: Callable[..., Any]) -> None:
    out = rlm("demo").out
    for run in Recording.load().runs:
        for reply in run.replies:
            for line in reply.text.strip().removeprefix("```python\n").removesuffix("\n```").splitlines():
                assert f": code | {line}" in out


def test_the_documents_are_the_topics_by_their_names() -> None:
    assert [(document.id, str(document)) for document in reference().value] == sorted(topics.items())


def test_it_needs_no_network_no_key_and_no_litellm() -> None:
    program = """
import socket, sys
def refuse(*args, **kwargs): raise SystemExit("the network was used")
socket.create_connection = socket.getaddrinfo = socket.socket.connect = refuse
from rlm_integrations.cli import main
code = main(["demo"])
sys.exit("litellm was loaded" if "litellm" in sys.modules else code)
"""
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "answer: " in ended.stdout


def test_a_model_that_is_named_runs_it_live(
    start: Callable[..., Any], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies = [LOOK, "```python\nFINAL('live')\n```"] * len(Recording.load().runs)
    process = start("demo", "--model", "openai/x", "--api-base", server.url)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("Live: openai/x answers, here and now.\n")
    assert out.count("answer: live\n") == len(Recording.load().runs)
    assert not server.replies


def test_a_model_that_is_set_for_asking_does_not_make_the_demo_go_live(
    rlm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_MODEL", "openai/x")
    monkeypatch.setenv("RLM_API_BASE", "http://127.0.0.1:1")
    ended = rlm("demo")
    assert (ended.code, ended.out.startswith("Recorded: ")) == (0, True)


def test_a_failing_model_ends_the_demo_with_its_exit_code(start: Callable[..., Any]) -> None:
    process = start("demo", "--model", "openai/gpt-5-mini")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "rlm: openai/gpt-5-mini: no API key for openai: set OPENAI_API_KEY\n" in err
    assert "Traceback" not in out + err


def test_documents_that_the_recording_does_not_fit_are_said_to_be_so(
    rlm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydoc_data.topics.topics", {"pass": topics["pass"], "del": topics["del"]})
    ended = rlm("demo")
    assert ended.code == 4
    assert "does not fit the language reference of this Python: run it live, with --model NAME\n" in ended.err


def test_the_recording_says_how_each_reply_came_about() -> None:
    path = Path(sys.modules["rlm_integrations.cli"].__file__ or "").with_name("demo.json")
    for run in json.loads(path.read_text())["runs"]:
        assert {"question", "attempt", "max_iterations", "temperature", "seed", "replies"} == set(run)
        assert all(reply["usage"]["input_tokens"] > 0 for reply in run["replies"])
