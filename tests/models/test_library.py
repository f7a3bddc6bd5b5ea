"""LiteLLM is imported late, quietly, off the network, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, os, socket, sys, threading

def no_network(*args):
    raise AssertionError("the network was used")

socket.socket.connect = socket.getaddrinfo = no_network

from rlm_integrations.models import LiteLLMModel
from rlm_integrations.models.library import load

model = LiteLLMModel("openai/gpt-5-mini", api_key="k")
assert not {"litellm", "openai", "httpx"} & sys.modules.keys()

async def main():
    turns, done = 0, asyncio.ensure_future(asyncio.gather(*[model.acheck() for _ in range(20)]))
    while not done.done():
        await asyncio.sleep(0.001)
        turns += 1
    await done
    assert turns > 20, f"the event loop stood still: it turned {turns} times while LiteLLM was imported"

asyncio.run(main())
assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
assert model.window_tokens > 100_000
assert load() is sys.modules["litellm"]
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


def test_it_is_imported_when_first_used_without_network_noise_or_threads_left():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
