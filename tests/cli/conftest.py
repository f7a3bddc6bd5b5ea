"""The command line run in this process, in one of its own, and on a terminal; and a server with scripted replies."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import rlm_integrations
from rlm_integrations.cli import main
from rlm_integrations.ports import LanguageModel
from rlm_integrations.testing import ScriptedModel

# A process whose model says what the test tells it to, without LiteLLM.
SCRIPTED = """
import json, sys
from rlm_integrations.cli import main
from rlm_integrations.testing import ScriptedModel
sys.exit(main(sys.argv[2:], model=ScriptedModel(**json.loads(sys.argv[1]))))
"""


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings and keys of whoever runs the tests are none of their business."""
    for name in list(os.environ):
        if name.startswith("RLM_") or name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # A process of its own must run the package that is being tested, wherever it starts.
    monkeypatch.setenv("PYTHONPATH", str(Path(rlm_integrations.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with one document."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "servers.txt").write_text("Servers.\nThe staging server listens on port 8443.\n")
    return folder


@pytest.fixture
def rlm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``rlm("ask", ..., model=...)`` in this process; ``model`` may be a list of replies."""

    def run(*argv: Any, model: LanguageModel | list[str] | None = None) -> Ended:
        try:
            code = main([str(arg) for arg in argv], model=ScriptedModel(model) if isinstance(model, list) else model)
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``rlm`` in a process of its own; with ``script``, on a ``ScriptedModel`` made of it."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *argv: Any, script: dict[str, Any] | None = None, before: str = "", **options: Any
    ) -> subprocess.Popen[str]:
        how = ["-c", before + SCRIPTED, json.dumps(script)] if script else ["-m", "rlm_integrations.cli"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, *how, *map(str, argv)], **pipes | options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def on_terminal(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Runs ``rlm`` on a terminal; returns its exit code and everything the terminal was sent."""

    def run(*argv: Any, **options: Any) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        ends = dict.fromkeys(["stdin", "stdout", "stderr"], theirs)
        process = start(*argv, env=environment, text=False, **ends, **options)
        os.close(theirs)
        data = b""
        try:
            while piece := os.read(ours, 65536):
                data += piece
        except OSError:
            pass  # how Linux says that nobody holds the other end any more
        os.close(ours)
        return process.wait(), data.decode()

    return run


class Server:
    """An OpenAI-compatible server that gives ``replies`` in order; a reply of None is held until the test is over."""

    def __init__(self) -> None:
        self.replies: list[str | None] = []
        self.authorizations: list[str | None] = []
        self.over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                server.authorizations.append(self.headers["authorization"])
                text = server.replies.pop(0)
                if text is None:
                    server.over.wait()
                    return
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body | {"usage": usage}).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server(socket_enabled: None) -> Iterator[Server]:
    """A server of the test's own, on 127.0.0.1."""
    local = Server()
    yield local
    local.close()
