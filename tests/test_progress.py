"""Progress shows what runs are doing, wherever it can be shown, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations import RLM, Message, ModelError, ModelTimeout
from rlm_integrations.context import ContextSummary
from rlm_integrations.events import (
    CellStarted,
    Event,
    ModelCallEnded,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunResumed,
    RunStarted,
    Source,
)
from rlm_integrations.messages import Usage, UsageReport
from rlm_integrations.progress import Progress
from rlm_integrations.progress.board import Board
from rlm_integrations.testing import ScriptedModel
from tests.scripts import by_role, cell

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]:smile:\x9b31m\u202egnp\n<script>alert(1)</script>"
TEXT = ContextSummary("str", 4, 1, "0" * 64, "text")
LOOK = cell("print(context[:4])")
ANSWER = cell("FINAL(len(context))")
ASK_8 = cell("print(len(llm_query_batched([f'is {n} odd?' for n in range(8)])))")


def without_seconds(text: str) -> list[str]:
    return re.sub(r"\d+\.\d s", "T", text).splitlines()


def shown(run: Any, make_rlm: Any, model: ScriptedModel, query: str = "q", **settings: Any) -> list[str]:
    """The plain lines of a run."""
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        run(make_rlm(model, observers=[progress], **settings), query, "text")
    return without_seconds(stream.getvalue())


def test_without_a_terminal_a_run_is_a_line_for_each_turn_and_one_of_totals(run: Any, make_rlm: Any) -> None:
    model = ScriptedModel([LOOK, ANSWER], usd_per_token=0.001)
    first, one, two, last = shown(run, make_rlm, model, "How long\nis it?")
    result = run(make_rlm(ScriptedModel([LOOK, ANSWER], usd_per_token=0.001)), "How long\nis it?", "text")
    assert first == "How long is it?: started (str, 4 characters, scripted)"
    assert one == "How long is it?: turn 1, asking the model: 0 calls, 0 tokens in, 0 out, T"
    assert two.startswith("How long is it?: turn 2, asking the model: 1 cell, 1 call, ")
    usage = f"2 calls, {result.usage.input_tokens:,} tokens in, {result.usage.output_tokens} out"
    assert last == f"How long is it?: complete: 2 turns, 2 cells, {usage}, ${result.usage.cost_usd:.4f}, T"


def test_the_turn_is_shown_out_of_how_many_where_that_was_said(make_rlm: Any) -> None:
    stream = io.StringIO()
    with Progress(max_iterations=7, stream=stream) as progress:
        make_rlm(ScriptedModel([ANSWER]), observers=[progress]).run("q", "text")
    assert "q: turn 1 of 7, asking the model: " in stream.getvalue()


def test_an_answer_drawn_at_the_end_and_a_failure_are_named(run: Any, make_rlm: Any) -> None:
    *_, drawing, last = shown(run, make_rlm, ScriptedModel([LOOK, LOOK, "4"]), max_iterations=2)
    assert drawing.startswith("q: turn 2, drawing an answer: ")
    assert last.startswith("q: extracted: 2 turns, 2 cells, 3 calls, ")
    stream = io.StringIO()
    failing = ScriptedModel([ModelTimeout("too\x1b[2J slow", model="m")])
    with Progress(stream=stream) as progress, pytest.raises(ModelTimeout):
        run(make_rlm(failing, observers=[progress]), "q", "text")
    *_, reason, last = without_seconds(stream.getvalue())
    assert reason == r"q: a call failed: ModelTimeout: too\x1b[2J slow"
    assert last == (r"q: failed, ModelTimeout: too\x1b[2J slow: 1 turn, 0 calls, 0 tokens in, 0 out, T; 1 call failed")


def test_failed_sub_calls_are_told_at_first_and_all_counted(run: Any, make_rlm: Any) -> None:
    def refuse(prompt: str) -> str:
        raise ModelError("no", model="m")

    model = ScriptedModel(
        by_role(
            [cell("try:\n    llm_query_batched(['a', 'b', 'c', 'd', 'e'])\nexcept Exception:\n    print('x')"), ANSWER],
            refuse,
        )
    )
    lines = shown(run, make_rlm, model)
    assert lines.count("q: a call failed: ModelError: no") == 3
    assert ", 5 sub-calls, 2 calls, " in lines[-1]
    assert lines[-1].endswith("; 5 calls failed")


def watched(run: Any, make_rlm: Any, model: ScriptedModel, **settings: Any) -> list[str]:
    """How far the sub-calls were at each event of a run."""
    board, seen, lock = Board(), list[str](), threading.Lock()

    def watch(event: Event) -> None:
        with lock:
            board.tell(event)
            seen.extend(so_far.calls_below for so_far in board.runs.values())

    run(make_rlm(model, observers=[watch], **settings), "q", "text")
    assert not board.runs
    assert not board._under_way
    return seen


def test_a_batch_is_counted_while_it_is_under_way(run: Any, make_rlm: Any) -> None:
    script = by_role([LOOK, ASK_8, ANSWER], lambda prompt: "yes")
    seen = watched(run, make_rlm, ScriptedModel(script, latency_s=0.01), max_parallel=2)
    through = [int(text.split()[0]) for text in seen if text]
    assert through[:1] == [0]
    assert sorted(set(through)) == list(range(9))
    assert "8 of 8 sub-calls" in seen
    assert {int(text.split()[2]) - int(text.split()[0]) for text in seen if text} == {0, 1, 2}
    assert seen[-1] == "", "the next turn begins anew"


def test_child_runs_are_sub_calls_and_what_they_do_is_counted_too(run: Any, make_rlm: Any) -> None:
    root = [cell("print(rlm_query_batched(['child?', 'child?'], ['ab', 'abc']))"), ANSWER]

    def say(messages: Sequence[Message]) -> str:
        if messages[0].role != "system":
            return "yes"
        if "child?" in messages[1].content:
            return cell("FINAL(llm_query('is it ' + context))")
        return root[sum(message.role == "assistant" for message in messages)]

    seen = watched(run, make_rlm, ScriptedModel(say))
    assert "0 of 2 sub-calls, 2 child runs under way" in seen or "1 of 2 sub-calls, 1 child run under way" in seen
    assert "2 of 2 sub-calls" in seen
    *_, last = shown(run, make_rlm, ScriptedModel(say))
    assert last.startswith("q: complete: 2 turns, 4 cells, 4 sub-calls, 6 calls, ")


def test_many_runs_at_once_are_told_apart(make_rlm: Any) -> None:
    stream = io.StringIO()

    async def ask_all() -> None:
        with Progress(stream=stream) as progress:
            rlm = make_rlm(
                ScriptedModel(by_role([ASK_8, ANSWER], lambda prompt: "yes"), latency_s=0.001), observers=[progress]
            )
            await asyncio.gather(*(rlm.arun(f"question {n}", "text") for n in range(20)))

    asyncio.run(ask_all())
    ends = [line for line in stream.getvalue().splitlines() if ": complete: 2 turns, 2 cells, 8 sub-calls, " in line]
    assert sorted(line.partition(":")[0] for line in ends) == sorted(f"question {n}" for n in range(20))


def test_a_long_batch_is_told_of_now_and_then(make_rlm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = by_role([ASK_8, ANSWER], lambda prompt: "yes")
    assert not [line for line in shown(RLM.run, make_rlm, ScriptedModel(model)) if "of 8 sub-calls" in line]
    monkeypatch.setattr("rlm_integrations.progress.board.LINE_EVERY_S", 0.0)
    lines = shown(RLM.run, make_rlm, ScriptedModel(model), max_parallel=1)
    assert len([line for line in lines if re.search(r"turn 1, running code: .*, \d of \d sub-calls?$", line)]) == 8


def test_a_resumed_run_says_so_and_where_it_parts_from_its_record() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress(RunStarted("r", None, 0.0, "q", TEXT, "m", 0))
    progress(RunResumed("r", None, 1.0))
    progress(ReplayParted("p", "r", 2.0, 3, "old", "new"))
    progress(CellStarted("c", "r", 2.0, "rlm_query('q', 't')"))
    progress(RunStarted("s", "c", 2.0, "q", TEXT, "m", 1))
    progress(ReplayParted("o", "s", 2.0, 1, "old", "new"))
    progress(RunEnded("r", None, 3.0, "a", "complete", (), UsageReport(calls=2)))
    assert without_seconds(stream.getvalue()) == [
        "q: started (str, 4 characters, m)",
        "q: resumed",
        "q: not as recorded after turn 3",
        "q: not as recorded after turn 1 of a child run",
        "q: complete: 1 cell, 2 calls, 0 tokens in, 0 out, T",
    ]


def test_answers_that_cost_nothing_are_counted_apart() -> None:
    sources: tuple[Source, ...] = ("model", "memo", "cache", "record")
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress(RunStarted("r", None, 0.0, "q", TEXT, "m", 0))
    for source in sources:
        usage = Usage() if source in ("memo", "cache") else Usage(10, 1, 0, 0.5)
        progress(ModelCallStarted(source, "r", 1.0, "m", 0, "turn", (), source))
        progress(ModelCallEnded(source, "r", 2.0, "x", usage, source))
    progress(ModelCallStarted("last", "r", 3.0, "m", 0, "extraction", ()))
    told = "q: turn 4, drawing an answer: 2 answers reused, 2 calls, 20 tokens in, 2 out, $1.0000, T"
    assert without_seconds(stream.getvalue())[-1] == told


def test_events_of_runs_that_began_unseen_are_left_out(make_rlm: Any) -> None:
    stream = io.StringIO()
    whole = make_rlm(ScriptedModel(by_role([ASK_8, ANSWER], lambda prompt: "yes"))).run("q", "text").trajectory
    with Progress(stream=stream) as progress:
        for event in whole[1:]:
            progress(event)
    assert stream.getvalue() == ""


def test_outside_of_its_block_progress_is_plain_lines(make_rlm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_rlm(ScriptedModel([ANSWER]), observers=[Progress()]).run("q", "text")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "started (str, 4 characters, scripted)",
        "turn 1, asking the model",
        "complete",
    ]


def test_a_reader_who_has_gone_and_a_narrow_encoding_cost_nothing(
    make_rlm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    caplog.set_level(logging.WARNING)
    raw = io.BytesIO()
    for stream in (Gone(), io.TextIOWrapper(raw, encoding="ascii", write_through=True)):
        with Progress(stream=stream) as progress:
            make_rlm(ScriptedModel([ANSWER]), observers=[progress]).run("Größe \ud800?", "text")
    assert caplog.records == []
    assert raw.getvalue().startswith(rb"Gr\xf6\xdfe \ud800?: started (")


def test_rich_is_loaded_only_to_draw() -> None:
    code = """
