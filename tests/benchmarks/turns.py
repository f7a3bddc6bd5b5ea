"""What a turn and a run cost, engine and sandbox together, with a model that answers at once."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_integrations import RLM
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.benchmarks.figure import Figure, seconds
from tests.benchmarks.peers import Peers
from tests.benchmarks.scripts import turns_script

__all__ = ["measure"]

TEXT = "hello " * 100


def measure(peers: Peers) -> Iterator[Figure]:
    """A turn is a fortieth of what a run of 42 turns takes longer than one of 2."""
    theirs = peers.time("turns")
    with ProcessSandbox() as sandbox:

        def run_of(turns: int) -> None:
            rlm = RLM(ScriptedModel(turns_script(turns)), sandbox=sandbox, max_iterations=60)
            assert rlm.completion("How long is it?", TEXT) == str(len(TEXT) + turns - 2)

        run_of(2)
        two, many = seconds(lambda: run_of(2), 41), seconds(lambda: run_of(42), 21)
    yield Figure("one turn", (many - two) / 40 * 1e3, "ms", 0.6, theirs("turn_ms"))
    yield Figure("a run of two turns, after the first", two * 1e3, "ms", 8, theirs("run_of_2_ms"))
