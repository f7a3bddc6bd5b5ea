"""Follow a run while it happens, and check its answer against the document.

`stream` yields events: text as the model writes it, cells as they run, and at the end the answer with its citations.
A citation counts only if it stands in the document word for word; it comes back with its place.

    OPENAI_API_KEY=... python cookbooks/long_document.py
"""

import os
import random

from rlm_integrations import RLM, CellEnded, RunEnded, TextDelta

SHIPS = ["Aurora", "Borealis", "Calypso", "Dorado", "Estrella", "Fenix", "Gudrun", "Halcyon"]
CARGOES = ["timber", "salt", "coffee", "iron ore", "grain", "wool", "cement"]


def harbour_journal(entries: int = 20_000) -> str:
    rng = random.Random(3)
    lines = [
        f"Entry {n}. The {rng.choice(SHIPS)} came in with {rng.randint(20, 900)} tonnes of {rng.choice(CARGOES)}."
        for n in range(entries)
    ]
    lines[13_579] = "Entry 13579. The pilot Marta Okonkwo brought the lightship Meridian through the ice."
    return "\n".join(lines)


journal = harbour_journal()
rlm = RLM(
    os.environ.get("RLM_MODEL", "openai/gpt-5-mini"),
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
)
print(f"a journal of {len(journal):,} characters")
for event in rlm.stream("Which pilot brought the lightship Meridian through the ice?", journal):
    match event:
        case TextDelta():
            print(event.text, end="", flush=True)
        case CellEnded():
            print(f"\n--- the code printed:\n{event.stdout[:300]}")
        case RunEnded():
            print(f"\n--- answer: {event.answer} ({event.status})")
            for citation in event.citations:
                assert journal[citation.start : citation.end] == citation.quote
                print(f'--- characters {citation.start:,} to {citation.end:,}: "{citation.quote}"')