import io, sys
from rlm_integrations.progress import Progress
with Progress(stream=io.StringIO()):
    print('rich' in sys.modules, 'IPython' in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"


# A process that runs something with progress on its terminal.
BEFORE = """
import asyncio, sys, threading, time
from rlm_integrations import RLM, ModelError
from rlm_integrations.progress import Progress
from rlm_integrations.testing import ScriptedModel
def cell(code): return f"```python\\n{code}\\n```"
held = threading.Event()
class Held(ScriptedModel):
    def complete(self, messages, **options):
        if messages[0].role != "system" and len(self.calls) == 5:
            held.set(); time.sleep(60)
        return super().complete(messages, **options)
    async def acomplete(self, messages, **options):
        if messages[0].role != "system" and len(self.calls) == 5:
            held.set(); await asyncio.sleep(60)
        return await super().acomplete(messages, **options)
def root(*cells):
    return lambda messages: "yes" if messages[0].role != "system" else cell(
        cells[sum(message.role == "assistant" for message in messages)])
BATCH = "print(len(llm_query_batched([f'is {n} odd?' for n in range(8)])))"
"""
CURSOR_OFF, CURSOR_ON = "\x1b[?25l", "\x1b[?25h"
# What rich itself sends: colours, and moves of the cursor.
OURS = re.compile(r"\x1b\[[0-9;?]*[mAKhl]")

OnTerminal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[OnTerminal]:
    """Runs code with a terminal as stderr; gives its exit code, its stdout (a pipe), and what the terminal was sent.

    ``interrupt_at``: a SIGINT comes when this has been sent to the terminal.
    """
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str, interrupt_at: str = "", **environment: str) -> tuple[int, str, str]:
        ours, theirs = pty.openpty()
        size = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        with (tmp_path / "out").open("wb+") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", BEFORE + code],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=theirs,
                env={**os.environ, **size, **environment},
                # A shell that starts the tests in the background has them ignore it, and what is ignored is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            started.append(process)
            os.close(theirs)
            data = b""
            try:
                while piece := os.read(ours, 65536):
                    data += piece
                    if interrupt_at and interrupt_at.encode() in OURS.sub("", data.decode(errors="replace")).encode():
                        process.send_signal(signal.SIGINT)
                        interrupt_at = ""
            except OSError:
                pass  # how Linux says that nobody holds the other end any more
            os.close(ours)
            code_ = process.wait()
            out.seek(0)
            return code_, out.read().decode(), data.decode()

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def assert_given_back(sent: str) -> None:
    """The cursor is there again, and nothing is sent after it but lines that stay."""
    assert CURSOR_OFF in sent, "nothing was ever shown"
    assert sent.rindex(CURSOR_ON) > sent.rindex(CURSOR_OFF)
    assert "━" not in sent[sent.rindex(CURSOR_ON) :]


