"""``rlm ask``: the answer, its evidence and its cost, and every other way that it ends."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import errors
from rlm_integrations.cli.exits import Exit
from rlm_integrations.errors import ModelUnavailable, RLMError
from rlm_integrations.messages import Message
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory

QUOTE = "The staging server listens on port 8443."
LOOK = "```python\nprint(context[0])\n```"
ANSWER = f"```python\nFINAL('8443', quotes=[{QUOTE!r}])\n```"
QUESTION = "Which port does the staging server use?"


def kinds(path: Path) -> list[str]:
    """The kinds of the events in a saved run, each line of which is whole."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["rlm_trajectory"] == 2
    return [line["kind"] for line in lines[1:]]


def test_the_answer_comes_with_its_evidence_and_its_cost(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, model=ScriptedModel([LOOK, ANSWER], usd_per_token=0.00001))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[:2] == ["answer: 8443", f'evidence: servers.txt, characters 9 to 49: "{QUOTE}"']
    assert lines[2].startswith("usage: 2 calls, ")
    assert " tokens in, " in lines[2]
    assert ", $0.0" in lines[2]


def test_what_happens_is_told_line_by_line_on_stderr(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, model=[LOOK, ANSWER])
    lines = ended.err.splitlines()
    assert lines[0] == "context: list of 1 Document, 50 characters"
    for line in ["turn 1: code | print(context[0])", f"turn 1: printed | {QUOTE}", "turn 2: asking scripted"]:
        assert line in lines


def test_sub_calls_and_helper_runs_are_told_with_their_place_in_the_tree(rlm: Callable[..., Any], docs: Path) -> None:
    def reply(messages: Sequence[Message]) -> str:
        said = messages[-1].content
        if "Summarize" in said:
            return "a summary"
        if "Question: which port?" in said:
            return "```python\nFINAL(context[-6:])\n```"
        return (
            "```python\nprint(llm_query_batched([f'Summarize {n}' for n in range(6)]))\n"
            "FINAL(rlm_query('which port?', context[0]))\n```"
        )

    ended = rlm("ask", "q", docs, model=ScriptedModel(reply))
    assert ended.code == 0
    lines = ended.err.splitlines()
    shown = [line for line in lines if line.startswith("turn 1 > sub-call ")]
    assert len(shown) == 4
    assert all(line.endswith(": a summary") for line in shown)
    assert "turn 1: 7 sub-calls in all" in lines
    assert "turn 1 > run 7 > turn 1: code | FINAL(context[-6:])" in lines
    assert "turn 1 > run 7: answered: 8443." in lines
    assert "usage: depth 1: 7 calls, " in ended.out


def test_a_reply_that_was_not_run_is_told_as_such(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, model=["It is 8443, I think.", LOOK, ANSWER])
    assert "turn 1: nothing in this reply was run | It is 8443, I think." in ended.err.splitlines()


def test_an_extracted_answer_is_said_to_be_one(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, "--max-iterations", 1, model=[LOOK, "8443"])
    assert ended.code == 3
    assert ended.out.splitlines()[:2] == [
        "answer: 8443",
        "status: extracted: turns or budget ran out; the answer was drawn from what had been seen, and may be wrong",
    ]


def test_an_extracted_answer_is_said_to_be_one_on_stderr_where_stdout_has_the_answer_alone(
    rlm: Callable[..., Any], docs: Path
) -> None:
    ended = rlm("ask", QUESTION, docs, "--max-iterations", 1, "--quiet", model=[LOOK, "8443"])
    assert (ended.code, ended.out) == (3, "8443\n")
    assert "drawn from what had been seen" in ended.err


def test_quiet_prints_the_answer_alone(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, "-q", model=[LOOK, ANSWER])
    assert (ended.code, ended.out, ended.err) == (0, "8443\n", "")


def test_a_budget_that_runs_out_without_an_answer_names_the_option_to_raise(
    rlm: Callable[..., Any], docs: Path
) -> None:
    ended = rlm("ask", QUESTION, docs, "--max-calls", 1, model=["", LOOK])
    assert (ended.code, ended.out) == (5, "")
    assert "rlm: the budget is used up: 1 of --max-calls 1 used; raise --max-calls" in ended.err.splitlines()
    assert "usage: 1 call, " in ended.err


