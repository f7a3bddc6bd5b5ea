"""What ``RaySandbox`` does when a node, a host or the whole driver is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from rlm_integrations import RLM, CellFailed, SandboxError
from rlm_integrations.ports import CellOutput, Resume, Run, SubCall
from rlm_integrations.ray import RaySandbox
from rlm_integrations.testing import ScriptedModel
from tests.ray.processes import hosts

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]

LARGE_CPUS = 16
STOPPED = "the cell was stopped: the node it ran on was lost. All variables were lost; `context` is in place."


@pytest.fixture
def large_nodes(cluster: Any) -> Iterator[list[Any]]:
    """Two more nodes, larger than the others."""
    nodes = [cluster.add_node(num_cpus=LARGE_CPUS, include_dashboard=False) for _ in range(2)]
    yield nodes
    for node in nodes:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


def test_a_run_goes_on_when_the_node_of_its_cell_is_lost(cluster: Any, large_nodes: list[Any]) -> None:
    killers: list[threading.Thread] = []

    def strike() -> str:
        """Kill the node where this is called, in a moment."""
        place = next(iter(sandbox._sessions)).seat.request.place
        assert place is not None
        (node,) = [node for node in large_nodes if node.node_id == place.node_id]
        killers.append(threading.Thread(target=cluster.remove_node, args=(node,), kwargs={"allow_graceful": False}))
        killers[0].start()
        return "struck"

    cells = [
        "mine = strike()\nwhile True:\n    pass",
        "print('mine' in SHOW_VARS(), context)",
        "FINAL(len(context) * 2)",
    ]
    model = ScriptedModel([f"```python\n{cell}\n```" for cell in cells])
    with RaySandbox(timeout_s=60, session_cpus=LARGE_CPUS) as sandbox:
        result = RLM(model, sandbox=sandbox, tools=[strike]).run("How long?", "four")
    killers[0].join()
    assert result.answer == "8"
    assert [event.error for event in result.trajectory if isinstance(event, CellFailed)] == [STOPPED]
    assert STOPPED in model.calls[1].messages[-1].content
    assert "False four" in model.calls[2].messages[-1].content


def test_a_host_that_is_lost_between_two_cells_is_replaced_and_the_next_cell_says_so(cluster: Any) -> None:
    before = hosts(cluster)
    with RaySandbox() as sandbox:
        session = sandbox.open({"context": "four"}, ["f"])
        session.advance(Run("mine = 1"))
        for number in range(3):
            host = session._host
            assert host is not None
            for process in hosts(cluster) - before:
                process.kill()
            host.ended.exception(30)
            output = session.advance(Run(f"print(context, {number}, SHOW_VARS())"))
            assert isinstance(output, CellOutput)
            assert output.stdout == f"four {number} {{}}\n"
            assert output.restarted
            assert "(the node it ran on was lost between two cells, and all variables with it" in (output.error or "")
        assert session.advance(Run("f()")) == SubCall("f")
        for process in hosts(cluster) - before:
            process.kill()
        with pytest.raises(SandboxError, match=r"lost the node of a session 4 times: .*: The actor died"):
            session.advance(Resume())


def test_a_child_run_in_the_place_of_its_parent_is_lost_with_it_and_both_go_on(cluster: Any) -> None:
    before = hosts(cluster)
    with RaySandbox(session_cpus=4) as sandbox:
        parents = [sandbox.open({"context": "parent"}, ["f"]) for _ in range(2)]
        for parent in parents:
            parent.advance(Run("f()"))
        child = sandbox.open_below(parents[0], {"context": "child"}, ["f"])
        sibling = sandbox.open_below(parents[0], {"context": "sibling"}, ())
        assert child.advance(Run("f()")) == SubCall("f")
        assert "1 ahead of it" in (sibling.waiting or "")
        for process in hosts(cluster) - before:
            process.kill()
        assert child.advance(Resume()) == CellOutput("", STOPPED, restarted=True)
        assert child.advance(Run("context")) == CellOutput("child\n")
        child.close()
        assert sibling.advance(Run("context")) == CellOutput("sibling\n")
        sibling.close()
        assert parents[0].advance(Resume()) == CellOutput("", STOPPED, restarted=True)
        assert parents[0].advance(Run("context")) == CellOutput("parent\n")


DRIVER = """
import sys
import ray
from rlm_integrations.ports import Run
from rlm_integrations.ray import JobLimits, RaySandbox

sandbox, limits = RaySandbox(timeout_s=1_000), JobLimits()
for _ in range(int(sys.argv[2])):
    ray.shutdown()
    ray.init(address=sys.argv[1], log_to_driver=False)
    assert limits.progress().rows == 0
    session = sandbox.open({"context": "x" * 200_000}, ["f"])
    session.advance(Run("1"))
print("ready", flush=True)
session.advance(Run("while True: pass"))
"""


@pytest.mark.parametrize(("how", "joins"), [(signal.SIGKILL, 1), (signal.SIGINT, 2)])
def test_the_end_of_a_driver_leaves_no_process_and_it_may_join_again_before(
    cluster: Any, how: signal.Signals, joins: int
) -> None:
    before = hosts(cluster)
    arguments = [sys.executable, "-c", DRIVER, cluster.address, str(joins)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout is not None
        assert b"ready\n" in iter(
            driver.stdout.readline, b""
        )  # Ray tells here of nodes that other tests have taken away
        (host,) = hosts(cluster) - before
        left = [host, *host.children(recursive=True)]
        assert len(left) >= 3  # with the process that starts workers, and a worker
        driver.send_signal(how)
        driver.wait(30)
        _, alive = psutil.wait_procs(left, timeout=30)
        assert alive == []
