"""A server in front of the model server, for recording only. It reads tool calls that a small model writes as JSON
text, as servers with a parser for its format do. What is to be called, and with what, is the model's own word.

A process of its own, so that the recorder sees only what the notebook sends.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CALL = re.compile(r"\{\s*\"name\".*\}", re.DOTALL)


@contextmanager
def tool_call_reader(upstream: str) -> Iterator[str]:
    """The address to use in place of ``upstream``, both without the path."""
    command = [sys.executable, "-m", "tests.cookbooks.tool_calls", upstream]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


def serve(upstream: str) -> None:
    """Serve until killed; the port is printed first."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = urllib.request.Request(
                upstream + self.path, data=body, headers={"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as answered:
                reply, kind = answered.read(), answered.headers["content-type"]
            if "tools" in json.loads(body):
                reply = json.dumps(with_tool_calls(json.loads(reply))).encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def with_tool_calls(reply: dict[str, Any]) -> dict[str, Any]:
    """``reply`` with its text as a tool call, if it is one."""
    for number, choice in enumerate(reply["choices"]):
        message = choice["message"]
        # The template of this model shows it the format with its braces doubled.
        text = (message.get("content") or "").replace("{{", "{").replace("}}}", "}}")
        if not message.get("tool_calls") and (call := _call(text)):
            function = {"name": call["name"], "arguments": json.dumps(call.get("arguments", {}))}
            message["tool_calls"] = [{"id": f"call-{number}", "type": "function", "function": function}]
            message["content"] = None
            choice["finish_reason"] = "tool_calls"
    return reply


def _call(text: str) -> dict[str, Any] | None:
    found = _CALL.search(text)
    try:
        call = json.loads(found[0]) if found else None
    except ValueError:
        return None
    return call if isinstance(call, dict) and isinstance(call.get("name"), str) else None


if __name__ == "__main__":
    serve(sys.argv[1])
