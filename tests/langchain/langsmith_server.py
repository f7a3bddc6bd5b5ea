"""A server on the loopback that speaks LangSmith's ``/info`` and ``/runs/multipart``, and the runs it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard
from langsmith import Client
from requests_toolbelt import MultipartDecoder

INFO = {
    "version": "0.13.0",
    "instance_flags": {"zstd_compression_enabled": True},
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
        "scale_up_nthreads_limit": 1,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_limit": 4,
    },
}


@dataclass
class Traced:
    """One run, put together from its post and its patch."""

    id: str
    fields: dict[str, Any] = field(default_factory=dict, repr=False)
    posts: int = 0
    children: list[Traced] = field(default_factory=list, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.fields.get(name)

    @property
    def kind(self) -> str:
        """``chain``, ``tool``, ``llm`` and so on, with the name."""
        return f"{self.run_type}:{self.name}"

    def walk(self) -> Iterator[Traced]:
        """This run and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def shape(self) -> Any:
        """The kinds as a nested tuple."""
        return (self.kind, *(child.shape() for child in self.children)) if self.children else self.kind


class LangSmith:
    """Keeps every run it is sent, and counts the bytes: ``posted`` on the wire, ``unpacked`` after that."""

    def __init__(self) -> None:
        self.runs: dict[str, Traced] = {}
        self.parts: dict[str, int] = {}
        self.posted = self.unpacked = 0
        self.raw = b""
        self.broken: list[str] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.client: Client | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def roots(self) -> list[Traced]:
        """The trees, as their ``parent_run_id`` say, in the order of their start."""
        if self.client is not None:
            self.client.flush()
        runs = sorted(self.runs.values(), key=lambda run: run.dotted_order)
        for run in runs:
            run.children = [child for child in runs if child.parent_run_id == run.id]
        return [run for run in runs if run.parent_run_id not in self.runs]

    def close(self) -> None:
        """End the server; the client has to be closed before."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def take(self, body: bytes, content_type: str) -> None:
        """Keep what one request holds."""
        with self._lock:
            self.unpacked += len(body)
            self.raw += body
            for part in MultipartDecoder(body, content_type).parts:
                name = part.headers[b"Content-Disposition"].decode().partition('name="')[2].rstrip('"')
                operation, id, *key = name.split(".")
                value = json.loads(part.content)
                run = self.runs.setdefault(id, Traced(id))
                kind = f"{operation}.{key[0]}" if key else operation
                self.parts[kind] = self.parts.get(kind, 0) + len(part.content)
                if not key:
                    run.posts += operation == "post"
                    run.fields.update({name: item for name, item in value.items() if item is not None})
                else:
                    run.fields[key[0]] = value

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                self._answer(INFO)

            def do_POST(self) -> None:
                if "chunked" in self.headers.get("transfer-encoding", ""):
                    body = b"".join(iter(self._chunk, b""))
                else:
                    body = self.rfile.read(int(self.headers["content-length"]))
                server.posted += len(body)
                if self.headers.get("content-encoding") == "zstd":
                    body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
                if self.path == "/runs/multipart":
                    server.take(body, self.headers["content-type"])
                else:
                    server.broken.append(self.path)
                self._answer({})

            def _chunk(self) -> bytes:
                data = self.rfile.read(int(self.rfile.readline(), 16))
                self.rfile.readline()
                return data

            def _answer(self, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
