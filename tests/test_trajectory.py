"""A record holds what happened, once, and comes back from its file as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, computed_field

from rlm_integrations import RLM, Budget, Context, Document, InvalidInput, RLMResult, RunEnded, Trajectory
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell

NASTY = "Paris \ud800 \0 \u2028 \x1b[31m"


class Place(BaseModel):
    name: str


@pytest.fixture
def tree(make_rlm: Any) -> RLMResult:
    """A run with a sub-call, a child run, an error in a cell, a citation and text that is hard to write down."""
    turns = [
        cell(f"print(llm_query({NASTY!r}))\n1 / 0"),
        cell("print(rlm_query('Who?', context[0]))"),
        cell("FINAL(context[0][:5] + '\\ud800', quotes=['Paris'])"),
    ]
    model = ScriptedModel(by_role(turns, lambda prompt: f"said: {prompt}"), usd_per_token=0.0001)
    return make_rlm(model, max_depth=0).run("Where? \udfff", [Document(NASTY, id="a\0", metadata={"n": [1, None]})])


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file as other programs read them."""
    return [json.loads(line) for line in path.read_text("ascii").split("\n")[:-1]]


def written(path: Path, *plain: Any) -> Path:
    """``path`` with these JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in plain))
    return path


def test_a_saved_trajectory_is_one_event_a_line_after_the_version(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    model = ScriptedModel([cell("print(context)"), cell("FINAL({'name': context[:5]})")])
    result = run(make_rlm(model, output_type=Place), "q", NASTY)
    result.save(tmp_path / "run.jsonl")
    header, *events = lines(tmp_path / "run.jsonl")
    assert header["rlm_trajectory"] == 2
    assert [line["kind"] for line in events] == [event.kind for event in result.trajectory]
    assert events[-1]["answer"] == {"name": "Paris"}


def test_a_trajectory_comes_back_from_its_file_as_it_was(tree: RLMResult, tmp_path: Path) -> None:
    tree.save(tmp_path / "run.jsonl")
    loaded = Trajectory.load(tmp_path / "run.jsonl")
    assert loaded == tree.trajectory
    assert [type(event) for event in loaded] == [type(event) for event in tree.trajectory]
    assert RLMResult.from_events(loaded) == tree
    assert not loaded.cut


def test_a_result_loaded_and_saved_again_is_the_same_file(tree: RLMResult, tmp_path: Path) -> None:
    tree.save(tmp_path / "one", include_context=True)
    RLMResult.from_events(Trajectory.load(tmp_path / "one")).save(tmp_path / "two", include_context=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_answer_of_the_users_own_type_comes_back_as_its_json_value(make_rlm: Any, tmp_path: Path) -> None:
    result = make_rlm(ScriptedModel([cell("FINAL({'name': context[:5]})")]), output_type=Place).run("q", "Paris")
    assert result.answer == Place(name="Paris")
    result.save(tmp_path / "run.jsonl")
    assert RLMResult.from_events(Trajectory.load(tmp_path / "run.jsonl")).answer == {"name": "Paris"}


class Broken(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def sum(self) -> int:
        raise RuntimeError("no sum")


@pytest.mark.parametrize("answer", [b"\xff", {1, "a"}, {("a", 1): object}, [float("inf")], {"a": "\ud800"}, Broken()])
def test_an_answer_that_json_has_no_form_for_stops_no_saving(tree: RLMResult, tmp_path: Path, answer: Any) -> None:
    last = tree.trajectory[-1]
    assert isinstance(last, RunEnded)
    ended = replace(last, answer=answer)
    Trajectory([ended]).save(tmp_path / "run.jsonl")
    assert Trajectory.load(tmp_path / "run.jsonl")[0].id == last.id


def test_a_trajectory_describes_the_context_and_does_not_hold_it(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    text = "".join(f"row {number}\n" for number in range(100_000))
    result = run(make_rlm(ScriptedModel([cell("FINAL(len(context))")])), "q", text)
    result.save(tmp_path / "run.jsonl")
    assert (tmp_path / "run.jsonl").stat().st_size < 10_000
    assert Trajectory.load(tmp_path / "run.jsonl").context is None


CONTEXTS = [
    NASTY,
    Document("text", id="d"),
    ["plain", Document(NASTY, id="d\0", metadata={"page": 1, "tags": ["a", {"b": None}], "x": 0.1}), Document("none")],
    {"deep": [{"in": [Document("text", id="d", metadata={"k": "v"})]}], "documents": [], "n": 10**3000, "context": 1.5},
    [1, ["a", ["b"]], Document("c", metadata={"context": []})],
]


@pytest.mark.parametrize("value", CONTEXTS, ids=lambda value: type(value).__name__)
def test_a_context_that_is_included_comes_back_with_its_metadata(make_rlm: Any, tmp_path: Path, value: Any) -> None:
    result = make_rlm(ScriptedModel([cell("FINAL(str(len(context)))")])).run("q", value)
    result.save(tmp_path / "run.jsonl", include_context=True)
    loaded = Trajectory.load(tmp_path / "run.jsonl")
    assert loaded.context is not None
    assert loaded.context.sha256 == Context(value).sha256
    assert described(loaded.context.value) == described(Context(value).value)
    assert loaded == result.trajectory


def described(value: Any) -> Any:
    """A context's value with all that equality of text leaves out."""
    match value:
        case Document():
            return ("Document", str(value), value.id, value.metadata)
        case list():
            return [described(item) for item in value]
        case dict():
            return {key: described(item) for key, item in value.items()}
    return (type(value).__name__, value)


