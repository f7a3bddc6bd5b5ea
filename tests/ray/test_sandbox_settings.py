"""What ``RaySandbox`` says of settings that can't be, and where there is no Ray."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any

import pytest
import ray

from rlm_integrations import InvalidInput, SandboxError
from rlm_integrations.ports import CellOutput, Run
from rlm_integrations.ray import RaySandbox
from rlm_integrations.ray.places import Needs, Places

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"memory_mb": 1}, "memory_mb is 1"),
        ({"isolation": "none"}, "isolation is 'none': pass 'auto' or 'strict'"),
        ({"session_cpus": -1}, "session_cpus=-1: pass a number of at least 0"),
        ({"session_cpus": True}, "session_cpus=True: pass a number"),
        ({"session_memory_mb": 0}, "session_memory_mb=0: pass a number of at least 1"),
        ({"session_memory_mb": "64"}, "session_memory_mb='64': pass a number"),
    ],
)
def test_a_setting_that_can_not_be_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        RaySandbox(**settings)


WITHOUT = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ray" else find(name, *rest)
try:
    import rlm_integrations.ray
except ImportError as error:
    print(type(error).__name__, error, "ray" in sys.modules)
"""
UNJOINED = """
from rlm_integrations.ray import RaySandbox
try:
    RaySandbox().open({"context": "x"}, ())
except ValueError as error:
    import ray
    print(type(error).__name__, error, ray.is_initialized())
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (WITHOUT, "MissingExtra rlm_integrations.ray needs an extra: pip install 'rlm-integrations[ray]' False"),
        (UNJOINED, "InvalidInput this needs a Ray cluster: call ray.init() first"),
    ],
)
def test_without_ray_or_its_cluster_the_message_says_what_to_do(code: str, said: str) -> None:
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith(said)
    assert shown.endswith("False\n")


@pytest.mark.usefixtures("cluster")
def test_what_no_node_is_large_enough_for_waits_and_says_so() -> None:
    with RaySandbox(session_cpus=1_000) as sandbox:
        session = sandbox.open({"context": "x"}, ())
        assert "no node is that large at all: lower session_cpus or session_memory_mb" in (session.waiting or "")
        session.close()
        with pytest.raises(SandboxError, match="closed"):
            session.advance(Run("1"))


@pytest.mark.usefixtures("cluster")
def test_a_run_that_is_cancelled_while_it_waits_gives_up_its_claim() -> None:
    async def steps(sandbox: RaySandbox) -> None:
        holders = [await sandbox.aopen({"context": "x"}, ()) for _ in range(2)]
        waits = await sandbox.aopen({"context": "x"}, ())
        step = asyncio.ensure_future(waits.aadvance(Run("1")))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        after = await sandbox.aopen({"context": "after"}, ())
        assert after.waiting is not None
        for holder in holders:
            holder.close()
        await after.asettle(20)
        assert after.waiting is None
        after.close()

    with RaySandbox(session_cpus=4) as sandbox:
        asyncio.run(steps(sandbox))


@pytest.mark.usefixtures("cluster")
def test_a_closed_sandbox_starts_afresh() -> None:
    sandbox = RaySandbox()
    session = sandbox.open({"context": "x"}, ())
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        session.advance(Run("1"))
    with sandbox:
        assert sandbox.open({"context": "x"}, ()).advance(Run("context")).stdout == "x\n"  # type: ignore[union-attr]


@pytest.mark.usefixtures("cluster")
def test_all_is_given_back_when_closing_returns() -> None:
    def asking() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "rlm-ray-places"]

    others = asking()
    with RaySandbox(timeout_s=20) as sandbox:
        session = sandbox.open({"context": "x"}, ())
        assert session.advance(Run("print(context)")) == CellOutput("x\n")
        assert len(asking()) == len(others) + 1
    # Whatever is asked of Ray once it is shut down would start it again.
    assert asking() == others


def test_a_session_keeps_its_sandbox() -> None:
    session = RaySandbox().open({"context": "x"}, ())
    gc.collect()
    assert session.advance(Run("context")) == CellOutput("x\n")


def test_whoever_asks_for_a_place_while_the_sandbox_is_closed_is_told() -> None:
    places, over = Places(), threading.Event()
    before = places.ask(Needs(1, 1))
    places.end(over.set)
    assert over.wait(20)
    for request in (before, places.ask(Needs(1, 1))):
        request.told.result(20)
        with pytest.raises(SandboxError, match="the sandbox was closed"):
            request.found.result(20)


@pytest.mark.usefixtures("cluster")
def test_a_task_on_the_cluster_may_use_one_too() -> None:
    @ray.remote(num_cpus=0)
    def task() -> Any:
        with RaySandbox() as sandbox:
            return sandbox.open({"context": "x" * 200_000}, ()).advance(Run("len(context)"))

    assert ray.get(task.remote()) == CellOutput("200000\n")
