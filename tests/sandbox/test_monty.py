"""``MontySandbox``: the port's promises, what it does not run of everyday Python, and attacks on the host."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlm_integrations import RLM, Document
from rlm_integrations.errors import InvalidInput, MissingExtra, SandboxError
from rlm_integrations.sandbox import CellOutput, MontySandbox, Resume, Run, SubCall
from rlm_integrations.sandbox.monty_source import prepare
from rlm_integrations.testing import SANDBOX_CHECKS, ScriptedModel, check_sandbox
from tests.sandbox.conftest import run_cell
from tests.sandbox.snippets import FUNCTIONS, cells, judge, load

NOT_RUN = {
    "concurrent_threads",
    "dict_set_del",
    "generator_fn",
    "isinstance_hasattr",
    "math_stats",
    "persist_generator",
    "pprint_mod",
    "re_sub_lambda",
    "slice_assign",
    "str_methods",
    "with_stmt",
}


@pytest.fixture(scope="module")
def monty() -> Iterator[MontySandbox]:
    with MontySandbox(timeout_s=10) as sandbox:
        yield sandbox


@pytest.fixture
def cell(monty: MontySandbox) -> Iterator[Callable[..., CellOutput]]:
    """Runs a cell of one session."""
    context = [Document("one fox", id="a", metadata={"year": 1}), Document("two dogs", id="b")]
    session = monty.open({"context": context, "query": "?"}, ["llm_query"])
    yield lambda code, answer=judge: run_cell(session, code, answer)
    session.close()


@pytest.mark.parametrize("name", SANDBOX_CHECKS)
def test_it_keeps_every_promise(name: str, monty: MontySandbox) -> None:
    assert check_sandbox(monty, only=[name]) == (name,)


def test_the_everyday_snippets_that_do_not_run_are_these(monty: MontySandbox) -> None:
    assert {item["id"] for item in load("everyday.json") if not runs(monty, item)} == NOT_RUN
    assert f"{len(NOT_RUN)} of the {len(load('everyday.json'))} everyday snippets" in (MontySandbox.__doc__ or "")


def runs(sandbox: MontySandbox, item: dict[str, Any]) -> bool:
    session = sandbox.open({"context": item["setup"]["context"], "query": "q"}, FUNCTIONS)
    try:
        for number, (code, expected) in enumerate(zip(cells(item), item["expect"]["stdout"], strict=True)):
            output = run_cell(session, code, judge)
            failed = (output.error is not None) != (number in item.get("allow_error_in", []))
            if failed or output.stdout.strip() != expected.strip():
                return False
        return True
    finally:
        session.close()


@pytest.fixture(scope="module")
def hurried() -> Iterator[MontySandbox]:
    with MontySandbox(timeout_s=1, memory_mb=200) as sandbox:
        yield sandbox


@pytest.mark.parametrize("item", load("hostile.json"), ids=lambda item: item["id"])
def test_a_hostile_snippet_has_no_effect_on_the_host(
    item: dict[str, Any],
    hurried: MontySandbox,
    listener: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RLM_CANARY_KEY", "CANARY-ENV-1")
    secret, mark = tmp_path / "secret", tmp_path / "mark"
    secret.write_text("CANARY-FILE-1")
    environment, seen = dict(os.environ), []

    def answer(call: SubCall) -> Resume:
        seen.append(repr(call))
        return judge(call)

    context = ["doc0: text", "doc1: text"]
    session = hurried.open({"context": context}, FUNCTIONS)
    try:
        for code in cells(item):
            for name, value in (("SECRET", secret), ("MARK", mark), ("PORT", listener.getsockname()[1])):
                code = code.replace("{{" + name + "}}", str(value))
            started = time.monotonic()
            output = run_cell(session, code, answer)
            assert time.monotonic() - started < 3
            seen.append(repr(output))
        assert run_cell(session, "print(1 + 1)").stdout == "2\n"
    finally:
        session.close()
    assert not mark.exists()
    assert "CANARY-" not in "".join(seen)
    assert dict(os.environ) == environment
    assert context == ["doc0: text", "doc1: text"]
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_document_is_text_whose_fields_can_be_read(cell: Any) -> None:
    code = "for d in context:\n    print(d.id, f'{d.metadata} {d.upper()!r:>3}',\n          d[:3])"
    assert cell(code) == CellOutput("a {'year': 1} 'ONE FOX' one\nb {} 'TWO DOGS' two\n")
    assert "has no attribute 'id'" in (cell("context[0][1:].id").error or "")
    assert cell("class A:\n    def __init__(self): self.id = 7\nA().id").stdout == "7\n"
    assert cell("search('dogs')[0].id, search('dogs')[0].start").stdout == "('b', 0)\n"


def test_lines_stay_where_they_are_in_the_source_that_monty_gets() -> None:
    source = 'x = (a\n     .id)\ny = f"""{\nb.id}\n é {c.metadata}"""\nm.start()\nz.id = 1\n(x.start,\n é.id)  # end.id'
    told = prepare(source)
    assert told.names == ("x", "y")
    lines = told.source.split("\n")
    assert len(lines) == len(source.split("\n"))
    assert lines[5:7] == ["m.start()", "z.id = 1"]
    assert lines[7:] == ["_rlm_echo((((_rlm_field_start(x)),", " (_rlm_field_id(é)))))  # end.id"]
    assert prepare("a, b").source == "_rlm_echo((a, b))"
    assert prepare("if x\n").source == "if x\n"


def test_an_exception_shows_the_models_own_lines(cell: Any) -> None:
    cell("def half(text):\n    return text / 2")
    output = cell("print('before')\nhalf('x')")
    assert output.stdout == "before\n"
    assert (output.error or "").splitlines()[:2] == ["line 2: half('x')", "cell 1, line 2, in half: return text / 2"]
    assert "TypeError" in output.error


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("open('a.txt')", "already in `context`"),
        ("import pandas", "csv, statistics"),
        ("import nosuchmodule", "the modules here are asyncio"),
        ("import os\nos.environ", "no operating system"),
        ("input('?')", "nobody can answer"),
        ("contxt", "did you mean 'context'"),
        ("nosuch(1)", "NameError: name 'nosuch' is not defined"),
    ],
)
def test_an_error_about_the_outside_names_what_to_use_instead(code: str, hint: str, cell: Any) -> None:
    assert hint in cell(code).error


def test_what_model_code_sends_is_made_json_and_runs_nothing_of_the_host(cell: Any) -> None:
    calls: list[SubCall] = []

    def note(call: SubCall) -> Resume:
        calls.append(call)
        return Resume()

    code = (
        "import datetime, re, pathlib\n"
        "class Evil:\n"
        "    def __init__(self): self.n, self._hidden = {1}, 2\n"
        "    def __str__(self): llm_query('ran')\n"
        "    __repr__ = __str__\n"
        "llm_query(Evil(), Evil, print, len, re, ..., ValueError('x'), datetime.date(2020, 1, 1), pathlib.Path('/etc'),"
        " lambda: 1, range(3), llm_query, key=b'b')"
    )
    assert cell(code, note).error is None
    assert len(calls) == 1
    assert calls[0].args[0] == {"n": [1]}
    assert calls[0].args[7] == "2020-01-01"
    assert "unhashable" in (cell("llm_query({Evil(): 1})", note).error or "")
    assert cell("FINAL({Evil(): 1})", note).final is None
    json.dumps([calls[0].args, dict(calls[0].kwargs)], allow_nan=False)


@pytest.mark.parametrize(
    "code",
    [
        "search('x', 'y')",
        "search(5)",
        "search('x' * 5_000_000)",
        "search(['a'] * 100_000)",
        "search('a', 10**30)",
        "search('\"' * 99 + ' OR NEAR( a* ^b : - x')",
        "search('\\x00 \\ud800 a')",
        "_rlm_found()",
    ],
)
def test_a_search_that_makes_no_sense_harms_nothing(code: str, cell: Any) -> None:
    started = time.monotonic()
    output = cell(code)
    assert not output.restarted
    assert "sqlite" not in (output.error or "")
    assert time.monotonic() - started < 5
    assert cell("search('fox')[0]").stdout == "one fox\n"


def test_time_spent_searching_counts() -> None:
    with MontySandbox(timeout_s=0.5) as sandbox:
        session = sandbox.open({"context": "word " * 1_000_000}, [])
        started = time.monotonic()
        assert run_cell(session, "while True:\n    search('word')").restarted
        assert time.monotonic() - started < 3


def test_names_served_by_the_host_come_back_in_the_next_cell(cell: Any) -> None:
    cell("FINAL = FINAL_VAR = search = llm_query = SHOW_VARS = 5")
    assert cell("SHOW_VARS()\nFINAL(search('fox')[0])").final.value == "one fox"


def test_running_out_of_memory_is_told_and_the_variables_are_back() -> None:
    with MontySandbox(memory_mb=64) as sandbox:
        session = sandbox.open({"context": "x"}, [])
        output = run_cell(session, "big = []\nwhile True: big.append('y' * 1000)")
        assert "ran out of memory" in (output.error or "")
        assert output.restarted
        assert run_cell(session, "print(context)").stdout == "x\n"


def test_a_context_larger_than_the_memory_given_is_an_error_that_says_so() -> None:
    with MontySandbox(memory_mb=64) as sandbox:
        session = sandbox.open({"context": "x" * 100_000_000}, [])
        with pytest.raises(SandboxError, match="raise MontySandbox\\(memory_mb="):
            session.advance(Run("1"))


def test_printing_without_end_is_stopped() -> None:
    with MontySandbox(timeout_s=20) as sandbox:
        output = run_cell(sandbox.open({"context": "x"}, []), "while True: print('x' * 1_000_000)")
        assert "printed more than 50,000,000 characters" in (output.error or "")


def test_a_worker_killed_from_outside_is_replaced_and_the_fourth_ends_the_session(monty: MontySandbox) -> None:
    session = monty.open({"context": "text"}, ["f"])

    def kill(call: SubCall) -> Resume:
        psutil.Process(session._worker._pid).kill()
        return Resume()

    for _ in range(3):
        output = run_cell(session, "f()", kill)
        assert "the worker died" in (output.error or "")
        assert output.restarted
        assert run_cell(session, "print(context)").stdout == "text\n"
    with pytest.raises(SandboxError, match="lost its worker 4 times"):
        run_cell(session, "f()", kill)


def test_a_worker_lost_between_cells_is_replaced_and_the_model_is_told(monty: MontySandbox) -> None:
    session = monty.open({"context": "text"}, [])
    run_cell(session, "1")
    psutil.Process(session._worker._pid).kill()
    while not session._worker.is_lost():
        time.sleep(0.001)
    output = run_cell(session, "print(context)")
    assert output.stdout == "text\n"
    assert output.restarted
    assert "all variables" in (output.error or "")
    session.close()


def test_an_interrupt_ends_the_cell_at_once(monty: MontySandbox, interruptible: None) -> None:
    session = monty.open({"context": "x"}, [])
    session.advance(Run("1"))
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.advance(Run("while True: pass"))
    assert time.monotonic() - started < 2
    timer.join()


@pytest.mark.parametrize("end", ["close", "collect", "timeout"])
def test_nothing_is_left_after_a_sandbox(end: str) -> None:
    gc.collect()
    processes, threads = len(psutil.Process().children()), threading.active_count()
    sandbox = MontySandbox(timeout_s=0.2)
    sessions = [sandbox.open({"context": "fox"}, ["f"]) for _ in range(4)]
    for session in sessions:
        session.advance(Run("search('fox')\nf()"))
    if end == "timeout":
        sessions[0].advance(Resume())
        run_cell(sessions[0], "while True: pass")
    if end != "collect":
        sandbox.close()
    del sandbox, sessions, session
    gc.collect()
    deadline = time.monotonic() + 10
    while len(psutil.Process().children()) > processes or threading.active_count() > threads:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_forked_process_is_told_to_spawn() -> None:
    script = (
        "import os\n"
        "from rlm_integrations.sandbox import MontySandbox, Run\n"
        "sandbox = MontySandbox()\n"
        "session = sandbox.open({'context': 'x'}, ['f'])\n"
        "session.advance(Run('1'))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        sandbox.open({'context': 'x'}, [])\n"
        "    except Exception as error:\n"
        "        print(error, flush=True)\n"
        "    session.close()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(session.advance(Run('print(context)')).stdout)\n"
        "sandbox.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert "spawn processes instead" in done.stdout
    assert done.stdout.split()[-1] == "x"


@pytest.mark.parametrize(
    "settings", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"memory_mb": 1}, {"max_output_chars": 0}]
)
def test_a_setting_that_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        MontySandbox(**settings)


@pytest.mark.parametrize("names", [({"not a name": 1}, []), ({}, ["__import__"]), ({"context": {1, 2}}, [])])
def test_a_variable_that_cannot_be_given_is_refused(names: Any, monty: MontySandbox) -> None:
    with pytest.raises(InvalidInput):
        monty.open(*names)


def test_without_the_extra_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with pytest.raises(MissingExtra, match="pip install 'rlm-integrations\\[monty\\]'"):
        MontySandbox()


def test_monty_is_loaded_when_it_is_first_used() -> None:
    code = (
        "import sys, rlm_integrations.sandbox, rlm_integrations.testing\n"
        "print('rlm_integrations.sandbox.monty' in sys.modules)\n"
        "sandbox = rlm_integrations.sandbox.MontySandbox()\n"
        "print('pydantic_monty' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nFalse\n"


def test_the_report_says_what_is_missing(monty: MontySandbox) -> None:
    report = monty.report()
    assert report.layers["interpreter"]
    assert not report.strict
    assert "landlock" in report.missing


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_question_is_answered(mode: str, monty: MontySandbox) -> None:
    said = [
        "```python\nfound = [d.id for d in context if 'needle' in d]\nprint(found)\n```",
        "```python\nFINAL(found)\n```",
    ]
    rlm = RLM(ScriptedModel(said), sandbox=monty)
    context = [Document(f"hay {number}", id=f"d{number}") for number in range(50)]
    context[30] = Document("a needle", id="d30")
    if mode == "sync":
        result = rlm.run("where is the needle?", context)
    else:
        result = asyncio.run(rlm.arun("where is the needle?", context))
    assert "d30" in result.answer
    assert result.status == "complete"