def test_a_context_that_is_not_the_runs_own_is_refused(tree: RLMResult, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    tree.save(path, include_context=True)
    path.write_bytes(path.read_bytes().replace(b'{"context": ["Paris', b'{"context": ["Sofia', 1))
    with pytest.raises(InvalidInput, match="the context in line 2 is not the one"):
        Trajectory.load(path)


def test_a_trajectory_without_its_context_can_not_include_it(tree: RLMResult, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="include_context"):
        Trajectory(list(tree.trajectory)).save(tmp_path / "run.jsonl", include_context=True)
    assert not (tmp_path / "run.jsonl").exists()


def test_settings_are_kept_by_name(make_rlm: Any, tmp_path: Path) -> None:
    def lookup(word: str) -> str:
        """Look a word up."""
        return word

    model, cheap = ScriptedModel([cell("FINAL(1)")] * 2, name="big"), ScriptedModel([], name="small")
    budget = Budget(max_calls=7, max_cost_usd=None, max_seconds=60.5)
    settings = {"max_depth": 2, "max_iterations": 5, "max_parallel": 3, "on_exhausted": "raise", "final_write": True}
    rlm = make_rlm(
        model,
        recursive_model=cheap,
        budget=budget,
        tools=[lookup],
        output_type=int,
        instructions="Be brief. \ud800",
        temperature=0.5,
        mode="SECRET",
        **settings,
    )
    rlm.run("q", "text").save(tmp_path / "run.jsonl")
    loaded = Trajectory.load(tmp_path / "run.jsonl").settings
    assert loaded == RunSettings(
        model="big",
        recursive_model="small",
        budget=budget,
        tools=("lookup",),
        output_type=rlm.settings.answer_type.description,
        instructions="Be brief. \ud800",
        temperature=0.5,
        **settings,
    )
    assert "SECRET" not in (tmp_path / "run.jsonl").read_text()


def test_settings_hold_no_key_and_no_credentials() -> None:
    rlm = RLM(
        "openai/m",
        api_base="https://user:hunter2@example.org:8080/v1?token=hunter3#hunter4",
        api_key="hunter5",
        extra_headers={"x-key": "hunter6"},
        temperature=0,
    )
    settings = RunSettings.of(rlm.settings)
    assert (settings.api_base, settings.temperature) == ("https://example.org:8080/v1", 0.0)
    assert "hunter" not in repr(settings)


OLD = [
    {"rlm_trajectory": 1},
    {
        "id": "r",
        "parent_id": None,
        "time": 1.5,
        "query": "q",
        "context": {"type": "str", "chars": 1, "documents": 1, "sha256": "0" * 64, "head": "x"},
        "model": "m",
        "depth": 0,
        "kind": "run_started",
    },
    {
        "id": "c",
        "parent_id": "r",
        "time": 2,
        "text": "hi",
        "usage": {"input_tokens": 1, "output_tokens": 2, "cached_tokens": 0, "cost_usd": None},
        "kind": "model_call_ended",
    },
]


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    loaded = Trajectory.load(written(tmp_path / "run.jsonl", *OLD))
    assert [event.kind for event in loaded] == ["run_started", "model_call_ended"]
    assert (loaded.settings, loaded.context, loaded.cut) == (None, None, False)


def test_a_file_cut_off_anywhere_is_read_up_to_there_and_says_so(tree: RLMResult, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    tree.save(path, include_context=True)
    whole = path.read_bytes()
    ends = [number + 1 for number, byte in enumerate(whole) if byte == ord("\n")]
    for size in sorted({end + more for end in ends for more in (-20, -1, 0, 1)} & {*range(ends[0], len(whole))}):
        path.write_bytes(whole[:size])
        loaded = Trajectory.load(path)
        complete = sum(end <= size for end in ends)
        assert list(loaded) == list(tree.trajectory)[: max(0, complete - 2)]
        assert loaded.cut == (size not in ends)
        assert (loaded.context is not None) == (complete > 1)


@pytest.mark.parametrize("size", [0, 1, 20])
def test_a_file_without_a_whole_header_is_refused(tree: RLMResult, tmp_path: Path, size: int) -> None:
    path = tmp_path / "run.jsonl"
    tree.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InvalidInput, match="is not a saved run"):
        Trajectory.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: {"rlm_trajectory": 3}}, "newer version .*format is 3.* upgrade rlm-integrations"),
        ({0: {"rlm_trajectory": "2"}}, "not a saved run"),
        ({0: {"rlm_trajectory": True}}, "not a saved run"),
        ({0: [2]}, "not a saved run"),
        ({0: {"rlm_trajectory": 2, "settings": {"model": 1}}}, "line 1 .*model: "),
        ({0: {"rlm_trajectory": 2, "settings": {"model": "", "recursive_model": "", "max_depth": "1"}}}, "line 1 "),
        ({1: 7}, "line 2 .*no JSON object"),
        ({1: {"context": ["a"], "documents": [{"at": [3]}]}}, r"line 2 .*no text at \[3\]"),
        ({1: {"context": ["a"], "documents": [{"at": [0, 0, 0]}]}}, "line 2 .*no text"),
        ({1: {"context": ["a"], "documents": [{"at": []}]}}, "line 2 .*no text"),
        ({1: {"context": [3], "documents": [{"at": [0]}]}}, "line 2 .*no text"),
        ({1: {"context": {"a": 1}, "documents": 1}}, "line 2 .*documents: "),
        ({1: {"context": [], "documents": []}}, "the context is empty"),
        ({2: {"kind": "unheard of"}}, "line 3 .*unheard of"),
        ({2: {}}, "line 3 "),
        ({2: OLD[2] | {"time": "2"}}, "line 3 .*wrong type"),
        ({2: OLD[2] | {"time": float("nan")}}, "line 3 .*not between"),
        ({2: OLD[2] | {"time": 1e300}}, "line 3 .*not between"),
        ({2: OLD[2] | {"usage": {"cost_usd": float("nan")}}}, "line 3 .*not between"),
        ({2: OLD[2] | {"usage": {"cost_usd": float("inf")}}}, "line 3 .*not between"),
        ({2: OLD[2] | {"usage": {"input_tokens": -1}}}, "line 3 .*not between"),
        ({2: OLD[2] | {"usage": {"output_tokens": 10**400}}}, "line 3 "),
        ({2: OLD[2] | {"id": 3}}, "line 3 .*id: "),
        ({2: OLD[2] | {"parent_id": None}}, "line 3 .*parent_id: "),
        ({2: OLD[2] | {"usage": {"input_tokens": True}}}, "line 3 .*wrong type"),
        ({2: OLD[1] | {"depth": "0"}}, "line 3 .*wrong type"),
        ({2: OLD[0]}, "line 3 "),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(tmp_path: Path, change: Any, message: str) -> None:
    path = written(tmp_path / "run.jsonl", *[change.get(number, line) for number, line in enumerate(OLD)])
    with pytest.raises(InvalidInput, match=message) as caught:
        Trajectory.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"", b"null", b"[" * 100_000, b"1" * 5_000, b'{"kind": "run_ended", "x']
)
def test_a_line_that_is_broken_and_not_the_last_is_refused(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "run.jsonl", *OLD)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(InvalidInput, match="line 4 of"):
        Trajectory.load(path)


def test_a_file_that_is_one_endless_line_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", *OLD)
    with path.open("r+b") as file:
        file.seek(8 << 30)  # a hole, which takes no room
        file.write(b"\n")
    code = (
        "import resource, sys; from rlm_integrations import InvalidInput, Trajectory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: Trajectory.load(sys.argv[1])\nexcept InvalidInput as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert "line 4 of" in ended.stdout, ended.stderr


@pytest.mark.parametrize("name", ["missing", ".", "nul\0"])
def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="can't be read"):
        Trajectory.load(f"{tmp_path}/{name}")


def test_a_result_is_told_by_events_cut_off_anywhere(run: Any, make_rlm: Any) -> None:
    result = run(make_rlm(ScriptedModel([cell("print(1)"), cell("FINAL(len(context))")])), "q", "text")
    for end in range(1, len(result.trajectory)):
        assert RLMResult.from_events(result.trajectory[:end]).status == "failed"
    assert RLMResult.from_events(result.trajectory) == result
