"""``rlm show``: a saved run as a tree, whatever became of it, and one that is being saved as it goes on."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.budget import Budget
from rlm_integrations.cli.live import TerminalView
from rlm_integrations.cli.narrator import FULL
from rlm_integrations.cli.tree_order import in_tree_order
from rlm_integrations.context import Context, ContextSummary
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Citation,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    Source,
)
from rlm_integrations.messages import Message, Usage, UsageReport
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.saved_run import event_line, header_line
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory

QUOTE = "The staging server listens on port 8443."
LOOK = "```python\nprint(context[0])\n```"
ANSWER = f"```python\nFINAL('8443', quotes=[{QUOTE!r}])\n```"
USAGE = Usage(1000, 50, 0, 0.002)
TOTAL = UsageReport(1, 1000, 50, 0, 0.002)
SUMMARY = ContextSummary("str", 50, 1, "0" * 64, "x")
LAST_SECOND = 253402300799.0  # of the year 9999
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]:smile:[link=http://x]\x9b31m\u202egnp\u2066"

# What rich itself sends: colours, and moves of the cursor.
_OURS = re.compile(r"\x1b\[[0-9;?]*[mAKhl]")


def begun(query: str = "Which port?", model: str = "m/root") -> RunStarted:
    return RunStarted("root", None, 1000.0, query, SUMMARY, model, 0)


def child(id: str, cell: str, time: float = 1010.0, query: str = "which?") -> RunStarted:
    return RunStarted(id, cell, time, query, SUMMARY, "m/sub", 1)


def call(id: str, parent: str, time: float = 1010.0, purpose: Any = "sub-call", text: str = "prompt") -> Event:
    model, depth = ("m/sub", 1) if purpose == "sub-call" else ("m/root", 0)
    return ModelCallStarted(id, parent, time, model, depth, purpose, (Message("user", text),))


def reply(id: str, parent: str, time: float = 1012.0, text: str = "said", source: Source = "model") -> Event:
    return ModelCallEnded(id, parent, time, text, Usage() if source in ("memo", "cache") else USAGE, source)


def turn(number: int, code: str, time: float = 1001.0, run: str = "root") -> list[Event]:
    """A turn whose cell was started: ``t1`` and ``c1`` of the root run."""
    prefix = "" if run == "root" else f"{run}."
    return [
        call(f"{prefix}t{number}", run, time, "turn"),
        reply(f"{prefix}t{number}", run, time + 2.5, f"```python\n{code}\n```"),
        CellStarted(f"{prefix}c{number}", run, time + 3, code),
    ]


def printed(id: str, stdout: str, time: float = 1020.0, run: str = "root") -> Event:
    return CellEnded(id, run, time, stdout, None)


def answered(answer: Any = "8443", status: Any = "complete", citations: Sequence[Citation] = ()) -> Event:
    return RunEnded("root", None, 1030.0, answer, status, tuple(citations), TOTAL)


def save(events: Sequence[Event], settings: RunSettings | None = None, context: Context | None = None) -> Path:
    path = Path("run.jsonl")
    Trajectory(events, settings=settings, context=context).save(path, include_context=context is not None)
    return path


def test_a_saved_run_shows_its_turns_code_output_answer_evidence_and_cost(rlm: Callable[..., Any], docs: Path) -> None:
    model = ScriptedModel([LOOK, ANSWER], usd_per_token=0.00001)
    assert rlm("ask", "Which port?", docs, "--save", "run.jsonl", model=model).code == 0
    ended = rlm("show", "run.jsonl")
    assert (ended.code, ended.err) == (0, "")
    lines = [line for line in ended.out.splitlines() if ": the code ran " not in line]
    assert lines[0] == "question: Which port?"
    assert re.fullmatch(r"asked: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, scripted", lines[1])
    assert lines[2:4] == [
        "context: list of 1 Document, 50 characters",
        "settings: max_depth 1, max_iterations 20, max_calls 200",
    ]
    assert re.fullmatch(r"turn 1: scripted wrote \([\d,]+ tokens in, \d+ out, \$0\.\d{4}, \d\.\d s\)", lines[4])
    assert lines[5:8] == [
        "turn 1: code | print(context[0])",
        "turn 1: printed | Servers.",
        f"turn 1: printed | {QUOTE}",
    ]
    at = lines.index("status: complete")
    assert lines[at + 1 : at + 3] == ["answer: 8443", f'evidence: servers.txt, characters 9 to 49: "{QUOTE}"']
    assert lines[at + 3].startswith("usage: 2 calls, ")
    assert re.fullmatch(r"time: \d\.\d s", lines[-1])


def test_a_sub_call_is_told_with_its_model_tokens_cost_and_time_and_each_of_them_is(rlm: Callable[..., Any]) -> None:
    calls = [event for n in range(9) for event in (call(f"s{n}", "c1"), reply(f"s{n}", "c1", 1010.3, f"number {n}"))]
    save([begun(), *turn(1, "llm_query_batched(...)"), *calls, printed("c1", ""), answered()])
    lines = rlm("show", "run.jsonl").out.splitlines()
    for n in range(9):
        told = f"turn 1 > sub-call {n + 1}: m/sub, 1,000 tokens in, 50 out, $0.0020, 0.3 s: number {n}"
        assert told in lines


def test_what_it_took_is_told_by_model_and_by_depth(rlm: Callable[..., Any]) -> None:
    parts = {"m/root": UsageReport(2, 10, 4), "m/sub": UsageReport(1, 20, 1)}
    depths = {0: UsageReport(2, 10, 4), 1: UsageReport(1, 20, 1)}
    save(
        [begun(), RunEnded("root", None, 1030.0, "8443", "complete", (), UsageReport(3, 30, 5, 0, None, parts, depths))]
    )
    assert rlm("show", "run.jsonl").out.splitlines()[-6:-1] == [
        "usage: 3 calls, 30 tokens in, 5 out",
        "usage: m/root: 2 calls, 10 tokens in, 4 out",
        "usage: m/sub: 1 call, 20 tokens in, 1 out",
        "usage: depth 0: 2 calls, 10 tokens in, 4 out",
        "usage: depth 1: 1 call, 20 tokens in, 1 out",
    ]


def side_by_side() -> list[Event]:
    """Two helper runs whose events mix."""
    two = [turn(1, f"FINAL({run!r})", 1011.0, run) for run in ("a", "b")]
    ends = [
        event
        for run in ("a", "b")
        for event in (printed(f"{run}.c1", "", 1015.0, run), RunEnded(run, "c1", 1016.0, run, "complete", (), TOTAL))
    ]
    mixed = [event for pair in zip(*two, strict=True) for event in pair]
    return [
        begun(),
        *turn(1, "rlm_query_batched(...)"),
        child("a", "c1"),
        child("b", "c1"),
        *mixed,
        *ends,
        printed("c1", "both"),
        answered(),
    ]


def test_helper_runs_that_went_side_by_side_are_told_one_after_the_other(rlm: Callable[..., Any]) -> None:
    save(side_by_side())
    lines = rlm("show", "run.jsonl").out.splitlines()
    told = [line for line in lines if line.startswith("turn 1 > run ")]
    took = "1,000 tokens in, 50 out, $0.0020"
    for run, name in (("1", "a"), ("2", "b")):
        assert [line for line in told if line.startswith(f"turn 1 > run {run}")] == [
            f"turn 1 > run {run}: a helper run on str, 50 characters: which?",
            f"turn 1 > run {run} > turn 1: m/root wrote ({took}, 2.5 s)",
            f"turn 1 > run {run} > turn 1: code | FINAL({name!r})",
            f"turn 1 > run {run} > turn 1: the code ran 1.0 s",
            f"turn 1 > run {run}: answered (1 call, {took}, 6.0 s): {name}",
        ]
    assert told == sorted(told, key=lambda line: line.startswith("turn 1 > run 2"))


def test_the_order_of_the_tree_keeps_every_event_of_whatever_record() -> None:
    circle = [
        child("x", "y"),
        child("y", "x"),
        RunResumed("root", None, 2000.0),
        printed("z", "", run="x"),
        child("x", "x"),
    ]
    unknown = [reply("s", "nowhere"), printed("c9", "late"), *circle, begun()]
    for events in (side_by_side(), unknown):
        assert sorted(map(repr, in_tree_order(events))) == sorted(map(repr, events))


def test_long_code_and_output_are_shortened_with_how_much_was_left_out(rlm: Callable[..., Any]) -> None:
    code = "\n".join(f"x{n} = {n}" for n in range(60))
    wide = "\n".join(["y" * 300, *(f"row {n}" for n in range(2000))])
    save([begun(), *turn(1, code), printed("c1", wide), answered()])
    short = rlm("show", "run.jsonl").out.splitlines()
    assert "turn 1: code | … 20 more lines" in short
    assert f"turn 1: printed | {'y' * 200}… 100 more characters" in short
    assert "turn 1: printed | … 1,989 more lines" in short
    full = rlm("show", "run.jsonl", "--full").out.splitlines()
    assert {f"turn 1: code | x{n} = {n}" for n in range(60)} < set(full)
    assert {f"turn 1: printed | row {n}" for n in range(2000)} < set(full)
    assert f"turn 1: printed | {'y' * 300}" in full


def test_in_full_it_shows_what_each_sub_call_was_asked_and_said_and_what_the_model_wrote_around_its_code(
    rlm: Callable[..., Any],
) -> None:
    asked, said = ("first line\n" + "prompt " * 100).strip(), ("line\n" + "answer " * 100).strip()
    words = ModelCallEnded("t1", "root", 1002.0, "I will ask.\n```python\nllm_query('x')\n```", USAGE)
    events = [
        begun(),
        call("t1", "root", 1001.0, "turn"),
        words,
        CellStarted("c1", "root", 1003.0, "llm_query('x')"),
        call("s1", "c1", text=asked),
        reply("s1", "c1", text=said),
        child("k", "c1", query=asked),
        RunEnded("k", "c1", 1016.0, said, "complete", (), TOTAL),
        printed("c1", ""),
        answered(),
    ]
    save(events)
    lines = rlm("show", "run.jsonl", "--full").out.splitlines()
    assert "turn 1: the whole reply | I will ask." in lines
    for line in asked.split("\n"):
        assert f"turn 1 > sub-call 1: asking m/sub | {line}" in lines
        assert f"turn 1 > run 2: a helper run on str, 50 characters | {line}" in lines
    for line in said.split("\n"):
        assert f"turn 1 > sub-call 1: m/sub, 1,000 tokens in, 50 out, $0.0020, 2.0 s | {line}" in lines
        assert f"turn 1 > run 2: answered (1 call, 1,000 tokens in, 50 out, $0.0020, 6.0 s) | {line}" in lines
    assert "I will ask." not in rlm("show", "run.jsonl").out


def test_an_answer_that_was_reused_is_told_as_such_and_not_counted(rlm: Callable[..., Any]) -> None:
    calls = [call("s1", "c1"), reply("s1", "c1", source="memo"), call("s2", "c1"), reply("s2", "c1", source="cache")]
    save([begun(), *turn(1, "x"), *calls, printed("c1", "")])
    lines = rlm("show", "run.jsonl").out.splitlines()
    assert "turn 1 > sub-call 1: m/sub, the answer to an equal sub-call: said" in lines
    assert "turn 1 > sub-call 2: m/sub, from the cache: said" in lines
    assert "usage: 1 call, 1,000 tokens in, 50 out, $0.0020" in lines


def test_code_that_the_model_did_not_write_is_told_apart_from_its_own(
    rlm: Callable[..., Any], on_terminal: Callable[..., Any]
) -> None:
    events = [
        begun(),
        call("t1", "root", 1001.0, "turn"),
        reply("t1", "root", 1002.0, "It is 8443."),
        CellStarted("c1", "root", 1003.0, "search(query)"),
        printed("c1", "found"),
        *turn(2, "print(0)", 1021.0),
        printed("c2", "0", 1025.0),
        CellStarted("c3", "root", 1026.0, "search('port', 3)"),
        printed("c3", "found too", 1027.0),
        answered(),
    ]
    save(events)
    lines = [line for line in rlm("show", "run.jsonl").out.splitlines() if line.startswith("turn ")]
    assert [line for line in lines if " wrote (" not in line and " ran " not in line] == [
        "turn 1: nothing in this reply was run | It is 8443.",
        "turn 1: looked up for the model | search(query)",
        "turn 1: printed | found",
        "turn 2: code | print(0)",
        "turn 2: printed | 0",
        "turn 2: looked up for the model | search('port', 3)",
        "turn 2: printed | found too",
    ]
    _, sent = on_terminal("show", "run.jsonl")
    assert _OURS.sub("", sent).count("looked up for the model") == 2


def test_one_token_is_one(rlm: Callable[..., Any]) -> None:
    usage = UsageReport(1, 1, 2)
    save([begun(), RunEnded("root", None, 1030.0, "8443", "complete", (), usage)])
    assert "usage: 1 call, 1 token in, 2 out" in rlm("show", "run.jsonl").out.splitlines()


def test_what_failed_is_told_with_its_reason(rlm: Callable[..., Any]) -> None:
    events = [
        begun(),
        *turn(1, "llm_query('x')"),
        call("s1", "c1"),
        ModelCallFailed("s1", "c1", 1012.0, "RateLimited: slow down"),
        CellEnded("c1", "root", 1013.0, "", "NameError: x"),
        *turn(2, "while True: pass", 1014.0),
        CellFailed("c2", "root", 1015.0, "killed at 30 s"),
        RunFailed("root", None, 1016.0, "ModelUnavailable: it is down", TOTAL),
    ]
    save(events)
    ended = rlm("show", "run.jsonl")
    lines = ended.out.splitlines()
    assert ended.code == 0
    assert "turn 1 > sub-call 1: m/sub, no reply: RateLimited: slow down" in lines
    assert "turn 1: the code failed | NameError: x" in lines
    assert "turn 2: the code was stopped: killed at 30 s" in lines
    at = lines.index("status: failed: ModelUnavailable: it is down")
    assert lines[at + 1 :] == [
        "usage: 1 call, 1,000 tokens in, 50 out, $0.0020",
        "time: 17.0 s",
        "to go on with it: rlm resume run.jsonl PATH...",
    ]


def test_an_answer_drawn_from_what_was_seen_is_said_to_be_one(rlm: Callable[..., Any]) -> None:
    save([begun(), answered(status="extracted")])
    lines = rlm("show", "run.jsonl").out.splitlines()
    assert "status: complete" not in lines
    assert any(line.startswith("status: extracted: turns or budget ran out") for line in lines)


def test_a_run_without_an_end_says_so_and_what_it_was_at(rlm: Callable[..., Any]) -> None:
    path = save([begun(), *turn(1, "x"), call("s1", "c1"), call("s2", "c1")])
    whole = path.read_bytes()
    path.write_bytes(whole + event_line(reply("s1", "c1"))[:-20])
    lines = rlm("show", path).out.splitlines()
    at = lines.index("status: no end in this file: the run is under way, or its process was killed")
    told = [re.sub(", since .*", "", line) for line in lines[at + 1 :]]
    assert told == [
        "under way: turn 1: code is running",
        "under way: turn 1 > sub-call 1: asking m/sub",
        "under way: turn 1 > sub-call 2: asking m/sub",
        "usage: 1 call, 1,000 tokens in, 50 out, $0.0020",
        "cut off: the last line of the file is not whole and was left out",
        "time: 10.0 s",
        "to go on with it: rlm resume run.jsonl PATH...",
    ]
    path.write_bytes(whole)
    assert "cut off" not in rlm("show", path).out


def test_a_run_saved_with_its_context_can_be_resumed_without_naming_documents(rlm: Callable[..., Any]) -> None:
    context = Context("x" * 50)
    save([RunStarted("root", None, 1000.0, "q", context.summary, "m", 0)], context=context)
    assert rlm("show", "run.jsonl").out.splitlines()[-1] == "to go on with it: rlm resume run.jsonl"


def test_a_resumed_run_says_what_was_lost_and_counts_its_turns_on(rlm: Callable[..., Any]) -> None:
    events = [
        begun(),
        *turn(1, "x"),
        call("s1", "c1"),
        call("k1", "c1"),
        RunFailed("root", None, 1013.0, "cancelled", TOTAL),
        RunResumed("root", None, 9000.0),
        call("s2", "c1", 9001.0),
        reply("s2", "c1", 9002.0, "again"),
        printed("c1", "done", 9003.0),
        *turn(2, "FINAL(1)", 9004.0),
        CellEnded("c2", "root", 9008.0, "", None),
        RunEnded("root", None, 9010.0, "1", "complete", (), TOTAL),
    ]
    save(events)
    lines = rlm("show", "run.jsonl").out.splitlines()
    lost = "turn 1 > sub-call 1: no reply: the process ended that was waiting for it"
    resumed = next(index for index, line in enumerate(lines) if line.startswith("resumed: 1970-"))
    order = [
        lines.index(lost),
        resumed,
        lines.index("turn 1 > sub-call 3: m/sub, 1,000 tokens in, 50 out, $0.0020, 1.0 s: again"),
        lines.index("turn 1: the code ran 3.0 s"),
        lines.index("turn 1: printed | done"),
        lines.index("turn 2: code | FINAL(1)"),
        lines.index("status: complete"),
    ]
    assert order == sorted(order)
    assert lines[-1] == "time: 23.0 s in 2 sessions"


def test_a_turn_that_was_lost_with_its_process_is_the_same_turn_when_it_is_asked_again(rlm: Callable[..., Any]) -> None:
    again = [RunResumed("root", None, 9000.0), *turn(2, "again", 9001.0)]
    save([begun(), *turn(1, "x"), printed("c1", ""), call("lost", "root", 1021.0, "turn"), *again])
    assert "turn 2: code | again" in rlm("show", "run.jsonl").out.splitlines()


def test_where_a_run_parts_from_its_record_it_is_said_with_both_sides(rlm: Callable[..., Any]) -> None:
    events = [
        begun(),
        *turn(1, "x"),
        printed("c1", "a"),
        *turn(2, "old", 1021.0),
        printed("c2", "old output", 1025.0),
        RunResumed("root", None, 9000.0),
        ReplayParted("p", "root", 9001.0, 1, "it printed a", "it prints b"),
        CellEnded("c1", "root", 9002.0, "b", None),
        call("t2b", "root", 9003.0, "turn"),
        reply("t2b", "root", 9004.0, "```python\nnew\n```"),
        CellStarted("c2b", "root", 9005.0, "new"),
    ]
    save(events)
    lines = rlm("show", "run.jsonl").out.splitlines()
    assert "turn 1: parts from the record, which says | it printed a" in lines
    assert "turn 1: what came instead | it prints b" in lines
    assert "turn 1: printed | b" in lines
    assert "turn 2: code | new" in lines


def test_settings_that_are_in_the_file_are_told(rlm: Callable[..., Any]) -> None:
    settings = RunSettings(
        "m/root", "m/sub", max_depth=2, budget=Budget(50, 1000, 0.5, 60.0), temperature=0.5, tools=("fetch", "look")
    )
    save([begun(), answered()], settings)
    told = "max_depth 2, max_iterations 20, max_calls 50, max_tokens 1000, max_cost_usd 0.5, max_seconds 60.0"
    assert f"settings: sub-calls by m/sub, {told}, temperature 0.5, tools fetch look" in rlm("show", "run.jsonl").out


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "'run.jsonl' can't be read: No such file or directory"),
        (b"", "'run.jsonl' is not a saved run"),
        (b"Dear diary,\n", "'run.jsonl': this is not a saved run"),
        (b'{"rlm_trajectory": 99}\n', "newer version"),
        (header_line(None) + b"{}\n", "line 2 of 'run.jsonl' can't be read"),
        (header_line(None) + event_line(begun()) + b'{"kind": "\x1b[2J"}\n', "line 3 of 'run.jsonl' can't be read"),
        (header_line(None) + event_line(reply("t", "root")), "none of the events in this file starts a run"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_refused_in_one_line(
    rlm: Callable[..., Any], data: bytes | None, said: str
) -> None:
    if data is not None:
        Path("run.jsonl").write_bytes(data)
    for options in ([], ["--follow"]) if data != b"" else ([],):
        ended = rlm("show", "run.jsonl", *options)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert said in ended.err
        assert "\x1b" not in ended.err


def test_a_run_that_has_not_begun_is_no_failure(rlm: Callable[..., Any]) -> None:
    Path("run.jsonl").write_bytes(header_line(None))
    ended = rlm("show", "run.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("status: no end in this file")


def hostile_run() -> list[Event]:
    """A run all of whose text would give orders to a terminal."""
    return [
        RunStarted("root", None, LAST_SECOND, HOSTILE, ContextSummary(HOSTILE, 1, 1, HOSTILE, HOSTILE), HOSTILE, 0),
        ModelCallStarted("t", "root", 1.0, HOSTILE, 0, "turn", (Message("user", HOSTILE),)),
        ModelCallEnded("t", "root", 2.0, HOSTILE, USAGE),
        CellStarted("c", "root", 3.0, f"# {HOSTILE}\nprint('{HOSTILE}')"),
        ReplayParted("p", "root", 3.0, 1, HOSTILE, HOSTILE),
        ModelCallStarted("s", "c", 4.0, HOSTILE, 1, "sub-call", (Message("user", HOSTILE),)),
        ModelCallEnded("s", "c", 5.0, HOSTILE, USAGE),
        ModelCallStarted("f", "c", 4.0, HOSTILE, 1, "sub-call", (Message("user", HOSTILE),)),
        ModelCallFailed("f", "c", 5.0, HOSTILE),
        RunStarted("k", "c", 6.0, HOSTILE, ContextSummary(HOSTILE, 1, 1, HOSTILE, HOSTILE), HOSTILE, 1),
        RunEnded("k", "c", 7.0, {HOSTILE: HOSTILE}, "complete", (), TOTAL),
        RunStarted("l", "c", 6.0, HOSTILE, SUMMARY, HOSTILE, 1),
        RunFailed("l", "c", 7.0, HOSTILE, TOTAL),
        CellEnded("c", "root", 8.0, HOSTILE, HOSTILE),
        CellStarted("d", "root", 8.0, HOSTILE),
        CellFailed("d", "root", 9.0, HOSTILE),
    ]


HOSTILE_ENDS = {
    "none": [call("u", "root", 10.0, "turn")],
    "failed": [RunFailed("root", None, 10.0, HOSTILE, TOTAL)],
    "answered": [
        RunEnded(
            "root",
            None,
            10.0,
            HOSTILE,
            "extracted",
            (Citation(HOSTILE, 0, 1, HOSTILE),),
            UsageReport(by_model={HOSTILE: TOTAL, "m": TOTAL}),
        )
    ],
}


@pytest.mark.parametrize("end", HOSTILE_ENDS)
@pytest.mark.parametrize("options", [[], ["--full"]])
def test_text_in_a_record_gives_no_orders(
    rlm: Callable[..., Any], on_terminal: Callable[..., Any], end: str, options: list[str]
) -> None:
    save([*hostile_run(), *HOSTILE_ENDS[end]], RunSettings(HOSTILE, HOSTILE + "!", tools=(HOSTILE,)))
    plain = rlm("show", "run.jsonl", *options)
    code, sent = on_terminal("show", "run.jsonl", *options)
    assert (plain.code, plain.err, code) == (0, "", 0)
    for text in (plain.out, _OURS.sub("", sent).replace("\r\n", "\n")):
        assert not {character for character in text if character != "\n" and not character.isprintable()}
        assert text.count("[bold red]") > 10


def test_a_terminal_gets_highlighted_code_and_a_pipe_gets_none(
    rlm: Callable[..., Any], on_terminal: Callable[..., Any]
) -> None:
    save([begun(), *turn(1, "for x in context: print(x)"), printed("c1", "found"), answered()])
    code, sent = on_terminal("show", "run.jsonl")
    assert code == 0
    assert re.search(r"\x1b\[[0-9;]*mfor\x1b\[0m", sent)
    text = _OURS.sub("", sent)
    for told in (
        "question  Which port?",
        "turn 1  m/root wrote (",
        "    for x in context: print(x)",
        "    found",
        "│ 8443",
    ):
        assert told in text
    assert "\x1b" not in rlm("show", "run.jsonl").out


class Terminal(io.StringIO):
    """A terminal to write to."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [1, 8, 20, 60])
