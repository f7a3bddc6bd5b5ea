"""Set limits, see what happens when one is reached, and watch every step.

A budget holds for the whole tree: the run, its sub-calls and its child runs. A call that it does not cover is not
made. With `on_exhausted="raise"` that is an error that carries the run so far; by default one last call draws an answer
from what was seen, and its status says so: "extracted" instead of "complete".

    OPENAI_API_KEY=... python cookbooks/configuration_and_budgets.py
"""

import os
import random
from collections import Counter

from rlm_integrations import RLM, Budget, BudgetExceeded, CellEnded, Event
from rlm_integrations.sandbox import ProcessSandbox

rng = random.Random(6)
readings = "\n".join(f"2024-{rng.randint(1, 12):02} sensor={rng.choice('ABCD')}" for _ in range(5_000))
question = "How many readings did sensor B take in 2024-03?"
settings = {
    "model": os.environ.get("RLM_MODEL", "openai/gpt-5-mini"),
    "api_base": os.environ.get("RLM_API_BASE"),
    "temperature": 0,
    "sandbox": ProcessSandbox(timeout_s=10, max_output_chars=4_000),
}

# One call pays for a first look, not for an answer.
try:
    RLM(**settings, budget=Budget(max_calls=1), on_exhausted="raise").run(question, readings)
except BudgetExceeded as error:
    outputs = [event.stdout for event in error.partial.trajectory if isinstance(event, CellEnded)]
    print(f"stopped by {error.limit}: {error.used:g} of {error.allowed:g} used")
    print(f"seen until then: {outputs[0].strip()[:60]}")

# An observer is a function of one event; an error in it is logged and does not stop the run.
seen: Counter[str] = Counter()


def watch(event: Event) -> None:
    seen[event.kind] += 1


budget = Budget(max_calls=20, max_tokens=50_000, max_seconds=600)
result = RLM(**settings, budget=budget, max_iterations=10, observers=[watch]).run(question, readings)
print(f"answer: {result.answer} ({result.status})")
print(f"events: {dict(seen)}")
print(f"{result.usage.calls} calls, {result.usage.tokens:,} of {budget.max_tokens:,} tokens")