def test_on_a_terminal_the_state_changes_in_its_place_and_totals_stay(on_terminal: OnTerminal) -> None:
    code, out, sent = on_terminal("""
def say(event):
    if event.kind == "cell_started": print("a cell")
with Progress(max_iterations=20) as progress:
    model = ScriptedModel(root(BATCH, "FINAL(len(context))"), latency_s=0.4)
    rlm = RLM(model, observers=[progress, say], max_parallel=2)
    print(rlm.run("How long is it?", "text").answer)
""")
    assert (code, out) == (0, "a cell\na cell\n4\n"), "what goes to a pipe is not drawn on the terminal"
    assert_given_back(sent)
    text = OURS.sub("", sent)
    assert "turn 1 of 20, asking the model: How long is it?" in text
    assert re.search(
        r"turn 1 of 20, running code: How long is it\?\r\n  1 cell.*\r\n  ━+[━╸╺]* [1-6] of \d sub-calls", text
    )
    after = OURS.sub("", sent[sent.rindex(CURSOR_ON) :]).strip()
    assert re.fullmatch(r"How long is it\?: complete: 2 turns, 2 cells, 8 sub-calls, 10 calls, .* s", after)


def test_a_terminal_is_given_back_after_an_error_in_the_block(on_terminal: OnTerminal) -> None:
    code, _, sent = on_terminal("""
def say(event):
    if event.kind == "cell_started": ready.set()
ready = threading.Event()
with Progress() as progress:
    rlm = RLM(ScriptedModel(root("import time\\nprint(1)", BATCH, "FINAL(1)"), latency_s=1), observers=[progress, say])
    threading.Thread(target=rlm.run, args=("q", "text"), daemon=True).start()
    ready.wait()
    raise KeyError("of the block's own")
""")
    assert code == 1
    assert_given_back(sent)
    assert "KeyError" in sent[sent.rindex(CURSOR_ON) :]


