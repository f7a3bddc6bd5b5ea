"""A strong model plans and a cheap one reads: sub-calls go to `recursive_model`.

The root model writes the code; what code can't decide (is this review negative?) it asks of the other model, many
texts at once, at most `max_parallel` in flight. `usage.by_model` tells what each of them took.

    OPENAI_API_KEY=... python cookbooks/two_models.py
    RLM_MODEL=anthropic/claude-sonnet-4-5 RLM_RECURSIVE_MODEL=ollama_chat/qwen2.5:7b python cookbooks/two_models.py
"""

import os

from rlm_integrations import RLM, Document

REVIEWS = [
    Document("It broke on the second day and nobody answers my mails.", id="review-1"),
    Document("Works perfectly, my whole family loves it.", id="review-2"),
    Document("Best lamp I have ever owned. Thank you!", id="review-3"),
    Document("Terrible. It arrived with a cracked shade, and I want my money back.", id="review-4"),
    Document("Bright, quiet and cheap. I am very happy with it.", id="review-5"),
    Document("The switch fell off. A waste of money.", id="review-6"),
]

rlm = RLM(
    os.environ.get("RLM_MODEL", "openai/gpt-5"),
    recursive_model=os.environ.get("RLM_RECURSIVE_MODEL", "openai/gpt-5-mini"),
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
    max_parallel=4,
)
# A strong model needs the first line alone; a small one does better with a hint.
question = """How many of the reviews are negative? A model can tell:
moods = llm_query_batched(["Is this review positive or negative? Answer in one word: " + review for review in context])
Count the moods with "negative" in mood.lower()."""
result = rlm.run(question, REVIEWS)

print(f"answer: {result.answer} of {len(REVIEWS)} reviews ({result.status})")
for name, usage in result.usage.by_model.items():
    print(f"{name}: {usage.calls} calls, {usage.tokens:,} tokens")
