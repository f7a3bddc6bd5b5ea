"""The sandbox by itself."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from textwrap import dedent

from rlm_integrations.sandbox import CellOutput, ProcessSandbox, Resume, Run, Session, SubCall
from tests.benchmarks.figure import Figure, seconds

__all__ = ["measure"]

SUB_CALLS = 1000
PLAIN_LOOP = dedent("""
    total = 0
    for i in range(1_000_000):
        if i % 3 == 0:
            total += i
""")
ATTRIBUTE_LOOP = dedent("""
    class Point:
        def __init__(self, x):
            self.x = x
    point, total = Point(1), 0
    for i in range(500_000):
        total += point.x
""")


def measure() -> Iterator[Figure]:
    """Sessions, cells, sub-calls, and code that computes."""
    with ProcessSandbox(timeout_s=60) as sandbox:

        def start() -> None:
            session = sandbox.open({"context": "text"}, ())
            _run(session, "pass")
            session.close()

        start()
        yield Figure("a session starts, first cell included", seconds(start, 51) * 1e3, "ms", 5)
        session = sandbox.open({"context": "text"}, ("llm_query",))
        _run(session, "pass")
        yield Figure("an empty cell, there and back", seconds(lambda: _run(session, "pass"), 201) * 1e3, "ms", 0.2)
        code = f"for _ in range({SUB_CALLS}):\n    llm_query('x')"
        yield Figure(f"{SUB_CALLS:,} sub-calls from one cell", seconds(lambda: _run(session, code), 7), "s", 0.1)
        text = "x" * 100_000_000
        yield Figure("100 MB delivered, first cell included", seconds(lambda: _deliver(sandbox, text), 5), "s", 0.3)
        for what, code, target in (("a plain loop", PLAIN_LOOP, 1.2), ("a loop of attribute reads", ATTRIBUTE_LOOP, 3)):
            yield Figure(f"{what}, against CPython", _against_cpython(session, code), "x", target)


def _run(session: Session, code: str) -> None:
    stop = session.advance(Run(code))
    while isinstance(stop, SubCall):
        stop = session.advance(Resume("ok"))
    assert isinstance(stop, CellOutput)
    assert stop.error is None, stop.error


def _deliver(sandbox: ProcessSandbox, text: str) -> None:
    session = sandbox.open({"context": text}, ())
    _run(session, "pass")
    session.close()


def _against_cpython(session: Session, code: str, rounds: int = 7) -> float:
    compiled = compile(code, "<loop>", "exec")
    ratios = [
        seconds(lambda: _run(session, code), 1) / seconds(lambda: exec(compiled, {"__name__": "loop"}), 1)
        for _ in range(rounds)
    ]
    return median(ratios)