@pytest.mark.parametrize("ask", ["rlm.run('q', 'text')", "asyncio.run(rlm.arun('q', 'text'))"])
def test_a_terminal_is_given_back_after_ctrl_c(ask: str, on_terminal: OnTerminal) -> None:
    code, _, sent = on_terminal(
        f"""
with Progress() as progress:
    rlm = RLM(Held(root(BATCH, "FINAL(1)")), observers=[progress], max_parallel=1)
    {ask}
""",
        interrupt_at="4 of 5 sub-calls",
    )
    assert code == -signal.SIGINT
    assert_given_back(sent)
    assert "q: failed, " in OURS.sub("", sent[sent.rindex(CURSOR_ON) :])


def test_a_terminal_is_given_back_after_a_run_is_cancelled(on_terminal: OnTerminal) -> None:
    code, out, sent = on_terminal("""
async def main():
    task = asyncio.ensure_future(rlm.arun("q", "text"))
    while not held.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
with Progress() as progress:
    rlm = RLM(Held(root(BATCH, "FINAL(1)")), observers=[progress], max_parallel=1)
    asyncio.run(main())
print("after")
""")
    assert (code, out) == (0, "after\n")
    assert_given_back(sent)
    assert "q: failed, " in OURS.sub("", sent[sent.rindex(CURSOR_ON) :])


