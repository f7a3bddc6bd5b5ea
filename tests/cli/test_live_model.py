"""``rlm ask`` with LiteLLM, up to a server of the test's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK = "```python\nprint(context[0])\n```"
ANSWER = "```python\nFINAL('8443', quotes=['The staging server listens on port 8443.'])\n```"


def test_a_question_is_answered_by_a_server_and_the_key_stays_secret(
    start: Callable[..., Any], server: Any, docs: Path, tmp_path: Path
) -> None:
    server.replies = [LOOK, ANSWER]
    path = tmp_path / "run.jsonl"
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "sk-very-secret",
        "RLM_MODEL": "openai/x",
        "RLM_API_BASE": server.url,
    }
    process = start("ask", "Which port?", docs, "--json", "--save", path, env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    said = json.loads(out)
    assert (said["answer"], said["usage"]["input_tokens"], said["usage"]["output_tokens"]) == ("8443", 200, 20)
    assert "\x1b" not in out + err
    assert err.startswith("loading LiteLLM\n")
    assert server.authorizations == ["Bearer sk-very-secret"] * 2
    assert "sk-very-secret" not in out + err + path.read_text()


def test_a_missing_key_is_said_before_anything_is_sent(start: Callable[..., Any], docs: Path) -> None:
    process = start("ask", "q", docs, "--model", "openai/gpt-5-mini")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "")
    assert err.splitlines()[-1] == "rlm: openai/gpt-5-mini: no API key for openai: set OPENAI_API_KEY"


def test_a_server_that_is_down_is_named(start: Callable[..., Any], server: Any, docs: Path) -> None:
    url = server.url
    server.close()
    process = start("ask", "q", docs, "--model", "openai/x", "--api-base", url)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 4
    assert f"see whether the server at {url} is up" in err
    assert "Traceback" not in err
