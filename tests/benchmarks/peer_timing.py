"""Times one other engine, in whose environment it is run: ``peer_timing.py NAME WHAT N URL``. Prints a line of JSON.

turns: what a turn costs, with no latency       batch: one batch of N sub-calls of 200 ms
gather: N runs at once of 4 turns of 100 ms     context: three turns over N MB
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

os.environ.update(OPENAI_API_KEY="none", LITELLM_LOCAL_MODEL_COST_MAP="True")
TEXT = "hello " * 100


class RecursiveLLM:
    """recursive-llm."""

    def __init__(self, url: str, turns: int, latency_ms: int = 0, sub_calls: int = 0) -> None:
        from rlm import RLM

        model = f"openai/recursive-llm:{turns}:{latency_ms}:{sub_calls}"
        self._rlm = RLM(model=model, api_base=url, api_key="none", max_iterations=60)

    def ask(self, text: str = TEXT) -> str:
        return str(self._rlm.complete(query="q", context=text))

    @classmethod
    def ask_all(cls, engines: list[Any]) -> list[str]:
        async def gather() -> list[str]:
            return list(await asyncio.gather(*[one._rlm.acomplete(query="q", context=TEXT) for one in engines]))

        return asyncio.run(gather())


class Rlms:
    """rlms."""

    def __init__(self, url: str, turns: int, latency_ms: int = 0, sub_calls: int = 0) -> None:
        from rlm import RLM

        model = f"rlms:{turns}:{latency_ms}:{sub_calls}"
        options = {"model_name": model, "base_url": url, "api_key": "none"}
        self._rlm = RLM(backend="openai", backend_kwargs=options, max_iterations=60)

    def ask(self, text: str = TEXT) -> str:
        return str(self._rlm.completion(text, root_prompt="q").response)

    @classmethod
    def ask_all(cls, engines: list[Any]) -> list[str]:
        with ThreadPoolExecutor(len(engines)) as pool:
            return list(pool.map(cls.ask, engines))


def main(name: str, what: str, n: int, url: str) -> dict[str, float]:
    """The figures of one measurement; everything is measured after a first run."""
    engine: Any = {"recursive-llm": RecursiveLLM, "rlms": Rlms}[name]
    engine(url, 2).ask()
    match what:
        case "turns":
            two, many = (median(_seconds(engine(url, turns).ask) for _ in range(5)) for turns in (2, 42))
            return {"run_of_2_ms": two * 1e3, "turn_ms": (many - two) / 40 * 1e3}
        case "batch":
            return {"s": _seconds(engine(url, 2, 200, n).ask)}
        case "gather":
            return {"s": _seconds(lambda: engine.ask_all([engine(url, 4, 100) for _ in range(n)]))}
        case "context":
            text = ("x" * 99 + "\n") * (n * 10_000)
            return {"s": _seconds(lambda: engine(url, 3).ask(text)), "times_size": _peak_mb() / n}
    raise ValueError(what)


def _seconds(action: Callable[[], str | list[str]]) -> float:
    start = perf_counter()
    answers = action()
    taken = perf_counter() - start
    assert {"done"} == ({answers} if isinstance(answers, str) else set(answers)), answers
    return taken


def _peak_mb() -> float:
    """Of this process and the largest of its children."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


if __name__ == "__main__":
    # rlms, when run in threads, leaves sys.stdout and sys.stderr in the wrong hands.
    try:
        print(
            json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])), file=sys.__stdout__, flush=True
        )
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
        # What threads still wait for may never come.
        os._exit(1)
