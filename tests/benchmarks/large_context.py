"""A large context: how soon its first turn is done, and how much memory host and worker take together.

Run as ``python -m tests.benchmarks.large_context MB``, it is the process that is measured: a host that holds a text
of so many MB and asks one question about it. Prints the seconds of the first turn.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.figure import Figure
from tests.benchmarks.peers import Peers

__all__ = ["measure"]

LINE = "x" * 99 + "\n"
SAMPLE_S = 0.002
MB = 1_000_000


def measure(peers: Peers) -> Iterator[Figure]:
    """Time and memory come from different processes, because looking at the memory takes time."""
    theirs = peers.time("context", 100)
    yield Figure("100 MB: first turn", median(_first_turn_s(100) for _ in range(5)), "s", 0.4, theirs("s"))
    times_size = max(_peak_bytes(100) for _ in range(3)) / (100 * MB)
    yield Figure("100 MB: peak memory, as a multiple", times_size, "x", 3.2, theirs("times_size"))
    yield Figure("1 GB: first turn", _first_turn_s(1000), "s")
    yield Figure("1 GB: peak memory, as a multiple", _peak_bytes(1000) / (1000 * MB), "x")


def _first_turn_s(size_mb: int) -> float:
    with _host(size_mb) as host:
        return float(_line(host))


def _peak_bytes(size_mb: int) -> int:
    """The most memory that the host and all processes below it held at one time, shared pages counted once."""
    peak = 0
    with _host(size_mb) as host:
        while host.poll() is None:
            peak = max(peak, sum(_held_bytes(pid) for pid in _below(host.pid)))
            time.sleep(SAMPLE_S)
        float(_line(host))
    return peak


@contextlib.contextmanager
def _host(size_mb: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", __name__, str(size_mb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process


def _line(host: subprocess.Popen[str]) -> str:
    assert host.stdout
    return host.stdout.readline()


def _below(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            found += _below(int(child))
    return found


def _held_bytes(pid: int) -> int:
    """Proportional set size; where another user's process hides it, the resident set."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return 0


def main(size_mb: int) -> None:
    """Ask once about a short text and then, timed, about a long one."""
    from rlm_integrations import RLM, CellEnded
    from rlm_integrations.sandbox import ProcessSandbox
    from rlm_integrations.testing import ScriptedModel

    ended: list[float] = []

    def watch(event: object) -> None:
        if isinstance(event, CellEnded):
            ended.append(time.perf_counter())

    text = LINE * (size_mb * 10_000)
    with ProcessSandbox() as sandbox:
        script = ["```python\nFINAL(len(context))\n```"] * 2
        rlm = RLM(ScriptedModel(script), sandbox=sandbox, observers=[watch])
        rlm.completion("How long is it?", LINE)
        start = time.perf_counter()
        assert rlm.completion("How long is it?", text) == str(len(text))
    print(ended[-1] - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
