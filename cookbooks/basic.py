"""Ask one question of a log that is too long for a prompt.

The log never goes to the model. It is the variable `context` in a sandboxed Python: the model writes code that looks
into it and sees what the code prints. So a count over all lines is a count, not an estimate.

    OPENAI_API_KEY=... python cookbooks/basic.py
    RLM_MODEL=ollama_chat/qwen2.5-coder:7b python cookbooks/basic.py
    RLM_MODEL=openai/any-name RLM_API_BASE=http://127.0.0.1:8080/v1 python cookbooks/basic.py
"""

import os
import random

from rlm_integrations import RLM

CUSTOMERS = ["Ada", "Bram", "Chidi", "Dana", "Elif", "Farid", "Grete", "Hana"]
STATUSES = ["delivered", "delivered", "delivered", "returned", "cancelled"]


def order_log(lines: int = 8_000) -> str:
    rng = random.Random(1)
    return "\n".join(
        f"order={number} customer={rng.choice(CUSTOMERS)} status={rng.choice(STATUSES)} total={rng.randint(5, 400)}"
        for number in range(10_000, 10_000 + lines)
    )


log = order_log()
rlm = RLM(
    os.environ.get("RLM_MODEL", "openai/gpt-5-mini"),
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
)
result = rlm.run("How many orders of the customer Dana have the status returned?", log)

print(f"{len(log):,} characters in the log, {result.usage.input_tokens:,} tokens sent to the model")
print(f"answer: {result.answer} ({result.status}, {result.turns} turns)")
