"""``answer_dataset`` on a real cluster of two nodes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import ray
from pydantic import BaseModel

from rlm_integrations import RLM, Document, InvalidInput, Trajectory
from rlm_integrations.ray import JobLimits, JobProgress, RaySandbox, answer_dataset
from rlm_integrations.ray.shipping import ShippedRLM
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.openai_server import OpenAIServer, Refused
from tests.ray.marks import ON_RAY_DATA
from tests.ray.provider import ProvidedModel, in_flight, provider

pytestmark = ON_RAY_DATA

KEY = "sk-hunter2hunter2"
CALL = {"calls": 1, "input_tokens": 100, "output_tokens": 20, "cached_tokens": 0, "cost_usd": 0.01}


@pytest.fixture(autouse=True)
def quiet(cluster: Any) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False


class Held(ScriptedModel):
    """A model that holds what can't be sent."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)


def rows_of(dataset: Any) -> dict[str, dict[str, Any]]:
    """All rows by their question."""
    return {row["question"]: row for row in dataset.take_all()}


def context_of(row: Mapping[str, Any]) -> Any:
    match row["kind"]:
        case "text":
            return row["text"]
        case "documents":
            return [Document(row["text"], id="one.txt", metadata={"year": 1987}), Document("more", id="two.txt")]
        case "empty":
            return ""
    raise LookupError(f"no kind {row['kind']}")


