"""Where sessions of ``RaySandbox`` are, and what happens where there is no room for all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

from rlm_integrations import RLM, Budget, BudgetExceeded, Event, RLMResult, SandboxError, SessionWaiting
from rlm_integrations.messages import Message
from rlm_integrations.ports import CellOutput, Run
from rlm_integrations.ray import RaySandbox
from rlm_integrations.ray.places import MB, Needs, Places
from rlm_integrations.ray.session import RaySession
from rlm_integrations.testing import ScriptedModel

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]

TREES = 12


@pytest.fixture(scope="module")
def narrow(cluster: Any) -> Iterator[RaySandbox]:
    """A sandbox for which the cluster has room for two sessions, one on each node."""
    with RaySandbox(timeout_s=20, session_cpus=4) as sandbox:
        yield sandbox


def node_of(session: RaySession) -> str:
    place = session.seat.request.place
    assert place is not None
    return place.node_id


def test_sessions_go_to_the_nodes_that_have_room(narrow: RaySandbox) -> None:
    sessions = [narrow.open({"context": str(number)}, ()) for number in range(2)]
    try:
        assert [session.advance(Run("context")) for session in sessions] == [CellOutput("0\n"), CellOutput("1\n")]
        assert {node_of(session) for session in sessions} == {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    finally:
        for session in sessions:
            session.close()


def test_a_session_waits_where_there_is_no_room_and_goes_on_as_soon_as_there_is(narrow: RaySandbox) -> None:
    first, second, third = (narrow.open({"context": "x"}, ()) for _ in range(3))
    try:
        assert first.waiting is None
        assert third.waiting is not None
        assert "no node has 4 CPU and 64 MB free" in third.waiting
        with ThreadPoolExecutor() as pool:
            cell = pool.submit(third.advance, Run("1 + 1"))
            assert not cell.done()
            second.close()
            assert cell.result(20) == CellOutput("2\n")
        assert third.waiting is None
    finally:
        for session in (first, second, third):
            session.close()


def test_a_first_step_waits_no_longer_than_it_may(narrow: RaySandbox) -> None:
    sessions = [narrow.open({"context": "x"}, ()) for _ in range(3)]
    try:
        with pytest.raises(SandboxError, match=r"no room for a session within 0\.2 s: no node has 4 CPU"):
            sessions[2].advance(Run("1", timeout_s=0.2))
    finally:
        for session in sessions:
            session.close()


def test_room_that_is_given_up_at_once_is_free_for_others(narrow: RaySandbox) -> None:
    places = Places()
    for _ in range(40):
        places.withdraw(places.ask(Needs(0.1, MB)))
    places.end(lambda: None)
    places.join(20)
    sessions = [narrow.open({"context": "x"}, ()) for _ in range(2)]
    try:
        assert [session.advance(Run("1", timeout_s=10)) for session in sessions] == [CellOutput("1\n")] * 2
    finally:
        for session in sessions:
            session.close()


def test_closing_ends_the_waiting(narrow: RaySandbox) -> None:
    sessions = [narrow.open({"context": "x"}, ()) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        step = pool.submit(sessions[2].advance, Run("1"))
        for session in reversed(sessions):
            session.close()
        with pytest.raises(SandboxError, match="closed"):
            step.result(20)


def test_a_run_tells_that_it_waits_and_its_time_limit_holds(narrow: RaySandbox, run: Any) -> None:
    sessions = [narrow.open({"context": "x"}, ()) for _ in range(2)]
    events: list[Any] = []

    def give_room(event: Any) -> None:
        events.append(event)
        if isinstance(event, SessionWaiting):
            sessions[0].close()

    try:
        limited = RLM(ScriptedModel(["unused"]), sandbox=narrow, budget=Budget(max_seconds=0.5))
        with pytest.raises(BudgetExceeded) as refused:
            run(limited, "How long?", "x")
        assert refused.value.partial is not None
        assert [event.kind for event in refused.value.partial.trajectory] == [
            "run_started",
            "session_waiting",
            "run_failed",
        ]
        model = ScriptedModel(["```python\nFINAL(len(context) + 1)\n```"] * 2)
        result = run(RLM(model, sandbox=narrow, observers=[give_room]), "How long?", "four")
    finally:
        for session in sessions:
            session.close()
    assert result.answer == "5"
    waiting = events[1]
    assert isinstance(waiting, SessionWaiting)
    assert waiting.parent_id == events[0].id
    assert "no node has 4 CPU" in waiting.reason


class Door:
    """Has all the room until all trees wait for it."""

    def __init__(self, sandbox: RaySandbox) -> None:
        self._held = [sandbox.open({"context": "x"}, ()) for _ in range(2)]
        self._lock = threading.Lock()
        self._missing = TREES

    def __call__(self, event: Event) -> None:
        """Open where the last one comes."""
        if isinstance(event, SessionWaiting):
            with self._lock:
                self._missing -= 1
            if self._missing == 0:
                for session in self._held:
                    session.close()


def a_tree(sandbox: RaySandbox) -> RLM:
    """Answers with a root, two children and four grandchildren, all of which run code."""

    def reply(messages: Sequence[Message]) -> str:
        asked = messages[1].content
        if "leaf?" in asked:
            return "```python\nFINAL(len(context))\n```"
        below = "leaf?" if "child?" in asked else "child?"
        return f"```python\nFINAL(sum(rlm_query_batched(['{below}'] * 2, [context[0], context[1]])))\n```"

    return RLM(ScriptedModel(reply), sandbox=sandbox, max_depth=2, output_type=int, observers=[Door(sandbox)])


@pytest.mark.timeout(60)
def test_trees_that_hold_all_the_room_do_not_wait_for_their_children_in_threads(narrow: RaySandbox) -> None:
    rlm = a_tree(narrow)
    with ThreadPoolExecutor(TREES) as pool:
        results = list(pool.map(lambda _: rlm.run("root?", [["a", "bb"], ["ccc", "dddd"]]), range(TREES)))
    assert [result.answer for result in results] == [10] * TREES
    _expect_waiting(results)


@pytest.mark.timeout(60)
def test_trees_that_hold_all_the_room_do_not_wait_for_their_children_in_a_loop(narrow: RaySandbox) -> None:
    rlm = a_tree(narrow)

    async def all_of_them() -> list[RLMResult]:
        return await asyncio.gather(*(rlm.arun("root?", [["a", "bb"], ["ccc", "dddd"]]) for _ in range(TREES)))

    results = asyncio.run(all_of_them())
    assert [result.answer for result in results] == [10] * TREES
    _expect_waiting(results)


@pytest.mark.timeout(60)
def test_runs_that_hold_all_the_room_do_not_wait_for_those_of_their_tools(narrow: RaySandbox, run: Any) -> None:
    inner = RLM(ScriptedModel(lambda _: "```python\nFINAL(len(context))\n```"), sandbox=narrow)

    def measure(text: str) -> int:
        return int(inner.completion("How long?", text))

    held = narrow.open({"context": "x"}, ())
    try:
        model = ScriptedModel(["```python\nFINAL(measure(context) + 1)\n```"])
        assert run(RLM(model, sandbox=narrow, tools=[measure]), "root?", "four").answer == "5"
    finally:
        held.close()


def _expect_waiting(results: list[RLMResult]) -> None:
    roots = [
        event.reason
        for result in results
        for event in result.trajectory
        if isinstance(event, SessionWaiting) and event.parent_id == result.run_id
    ]
    assert len(roots) == TREES
    below = [
        event.reason
        for result in results
        for event in result.trajectory
        if isinstance(event, SessionWaiting) and event.parent_id != result.run_id
    ]
    assert below
    assert all("where its parent run does" in reason for reason in below)
