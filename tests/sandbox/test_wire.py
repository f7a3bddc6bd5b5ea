"""The wire: no bytes from a worker harm the host, and each way to misbehave ends in words, not in a hang."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_integrations.context import Document
from rlm_integrations.errors import SandboxError, WireError
from rlm_integrations.sandbox import CellOutput, Resume, Run, wire
from rlm_integrations.sandbox.session import ProcessSession

Worker = Callable[["Peer"], None]
HUGE = wire.HEADER.pack(wire.MAX_FRAME_BYTES + 1, wire.JSON)


class Peer:
    """The worker's end of a session, played by a test."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.cell = end, ""

    def send(self, message: Any) -> None:
        self.raw(wire.frame(message))

    def raw(self, data: bytes) -> None:
        self.end.sendall(data)

    def take(self) -> Any:
        """The next JSON frame from the host."""
        length, kind = wire.HEADER.unpack(self._exactly(wire.HEADER.size))
        body = self._exactly(length)
        return wire.loads(body) if kind == wire.JSON else body

    def begin(self) -> Peer:
        """What every well-behaved worker does up to its first cell."""
        self.send({"type": "hello", "pid": 2})
        for _ in self.take()["variables"]:
            if self.take()["shape"] == "stored":
                continue
            while self.take() is not None:
                pass
        self.send({"type": "ready", "layers": {}})
        self.cell = self.take()["cell"]
        return self

    def done(self, **changes: Any) -> None:
        self.send(
            {"type": "done", "cell": self.cell, "stdout": "", "error": None, "final": None, "spent": False} | changes
        )

    def call(self, **changes: Any) -> None:
        self.send({"type": "call", "cell": self.cell, "name": "f", "args": [], "kwargs": {}} | changes)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (part := self.end.recv(size - len(data))):
                raise ConnectionResetError
            data += part
        return data


class Stage:
    """Stands where the launcher stands, with one played worker after the other."""

    def __init__(self, *workers: Worker) -> None:
        self.workers, self.threads = list(workers), list[threading.Thread]()

    takes_packs = True

    def launch(self, end: socket.socket, memory_bytes: int, pack: int | None = None) -> bool:
        thread = threading.Thread(target=self._play, args=[self.workers.pop(0), end.dup()])
        thread.start()
        self.threads.append(thread)
        return True

    def kill(self, pid: int) -> None:
        """A played worker has no process."""

    def trouble(self) -> str | None:
        return None

    def _play(self, worker: Worker, end: socket.socket) -> None:
        with end:
            try:
                worker(Peer(end))
                while end.recv(1 << 16):
                    pass
            except OSError:
                pass


@pytest.fixture
def play() -> Iterator[Callable[..., ProcessSession]]:
    """A session with played workers."""
    played: list[tuple[ProcessSession, Stage]] = []

    def play(*workers: Worker, **settings: Any) -> ProcessSession:
        stage = Stage(*workers)
        limits = {"timeout_s": 0.3, "memory_bytes": 1 << 30, "max_output_chars": 100, "strict": False} | settings
        session = ProcessSession(stage, {"context": "x"}, ["f"], **limits)  # type: ignore[arg-type]
        played.append((session, stage))
        return session

    yield play
    for session, stage in played:
        session.close()
        for thread in stage.threads:
            thread.join(5)
            assert not thread.is_alive()


def honest(peer: Peer) -> None:
    peer.begin().done(stdout="honest\n")