@pytest.fixture(scope="module")
def job(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One job over rows of all sorts, which is then run again."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    saved = tmp_path_factory.mktemp("saved")
    asked = [(f"text {number}?", "text", f"word{number} is the first") for number in range(40)]
    asked += [("text 0?", "text", "word0 is the first")]
    asked += [("documents?", "documents", "caf\xe9 it is"), ("bad text?", "text", "word"), ("empty?", "empty", "x")]
    asked += [("unknown?", "unknown", "x"), ("", "text", "word")]
    items = [{"question": question, "kind": kind, "text": text} for question, kind, text in asked]
    limits = JobLimits()
    with provider("all sorts") as actor:
        dataset = answer_dataset(
            ray.data.from_items(items),
            RLM(ProvidedModel("all sorts"), sandbox=RaySandbox()),
            context=context_of,
            save_to=saved,
            limits=limits,
        )
        first = dataset.take_all()
        asked_first, _ = ray.get(actor.told.remote())
        assert in_flight(limits, 0)
        asked_first, progress = list(asked_first), limits.progress()
        again = dataset.take_all()
        asked_again, _ = ray.get(actor.told.remote())
    return {
        "first": first,
        "rows": {row["question"]: row for row in first},
        "progress": progress,
        "asked": asked_first,
        "again": {row["question"]: row for row in again},
        "asked again": asked_again[len(asked_first) :],
        "saved": saved,
    }


def test_rows_come_back_with_all_that_is_known_of_their_answers(job: dict[str, Any]) -> None:
    row = job["rows"]["text 7?"]
    quoted = {"document_id": "context", "start": 0, "end": 5, "quote": "word7"}
    two = {name: 2 * number for name, number in CALL.items()}
    assert (row["answer"], row["status"], row["citations"], row["error"]) == ("word7", "complete", [quoted], None)
    assert row["usage"] == two
    assert (row["kind"], row["text"]) == ("text", "word7 is the first")
    assert len(job["first"]) == 46
    trajectory = Trajectory.load(row["trajectory"])
    assert trajectory[0].id == row["run_id"]


def test_a_function_of_the_row_may_give_any_context(job: dict[str, Any]) -> None:
    row = job["rows"]["documents?"]
    assert row["answer"] == "caf\xe9"
    assert row["citations"] == [{"document_id": "one.txt", "start": 0, "end": 4, "quote": "caf\xe9"}]


@pytest.mark.parametrize(
    ("question", "kind", "message"),
    [
        ("bad text?", "ModelError", "overloaded"),
        ("empty?", "InvalidInput", "the context is empty"),
        ("unknown?", "LookupError", "no kind unknown"),
        ("", "InvalidInput", "the question"),
    ],
)
def test_a_failure_stays_in_its_row_and_says_its_type(
    job: dict[str, Any], question: str, kind: str, message: str
) -> None:
    row = job["rows"][question]
    assert (row["status"], row["answer"], row["citations"]) == ("failed", None, [])
    assert row["error"]["type"] == kind
    assert message in row["error"]["message"]


def test_a_row_that_failed_is_not_tried_again_in_the_same_job(job: dict[str, Any]) -> None:
    assert Counter(job["asked"])["bad text?"] == 1


def test_rows_that_ask_the_same_are_asked_once_where_rows_are_saved(job: dict[str, Any]) -> None:
    assert Counter(job["asked"])["text 0?"] == 2
    same = [row for row in job["first"] if row["question"] == "text 0?"]
    assert len({row["run_id"] for row in same}) == 1
    assert len({row["trajectory"] for row in same}) == 1


def test_a_job_that_is_run_again_asks_for_nothing_but_what_failed(job: dict[str, Any]) -> None:
    assert job["asked again"] == ["bad text?"]
    assert {question: row for question, row in job["again"].items() if not row["error"]} == {
        question: row for question, row in job["rows"].items() if not row["error"]
    }


def test_progress_tells_rows_calls_and_cost(job: dict[str, Any]) -> None:
    calls = 41 * 2 + 1  # the call that failed is one too
    assert job["progress"] == JobProgress(46, 4, calls, 82 * 120, pytest.approx(0.82), 0, 0)


def test_the_rows_are_shared_out_among_the_nodes_and_paths_are_read_there(cluster: Any, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"file{number} has text")
    items = [{"question": f"{number}?", "path": str(tmp_path / f"{number}.txt")} for number in range(40)]
    items.append({"question": "missing?", "path": str(tmp_path / "missing.txt")})

    def make() -> RLM:
        Path(tmp_path, f"made-{os.getpid()}").write_text(where())
        return RLM(ProvidedModel("paths"))

    with provider("paths", latency_s=0.3) as actor:
        dataset = answer_dataset(ray.data.from_items(items), make, context_path="path", rows_at_once=4)
        rows = rows_of(dataset)
        assert len(ray.get(actor.told.remote())[0]) == 80
    assert {row["answer"] for row in rows.values()} - {None} == {f"file{number}" for number in range(40)}
    assert rows["3?"]["citations"][0]["document_id"] == str(tmp_path / "3.txt")
    assert rows["missing?"]["error"]["type"] == "InvalidInput"
    made = [Path(path).read_text() for path in tmp_path.glob("made-*")]
    assert set(made) == {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def where() -> str:
    """The node that this is called on."""
    return str(ray.get_runtime_context().get_node_id())


class Count(BaseModel):
    """A word and its length."""

    word: str
    length: int


def scripted() -> RLM:
    def say(messages: Any) -> str:
        return "```python\nFINAL({'word': context, 'length': len(context)})\n```"

    return RLM(ScriptedModel(say), output_type=Count)


def varied() -> RLM:
    def say(messages: Any) -> str:
        return "```python\nFINAL([len(context), context, None, {'a': [context]}][len(context) - 1])\n```"

    return RLM(ScriptedModel(say), output_type=Any)


def test_answers_of_another_type_are_json_whatever_it_is(cluster: Any, tmp_path: Path) -> None:
    items = [{"q": "what?", "id": number, "context": "x" * (number + 1)} for number in range(4)]
    dataset = ray.data.from_items(items)
    rows = answer_dataset(dataset, varied, question="q", id="id", concurrency=1).take_all()
    answers = {row["id"]: json.loads(row["answer"]) for row in rows}
    assert answers == {0: 1, 1: "xx", 2: None, 3: {"a": ["xxxx"]}}
    for _ in range(2):
        one = answer_dataset(dataset.limit(1), scripted, question="q", id="id", save_to=tmp_path, concurrency=1)
        (row,) = one.take_all()
        assert Count.model_validate_json(row["answer"]) == Count(word="x", length=1)


def test_an_id_that_was_asked_something_else_before_is_a_failure_not_an_old_answer(
    cluster: Any, tmp_path: Path
) -> None:
    def ask(*asked: tuple[str, str]) -> list[dict[str, Any]]:
        items = [{"question": question, "context": context, "name": "a/b"} for question, context in asked]
        dataset = answer_dataset(ray.data.from_items(items), scripted, id="name", save_to=tmp_path, concurrency=1)
        rows: list[dict[str, Any]] = dataset.take_all()
        return rows

    (row,) = ask(("what?", "xyz"))
    assert Path(row["trajectory"]).name.startswith("a-b-")
    again = ask(("what?", "xyz"), ("why?", "xyz"), ("what?", "other"))
    assert again[0]["run_id"] == row["run_id"]
    assert [row["error"]["type"] for row in again[1:]] == ["InvalidInput"] * 2
    assert "asked something else" in again[1]["error"]["message"]


def test_a_key_is_in_no_row_and_no_log(cluster: Any, tmp_path: Path) -> None:
    def answer(messages: list[dict[str, Any]]) -> str:
        if "refused?" in str(messages):
            raise Refused(401, message=f"Incorrect API key provided: {KEY}")
        return "```python\nFINAL(context[:4])\n```"

    server = OpenAIServer(answer)
    try:
        rlm = RLM("openai/m", api_base=server.url, api_key=KEY, max_iterations=2)
        items = [{"question": f"{name}?", "context": "some text"} for name in ("given", "refused")]
        limits = JobLimits(max_in_flight=2)
        dataset = answer_dataset(ray.data.from_items(items), rlm, save_to=tmp_path, limits=limits, concurrency=1)
        rows = rows_of(dataset)
    finally:
        server.close()
    assert rows["given?"]["answer"] == "some"
    assert rows["refused?"]["error"]["type"] == "MissingKey"
    told = [repr(rows), repr(dataset), repr(rlm.settings), dataset.stats()]
    logs = Path(cluster.head_node.get_session_dir_path(), "logs")
    told += [path.read_text("utf-8", "replace") for folder in (logs, tmp_path) for path in folder.rglob("*.*")]
    assert len(told) > 10
    assert not [text for text in told if KEY in text]


def test_what_can_not_be_used_is_refused_before_any_row_is_asked(cluster: Any, tmp_path: Path) -> None:
    dataset = ray.data.from_items([{"question": "?", "context": "text", "status": "new"}])
    for settings, told in (
        ({"question": "asked"}, "question='asked': there is no such column; there are question, context"),
        ({}, "has a column status already"),
        ({"rows_at_once": 0}, "rows_at_once=0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"id": 3}, "id=3"),
        ({"limits": 3}, "limits=3"),
        ({"context": "context", "context_path": "path"}, "pass one of them"),
    ):
        with pytest.raises(InvalidInput) as raised:
            answer_dataset(dataset, scripted, **settings)  # type: ignore[arg-type]
        assert told in str(raised.value)
    with pytest.raises(InvalidInput, match=r"model can't be sent to other processes .* pass a function that makes"):
        answer_dataset(dataset.drop_columns(["status"]), RLM(Held([])))
    with pytest.raises(InvalidInput, match="pass an RLM, or a function"):
        answer_dataset(dataset.drop_columns(["status"]), "openai/m")  # type: ignore[arg-type]


def test_a_scripted_model_goes_on_in_another_process_from_where_it_is() -> None:
    replies = [f"```python\nprint(len(context))\nFINAL(len(context) + {more})\n```" for more in (1, 2)]
    rlm = RLM(ScriptedModel(replies))
    assert rlm.completion("?", "four") == "5"
    for _ in range(2):
        assert ShippedRLM(rlm).make().completion("?", "four") == "6"


def test_an_rlm_is_made_again_with_all_its_settings(tmp_path: Path) -> None:
    seen: list[Any] = []
    rlm = RLM(
        "openai/m",
        recursive_model="openai/n",
        api_key=KEY,
        max_depth=2,
        output_type=Count,
        sandbox=ProcessSandbox(timeout_s=7, memory_mb=300),
        tools=[where],
        observers=[seen.append],
        cache=tmp_path,
        instructions="Be brief.",
        reasoning_effort="low",
    )
    shipped = ShippedRLM(rlm)
    assert KEY not in repr(shipped)
    again = shipped.make()
    sandbox = again.settings.sandbox
    assert isinstance(sandbox, ProcessSandbox)
    assert (sandbox.timeout_s, sandbox.memory_mb) == (7, 300)
    assert (again.settings.model.name, again.settings.recursive_model.name) == ("openai/m", "openai/n")
    assert vars(again.settings.model)["_settings"] == vars(rlm.settings.model)["_settings"]
    assert (again.settings.max_depth, again.settings.instructions) == (2, "Be brief.")
    assert [*again.settings.tools] == ["where"]
    assert again.settings.answer_type.description == rlm.settings.answer_type.description
    assert again.settings.cache is not None
    assert len(again.observers) == 1
