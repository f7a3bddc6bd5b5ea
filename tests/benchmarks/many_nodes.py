"""Ray's nodes on this machine beside local sessions: ``python -m tests.benchmarks.many_nodes [--nodes 1 2 4]``.

Not a test: figures depend on the machine, whose cores all nodes share, and on what else it does. The model is
scripted, so nothing is measured but this package and Ray. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from time import perf_counter
from typing import Any

from rlm_integrations import RLM
from rlm_integrations.sandbox import CellOutput, ProcessSandbox, Run, Sandbox, Session
from rlm_integrations.testing import ScriptedModel
from tests.benchmarks.scripts import turns_script

__all__ = ["figures", "main", "on_nodes"]

TEXT = "hello " * 100
ANSWER = str(len(TEXT) + 2)
TURNS = 4
LATENCY_S = 0.2
NODE_CPUS = 16
OBJECT_STORE_BYTES = 1 << 30

Figures = dict[str, str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="many_nodes", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4], help="the sizes of the clusters")
    parser.add_argument("--runs", type=int, default=200, help="how many runs are timed")
    parser.add_argument("--rounds", type=int, default=3, help="how often; the median counts")
    options = parser.parse_args(arguments)
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {_load()}")
    with ProcessSandbox() as local:
        columns = {"local": figures(local, options.runs, options.rounds)}
    for nodes in options.nodes:
        with on_nodes(nodes) as sandbox:
            columns[f"{nodes} node{'s' * (nodes > 1)}"] = figures(sandbox, options.runs, options.rounds)
    print(f"load {_load()}\n")
    print(" | ".join(["| what", *columns, ""]).strip())
    print("|---" * (len(columns) + 1) + "|")
    for what in columns["local"]:
        print(" | ".join([f"| {what}", *(column[what] for column in columns.values()), ""]).strip())


@contextmanager
def on_nodes(nodes: int) -> Iterator[Sandbox]:
    """A sandbox on a cluster of its own, which ends with it."""
    import ray
    from ray.cluster_utils import Cluster

    from rlm_integrations.ray import RaySandbox

    node = {"num_cpus": NODE_CPUS, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    with ExitStack() as opened:
        cluster = Cluster(initialize_head=True, head_node_args=node)
        opened.callback(cluster.shutdown)
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, include_dashboard=False)
        opened.callback(ray.shutdown)
        yield opened.enter_context(RaySandbox())


def figures(sandbox: Sandbox, runs: int, rounds: int) -> Figures:
    """All that is measured of a sandbox, by what it is."""
    session = sandbox.open({"context": TEXT}, ())
    _run(session, "pass")
    found = {"a cell": _ms(_seconds(lambda: _run(session, "x = 1"), 100 * rounds))}
    session.close()
    found["a session, with its first cell"] = _ms(_seconds(lambda: _start(sandbox, TEXT), 10 * rounds))
    large = "x" * 100_000_000
    _start(sandbox, large)
    found["a session over the same 100 MB"] = _ms(_seconds(lambda: _start(sandbox, large), rounds))
    for at_once in (32, 64):
        ideal = runs * TURNS * LATENCY_S / at_once
        taken = median(_gathered(sandbox, runs, at_once, LATENCY_S) for _ in range(rounds))
        what = f"{runs} runs of {TURNS} turns of {LATENCY_S * 1e3:.0f} ms, {at_once} at once (ideal {ideal:.1f} s)"
        found[what] = f"{taken:.1f} s ({taken / ideal:.2f})"
    taken = median(_gathered(sandbox, runs, 32, 0.0) for _ in range(rounds))
    found["the same with a model that answers at once"] = f"{runs / taken:.0f} runs/s"
    return found


def _gathered(sandbox: Sandbox, runs: int, at_once: int, latency_s: float) -> float:
    """Seconds that ``runs`` take in one event loop, ``max_runs`` of them at once."""
    rlm = RLM(ScriptedModel(turns_script(TURNS), latency_s=latency_s), sandbox=sandbox, max_runs=at_once)

    async def ask() -> float:
        await rlm.acompletion("the question", TEXT)
        start = perf_counter()
        answers = await asyncio.gather(*(rlm.acompletion("the question", TEXT) for _ in range(runs)))
        taken = perf_counter() - start
        assert set(answers) == {ANSWER}, set(answers)
        return taken

    return asyncio.run(ask())


def _start(sandbox: Sandbox, text: str) -> None:
    session = sandbox.open({"context": text}, ())
    _run(session, "pass")
    session.close()


def _run(session: Session, code: str) -> None:
    output = session.advance(Run(code))
    assert isinstance(output, CellOutput)
    assert output.error is None, output.error


def _seconds(action: Any, times: int) -> float:
    def once() -> float:
        start = perf_counter()
        action()
        return perf_counter() - start

    return median(once() for _ in range(max(1, times)))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    main()
