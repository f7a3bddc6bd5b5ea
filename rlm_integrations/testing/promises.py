"""What every sandbox promises, one check each; a check's name says what."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlm_integrations.context import Document
from rlm_integrations.errors import SandboxError
from rlm_integrations.ports import CellOutput, Final, IsolationReport, Resume, Run, Session, SubCall
from rlm_integrations.testing.host import Broken, Host, expect, expect_that

Check = Callable[[Host], None]
PROMISES: dict[str, tuple[Check, tuple[str, ...]]] = {}
FOREVER = "while True:\n    pass"


def promise(*modes: str) -> Callable[[Check], Check]:
    """Enter a check, to be run in each of ``modes``."""

    def enter(check: Check) -> Check:
        PROMISES[check.__name__] = check, modes
        return check

    return enter


both = promise("sync", "async")


@both
def variables_are_in_place(host: Host) -> None:
    context = {"rows": [{"n": 1, "price": 2.5}, None], "on": True, "text": "é ☃ 'quoted'", "": []}
    session = host.open({"context": context, "query": "what?"})
    expect("a dict of JSON values", f"{context!r}\n", host.printed(session, "print(context)"))
    expect("a str", "what?\n", host.printed(session, "print(query)"))
    session = host.open({"context": ["one", "two"]})
    expect("a list of str", "list 2 ONE\n", host.printed(session, "print('list', len(context), context[0].upper())"))
    long = "0123456789" * 200_000
    session = host.open({"context": long})
    expect("a long str", f"{len(long)} {long[-7:]}\n", host.printed(session, "print(len(context), context[-7:])"))


@both
def documents_keep_their_id_and_metadata(host: Host) -> None:
    documents = [Document("alpha text", id="a", metadata={"year": 1}), Document("beta text", id="b")]
    session = host.open({"context": documents}, ["f"])
    code = "for d in context:\n    print(d.id, d.metadata, d[:4], len(d), 'text' in d)"
    expect("documents", "a {'year': 1} alph 10 True\nb {} beta 9 True\n", host.printed(session, code))
    calls: list[SubCall] = []
    host.cell(session, "f(context[0])", _noting(calls))
    seen = [(type(arg).__name__, str(arg), getattr(arg, "id", None)) for call in calls for arg in call.args]
    expect("a document given to a function", [("Document", "alpha text", "a")], seen)
    session = host.open({"context": documents[0]})
    expect("a document alone", "a 1 ALPHA TEXT\n", host.printed(session, _ALONE))


_ALONE = "print(context.id, context.metadata['year'], context.upper())"


@both
def state_lives_on_between_cells(host: Host) -> None:
    session = host.open({"context": "x"})
    host.printed(session, "rows = [1]\ndef total(extra):\n    return sum(rows) + extra\nimport math")
    host.printed(session, "rows.append(2)")
    expect("names of earlier cells", "6 [1, 2] 2\n", host.printed(session, "print(total(3), rows, math.floor(2.5))"))


@both
def output_is_what_was_printed_and_a_trailing_expression_once(host: Host) -> None:
    session = host.open({"context": "x"})
    for code, printed in (
        ("print('a', 1)\nprint('b', end='')", "a 1\nb"),
        ("1 + 1", "2\n"),
        ("'text'", "text\n"),
        ("['text']", "['text']\n"),
        ("print('a')", "a\n"),
        ("print('a')\n(1,\n 2)", "a\n(1, 2)\n"),
        ("y = 5", ""),
        ("None", ""),
        ("", ""),
    ):
        expect(f"the output of {code!r}", printed, host.printed(session, code))


@both
def an_exception_is_an_error_text_and_what_was_done_before_it_stays(host: Host) -> None:
    session = host.open({"context": "x"})
    output = host.cell(session, "kept = 7\nprint('before')\nraise ValueError('it is broken')")
    expect("output before an exception", "before\n", output.stdout)
    error = output.error or ""
    expect_that("ValueError" in error and "it is broken" in error, "an error with type and message", output)
    expect("restarted after an exception", False, output.restarted)
    expect_that(bool(host.cell(session, "if x\n    pass").error), "an error for bad syntax", output)
    expect("a variable set before an exception", "7\n", host.printed(session, "print(kept)"))


@both
def a_served_function_stops_the_session(host: Host) -> None:
    session = host.open({"context": "x"}, ["ask"])
    call = host.step(session, Run("reply = ask('a', 2, [3], key={'k': None})\nprint(reply['said'])"))
    expect("a call", SubCall("ask", ("a", 2, [3]), {"key": {"k": None}}), call)
    expect("what comes after it", CellOutput("hello\n"), host.step(session, Resume({"said": "hello"})))
    codes = "print(type(ask(1)), ask(2))\nprint([ask(n) for n in (3, 4)])"
    printed = host.printed(session, codes, lambda call: Resume(call.args[0] * 10))
    expect("several calls in a cell", "<class 'int'> 20\n[30, 40]\n", printed)


@both
def a_failed_call_raises_in_model_code(host: Host) -> None:
    session = host.open({"context": "x"}, ["ask"])
    code = "try:\n    ask()\nexcept Exception as error:\n    print('caught', error)"
    expect("a failure", "caught no luck\n", host.printed(session, code, lambda call: Resume(error="no luck")))
    output = host.cell(session, "ask()\nprint('not reached')", lambda call: Resume(error="no luck"))
    expect("output after a failure", "", output.stdout)
    expect_that("no luck" in (output.error or ""), "an error that says 'no luck'", output)


@both
def values_leave_as_json(host: Host) -> None:
    session = host.open({"context": "x"}, ["f"])
    calls: list[SubCall] = []
    host.printed(session, "class Row:\n    def __init__(self):\n        self.n = 1")
    host.cell(session, "f((1, 2), {3}, {4: 'x'}, Row(), float('nan'), b'b')\nf([f])", _noting(calls))
    for call in calls:
        expect("the type of the arguments", tuple, type(call.args))
        for part in (*call.args, *call.kwargs.values()):
            _expect_json(part)
    expect("containers", ([1, 2], [3], {"4": "x"}), calls[0].args[:3] if calls else None)
    final = host.cell(session, "FINAL({'a': (1, {2}), 3: None})").final
    expect("a final value", Final({"a": [1, [2]], "3": None}), final)
    output = host.cell(session, "deep = []\nfor i in range(5000):\n    deep = [deep]\nf(deep)", _noting(calls))
    expect("restarted after a deep value", False, output.restarted)


@both
def a_batch_goes_out_and_comes_back_in_order(host: Host) -> None:
    session = host.open({"context": "x"}, ["ask_all"])
    code = "replies = ask_all([f'q{i}' for i in range(50)])\nprint(len(replies), replies[0], replies[49])"
    printed = host.printed(session, code, lambda call: Resume([f"r:{prompt}" for prompt in call.args[0]]))
    expect("a batch", "50 r:q0 r:q49\n", printed)


@both
def final_gives_the_value_and_its_quotes_and_the_first_call_counts(host: Host) -> None:
    session = host.open({"context": "one two"}, ["ask"])
    expect("final without FINAL", None, host.cell(session, "FINAL").final)
    for code, final in (
        ("FINAL(2 + 3)", Final(5)),
        ("FINAL({'a': [1, None]}, quotes=['one', 'two'])", Final({"a": [1, None]}, ("one", "two"))),
        ("FINAL('first')\nFINAL('second')", Final("first")),
        ("def end():\n    FINAL(context)\nend()", Final("one two")),
        ("print('FINAL(1)')", None),
    ):
        output = host.cell(session, code)
        expect(f"the final value of {code!r}", final, output.final)
        expect(f"the error of {code!r}", None, output.error)
    expect("the session after FINAL", "7\n", host.printed(session, "print(7)"))


@both
def final_var_answer_and_show_vars_are_there(host: Host) -> None:
    session = host.open({"context": "x"})
    shown = host.printed(session, "rows = [1, 2]\nprint(sorted(SHOW_VARS()))")
    expect("the model's variables", "['rows']\n", shown)
    expect("FINAL_VAR", Final([1, 2]), host.cell(session, "FINAL_VAR('rows')").final)
    expect_that(
        bool(host.cell(session, "FINAL_VAR('absent')").error), "an error for a variable that is not there", None
    )
    expect("answer without ready", None, host.cell(session, "answer['content'] = rows").final)
    expect("answer", Final([1, 2]), host.cell(session, "answer['ready'] = True").final)


@both
def search_finds_passages(host: Host) -> None:
    session = host.open({"context": ["the fox jumps", "a dog sleeps", "more of nothing"]})
    expect("a search", "a dog sleeps\n", host.printed(session, "print(str(search('dog')[0]))"))
    expect("n", "1\n", host.printed(session, "print(len(search('the a of', n=1)))"))
    expect("nothing found", "0\n", host.printed(session, "print(len(search('zebra')), end='\\n')"))
    host.printed(session, "search('\"dog AND (') and search('NEAR/ * ^ -')")


@both
def a_cell_past_its_time_is_ended_and_the_session_goes_on(host: Host) -> None:
    session = host.open({"context": "text"}, ["f"])
    host.printed(session, "mine = 1")
    started = time.monotonic()
    output = host.step(session, Run(FOREVER, timeout_s=0.5))
    took_s = time.monotonic() - started
    expect_that(0.4 < took_s < 5, "an end after about 0.5 s", f"{took_s:.2f} s")
    _expect_restarted(output)
    expect("a variable after the restart", "text\n", host.printed(session, "print(context)"))
    expect_that(bool(host.cell(session, "print(mine)").error), "the model's variables to be lost", "mine")
    host.step(session, Run(f"f()\n{FOREVER}"))
    _expect_restarted(host.step(session, Resume(timeout_s=0.3)))
    expect("a variable after another restart", "text\n", host.printed(session, "print(context)"))


@both
def the_clock_stops_while_the_host_serves_a_call(host: Host) -> None:
    session = host.open({"context": "x"}, ["f"])
    host.printed(session, "0")
    host.step(session, Run("f()\nprint('on')", timeout_s=1))
    threading.Event().wait(1.3)
    expect("a cell whose call took longer than its time", CellOutput("on\n"), host.step(session, Resume()))


@both
def output_is_cut(host: Host) -> None:
    session = host.open({"context": "x"})
    stdout = host.cell(session, "print('head')\nfor i in range(3000):\n    print('x' * 1000)").stdout
    expect_that(len(stdout) < 1_500_000, "at most 1,500,000 characters of 3,000,000", f"{len(stdout):,} characters")
    expect("the beginning", "head\n", stdout[:5])
    expect("the next output", "on\n", host.printed(session, "print('on')"))


@both
def a_step_out_of_turn_is_refused_and_harms_nothing(host: Host) -> None:
    session = host.open({"context": "x"}, ["f"])
    _expect_refused(host, session, Resume("x"))
    expect("a cell after a Resume out of turn", "1\n", host.printed(session, "print(1)"))
    host.step(session, Run("print(f())"))
    _expect_refused(host, session, Run("print(2)"))
    expect("a call after a Run out of turn", CellOutput("x\n"), host.step(session, Resume("x")))


@both
def a_closed_session_takes_no_step(host: Host) -> None:
    opened = host.open({"context": "x"}, ["f"])
    opened.close()
    ran = host.open({"context": "x"}, ["f"])
    host.printed(ran, "1")
    waits = host.open({"context": "x"}, ["f"])
    host.step(waits, Run("f()"))
    for session, step in ((opened, Run("1")), (ran, Run("1")), (waits, Resume())):
        host.wait(session.close, "close")
        host.wait(session.close, "a second close")
        _expect_refused(host, session, step)


@both
def closing_ends_a_step_that_waits(host: Host) -> None:
    session = host.open({"context": "x"}, ["f"])
    host.step(session, Run("f()"))
    step = host.start(session, Resume())
    host.outcome(step, "a resumed cell")
    step = host.start(session, Run(FOREVER, timeout_s=host.patience_s))
    threading.Event().wait(0.2)
    host.wait(session.close, "close")
    started = time.monotonic()
    _expect_sandbox_error(host, step, "a step whose session was closed")
    took_s = time.monotonic() - started
    expect_that(took_s < 5, "an end at once", f"{took_s:.2f} s")


@promise("async")
def a_cancelled_step_ends_at_once(host: Host) -> None:
    session = host.open({"context": "x"})
    host.printed(session, "1")

    async def cancel() -> float:
        step = asyncio.ensure_future(session.aadvance(Run(FOREVER, timeout_s=host.patience_s)))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        step.cancel()
        try:
            outcome = await step
        except asyncio.CancelledError:
            return time.monotonic() - started
        raise Broken(f"expected CancelledError, saw {outcome!r}")

    took_s = host.run(cancel(), "a cancelled step")
    expect_that(took_s < 2, "a cancelled step to end at once", f"{took_s:.2f} s")
    expect("another session", "1\n", host.printed(host.open({"context": "x"}), "print(1)"))


@both
def sessions_run_at_once_and_share_nothing(host: Host) -> None:
    sessions = [host.open({"context": str(number)}, ["f"]) for number in range(12)]
    steps = [host.start(session, Run("mine = 'x' + context\nf(context)")) for session in sessions]
    calls = [host.outcome(step, "one of 12 cells") for step in steps]
    expect("calls of 12 sessions", [SubCall("f", (str(number),)) for number in range(12)], calls)
    steps = [host.start(session, Resume(number)) for number, session in enumerate(sessions)]
    outputs = [host.outcome(step, "one of 12 resumed cells") for step in steps]
    expect("what they return", [CellOutput(f"{number}\n") for number in range(12)], outputs)
    steps = [host.start(session, Run("print(mine)")) for session in sessions]
    printed = [getattr(host.outcome(step, "one of 12 cells"), "stdout", None) for step in steps]
    expect("each one's own variable", [f"x{number}\n" for number in range(12)], printed)


@both
def a_caller_s_own_value_is_not_changed(host: Host) -> None:
    context: dict[str, Any] = {"rows": [1]}
    session = host.open({"context": context}, ["f"])
    host.printed(session, "context['rows'].append(2)\ncontext['new'] = 1")
    reply = [1]
    host.printed(session, "f().append(2)", lambda call: Resume(reply))
    expect("the caller's context", {"rows": [1]}, context)
    expect("the caller's reply", [1], reply)


@promise("async")
def the_event_loop_is_not_blocked(host: Host) -> None:
    session = host.open({"context": "0123456789" * 100_000})

    async def longest_gap_s() -> float:
        step = asyncio.ensure_future(session.aadvance(Run(FOREVER, timeout_s=1.5)))
        gaps = [0.0]
        while not step.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)
        await step
        return max(gaps)

    gap_s = host.run(longest_gap_s(), "a cell of 1.5 s")
    expect_that(gap_s < 0.75, "a loop that goes on while a cell runs for 1.5 s", f"a gap of {gap_s:.2f} s")


@promise("sync")
def the_report_names_the_layers(host: Host) -> None:
    report = host.wait(host.sandbox.report, "report")
    expect("the report", IsolationReport, type(report))
    layers = {type(name) is str and type(held) is bool for name, held in report.layers.items()}
    expect_that(layers == {True}, "layers with names that are in force or not", report.layers)
    absent = {name for name, held in report.layers.items() if not held}
    expect("the layers with a reason why they are missing", absent, set(report.missing))


REACHING_OUT = (
    "print(open({secret!r}).read())",
    "from pathlib import Path\nprint(Path({secret!r}).read_text())",
    "import os\nprint(os.open({secret!r}, 0), os.read(os.open({secret!r}, 0), 99))",
    "import os\nprint(os.environ, os.getenv({name!r}))",
    "import os\nprint(os.environ.get({name!r}))",
    "open({mark!r}, 'w').write('x')",
    "from pathlib import Path\nPath({mark!r}).touch()",
    "import subprocess\nprint(subprocess.run(['cat', {secret!r}], capture_output=True))",
    "import os\nos.system('echo x > ' + {mark!r})",
    "import socket\nsocket.socket(socket.AF_UNIX).connect({socket!r})",
)


@both
def files_environment_and_sockets_are_out_of_reach(host: Host) -> None:
    canary, name = secrets.token_hex(16), "RLM_CHECK_" + secrets.token_hex(4).upper()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-check-")))
        places = {"secret": folder / "secret", "mark": folder / "mark", "socket": folder / "socket"}
        places["secret"].write_text(canary)
        # What any process may do here must be stopped by the sandbox, not by the rights of its process.
        folder.chmod(0o777)
        places["secret"].chmod(0o644)
        os.environ[name] = canary
        stack.callback(os.environ.pop, name, None)
        listener = None
        if hasattr(socket, "AF_UNIX"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(places["socket"]))
            listener.listen()
            listener.setblocking(False)
            places["socket"].chmod(0o777)
        session = host.open({"context": "x"})
        for code in REACHING_OUT:
            code = code.format(name=name, **{key: str(place) for key, place in places.items()})
            output = host.cell(session, code)
            expect_that(canary not in repr(output), f"{code!r} to show nothing", output)
            expect_that(not places["mark"].exists(), f"{code!r} to write nothing", "a file that it made")
        if listener is not None:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return
            raise Broken("expected no connection, saw one to a socket of this machine")


def _noting(calls: list[SubCall]) -> Callable[[SubCall], Resume]:
    def answer(call: SubCall) -> Resume:
        calls.append(call)
        return Resume()

    return answer


def _expect_json(value: Any) -> None:
    if type(value) is dict:
        for key, part in value.items():
            expect("the type of a key", str, type(key))
            _expect_json(part)
    elif type(value) is list:
        for part in value:
            _expect_json(part)
    else:
        json_type = value is None or type(value) in (str, bool, int, float)
        expect_that(json_type and value == value, "JSON values only", value)


def _expect_restarted(output: SubCall | CellOutput) -> None:
    if not isinstance(output, CellOutput) or not output.error or not output.restarted:
        raise Broken(f"expected an error that says why, and restarted=True, saw {output!r}")


def _expect_refused(host: Host, session: Session, step: Run | Resume) -> None:
    _expect_sandbox_error(host, host.start(session, step), f"{step!r} out of turn")


def _expect_sandbox_error(host: Host, step: Future[SubCall | CellOutput], what: str) -> None:
    try:
        outcome = host.outcome(step, what)
    except SandboxError:
        return
    raise Broken(f"expected SandboxError for {what}, saw {outcome!r}")