MISBEHAVIOURS: dict[str, tuple[Worker, str]] = {
    "closes": (lambda peer: peer.begin().end.close(), "died"),
    "never answers": (lambda peer: peer.begin() and None, "took longer than 0.3 s"),
    "truncates": (lambda peer: peer.begin().raw(wire.frame({"type": "done"})[:-3]), "took longer than 0.3 s"),
    "sends one byte": (lambda peer: peer.begin().raw(b"\0"), "took longer than 0.3 s"),
    "announces too much": (lambda peer: peer.begin().raw(HUGE), "at most 8,388,608"),
    "sends raw text": (lambda peer: peer.begin().raw(wire.HEADER.pack(1, wire.TEXT) + b"x"), "kind 2"),
    "sends zeros": (lambda peer: peer.begin().raw(bytes(64)), "kind 0"),
    "sends no JSON": (lambda peer: peer.begin().raw(wire.HEADER.pack(3, wire.JSON) + b"{x}"), "not JSON"),
    "sends no UTF-8": (lambda peer: peer.begin().raw(wire.HEADER.pack(2, wire.JSON) + b"\xff\xfe"), "not JSON"),
    "sends NaN": (lambda peer: peer.begin().raw(wire.HEADER.pack(3, wire.JSON) + b"NaN"), "not JSON"),
    "sends infinity": (lambda peer: peer.begin().raw(wire.HEADER.pack(5, wire.JSON) + b"1e999"), "not JSON"),
    "nests": (lambda peer: peer.begin().raw(wire.HEADER.pack(200_000, wire.JSON) + b"[" * 200_000), "not JSON"),
    "nests well": (lambda peer: peer.begin().done(final={"value": nested(500), "quotes": []}), "nested too deeply"),
    "counts up": (lambda peer: peer.begin().raw(many_values()), "more than 1,000,000 values"),
    "nests a little too well": (lambda peer: peer.begin().done(final={"value": nested(103), "quotes": []}), "deeply"),
    "halves a character": (lambda peer: peer.begin().done(final={"value": "\ud800", "quotes": []}), "not JSON"),
    "halves it as an escape": (lambda peer: peer.begin().raw(escaped_half(peer.cell)), "not JSON"),
    "forges the cell": (lambda peer: peer.begin().done(cell="0" * 32), "another cell"),
    "calls in the name of another cell": (lambda peer: peer.begin().call(cell=""), "another cell"),
    "calls what is not offered": (lambda peer: peer.begin().call(name="__import__"), "not offered"),
    "sends an unknown message": (lambda peer: peer.begin().send({"type": "exec"}), "no message"),
    "sends a list": (lambda peer: peer.begin().send([1]), "no message"),
    "leaves out a field": (lambda peer: peer.begin().send({"type": "done", "cell": peer.cell}), "no message"),
    "prints a number": (lambda peer: peer.begin().done(stdout=1), "no message"),
    "has an error that is a list": (lambda peer: peer.begin().done(error=["x"]), "no message"),
    "quotes numbers": (lambda peer: peer.begin().done(final={"value": 1, "quotes": [1]}), "no message"),
    "calls with text for kwargs": (lambda peer: peer.begin().call(kwargs="x"), "no message"),
    "forges a tag": (lambda peer: peer.begin().call(args=[{"$": "document", "text": 1}]), "malformed tag"),
    "greets twice": (lambda peer: peer.begin().send({"type": "hello", "pid": 2}), "out of order"),
}


# The first text of a run builds a table of all characters.
settings.register_profile("sandbox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sandbox")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def escaped_half(cell: str) -> bytes:
    done = {"type": "done", "cell": cell, "stdout": "", "error": None, "spent": False}
    body = json.dumps({**done, "final": {"value": {"\ud800": 1}, "quotes": []}}).encode()
    return wire.HEADER.pack(len(body), wire.JSON) + body


