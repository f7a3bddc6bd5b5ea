"""A local server that answers as it is told, cassettes of the real one, and calls made both ways."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.messages import Message, Reply
from rlm_integrations.models import LiteLLMModel, library, retry
from rlm_integrations.models.provider import KEY_VARIABLES
from tests import cassettes

CASSETTES = Path(__file__).parent / "cassettes"
# The server the cassettes are recorded from: llama.cpp with Qwen2.5-Coder 1.5B and a window of 16,384 tokens.
REAL_SERVER = "http://127.0.0.1:8089/v1"

ASK = [Message("system", "You are terse."), Message("user", "Hello?")]
COMPLETION = {"id": "c", "created": 1, "model": "m"}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys and servers of whoever runs the tests are none of their business."""
    for variable in [name for names in KEY_VARIABLES.values() for name in names] + [
        "OPENAI_API_BASE",
        "OPENAI_BASE_URL",
    ]:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def litellm() -> Any:
    """The library as this package loads it: imported by name it would fetch a price map."""
    return library.load()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds slept between attempts, which take no time here."""
    slept: list[float] = []

    async def asleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(retry, "sleep", slept.append)
    monkeypatch.setattr(retry, "asleep", asleep)
    return slept


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Reply]]:
    """``run(model, messages, **options)`` by ``complete`` and by ``acomplete``, all calls of a test in one loop."""
    if request.param == "sync":
        yield lambda model, messages=ASK, **options: model.complete(messages, **options)
    else:
        with asyncio.Runner() as runner:
            yield lambda model, messages=ASK, **options: runner.run(model.acomplete(messages, **options))


@pytest.fixture
def qwen() -> LiteLLMModel:
    """The real server's model."""
    return LiteLLMModel("openai/qwen", api_base=REAL_SERVER, temperature=0, seed=1)


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The real server's answers, recorded with RECORD=1 and played back otherwise, each exactly once."""
    path = CASSETTES / f"{request.node.name.replace('[', '-').replace(']', '')}.yaml"
    with cassettes.cassette(request, path, place="uri", kept=_portable_request) as tape:
        yield tape


def _portable_request(request: Any) -> Any:
    if len(request.body) > 5000:
        start = bytes(request.body[:200]).decode("ascii", "replace")
        request.body = json.dumps({"bytes": len(request.body), "start": start}).encode()
    return cassettes.without_headers(request)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are what some tests are about."""


class Server:
    """Gives the answers it was told to, one a request, the last one again and again; keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.client_left = threading.Event()
        self._answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self._closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def model(self, name: str = "openai/local", **settings: Any) -> LiteLLMModel:
        return LiteLLMModel(name, **{"api_base": self.url} | settings)

    def says(self, text: str | None, **usage: Any) -> None:
        """A reply in OpenAI's protocol."""
        message = {"role": "assistant", "content": text}
        counts = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12} | usage
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answers_with(COMPLETION | {"object": "chat.completion", "choices": [choice], "usage": counts})

    def refuses(self, status: int, message: str = "not now", code: str | None = None, **headers: str) -> None:
        """An error in OpenAI's protocol; ``retry_after="7"`` sets the header of that name."""
        body = {"error": {"message": message, "type": "error", "code": code}}
        self.answers_with(body, status, {name.replace("_", "-"): value for name, value in headers.items()})

    def answers_with(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()

        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(data))}.items():
                to.send_header(name, value)
            for name, value in (headers or {}).items():
                to.send_header(name, value)
            to.end_headers()
            to.wfile.write(data)

        self._answers.append(answer)

    def streams(self, *pieces: str, usage: Any = None, pause_s: float = 0.0, breaks_off: bool = False) -> None:
        """A stream, which may break off before it has said that it is at its end."""

        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(200)
            to.send_header("content-type", "text/event-stream")
            to.send_header("transfer-encoding", "chunked")
            to.end_headers()
            to.wfile.flush()
            for piece in pieces:
                self._send_chunk(to, choices=[{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
                self._closing.wait(pause_s)
            if breaks_off:
                to.close_connection = True
                return
            self._send_chunk(to, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
            if usage:
                self._send_chunk(to, choices=[], usage=usage)
            self._send_event(to, b"[DONE]")
            to.wfile.write(b"0\r\n\r\n")

        self._answers.append(answer)

    def drips(self) -> None:
        """A body that comes byte by byte and never ends."""

        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(200)
            to.send_header("content-type", "application/json")
            to.send_header("content-length", "100000")
            to.end_headers()
            while not self._closing.wait(0.02):
                to.wfile.write(b" ")
                to.wfile.flush()
            to.close_connection = True

        self._answers.append(answer)

    def hangs(self) -> None:
        def answer(to: BaseHTTPRequestHandler) -> None:
            self._closing.wait()
            to.close_connection = True

        self._answers.append(answer)

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                server.connections += 1

            def do_POST(self) -> None:
                server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = server._answers.pop(0) if len(server._answers) > 1 else server._answers[0]
                try:
                    answer(self)
                    self.wfile.flush()
                except OSError:
                    server.client_left.set()
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _send_chunk(self, to: BaseHTTPRequestHandler, **fields: Any) -> None:
        self._send_event(to, json.dumps(COMPLETION | {"object": "chat.completion.chunk"} | fields).encode())

    @staticmethod
    def _send_event(to: BaseHTTPRequestHandler, data: bytes) -> None:
        event = b"data: %s\n\n" % data
        to.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        to.wfile.flush()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, on 127.0.0.1."""
    local = Server()
    yield local
    local.close()
