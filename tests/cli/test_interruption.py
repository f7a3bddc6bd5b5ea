"""Ctrl-C and SIGTERM: the command ends at once, with what it had got to."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOOK = "```python\nprint(context[0])\n```"
END_S = 2.0


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """Lines of stderr up to the one that holds ``wanted``."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if wanted in line:
            return read
    raise AssertionError(f"{wanted!r} did not come:\n{read}")


def interrupt(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """The rest of stdout and stderr; the process must end in time."""
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < END_S
    return out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_model_call_ends_the_run_with_what_there_is(
    start: Callable[..., Any], server: Any, docs: Path, tmp_path: Path, number: int, code: int
) -> None:
    server.replies = [LOOK, None]
    path = tmp_path / "run.jsonl"
    process = start("ask", "q", docs, "--model", "openai/x", "--api-base", server.url, "--save", path)
    read_until(process, "turn 2: asking")
    out, err = interrupt(process, number)
    assert (process.returncode, out) == (code, "")
    lines = err.splitlines()
    assert "last output | The staging server listens on port 8443." in lines
    assert "usage: 1 call, 100 tokens in, 10 out" in lines
    assert "Traceback" not in err
    events = [json.loads(line)["kind"] for line in path.read_text().splitlines()[1:]]
    turn = ["model_call_started", "model_call_ended", "cell_started", "cell_ended"]
    assert events == ["run_started", *turn, "model_call_started", "model_call_failed", "run_failed"]


def test_a_signal_in_a_cell_ends_the_run(start: Callable[..., Any], docs: Path) -> None:
    process = start("ask", "q", docs, "--json", script={"script": ["```python\nwhile True: pass\n```"]})
    read_until(process, "turn 1: code | while True: pass")
    out, _ = interrupt(process, signal.SIGINT)
    assert process.returncode == 130
    said = json.loads(out)
    assert (said["status"], said["error"], said["usage"]["calls"]) == ("failed", "interrupted (Ctrl-C)", 1)


def test_a_signal_in_a_batch_of_sub_calls_ends_all_of_them(start: Callable[..., Any], server: Any, docs: Path) -> None:
    server.replies = ["```python\nllm_query_batched(['a'] * 8)\n```", *[None] * 8]
    process = start("ask", "q", docs, "--model", "openai/x", "--api-base", server.url)
    read_until(process, "turn 1: code | llm_query_batched")
    _, err = interrupt(process, signal.SIGINT)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_signal_while_stdin_is_read_is_an_interruption_too(start: Callable[..., Any]) -> None:
    process = start("ask", "q", "-", script={"script": []}, stdin=subprocess.PIPE, before=SAYS_WHEN_IT_READS)
    read_until(process, "reading")
    _, err = interrupt(process, signal.SIGINT)
    assert (process.returncode, err) == (130, "rlm: interrupted (Ctrl-C)\n")


SAYS_WHEN_IT_READS = """
import io, sys
class Stdin(io.RawIOBase):
    def readable(self): return True
    def readinto(self, buffer):
        print("reading", file=sys.stderr, flush=True)
        return real.buffer.raw.readinto(buffer)
real, sys.stdin = sys.stdin, io.TextIOWrapper(io.BufferedReader(Stdin()))
"""