def test_a_narrow_terminal_gets_lines_that_fit(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    deep = [event for n in range(8) for event in turn(1, "print('words that need space')", run=f"r{n}")[:3]]
    runs: list[Event] = [begun(), *turn(1, "x")]
    for n in range(8):
        runs += [child(f"r{n}", f"r{n - 1}.c1" if n else "c1"), *deep[3 * n : 3 * n + 3]]
    stream = Terminal()
    view = TerminalView(stream, (), FULL)
    for event in runs:
        view(event)
    lines = _OURS.sub("", stream.getvalue()).split("\n")
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()).count("print('wordsthatneedspace')") == 8


def test_five_thousand_events_are_shown_in_no_time(rlm: Callable[..., Any]) -> None:
    events: list[Event] = [begun()]
    for n in range(250):
        calls = [event for k in range(8) for event in (call(f"{n}.{k}", f"c{n}"), reply(f"{n}.{k}", f"c{n}"))]
        events += [*turn(n, "print(llm_query('x'))"), *calls, printed(f"c{n}", "found\n" * 20)]
    assert len(events) > 5000
    save(events)
    began = time.process_time()
    ended = rlm("show", "run.jsonl")
    assert time.process_time() - began < 5
    assert ended.out.count("> sub-call ") == 2000


def test_a_record_as_deep_as_it_is_long_is_shown_too(rlm: Callable[..., Any]) -> None:
    events: list[Event] = [begun(), *turn(1, "x")]
    for n in range(1000):
        events += [child(f"r{n}", f"r{n - 1}.c1" if n else "c1"), *turn(1, "x", run=f"r{n}")]
    save(events)
    ended = rlm("show", "run.jsonl")
    assert ended.code == 0
    assert ended.out.count("a helper run on") == 1000
    assert max(map(len, ended.out.splitlines())) < 400