def test_a_failing_model_is_reported_with_what_the_run_had_got_to(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, model=ScriptedModel([LOOK, ModelUnavailable("x: it is down", model="x")]))
    assert (ended.code, ended.out) == (4, "")
    lines = ended.err.splitlines()
    assert lines[lines.index("rlm: x: it is down") + 1 :][:2] == ["last output | Servers.", f"last output | {QUOTE}"]
    assert lines[-1].startswith("usage: 1 call, ")
    assert "Traceback" not in ended.err


def test_a_sandbox_that_cannot_start_has_its_own_exit_code(start: Callable[..., Any], docs: Path) -> None:
    before = "import sys; sys.executable = '/nowhere/python'"
    process = start("ask", "q", docs, script={"script": [LOOK]}, before=before)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (6, "")
    assert "Traceback" not in err


def test_every_error_has_an_exit_code_that_says_whose_it_is() -> None:
    classes = {getattr(errors, name) for name in errors.__all__} - {RLMError, errors.RunCancelled}
    codes = {cls.__name__: Exit.of(cls.__new__(cls)) for cls in classes}
    assert Exit.UNEXPECTED not in codes.values()
    assert codes["WireError"] is Exit.SANDBOX
    assert codes["MissingExtra"] is Exit.USAGE
    assert Exit.of(RuntimeError()) is Exit.UNEXPECTED


def test_json_is_one_object_on_stdout_and_nothing_else(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, "--json", model=[LOOK, ANSWER])
    assert ended.code == 0
    assert ended.out.count("\n") == 1
    said = json.loads(ended.out)
    assert (said["answer"], said["status"], said["error"]) == ("8443", "complete", None)
    assert said["citations"] == [{"document_id": "servers.txt", "start": 9, "end": 49, "quote": QUOTE}]
    assert said["usage"]["calls"] == said["usage"]["by_model"]["scripted"]["calls"] == 2
    assert len(said["run_id"]) == 36


def test_json_is_alone_on_stdout_even_where_a_library_prints(rlm: Callable[..., Any], docs: Path) -> None:
    def reply(messages: Sequence[Message]) -> str:
        print("Give Feedback / Get Help")
        return LOOK if len(messages) == 2 else ANSWER

    ended = rlm("ask", QUESTION, docs, "--json", model=ScriptedModel(reply))
    assert json.loads(ended.out)["answer"] == "8443"
    assert "Give Feedback / Get Help\n" in ended.err


def test_json_tells_a_failure_too(rlm: Callable[..., Any], docs: Path) -> None:
    model = ScriptedModel([LOOK, ModelUnavailable("x: it is down", model="x")])
    ended = rlm("ask", QUESTION, docs, "--json", model=model)
    said = json.loads(ended.out)
    assert (ended.code, said["answer"], said["status"], said["error"]) == (4, None, "failed", "x: it is down")
    assert said["usage"]["calls"] == 1


