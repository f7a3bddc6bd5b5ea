"""An OpenAI-compatible server that plays a script. Run as ``python -m tests.benchmarks.server``: prints its port.

The model's name says what it plays: ``dialect:turns:latency_ms:sub_calls``. It prints a figure in each turn, makes a
batch of sub-calls in the first if there are to be any, and gives the answer "done" (in our own dialect, the last
figure) in the last. A call whose last message is ``SUB_CALL`` is answered "ok".
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

SUB_CALL = "answer-with-ok"
PRINT = "n = len(context) + {turn}\nprint(n)"
BATCH = f"answers = llm_query_batched(['{SUB_CALL}'] * {{count}}{{more}})\nprint(len(answers))"

__all__ = ["SUB_CALL", "serving"]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def said(dialect: str, turn: int, turns: int, sub_calls: int) -> str:
    """What an engine's model says in its ``turn``: bare code for recursive-llm, a fenced cell for the others."""
    code = PRINT.format(turn=turn)
    if turn == 0 and sub_calls:
        # recursive-llm takes a context for each prompt.
        code = BATCH.format(count=sub_calls, more=f", ['x'] * {sub_calls}" if dialect == "recursive-llm" else "")
    last = turn >= turns - 1
    match dialect:
        case "recursive-llm":
            return 'FINAL("done")' if last else code
        case "rlms":
            return _fenced("repl", 'answer["content"] = "done"\nanswer["ready"] = True' if last else code)
        case _:
            return _fenced("python", "FINAL(n)" if last else code)


def _fenced(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _reply(request: dict[str, Any]) -> str:
    messages = request["messages"]
    dialect, turns, _, sub_calls = request["model"].rpartition("/")[2].split(":")
    turn = sum(message["role"] == "assistant" for message in messages)
    if turn == 0 and SUB_CALL in str(messages[-1]["content"]):
        return "ok" if dialect != "recursive-llm" else 'FINAL("ok")'
    return said(dialect, turn, int(turns), int(sub_calls))


def main() -> None:
    """Serve until killed."""
    from aiohttp import web

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(int(body["model"].split(":")[2]) / 1000)
        text = _reply(body)
        tokens_in, tokens_out = sum(len(str(m["content"])) for m in body["messages"]) // 4, len(text) // 4 + 1
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": "scripted", "object": "chat.completion", "created": int(time.time()), "model": body["model"]}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
