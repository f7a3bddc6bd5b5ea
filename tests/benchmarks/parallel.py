"""Many things at once: batches of sub-calls, runs, and trees of runs; in tasks and in threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil
from time import perf_counter
from typing import Any

from rlm_integrations import RLM, Budget
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.benchmarks.figure import Figure, seconds
from tests.benchmarks.peers import Peers
from tests.benchmarks.scripts import batch_script, tree_script, turns_script

__all__ = ["measure_batches", "measure_runs", "measure_threads", "measure_trees"]

TEXT = "hello " * 100
QUERY = "the question"
TICK_S = 0.005
THREADS = 8
TREES = 100
# Three turns of the root, and the two turns and the batch of a child.
TREE_S = 0.6


def measure_batches(peers: Peers) -> Iterator[Figure]:
    """Two own turns and all sub-calls take 200 ms each."""
    with ProcessSandbox() as sandbox:
        for count, at_once in ((32, 32), (256, 16)):
            theirs = peers.time("batch", count)
            model = ScriptedModel(batch_script(count), latency_s=0.2)
            rlm = RLM(model, sandbox=sandbox, budget=Budget(max_calls=None), max_parallel=at_once)
            _ask(rlm, str(count))
            ideal = 0.2 * (2 + ceil(count / at_once))
            target = 0.75 if count == 32 else 1.15 * ideal
            what = f"a batch of {count} sub-calls, {at_once} at once"
            taken = seconds(partial(_ask, rlm, str(count)), 3)
            yield Figure(f"{what} (ideal {ideal:.1f} s)", taken, "s", target, theirs("s"))
            taken = seconds(partial(_aask, rlm, str(count)), 3)
            yield Figure(f"{what}, async", taken, "s", target, theirs("s"))


def measure_runs(peers: Peers) -> Iterator[Figure]:
    """32 runs at once."""
    theirs = peers.time("gather", 32)
    taken, stall = _gathered(turns_script(4), 32, str(len(TEXT) + 2))
    yield Figure("32 runs at once, 4 turns of 100 ms (ideal 0.4 s)", taken, "s", 0.7, theirs("s"))
    yield Figure("longest stall of the event loop meanwhile", stall * 1e3, "ms")


def measure_trees() -> Iterator[Figure]:
    """100 trees at once, each of four runs."""
    taken, stall = _gathered(tree_script, TREES, "ok ok")
    yield Figure(f"{TREES} trees at once, 3 child runs each (ideal {TREE_S} s)", taken, "s", 1.8)
    yield Figure("longest stall of the event loop meanwhile", stall * 1e3, "ms", 60)


def measure_threads() -> Iterator[Figure]:
    """The same trees, from threads that each take one after the other."""
    ideal = TREE_S * ceil(TREES / THREADS)
    with ProcessSandbox() as sandbox, ThreadPoolExecutor(THREADS) as pool:
        rlm = RLM(ScriptedModel(tree_script, latency_s=0.1), sandbox=sandbox)
        rlm.completion(QUERY, TEXT)
        start = perf_counter()
        for answer in pool.map(lambda _: rlm.completion(QUERY, TEXT), range(TREES)):
            _expect(answer, "ok ok")
        taken = perf_counter() - start
    yield Figure(f"{TREES} trees from {THREADS} threads (ideal {ideal:.1f} s)", taken, "s", 1.15 * ideal)


def _gathered(script: Any, count: int, answer: str, rounds: int = 3) -> tuple[float, float]:
    """Time and longest stall of ``count`` runs at once: the medians of some rounds."""

    async def once(rlm: RLM) -> tuple[float, float]:
        await rlm.acompletion(QUERY, TEXT)
        async with _watched() as stalls:
            start = perf_counter()
            answers = await asyncio.gather(*[rlm.acompletion(QUERY, TEXT) for _ in range(count)])
            taken = perf_counter() - start
        _expect(set(answers), {answer})
        return taken, max(stalls)

    with ProcessSandbox() as sandbox:
        rlm = RLM(ScriptedModel(script, latency_s=0.1), sandbox=sandbox)
        found = sorted(asyncio.run(once(rlm)) for _ in range(rounds))
    return found[rounds // 2][0], sorted(stall for _, stall in found)[rounds // 2]


@contextlib.asynccontextmanager
async def _watched() -> Any:
    """How much later than asked for the event loop woke a task up, each time."""
    stalls = [0.0]

    async def tick() -> None:
        while True:
            start = perf_counter()
            await asyncio.sleep(TICK_S)
            stalls.append(perf_counter() - start - TICK_S)

    task = asyncio.ensure_future(tick())
    try:
        yield stalls
    finally:
        task.cancel()


def _ask(rlm: RLM, answer: str) -> None:
    _expect(rlm.completion(QUERY, TEXT), answer)


def _aask(rlm: RLM, answer: str) -> None:
    _expect(asyncio.run(rlm.acompletion(QUERY, TEXT)), answer)


def _expect(found: object, wanted: object) -> None:
    assert found == wanted, f"{found} in place of {wanted}"
