"""Use a model on your own machine: nothing leaves it, and nothing is paid for.

Ollama (`ollama pull qwen2.5-coder:7b` first; it listens on port 11434):

    RLM_MODEL=ollama_chat/qwen2.5-coder:7b python cookbooks/local_model.py

llama.cpp (`llama-server -m model.gguf -c 16384 --port 8080`), or any other server with OpenAI's protocol:

    RLM_MODEL=openai/any-name RLM_API_BASE=http://127.0.0.1:8080/v1 python cookbooks/local_model.py
"""

import os
import random

from rlm_integrations import RLM
from rlm_integrations.models import LiteLLMModel

ROOMS = ["archive", "boiler", "cable", "drawing", "engine", "filter", "generator", "heating", "inspection", "kiln"]
WORK = ["was swept and aired", "got a new lamp", "was closed for a day", "was painted", "had its lock oiled"]
WINDOW = 16_384  # tokens; what the server was started with (llama.cpp: -c, Ollama: num_ctx)


def logbook(days: int = 4_000) -> str:
    rng = random.Random(2)
    entries = [f"Day {day}. The {rng.choice(ROOMS)} room {rng.choice(WORK)}." for day in range(1, days + 1)]
    entries[2_716] = "Day 2717. The spare key of the generator room was given to Ilse Brandt, the night porter."
    return "\n".join(entries)


name = os.environ.get("RLM_MODEL", "ollama_chat/qwen2.5-coder:7b")
# Ollama cuts a prompt off without a word at a small window unless it is told a larger one.
options = {"num_ctx": WINDOW} if name.startswith("ollama") else {}
model = LiteLLMModel(
    name,
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
    timeout=600,  # seconds: a CPU takes its time
    window_tokens=WINDOW,  # a sub-call that can't fit is refused before it is sent
    **options,
)
rlm = RLM(model, max_iterations=8, max_parallel=1)  # one at a time: most local servers have one slot
result = rlm.run("Who was given the spare key of the generator room?", logbook())

print(f"answer: {result.answer} ({result.status})")
print(f"model: {model.name}, {result.usage.calls} calls, {result.usage.tokens:,} tokens, cost: {result.usage.cost_usd}")
