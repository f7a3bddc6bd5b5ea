"""A context on disk in a worker of 1 GB: ``python -m tests.benchmarks.on_disk [--gb 10]``.

Not a test: figures depend on the machine and on what is in its page cache. Writes text of that size to a temporary
folder, makes a context of it, and has three questions answered by written-down code; prints how long each took.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from rlm_integrations import RLM, Context
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell

__all__ = ["main"]

FILE_LINES = 125_000  # about 11 MB
NEEDLE = "The staging password of the Zürich gateway is 'ochre-heron-42'.\n"
ORDER = "ORDER {} | status: shipped | region: north\n"
QUESTIONS = {
    "search, and a citation": (
        "found = search('staging password Zürich gateway')[0]\nprint(found)",
        "line = next(line for line in found.splitlines() if 'password' in line)\nFINAL(line, quotes=[line])",
    ),
    "count in a loop": ("n = sum(document.count('status: shipped') for document in context)\nprint(n)", "FINAL(n)"),
    "needle in a loop": (
        "found = [(d.id, d.index('staging password')) for d in context if 'staging password' in d]\nprint(found)",
        "FINAL(found)",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(prog="on_disk", description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=10, help="how much text")
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory() as folder:
        orders = _write(Path(folder), int(options.gb * 1e9))
        started = perf_counter()
        context = Context.from_files(folder, lazy=True)
        taken = perf_counter() - started
        print(f"{context.chars:,} characters stored in {taken:.0f} s, {context.chars / taken / 1e6:.0f} MB/s")
        print(f"{orders:,} orders were written")
        for question, code in QUESTIONS.items():
            with ProcessSandbox(timeout_s=3_600, memory_mb=1_024) as sandbox:
                rlm = RLM(ScriptedModel([cell(part) for part in code]), sandbox=sandbox)
                started = perf_counter()
                result = rlm.run(question, context)
                print(f"{question}: {result.answer} {result.citations} {perf_counter() - started:.1f} s")


def _write(folder: Path, size: int) -> int:
    """Files of Zipf's words with one needle; how many orders are among their lines."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10))) for _ in range(50_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    lines = [" ".join(draw.choices(words, cum_weights=weights, k=12)) + ".\n" for _ in range(150_000)]
    orders = written = number = 0
    while written < size:
        text = draw.choices(lines, k=FILE_LINES)
        for _ in range(draw.randint(0, 9)):
            text.insert(draw.randrange(len(text)), ORDER.format(orders))
            orders += 1
        if not number:
            text.insert(FILE_LINES // 2, NEEDLE)
        written += (folder / f"{number:05}.txt").write_text("".join(text), "utf-8")
        number += 1
    return orders


if __name__ == "__main__":
    main()