def test_a_terminal_is_sent_no_orders_from_questions_or_errors(on_terminal: OnTerminal) -> None:
    code, _, sent = on_terminal(f"""
hostile = {HOSTILE!r}
def say(messages):
    if messages[0].role != "system":
        raise ModelError(hostile, model="m")
    if len(messages) == 2:
        return cell("try: llm_query('x')\\nexcept Exception: print(1)")
    time.sleep(0.6)
    return cell("FINAL(len(context))")
with Progress() as progress:
    RLM(ScriptedModel(say, name=hostile), observers=[progress]).run(hostile, "text")
""")
    assert code == 0
    left = OURS.sub("", sent).replace("\r\n", "\n").replace("\r", "")
    assert not {character for character in left if character != "\n" and not character.isprintable()}
    assert "[bold red]:smile:" in left
    assert "the last: ModelError: " in left


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_that_can_not_draw_gets_plain_lines(environment: dict[str, str], on_terminal: OnTerminal) -> None:
    code, _, sent = on_terminal(
        """
with Progress() as progress:
    RLM(ScriptedModel(root("FINAL(len(context))")), observers=[progress]).run("Größe?", "text")
""",
        **environment,
    )
    assert code == 0
    assert "\x1b" not in sent
    assert [line.split(": ")[1] for line in sent.splitlines()] == [
        "started (str, 4 characters, scripted)",
        "turn 1, asking the model",
        "complete",
    ]


def test_many_runs_at_once_fit_on_a_terminal(on_terminal: OnTerminal) -> None:
    code, _, sent = on_terminal("""
async def main():
    await asyncio.gather(*(rlm.arun(f"question {n}", "text") for n in range(40)))
with Progress() as progress:
    rlm = RLM(ScriptedModel(root("print(1)", "FINAL(1)"), latency_s=0.5), observers=[progress])
    asyncio.run(main())
""")
    assert code == 0
    text = OURS.sub("", sent)
    more = [int(number) for number in re.findall(r"and (\d+) more under way", text)]
    assert 1 <= max(more) <= 31
    assert len(re.findall(r"^question \d+: complete: ", text.replace("\r", "\n"), flags=re.MULTILINE)) == 40


# Runs cells in a kernel as Jupyter does, and says what each was sent, and what is left of it.
IN_KERNEL = """
import json, sys
import nbformat
from nbclient import NotebookClient
sent = []
class Client(NotebookClient):
    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            sent.append(msg["content"]["data"])
        return super().process_message(msg, cell, cell_index)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in json.load(sys.stdin)])
Client(notebook, timeout=60, kernel_name="python3").execute()
print(json.dumps({"sent": sent, "left": [cell.outputs for cell in notebook.cells]}))
"""


def in_kernel(*cells: str) -> tuple[list[dict[str, str]], list[list[dict[str, Any]]]]:
    command = [sys.executable, "-c", IN_KERNEL]
    ran = subprocess.run(command, input=json.dumps(cells), capture_output=True, text=True, check=True)
    said = json.loads(ran.stdout)
    return said["sent"], said["left"]


def test_in_a_notebook_the_state_changes_in_the_cells_output_and_totals_stay() -> None:
    pytest.importorskip("nbclient")
    sent, left = in_kernel(
        BEFORE,
        f"""
model = ScriptedModel(root(BATCH, "FINAL(len(context))"), latency_s=0.5)
with Progress(max_iterations=9) as progress:
    rlm = RLM(model, observers=[progress], max_parallel=2)
    print((await rlm.arun({HOSTILE!r}, "text")).answer)
    print(rlm.run("another", "text").answer)
""",
        "try:\n    with Progress() as progress:\n"
        "        RLM(ScriptedModel([]), observers=[progress]).run('q', 'text')\n"
        "except ModelError:\n    pass",
    )
    states = "\n".join(data["text/plain"] for data in sent)
    assert "turn 1 of 9, asking the model: " in states
    assert re.search(r"━ [1-6] of \d sub-calls", states)
    assert any("<pre" in data["text/html"] and "━" in data["text/html"] for data in sent)
    assert not any("<script" in data["text/html"] or "\x1b" in data["text/html"] for data in sent)
    _, good, bad = left
    (display,) = [output for output in good if output["output_type"] == "display_data"]
    hostile, another = without_seconds(display["data"]["text/plain"])
    assert hostile.startswith(r"\x1b]0;owned\x07\x1b[2J[bold red]:smile:")
    assert ": complete: 2 turns, 2 cells, 8 sub-calls, 10 calls, " in hostile
    assert another.startswith("another: complete: ")
    assert [output.get("text") for output in good if output["output_type"] == "stream"] == ["4\n", "4\n"]
    assert bad[0]["data"]["text/plain"].startswith("q: failed, ModelError: the script has 0 replies")
