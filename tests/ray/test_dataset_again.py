"""A job of ``answer_dataset`` that is cut off goes on without asking for anything twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import ray

from rlm_integrations import RLM
from rlm_integrations.ray import answer_dataset
from tests.openai_server import OpenAIServer
from tests.ray.marks import ON_RAY_DATA
from tests.ray.provider import PostingModel
from tests.scripts import cell

pytestmark = ON_RAY_DATA

ROWS = 18
# Every second row is held up in its second turn.
HELD = range(1, ROWS, 2)
ANSWERS = {f"{row}?": f"word{row}" for row in range(ROWS)}
ITEMS = [{"question": f"{row}?", "context": f"word{row} is first"} for row in range(ROWS)]
JOB = """
import json, sys
import ray
from rlm_integrations import RLM
from rlm_integrations.ray import answer_dataset
from tests.ray.provider import PostingModel

address, url, saved, items = sys.argv[1:]
ray.init(address=address, log_to_driver=False, logging_level="error")
ray.data.DataContext.get_current().enable_progress_bars = False
rlm = RLM(PostingModel(url))
rows = answer_dataset(ray.data.from_items(json.loads(items)), rlm, save_to=saved).take_all()
print(json.dumps({row["question"]: row["answer"] for row in rows}))
"""


class Server:
    """Answers all first turns, and the second of those ``HELD`` when ``gate`` is open; keeps what processes asked."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self._http = OpenAIServer(self._answer)
        self.url = self._http.url

    @property
    def asked(self) -> list[tuple[int, int, int]]:
        """Row, turn and process of each call so far."""
        return [(*_place(body["messages"]), int(body["model"])) for body in list(self._http.bodies)]

    def close(self) -> None:
        """End it."""
        self.gate.set()
        self._http.close()

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        row, turn = _place(messages)
        if turn == 1:
            return cell("print(context[:3])")
        if row in HELD:
            self.gate.wait(100)
        return cell("FINAL(context.split()[0])")


def _place(messages: list[dict[str, Any]]) -> tuple[int, int]:
    question = next(line for line in messages[1]["content"].splitlines() if line.endswith("?"))
    return int(question.removeprefix("Question: ")[:-1]), len(messages) // 2


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def wait(until: Callable[[], bool], what: Callable[[], object]) -> None:
    """Look until it is so."""
    end = time.monotonic() + 100
    while not until():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def wait_for_all_that_goes_on(server: Server, saved: Path) -> None:
    """Wait until all rows were asked twice, and those that are not held have their answers."""
    free = ROWS - len(HELD)

    def ended() -> int:
        return sum('"run_ended"' in path.read_text() for path in saved.rglob("*.jsonl"))

    wait(lambda: len(server.asked) == 2 * ROWS and ended() == free, lambda: (ended(), sorted(server.asked)))
    assert max(Counter((row, turn) for row, turn, _ in server.asked).values()) == 1


def test_a_job_that_is_killed_half_way_asks_for_nothing_twice_when_it_is_run_again(
    cluster: Any, tmp_path: Path, server: Server
) -> None:
    saved, script = tmp_path / "saved", tmp_path / "job.py"
    script.write_text(JOB)
    line = [sys.executable, str(script), cluster.address, server.url, str(saved), json.dumps(ITEMS)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    job = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_all_that_goes_on(server, saved)
    finally:
        job.send_signal(signal.SIGKILL)
        job.wait()
    before = len(server.asked)
    wait(lambda: not any(map(is_alive, {process for *_, process in server.asked})), lambda: server.asked)
    server.gate.set()
    again = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == ANSWERS
    # What had no reply when the job was killed is asked again, and nothing else.
    assert sorted(place for *place, _ in server.asked[before:]) == [[row, 2] for row in HELD]


def test_rows_of_a_node_that_is_lost_run_again_elsewhere_and_ask_for_nothing_that_was_answered(
    cluster: Any, tmp_path: Path, server: Server
) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    url = server.url

    def make() -> RLM:
        Path(tmp_path, str(os.getpid())).write_text(ray.get_runtime_context().get_node_id())
        return RLM(PostingModel(url))

    # Three blocks of two rows for each of three processes.
    dataset = answer_dataset(ray.data.from_items(ITEMS), make, save_to=tmp_path / "saved", rows_at_once=4)
    rows: list[dict[str, Any]] = []
    job = threading.Thread(target=lambda: rows.extend(dataset.take_all()))
    job.start()
    try:
        wait_for_all_that_goes_on(server, tmp_path / "saved")
        before = server.asked
        (lost,) = {process for *_, process in before if Path(tmp_path, str(process)).read_text() == node.node_id}
        cluster.remove_node(node, allow_graceful=False)
        node = None
        wait(lambda: not is_alive(lost), lambda: lost)
    finally:
        server.gate.set()
        if node:
            cluster.remove_node(node)
        job.join(100)
    assert {row["question"]: row["answer"] for row in rows} == ANSWERS
    again = [(row, turn) for row, turn, _ in server.asked[len(before) :]]
    assert sorted(again) == sorted(
        (row, 2) for row, turn, process in before if process == lost and row in HELD if turn == 2
    )
    assert len(again) == 3


def is_alive(process: int) -> bool:
    """Whether it runs; one that nobody waits for has ended too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