def test_stdin_is_a_document(rlm: Callable[..., Any], docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Grüße".encode())))
    ended = rlm("ask", "q", docs, "-", "-q", model=["```python\nFINAL([(d.id, d[-3:]) for d in context])\n```"])
    assert json.loads(ended.out) == [["servers.txt", "43.\n"[-3:]], ["stdin", "üße"]]


@pytest.mark.parametrize(("data", "said"), [(b"", "stdin is empty"), (b"\xff\xfe\x00", "stdin is not text")])
def test_stdin_without_text_is_refused(
    rlm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, data: bytes, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    ended = rlm("ask", "q", "-", model=[])
    assert ended.code == 2
    assert said in ended.err


def test_a_file_that_is_left_out_is_told(rlm: Callable[..., Any], docs: Path) -> None:
    (docs / "picture.png").write_bytes(b"\x89PNG\x00")
    ended = rlm("ask", QUESTION, docs, model=[LOOK, ANSWER])
    assert ended.code == 0
    assert ended.err.startswith("warning: left out of the context: ")


def test_a_run_is_saved_event_by_event(rlm: Callable[..., Any], docs: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    at_the_second_call: list[str] = []

    def reply(messages: Sequence[Message]) -> str:
        if len(messages) == 2:
            return LOOK
        at_the_second_call.extend(kinds(path))
        return ANSWER

    ended = rlm("ask", QUESTION, docs, "--save", path, model=ScriptedModel(reply))
    turn = ["model_call_started", "model_call_ended", "cell_started", "cell_ended"]
    assert at_the_second_call == ["run_started", *turn, "model_call_started"]
    assert kinds(path) == ["run_started", *turn, *turn, "run_ended"]
    assert f"saved: {path}" in ended.err


def test_documents_are_kept_only_with_the_run(rlm: Callable[..., Any], docs: Path, tmp_path: Path) -> None:
    ended = rlm("ask", QUESTION, docs, "--include-context", model=[])
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "--save" in ended.err
    assert rlm("ask", QUESTION, docs, "--save", tmp_path / "one", model=[LOOK, ANSWER]).code == 0
    assert Trajectory.load(tmp_path / "one").context is None


def test_documents_may_stay_on_disk(rlm: Callable[..., Any], docs: Path, tmp_path: Path) -> None:
    look = "```python\nprint(context, context[0])\n```"
    for options in ([], ["--index", tmp_path / "index"], ["--index", tmp_path / "index"]):
        ended = rlm("ask", QUESTION, docs, "--lazy", *options, model=[look, ANSWER])
        assert (ended.code, ended.out.splitlines()[0]) == (0, "answer: 8443")
        assert "1 document on disk" in ended.err
        assert f'evidence: servers.txt, characters 9 to 49: "{QUOTE}"' in ended.out
    assert len([path for path in (tmp_path / "index").iterdir() if path.is_dir()]) == 1


def test_a_run_over_documents_on_disk_goes_on_over_them(rlm: Callable[..., Any], docs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.jsonl"
    asked = rlm("ask", QUESTION, docs, "--lazy", "--save", run, model=[LOOK])
    assert asked.code != 0
    went_on = rlm("resume", run, docs, "--lazy", model=[ANSWER])
    assert (went_on.code, went_on.out.splitlines()[0]) == (0, "answer: 8443")


def test_what_does_not_go_with_documents_on_disk_is_refused(rlm: Callable[..., Any], docs: Path) -> None:
    for argv, reason in (
        ([docs, "-", "--lazy"], "--lazy takes files and folders, not stdin"),
        ([docs, "--index", "there"], "pass --lazy with it"),
        ([docs, "--lazy", "--index", docs], "would be read as documents"),
        ([docs, "--lazy", "--save", "run.jsonl", "--include-context"], "these are on disk"),
        (["missing", "--lazy"], "no file or folder 'missing'"),
    ):
        ended = rlm("ask", QUESTION, *argv, model=[])
        assert (ended.code, ended.out) == (2, "")
        assert reason in ended.err


def test_what_a_file_held_is_kept_where_nothing_was_run(rlm: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("an earlier run")
    assert rlm("ask", "q", "missing", "--save", path, model=[]).code == 2
    assert path.read_text() == "an earlier run"


def test_a_full_disk_costs_the_saved_run_but_not_the_answer(rlm: Callable[..., Any], docs: Path) -> None:
    ended = rlm("ask", QUESTION, docs, "--save", "/dev/full", model=[LOOK, ANSWER])
    assert ended.code == 1
    assert ended.out.startswith("answer: 8443\n")
    assert "rlm: /dev/full is not complete: No space left on device" in ended.err


HOSTILE = "\x1b]0;owned\x07[bold red]\x9b31m\u202egnp.exe\r\x08"


def test_hostile_text_is_shown_as_text(rlm: Callable[..., Any], docs: Path) -> None:
    (docs / "\x1b[2J.txt").write_text(HOSTILE)
    code = f"# {HOSTILE!r}\nprint(context[0])\nprint('{HOSTILE[:-2]}')\nFINAL(context[0], quotes=[context[0][:10]])"
    ended = rlm("ask", f"q{HOSTILE}", docs, model=[f"```python\n{code}\n```"])
    assert ended.code == 0
    for text in (ended.out, ended.err):
        assert not {character for character in text if character != "\n" and not character.isprintable()}
    assert "answer: \\x1b]0;owned\\x07[bold red]" in ended.out
    assert "evidence: \\x1b[2J.txt, characters 0 to 10: " in ended.out


@pytest.mark.parametrize("stderr", [subprocess.PIPE, subprocess.STDOUT])
def test_output_that_nobody_reads_to_its_end_is_no_failure_of_the_program(
    start: Callable[..., Any], docs: Path, stderr: int
) -> None:
    process = start("ask", QUESTION, docs, script={"script": [LOOK, ANSWER]}, stderr=stderr)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in (err or "")
    assert "Exception ignored" not in (err or "")
