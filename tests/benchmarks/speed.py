"""How fast it is, beside other engines in the same run: ``python -m tests.benchmarks.speed [--only PART]``.

Not a test: figures depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks import imports, large_context, parallel, provider, sessions, turns
from tests.benchmarks.figure import Figure, table_row
from tests.benchmarks.peers import Peers

PARTS: dict[str, Callable[[Peers], Iterator[Figure]]] = {
    "import": lambda peers: imports.measure(),
    "turn": turns.measure,
    "batch": parallel.measure_batches,
    "runs": parallel.measure_runs,
    "trees": lambda peers: parallel.measure_trees(),
    "threads": lambda peers: parallel.measure_threads(),
    "context": large_context.measure,
    "sandbox": lambda peers: sessions.measure(),
    # Last: LiteLLM leaves so many objects that each full garbage collection would stall the event loop for long.
    "litellm": provider.measure,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table as it grows."""
    parser = argparse.ArgumentParser(prog="speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be given again")
    parser.add_argument("--no-peers", action="store_true", help="leave the other engines out")
    parser.add_argument("--json", type=Path, metavar="PATH", help="append the figures to a file of JSON lines")
    options = parser.parse_args(arguments)
    peers = Peers(()) if options.no_peers else Peers()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {_load()}\n")
    print(table_row())
    for part in options.only or PARTS:
        for figure in PARTS[part](peers):
            print(table_row(figure), flush=True)
            if options.json:
                with options.json.open("a") as file:
                    file.write(figure.to_json(part=part, time=time.time(), load=_load()) + "\n")
    print(f"\nload {_load()}")


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    main()
