"""``JobLimits`` over two nodes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import ray

from rlm_integrations import RLM, BudgetExceeded, InvalidInput, Message, Reply, Usage
from rlm_integrations.ray import JobLimits, answer_dataset, ledger
from rlm_integrations.ray.limited_model import LimitedModel, Permits
from rlm_integrations.testing import ScriptedModel
from tests.ray.marks import ON_RAY_DATA
from tests.ray.provider import ProvidedModel, in_flight, provider

pytestmark = ON_RAY_DATA

ASKED = [Message("user", "x" * 384)]  # 100 tokens


def test_cost_and_calls_in_flight_are_held_over_all_nodes(cluster: Any) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"question": f"{number}?", "context": "one two three"} for number in range(60)]
    limits = JobLimits(max_cost_usd=0.5, max_in_flight=3)
    with provider("limited", latency_s=0.02) as actor:
        rlm = RLM(ProvidedModel("limited"))
        rows = answer_dataset(ray.data.from_items(items), rlm, limits=limits, rows_at_once=8).take_all()
        asked, most = ray.get(actor.told.remote())
    complete = [row for row in rows if row["status"] == "complete"]
    failed = [row for row in rows if row["status"] == "failed"]
    # A call takes 0.01 USD. Before the last of them starts, it is taken for dearer than it turns out to be.
    assert 40 <= len(asked) <= 50
    assert most == 3
    assert len(complete) + len(failed) == 60
    assert 10 <= len(complete) <= len(asked) / 2
    assert {row["error"]["type"] for row in failed} == {"BudgetExceeded"}
    assert "raise JobLimits(max_cost_usd=...)" in failed[0]["error"]["message"]
    assert in_flight(limits, 0)
    progress = limits.progress()
    assert (progress.rows, progress.failed, progress.calls) == (60, len(failed), len(asked))
    assert progress.cost_usd == pytest.approx(0.01 * len(asked))


def limited(model: Any, limits: JobLimits) -> LimitedModel:
    """``model`` under ``limits``, in the event loop that runs."""
    return LimitedModel(model, Permits(limits), asyncio.get_running_loop())


def test_the_tokens_of_a_minute_are_held(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MINUTE_S", 1.0)
    limits = JobLimits(tokens_per_minute=250)
    times: list[float] = []

    class Clocked(ScriptedModel):
        async def acomplete(self, messages: Any, **options: Any) -> Reply:
            times.append(time.monotonic())
            return Reply("yes", Usage(100, 10))

    async def ask() -> None:
        model = limited(Clocked([]), limits)
        await asyncio.gather(*(model.acomplete(ASKED, max_tokens=20) for _ in range(5)))

    asyncio.run(ask())
    assert len(times) == 5
    # Two calls fit into a minute, which is a second here.
    assert all(later - earlier >= 0.95 for earlier, later in zip(times, times[2:], strict=False))
    assert times[-1] - times[0] < 10


class Holder:
    """A process on a node that has asked for leave, and holds it."""

    def __init__(self, limits: JobLimits) -> None:
        self._permits = Permits(limits)

    async def hold(self) -> int:
        """Get leave for a call that never ends; the process' id."""
        held = asyncio.get_running_loop().create_future()

        async def call() -> None:
            async with self._permits.permit("openai/m", 100, 20):
                held.set_result(None)
                await asyncio.Event().wait()

        self._call = asyncio.ensure_future(call())
        await held
        return os.getpid()


def test_what_a_killed_process_held_comes_back_and_what_a_living_one_holds_does_not(cluster: Any) -> None:
    limits = JobLimits(max_in_flight=2, lease_s=1.0)
    holders = [ray.remote(Holder).options(num_cpus=0).remote(limits) for _ in range(2)]
    first, _ = ray.get([holder.hold.remote() for holder in holders])

    async def ask() -> None:
        model = limited(ScriptedModel(lambda messages: Reply("yes"), name="openai/n"), limits)
        waiting = asyncio.ensure_future(model.acomplete(ASKED))
        done, _ = await asyncio.wait([waiting], timeout=2.5)
        assert not done
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(waiting, 30)

    asyncio.run(ask())
    assert in_flight(limits, 1)
    for holder in holders:
        ray.kill(holder)


def test_a_call_that_is_cancelled_while_it_waits_or_goes_on_holds_nothing(cluster: Any) -> None:
    limits = JobLimits(max_in_flight=1)

    async def ask() -> None:
        begun = asyncio.Event()

        class Slow(ScriptedModel):
            async def acomplete(self, messages: Any, **options: Any) -> Reply:
                begun.set()
                await asyncio.Event().wait()
                raise AssertionError

        model = limited(Slow([]), limits)
        going = asyncio.ensure_future(model.acomplete(ASKED))
        waiting = asyncio.ensure_future(model.acomplete(ASKED))
        await begun.wait()
        for call in (waiting, going):
            call.cancel()
        await asyncio.gather(going, waiting, return_exceptions=True)
        quick = limited(ScriptedModel(lambda messages: "yes"), limits)
        assert (await asyncio.wait_for(quick.acomplete(ASKED), 30)).text == "yes"

    asyncio.run(ask())
    assert in_flight(limits, 0)


def test_a_limited_model_is_still_the_model_it_is_and_blocks_too(cluster: Any) -> None:
    async def ask() -> Reply:
        model = limited(ScriptedModel(["yes"], window_tokens=1_000), limits)
        assert (model.name, model.window_tokens) == ("scripted", 1_000)
        assert getattr(model, "check", None) is None
        from rlm_integrations.engine.drivers import in_thread

        return await in_thread(lambda: model.complete(ASKED))

    limits = JobLimits(max_calls=1)
    assert asyncio.run(ask()).text == "yes"
    with pytest.raises(BudgetExceeded, match=r"max_calls is 1, 1 used; raise JobLimits\(max_calls") as raised:
        asyncio.run(ask())
    assert raised.value.limit == "max_calls"


@pytest.mark.parametrize(
    "limits", [{"max_cost_usd": 0}, {"max_calls": 1.5}, {"max_in_flight": True}, {"lease_s": None}, {"max_tokens": "9"}]
)
def test_a_limit_that_can_not_be_held_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"JobLimits\\({next(iter(limits))}="):
        JobLimits(**limits)
