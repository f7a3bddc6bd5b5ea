"""What the engine adds to LiteLLM: runs against a scripted server, beside a bare loop with the same messages."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rlm_integrations import RLM
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.models.library import load
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.benchmarks.figure import Figure, seconds
from tests.benchmarks.peers import Peers
from tests.benchmarks.scripts import turns_script
from tests.benchmarks.server import serving

__all__ = ["measure"]

TEXT = "hello " * 100
TURNS = 42


def measure(peers: Peers, rounds: int = 7) -> Iterator[Figure]:
    """Ours and the bare loop take turns, so that what else the machine does falls on both."""
    theirs = peers.time("turns")
    litellm = load()
    with serving() as url, ProcessSandbox() as sandbox:
        script = ScriptedModel(turns_script(TURNS))
        RLM(script, sandbox=sandbox, max_iterations=60).run("How long is it?", TEXT)
        asked = [[{"role": m.role, "content": m.content} for m in call.messages] for call in script.calls]
        name = f"openai/ours:{TURNS}:0:0"
        rlm = RLM(LiteLLMModel(name, api_base=url, api_key="none"), sandbox=sandbox, max_iterations=60)

        def ours() -> None:
            assert rlm.completion("How long is it?", TEXT) == str(len(TEXT) + TURNS - 2)

        def bare() -> None:
            for messages in asked:
                litellm.completion(name, messages, api_base=url, api_key="none")

        ours()
        bare()
        pairs = [(seconds(ours, 1), seconds(bare, 1)) for _ in range(rounds)]
    turn_ms, call_ms = (median(times) / TURNS * 1e3 for times in zip(*pairs, strict=True))
    yield Figure("a turn through LiteLLM", turn_ms, "ms", None, theirs("turn_ms"))
    yield Figure("a bare litellm.completion", call_ms, "ms")
    yield Figure("the first as a multiple of the second", median(a / b for a, b in pairs), "x", 1.2)
