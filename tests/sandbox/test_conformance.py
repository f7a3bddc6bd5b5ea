"""``check_sandbox`` passes the sandboxes there are, and names what a broken one breaks."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_integrations.sandbox import CellOutput, IsolationReport, ProcessSandbox, Resume, Run, SubCall
from rlm_integrations.testing import SANDBOX_CHECKS, check_sandbox

Step = Run | Resume
Stop = SubCall | CellOutput


@pytest.mark.parametrize("name", SANDBOX_CHECKS)
def test_the_process_sandbox_keeps_every_promise(name: str, sandbox: ProcessSandbox) -> None:
    assert check_sandbox(sandbox, only=[name]) == (name,)


class Wrapped:
    """A real sandbox, but for what a test breaks."""

    variables: Callable[[dict[str, Any]], dict[str, Any]] = staticmethod(lambda variables: variables)
    before: Callable[[Step], Step] = staticmethod(lambda step: step)
    after: Callable[[Stop], Stop] = staticmethod(lambda stop: stop)

    def __init__(self, sandbox: ProcessSandbox) -> None:
        self.sandbox = sandbox

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        return WrappedSession(self, self.sandbox.open(self.variables(dict(variables)), functions))

    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        return self.open(variables, functions)

    def report(self) -> IsolationReport:
        return self.sandbox.report()


class WrappedSession:
    def __init__(self, wrapped: Wrapped, session: Any) -> None:
        self.wrapped, self.session = wrapped, session
        self.close = session.close

    def advance(self, step: Step) -> Stop:
        return self.wrapped.after(self.session.advance(self.wrapped.before(step)))

    async def aadvance(self, step: Step) -> Stop:
        return self.wrapped.after(await self.session.aadvance(self.wrapped.before(step)))


class SharesItsSessions(Wrapped):
    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        self.one = getattr(self, "one", None) or super().open(variables, functions)
        return self.one


class BlocksTheLoop(Wrapped):
    async def aopen(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        session = self.open(variables, functions)

        async def aadvance(step: Step) -> Stop:
            return session.advance(step)

        session.aadvance = aadvance
        return session


class ClosesLate(Wrapped):
    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        session = super().open(variables, functions)
        session.close = lambda: None
        return session


class RaisesWhatItLikes(Wrapped):
    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        session = super().open(variables, functions)

        def advance(step: Step) -> Stop:
            if isinstance(step, Run) and "1 / 0" not in step.code and "raise" in step.code:
                raise ValueError("it is broken")
            return WrappedSession.advance(session, step)

        session.advance = advance
        return session


class ReportsLess(Wrapped):
    def report(self) -> IsolationReport:
        report = self.sandbox.report()
        return IsolationReport(report.platform, {**report.layers, "lid": False}, {})


class ReadsFiles(Wrapped):
    """One that runs ``open`` in the host."""

    def open(self, variables: Mapping[str, Any], functions: Sequence[str]) -> Any:
        session = super().open(variables, functions)

        def advance(step: Step) -> Stop:
            if isinstance(step, Run) and step.code.startswith("print(open("):
                return CellOutput(Path(step.code.split("'")[1]).read_text())
            return WrappedSession.advance(session, step)

        session.advance = advance
        return session


def changed(**changes: Callable[[CellOutput], Any]) -> Callable[[Stop], Stop]:
    def change(stop: Stop) -> Stop:
        if isinstance(stop, SubCall):
            return stop
        return dataclasses.replace(stop, **{name: make(stop) for name, make in changes.items()})

    return change


class Dull:
    """Breaks of one line each: what is changed of a sandbox, and the promise that this breaks."""

    variables: tuple[Any, ...] = (
        (lambda given: {**given, "context": str(given["context"])}, "documents_keep_their_id_and_metadata"),
        (lambda given: dict.fromkeys(given, ""), "variables_are_in_place"),
        (lambda given: {**given, "context": "nothing"}, "search_finds_passages"),
    )
    before: tuple[Any, ...] = (
        (lambda step: Resume(step.value) if isinstance(step, Resume) else step, "a_failed_call_raises_in_model_code"),
        (lambda step: Resume(str(step.value)) if isinstance(step, Resume) else step, "a_served_function_stops"),
        (lambda step: Resume() if isinstance(step, Resume) else step, "a_batch_goes_out_and_comes_back_in_order"),
        (lambda step: Run("x") if step == Run("rows.append(2)") else step, "state_lives_on_between_cells"),
        (lambda step: Run("") if step == Run("FINAL_VAR('rows')") else step, "final_var_answer_and_show_vars"),
    )
    after: tuple[Any, ...] = (
        (changed(stdout=lambda seen: seen.stdout * 2), "output_is_what_was_printed_and_a_trailing_expression_once"),
        (changed(stdout=lambda seen: seen.stdout[1:]), "output_is_cut"),
        (changed(error=lambda seen: seen.error and "failed"), "an_exception_is_an_error_text"),
        (changed(final=lambda seen: None), "final_gives_the_value_and_its_quotes_and_the_first_call_counts"),
        (
            changed(restarted=lambda seen: seen.restarted or seen.stdout == "on\n"),
            "the_clock_stops_while_the_host_serves_a_call",
        ),
        (changed(restarted=lambda seen: False), "a_cell_past_its_time_is_ended_and_the_session_goes_on"),
        (
            lambda stop: SubCall(stop.name, list(stop.args)) if isinstance(stop, SubCall) else stop,
            "values_leave_as_json",
        ),
    )


def broken_in_one_line() -> list[Any]:
    made = [(hook, *broken) for hook in ("variables", "before", "after") for broken in getattr(Dull, hook)]
    return [pytest.param(hook, how, name, id=name) for hook, how, name in made]


@pytest.mark.parametrize(("hook", "how", "name"), broken_in_one_line())
def test_a_broken_promise_is_named(hook: str, how: Any, name: str, sandbox: ProcessSandbox) -> None:
    broken = type("Broken", (Wrapped,), {hook: staticmethod(how)})(sandbox)
    check = next(check for check in SANDBOX_CHECKS if check.startswith(name))
    with pytest.raises(AssertionError, match=f"Broken breaks 2 promises of a sandbox:\n- {check} \\(sync\\): "):
        check_sandbox(broken, only=[check])


@pytest.mark.parametrize(
    ("broken", "name", "seen"),
    [
        (SharesItsSessions, "sessions_run_at_once_and_share_nothing", "expected|busy"),
        (BlocksTheLoop, "the_event_loop_is_not_blocked", "a gap of 1"),
        (BlocksTheLoop, "a_cancelled_step_ends_at_once", "still waiting"),
        (ClosesLate, "a_closed_session_takes_no_step", "expected SandboxError .* saw"),
        (ClosesLate, "closing_ends_a_step_that_waits", "expected SandboxError for a step whose session"),
        (RaisesWhatItLikes, "an_exception_is_an_error_text_and_what_was_done_before_it_stays", "raised ValueError"),
        (ReportsLess, "the_report_names_the_layers", "expected {'lid'"),
        (ReadsFiles, "files_environment_and_sockets_are_out_of_reach", "to show nothing"),
    ],
)
def test_a_sandbox_that_misbehaves_is_told_what_was_seen(
    broken: type[Wrapped], name: str, seen: str, sandbox: ProcessSandbox
) -> None:
    started = time.monotonic()
    with pytest.raises(AssertionError, match=f"{name}.*{seen}"):
        check_sandbox(broken(sandbox), only=[name], patience_s=3)
    assert time.monotonic() - started < 20


def test_all_broken_promises_are_named_and_the_rest_is_still_checked(sandbox: ProcessSandbox) -> None:
    broken = type("Broken", (Wrapped,), {"after": staticmethod(changed(final=lambda seen: None))})(sandbox)
    names = ["state_lives_on_between_cells", *(name for name in SANDBOX_CHECKS if name.startswith("final"))]
    with pytest.raises(AssertionError) as caught:
        check_sandbox(broken, only=names)
    assert str(caught.value).count("\n- ") == 4
    assert "state_lives_on" not in str(caught.value)


def test_a_check_that_is_not_there_is_refused(sandbox: ProcessSandbox) -> None:
    with pytest.raises(ValueError, match="no checks \\['speed'\\]"):
        check_sandbox(sandbox, skip=["speed"])


def test_checking_leaves_no_thread_behind(sandbox: ProcessSandbox) -> None:
    before = threading.active_count()
    check_sandbox(sandbox, only=["state_lives_on_between_cells"])
    assert threading.active_count() <= before
