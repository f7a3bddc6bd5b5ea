"""How contexts get to the nodes: once each, and no further than they must."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlm_integrations import RLM, Context, Document, InvalidInput
from rlm_integrations.engine.drivers import drive
from rlm_integrations.ports import CellOutput, Run
from rlm_integrations.ray import RaySandbox
from rlm_integrations.ray.deliveries import KEPT, Deliveries
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.ray.processes import hosts
from tests.scripts import cell

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]

SHARED = "memfd:rlm-context"


@pytest.fixture(scope="module")
def sandbox(cluster: Any) -> Iterator[RaySandbox]:
    with RaySandbox(timeout_s=10, session_cpus=1) as sandbox:
        yield sandbox


def shared(cluster: Any) -> list[str]:
    """Files that hosts read contexts from."""
    return [name for process in hosts(cluster) for name in _links(process) if SHARED in name]


def _links(process: psutil.Process) -> list[str]:
    links = []
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            links.append(f"{process.pid} {descriptor.readlink()} {descriptor.stat().st_ino}")
        except OSError:
            continue
    return links


def test_a_context_is_put_once_and_fetched_once_on_each_node(cluster: Any, sandbox: RaySandbox) -> None:
    documents = [Document("é" * 100_000, id=f"d{number}", metadata={"n": number}) for number in range(3)]
    context, before = Context.of(documents), shared(cluster)
    sessions = [sandbox.open({"context": context.value, "query": "q"}, ()) for _ in range(6)]
    code = "print([(d.id, d.metadata, len(d), type(d).__name__) for d in context], type(context).__name__, query)"
    outputs = [session.advance(Run(code)) for session in sessions]
    held = [name for name in shared(cluster) if name not in before]
    for session in sessions:
        session.close()
    assert len({session.seat.request.found.result().node_id for session in sessions}) == 2
    assert len(held) == len(set(held)) == 2
    expected = str([(f"d{number}", {"n": number}, 100_000, "Document") for number in range(3)])
    assert outputs == [CellOutput(f"{expected} list q\n")] * 6


def test_texts_are_known_again_by_what_they_hold_and_a_list_that_was_changed_is_not(sandbox: RaySandbox) -> None:
    def delivered(value: Any) -> int:
        return drive(deliveries.of(value), threading.Event()).parcel.key

    deliveries = Deliveries(lambda key: None)

    texts = ["a" * 60_000, Document("b", id="b", metadata={"n": 1})]
    first = delivered(texts)
    assert delivered(["a" * 60_000, Document("b", id="b", metadata={"n": 1})]) == first
    assert delivered(["a" * 60_000, Document("b", id="b", metadata={"n": 2})]) != first
    assert delivered(["a" * 60_000, "b"]) != first
    texts.append("more")
    assert delivered(texts) != first
    assert delivered("a" * 60_000) == delivered("".join(["a"] * 60_000))
    rows = {"rows": ["a"] * 2_000}
    assert delivered(rows) == delivered(rows)


def test_what_is_kept_for_later_runs_is_bounded_in_bytes_too(sandbox: RaySandbox, monkeypatch: Any) -> None:
    monkeypatch.setattr("rlm_integrations.ray.deliveries.KEPT_BYTES", 300_000)
    gone: list[int] = []
    deliveries = Deliveries(gone.append)
    keys = [drive(deliveries.of(letter * 140_000), threading.Event()).parcel.key for letter in "abc"]
    assert gone == keys[:1]
    large = drive(deliveries.of("d" * 1_000_000), threading.Event()).parcel.key
    assert drive(deliveries.of("d" * 1_000_000), threading.Event()).parcel.key == large
    assert gone == keys


@pytest.mark.parametrize(
    "value", ["é\ud800" * 60_000, {"rows": [[n, {"$": "x"}] for n in range(2_000)]}, list("ab") * 2_000]
)
def test_whatever_its_type_a_long_context_arrives_as_it_was(sandbox: RaySandbox, value: Any) -> None:
    session = sandbox.open({"context": value}, ["f"])
    output = session.advance(Run("print(len(context), type(context).__name__)\nFINAL(context)"))
    assert isinstance(output, CellOutput)
    assert output.stdout == f"{len(value)} {type(value).__name__}\n"
    assert output.final is not None
    # A lone surrogate does not leave a worker.
    assert output.final.value == (value.replace("\ud800", "\ufffd") if isinstance(value, str) else value)


def test_what_no_session_and_no_later_run_needs_is_let_go_of(cluster: Any, sandbox: RaySandbox) -> None:
    for number in range(KEPT + 3):
        session = sandbox.open({"context": f"{number} " * 40_000}, ())
        session.advance(Run("1"))
        session.close()
    deadline = time.monotonic() + 20
    while len(shared(cluster)) > KEPT and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(shared(cluster)) == KEPT


def test_a_context_that_no_pack_can_hold_is_refused(sandbox: RaySandbox) -> None:
    nested: list[Any] = ["x"] * 2_000
    nested.append(nested)
    with pytest.raises(InvalidInput, match="nested deeper than"):
        sandbox.open({"context": nested}, ())


def test_a_second_run_over_a_long_context_starts_at_once(sandbox: RaySandbox) -> None:
    context = Context.of("0123456789abcdef" * (100_000_000 // 16))

    def start_s(box: Any) -> float:
        started = time.perf_counter()
        session = box.open({"context": context.value}, ())
        assert session.advance(Run("len(context)")) == CellOutput("100000000\n")
        took_s = time.perf_counter() - started
        session.close()
        return took_s

    start_s(sandbox)
    with ProcessSandbox() as local:
        pairs = [(start_s(sandbox), start_s(local)) for _ in range(3)]
    # Measured on a quiet machine it takes half of what a local session takes that is sent its context.
    assert statistics.median(far / near for far, near in pairs) < 1.5, pairs


def test_a_context_on_disk_goes_by_reference_to_children_too(sandbox: RaySandbox, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"the answer of document {number} is {number * 7}\n" * 1_000)
    context = Context.from_files(tmp_path, lazy=True, index=tmp_path / ".index")
    cells = ["print(len(context), search('answer 133', 1)[0].document.id)", "FINAL(rlm_query('which?', context[3:5]))"]

    def reply(messages: Any) -> str:
        if "which?" in messages[1].content:
            return cell("FINAL([d.id for d in context])")
        return cell(cells[(len(messages) - 2) // 2])

    rlm = RLM(ScriptedModel(reply), sandbox=sandbox, output_type=list)
    result = asyncio.run(rlm.arun("which?".upper(), context))
    assert result.answer == ["03.txt", "04.txt"]


def test_a_context_on_disk_that_a_node_does_not_have_is_refused_with_what_to_do(
    sandbox: RaySandbox, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("text")
    context = Context.from_files(tmp_path / "a.txt", lazy=True, index=tmp_path / "index")
    shutil.move(tmp_path / "index", tmp_path / "elsewhere")
    rlm = RLM(ScriptedModel([cell("FINAL(len(context))")]), sandbox=sandbox)
    with pytest.raises(InvalidInput, match="must be under the same path on all nodes"):
        run(rlm, "How many?", context)