def many_values() -> bytes:
    body = b"[" + b"[]," * 1_500_000 + b"1]"
    return wire.HEADER.pack(len(body), wire.JSON) + body


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_a_worker_that_misbehaves_is_replaced_and_the_model_is_told(name: str, play: Any, run_in: Any) -> None:
    worker, reason = MISBEHAVIOURS[name]
    session = play(worker, honest)
    output = run_in(session, "1")
    assert output.restarted
    assert reason in output.error
    assert run_in(session, "1") == CellOutput("honest\n")


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (lambda peer: peer.end.close(), "died"),
        (lambda peer: peer.raw(bytes(64)), "kind 0"),
        (lambda peer: peer.done(), "no greeting"),
        (lambda peer: (peer.send({"type": "hello", "pid": 2}), peer.done()), "out of order"),
        (lambda peer: peer.send({"type": "hello", "pid": True}), "no message"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_session(worker: Worker, reason: str, play: Any, run_in: Any) -> None:
    with pytest.raises(SandboxError, match=reason):
        run_in(play(worker), "1")


def test_bytes_left_over_from_the_last_cell_cost_the_worker_its_place(play: Any, run_in: Any) -> None:
    def chatty(peer: Peer) -> None:
        done = {"type": "done", "stdout": "first\n", "error": None, "final": None, "spent": False}
        peer.begin().raw(
            wire.frame({**done, "cell": peer.cell}) + wire.frame({**done, "stdout": "forged\n", "cell": ""})
        )

    session = play(chatty, honest)
    assert run_in(session, "1").stdout == "first\n"
    output = run_in(session, "1")
    assert output.stdout == "honest\n"
    assert output.restarted
    assert "lost between two cells" in output.error


def test_a_worker_that_never_reads_holds_nobody_up(play: Any, run_in: Any) -> None:
    never = threading.Event()

    def deaf(peer: Peer) -> None:
        peer.begin().call()
        never.wait(3)

    session = play(deaf, honest)
    output = run_in(session, "1", lambda call: Resume("x" * 10_000_000))
    never.set()
    assert "took longer" in output.error


def test_a_worker_that_says_more_than_the_limit_is_cut_by_the_host(play: Any, run_in: Any) -> None:
    session = play(lambda peer: peer.begin().done(stdout="x" * 1_000_000 + "\x1b", error="e" * 1_000_000))
    output = run_in(session, "1")
    assert len(output.stdout) < 3_000
    assert len(output.error) < 30_000
    assert "\x1b" not in output.stdout


@given(st.binary(max_size=300))
def test_the_reader_takes_any_bytes_and_gives_frames_or_a_wire_error(data: bytes) -> None:
    reader = wire.FrameReader()
    reader.feed(data)
    try:
        while (body := reader.next()) is not None:
            wire.parse(body)
    except WireError:
        pass
    assert len(reader.buffer) <= len(data)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b"," * (wire.MAX_FRAME_BYTES - 2) + b'"',
        b'"' + b'\\"' * (wire.MAX_FRAME_BYTES // 2 - 1) + b'"',
        b"[" + b'",",' * (wire.MAX_FRAME_BYTES // 4 - 1) + b"1]",
        b'"' + b"," * (wire.MAX_FRAME_BYTES - 1),
        b"," * wire.MAX_FRAME_BYTES,
    ],
    ids=["commas in a string", "quotes in a string", "strings of commas", "a string without an end", "commas"],
)
def test_no_frame_costs_the_host_much_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            wire.parse(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["$", "done", "call", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["$", "text", "items"]), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["type", "cell", "name", "args", "kwargs", "stdout", "error", "final"]), JSON))
def test_any_json_is_a_message_or_a_wire_error(message: Any) -> None:
    for kind in ("done", "call", "hello", "ready"):
        body = json.dumps({**message, "type": kind}).encode()
        with contextlib.suppress(WireError):
            assert type(wire.parse(body)).__name__.lower() == kind


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 20))
def test_frames_come_out_whole_however_the_bytes_are_cut(bodies: list[bytes], step: int) -> None:
    data = b"".join(wire.HEADER.pack(len(body), wire.JSON) + body for body in bodies)
    reader, found = wire.FrameReader(), []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (body := reader.next()) is not None:
            found.append(bytes(body))
    assert found == bodies


TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | TEXT.map(lambda t: Document(t, id="i")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("$"), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    found = wire.untagged(wire.loads(wire.frame(wire.tagged(value))[wire.HEADER.size :]))
    assert found == value
    assert repr(found) == repr(value)


def test_a_long_text_is_cut_between_characters() -> None:
    text = "a😀\ud800" * 1_000_000
    pieces = [frame[wire.HEADER.size :].decode("utf-8", "surrogatepass") for frame in wire.text_frames(text)]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) == wire.CHUNK_CHARS


def test_a_run_step_carries_a_new_id_for_each_cell(play: Any, run_in: Any) -> None:
    seen: list[str] = []

    def worker(peer: Peer) -> None:
        peer.begin().done()
        seen.append(peer.cell)
        seen.append(peer.take()["cell"])
        peer.done(cell=seen[1])

    session = play(worker)
    session.advance(Run("1"))
    session.advance(Run("1"))
    assert len(set(seen)) == 2
    assert min(map(len, seen)) == 32
