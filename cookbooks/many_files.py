"""Ask about a folder: every file becomes a `Document` that knows its name.

`Context.from_files` reads text, Markdown, CSV, JSON and HTML, and PDF with the extra `pdf`. Hidden files and files
that are not text are left out. The command line does the same: rlm ask "..." tickets/

    OPENAI_API_KEY=... python cookbooks/many_files.py
"""

import contextlib
import os
import random
import tempfile
from pathlib import Path

from rlm_integrations import RLM, Context

SERVICES = ["billing", "login", "search", "mail"]
SEVERITIES = ["low", "medium", "high"]
NOTES = ["Users saw an error page.", "A retry helped.", "The disk was full.", "A certificate had run out."]


def write_tickets(folder: Path, count: int = 1_500) -> None:
    rng = random.Random(5)
    folder.mkdir()
    for number in range(count):
        head = f"service: {rng.choice(SERVICES)}\nseverity: {rng.choice(SEVERITIES)}\n"
        (folder / f"ticket-{number:04}.md").write_text(f"# Ticket {number}\n\n{head}\n{rng.choice(NOTES)}\n", "utf-8")


rlm = RLM(
    os.environ.get("RLM_MODEL", "openai/gpt-5-mini"),
    api_base=os.environ.get("RLM_API_BASE"),
    temperature=0,
)
with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
    write_tickets(Path("tickets"))
    context = Context.from_files("tickets")

print(f"{context.documents} files, the first is {context.value[0].id}")
result = rlm.run("Count the documents that hold both 'service: billing' and 'severity: high'.", context)
print(f"answer: {result.answer} ({result.status})")