def wait_for(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """Lines of stdout up to the one that holds ``wanted``."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} did not come: {lines}")


def test_a_run_under_way_is_followed_until_it_has_ended(start: Callable[..., Any]) -> None:
    path = save([begun(), *turn(1, "x")])
    process = start("show", path, "--follow")
    told = wait_for(process, "turn 1: code | x")
    assert "question: Which port?" in told
    late = event_line(printed("c1", "found"))
    with path.open("ab", buffering=0) as file:
        file.write(event_line(call("s1", "c1")) + event_line(reply("s1", "c1")) + late[:10])
        wait_for(process, "turn 1 > sub-call 1: m/sub, ")
        file.write(late[10:])
        wait_for(process, "turn 1: printed | found")
        file.write(event_line(answered()))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[:2] == ["status: complete", "answer: 8443"]
    assert "waiting for the first event" not in [*told, *out.splitlines()]


def test_a_file_that_is_still_empty_is_waited_for(start: Callable[..., Any]) -> None:
    context = Context("text")
    path = save([RunStarted("root", None, 1000.0, "Which port?", context.summary, "m", 0)], context=context)
    whole = path.read_bytes()
    path.write_bytes(b"")
    process = start("show", path, "--follow")
    with path.open("ab", buffering=0) as file:
        file.write(whole)
        assert "question: Which port?" in wait_for(process, "context: ")
        file.write(event_line(RunFailed("root", None, 1003.0, "cancelled", TOTAL)))
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[0]) == (0, "status: failed: cancelled")


def test_ctrl_c_ends_the_following_at_once(start: Callable[..., Any]) -> None:
    process = start("show", save([begun()]), "-f")
    wait_for(process, "context: ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header_line(None) + event_line(begun("Another question?")), "was written anew while it was followed"),
        (None, "line 3 of 'run.jsonl' can't be read"),
    ],
)
def test_following_ends_where_the_file_is_no_record_of_the_run_any_more(
    start: Callable[..., Any], data: bytes | None, said: str
) -> None:
    path = save([begun()])
    process = start("show", path, "--follow")
    wait_for(process, "context: ")
    if data is None:
        with path.open("ab") as file:
            file.write(b"{}\n")
    else:
        path.write_bytes(data)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert said in err


def test_a_run_that_was_resumed_after_its_end_is_followed_on(start: Callable[..., Any]) -> None:
    path = save([begun(), RunFailed("root", None, 1001.0, "cancelled", TOTAL), RunResumed("root", None, 1002.0)])
    process = start("show", path, "--follow")
    wait_for(process, "resumed: ")
    with path.open("ab") as file:
        file.write(event_line(answered()))
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[0]) == (0, "status: complete")


def test_a_terminal_sees_a_followed_run_live(on_terminal: Callable[..., Any]) -> None:
    save([begun(), *turn(1, "x"), printed("c1", ""), answered()])
    code, sent = on_terminal("show", "run.jsonl", "--follow")
    assert code == 0
    assert "\x1b[?25l" in sent, "the cursor is hidden while the view changes"
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l"), "and comes back"
    assert "│ 8443" in _OURS.sub("", sent)
