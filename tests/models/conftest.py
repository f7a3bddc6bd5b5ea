"""A local server that answers as it is told, cassettes of the real one, and calls made both ways."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import vcr

from rlm_integrations.messages import Message, Reply
from rlm_integrations.models import LiteLLMModel, retry
from rlm_integrations.models.provider import KEY_VARIABLES

CASSETTES = Path(__file__).parent / "cassettes"
RECORDING = bool(os.environ.get("RECORD"))
# The server the cassettes are recorded from: llama.cpp with Qwen2.5-Coder 1.5B and a window of 16,384 tokens.
REAL_SERVER = "http://127.0.0.1:8089/v1"

ASK = [Message("system", "You are terse."), Message("user", "Hello?")]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys and servers of whoever runs the tests are none of their business."""
    for variable in [name for names in KEY_VARIABLES.values() for name in names] + ["OPENAI_API_BASE", "OPENAI_BASE_URL"]:
        monkeypatch.delenv(variable, raising=False)


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
def cassette(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The real server's answers, recorded with RECORD=1 and played back otherwise, each exactly once."""
    path = CASSETTES / f"{request.node.name.replace('[', '-').replace(']', '')}.yaml"
    if RECORDING:
        path.unlink(missing_ok=True)
    recorder = vcr.VCR(
        record_mode="all" if RECORDING else "none",
        match_on=["method", "uri", "body"],
        decode_compressed_response=True,
        before_record_request=_portable_request,
        before_record_response=_portable_response,
    )
    with recorder.use_cassette(str(path)) as tape:
        yield tape
    assert RECORDING or tape.all_played


def _portable_request(request: Any) -> Any:
    request.headers = {"content-type": "application/json"}
    if len(request.body) > 5000:
        request.body = b"%d bytes, starting %s" % (len(request.body), bytes(request.body[:200]))
    return request


def _portable_response(response: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in response["headers"].items() if name.lower() == "content-type"}
    return response | {"headers": kept}


@dataclass
class Answer:
    """What the local server answers: a body, or the chunks of a stream, after which it may break off or hang."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[str] | None = None
    usage: dict[str, int] | None = None
    pause_s: float = 0.0
    breaks_off: bool = False
    hangs: bool = False


class Server:
    """Answers one request after the other as told, the last answer again and again; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.client_left = threading.Event()
        self.closing = threading.Event()
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
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                try:
                    server._send(self, answer)
                except OSError:
                    server.client_left.set()
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def model(self, name: str = "openai/local", **settings: Any) -> LiteLLMModel:
        return LiteLLMModel(name, **{"api_base": self.url} | settings)

    def says(self, *answers: Answer | str) -> None:
        self.answers = [answer if isinstance(answer, Answer) else Answer(completion(answer)) for answer in answers]

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _send(self, to: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.hangs:
            self.closing.wait()
            return
        to.send_response(answer.status)
        for name, value in answer.headers.items():
            to.send_header(name, value)
        if answer.chunks is None:
            body = json.dumps(answer.body).encode()
            to.send_header("content-type", "application/json")
            to.send_header("content-length", str(len(body)))
            to.end_headers()
            to.wfile.write(body)
            to.wfile.flush()
            return
        to.send_header("content-type", "text/event-stream")
        to.send_header("transfer-encoding", "chunked")
        to.end_headers()
        for text in answer.chunks:
            self._event(to, _chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]))
            self.closing.wait(answer.pause_s)
        if answer.breaks_off:
            to.wfile.flush()
            to.close_connection = True
            return
        self._event(to, _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        if answer.usage:
            self._event(to, _chunk([]) | {"usage": answer.usage})
        self._event(to, "[DONE]")
        to.wfile.write(b"0\r\n\r\n")
        to.wfile.flush()

    @staticmethod
    def _event(to: BaseHTTPRequestHandler, data: Any) -> None:
        event = b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + b"\n\n"
        to.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        to.wfile.flush()


@pytest.fixture
def server() -> Iterator[Server]:
    local = Server()
    yield local
    local.close()


def completion(text: str | None, **usage: Any) -> dict[str, Any]:
    """The body of a reply in OpenAI's protocol."""
    message = {"role": "assistant", "content": text}
    counts = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12} | usage
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": counts}


def refusal(status: int, message: str, **headers: str) -> Answer:
    """An error in OpenAI's protocol; ``retry_after="7"`` sets the header of that name."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": {"message": message, "type": "error", "code": None}}, status, named)


def _chunk(choices: list[Any]) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
