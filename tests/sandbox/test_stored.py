"""Contexts on disk: the worker reads documents when they are touched, and the host is told their numbers only."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlm_integrations.context import Context, Document
from rlm_integrations.errors import InvalidInput
from rlm_integrations.sandbox import CellOutput, MontySandbox, ProcessSandbox, Resume, Run, Session, SubCall
from rlm_integrations.sandbox.launcher import Launcher
from rlm_integrations.sandbox.packed import Packed
from rlm_integrations.sandbox.pool import PoolLauncher
from rlm_integrations.sandbox.search import INDEXED_CHARS
from rlm_integrations.sandbox.wire import tagged
from rlm_integrations.stored import Store, StoredDocument, StoredDocuments, write_pack
from rlm_integrations.stored.pack import Row
from rlm_integrations.stored.store import INDEX, PACK
from tests.sandbox.conftest import run_cell

FILLER = "Été après été, nothing of note happened, and the log was closed at dusk as usual.\n"
TEXTS = [f"Report {n} of the harbour.\n{FILLER * (n % 7)}The name of ship {n} is Ærø{n}.\n" for n in range(40)]


def stored(folder: Path, texts: list[str]) -> StoredDocuments:
    (folder / "files").mkdir()
    for number, text in enumerate(texts):
        (folder / "files" / f"{number:04}.txt").write_text(text, "utf-8", newline="")
    value = Context.from_files(folder / "files", lazy=True, index=folder / "store").value
    assert isinstance(value, StoredDocuments)
    return value


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> StoredDocuments:
    return stored(tmp_path_factory.mktemp("small"), TEXTS)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> StoredDocuments:
    """More than is indexed in the worker; the fifth document holds what no other does, behind a lot of accents."""
    texts = [f"{FILLER * 2_500}The keeper of lamp {n} was called Jørgen{n}.\n{FILLER * 2_500}" for n in range(12)]
    value = stored(tmp_path_factory.mktemp("large"), texts)
    assert value.chars > INDEXED_CHARS
    return value


@pytest.fixture
def opened(sandbox: ProcessSandbox) -> Iterator[Callable[[Any], Session]]:
    """Opens sessions over a context, with one function of the host."""
    sessions: list[Session] = []

    def opened(context: Any, within: ProcessSandbox = sandbox) -> Session:
        sessions.append(within.open({"context": context}, ["f"]))
        return sessions[-1]

    yield opened
    for session in sessions:
        session.close()


def found(run_in: Any, session: Session, code: str) -> Any:
    """What a cell prints as JSON."""
    output: CellOutput = run_in(session, f"import json\nprint(json.dumps({code}))")
    assert output.error is None
    return json.loads(output.stdout)


def test_documents_are_a_sequence_in_the_order_of_the_files(
    documents: StoredDocuments, opened: Any, run_in: Any
) -> None:
    session = opened(documents)
    assert found(run_in, session, "[len(context), context[0], context[-1], context[7][:8]]") == [
        40, TEXTS[0], TEXTS[-1], "Report 7",
    ]  # fmt: skip
    digest = hashlib.sha256("".join(TEXTS).encode()).hexdigest()
    assert found(run_in, session, "hashlib.sha256(''.join(context).encode()).hexdigest()") == digest
    assert found(run_in, session, "[d.id for d in reversed(context)][:2]") == ["0039.txt", "0038.txt"]
    assert found(run_in, session, "[d['path'][-8:] for d in context[:2]]") == ["0000.txt", "0001.txt"]
    assert found(run_in, session, "[context[3] in context, 'x' in context, context.index(context[3])]") == [1, 0, 3]
    assert found(run_in, session, "[isinstance(context[0], (str, Document)), context.ids[5]]") == [True, "0005.txt"]
    assert found(run_in, session, "sum(d.count('Ærø') for i, d in enumerate(context) if i % 2)") == 20


def test_a_slice_is_a_view_of_the_same_kind(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    session = opened(documents)
    assert found(run_in, session, "[[d.id[:4] for d in context[30:4:-9]], len(context[50:])]") == [
        ["0030", "0021", "0012"], 0,
    ]  # fmt: skip
    assert found(run_in, session, "[d.id[:4] for d in context[10:20][2:6][::3]]") == ["0012", "0015"]
    size = sum(len(text.encode()) for text in TEXTS)
    assert run_in(session, "print(context, context[:1], context[40:])").stdout == (
        f"<40 documents on disk, {size / 1000:.1f} kB> <1 document on disk, {len(TEXTS[0].encode())} bytes> "
        "<0 documents on disk, 0 bytes>\n"
    )


def test_what_is_not_there_is_an_error_that_says_what_is(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    session = opened(documents)
    assert "there are 40 documents" in run_in(session, "context[40]").error
    assert "context[context.ids.index(id)] is the one" in run_in(session, "context['0001.txt']").error
    for code in ("context.split()", "context.append('x')", "context.get('0001.txt')"):
        assert "for doc in context: ... reads one at a time" in run_in(session, code).error
    for code in ("context + ['x']", "['x'] + context", "context += ['x']"):
        assert "documents on disk and a list can't be added: use itertools.chain" in run_in(session, code).error
    code = "[[doc.id for doc in part] for part in (context[:2] + context[-1:], context[:0] + context[3:4])]"
    assert found(run_in, session, code) == [["0000.txt", "0001.txt", "0039.txt"], ["0003.txt"]]
    assert "pytest is not in the metadata" in run_in(session, "context[0]['pytest']").error


def test_one_document_is_a_text_like_any_other(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    session = opened(documents[9])
    assert found(run_in, session, "[context, context.id, type(context).__name__]") == [TEXTS[9], "0009.txt", "Document"]
    assert found(run_in, session, "[[p.start, str(p)] for p in search('name of the ship', 1)]") == [[0, TEXTS[9]]]


def test_some_documents_are_all_that_a_session_has(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    some = StoredDocuments(documents.store, (5, 2, 9))
    session = opened(some)
    assert found(run_in, session, "[str(d) for d in context]") == [TEXTS[n] for n in (5, 2, 9)]
    assert found(run_in, session, "[d.id for d in context[1:]]") == ["0002.txt", "0009.txt"]


def test_a_very_long_list_of_documents_is_given_whole(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    numbers = tuple(n % 40 for n in range(5_001))
    session = opened(StoredDocuments(documents.store, numbers))
    assert found(run_in, session, "[len(context), context[4998].id, context[5000].id]") == [
        5001,
        "0038.txt",
        "0000.txt",
    ]


# References


def calls(session: Session, code: str, answer: Any = "ok") -> list[SubCall]:
    seen: list[SubCall] = []

    def serve(call: SubCall) -> Resume:
        seen.append(call)
        return Resume(answer)

    output = run_cell(session, code, serve)
    assert output.error is None
    return seen


def test_the_host_gets_documents_of_its_own_store_in_place_of_texts(documents: StoredDocuments, opened: Any) -> None:
    code = "f(context[3], of=context[4:8])\nf([context[8], context[1]])\nf(['x', context[2]], {'k': context})"
    one, many, mixed = calls(opened(documents), code)
    (document,) = one.args
    assert isinstance(document, StoredDocument)
    assert (document, document.id, document.number) == (TEXTS[3], "0003.txt", 3)
    assert one.kwargs == {"of": StoredDocuments(documents.store, range(4, 8))}
    assert many.args == (StoredDocuments(documents.store, (8, 1)),)
    assert type(mixed.args[0]) is list
    assert mixed.args[0][1] is documents.store.document(2)
    assert mixed.args[1]["k"].is_whole


def test_a_document_that_model_code_changed_goes_as_it_is_now(documents: StoredDocuments, opened: Any) -> None:
    code = "d = context[3]\nd.metadata['seen'] = True\nf(d)\nf(str(context[3]))\ne = context[4]\ne.id = 'mine'\nf([e])"
    for call, text in zip(calls(opened(documents), code), (TEXTS[3], TEXTS[3], TEXTS[4]), strict=True):
        value = call.args[0][0] if isinstance(call.args[0], list) else call.args[0]
        assert not isinstance(value, StoredDocument)
        assert value == text


def test_a_reference_carries_no_text_however_large_the_document_is(tmp_path: Path, opened: Any, run_in: Any) -> None:
    # A frame holds 8 MB at most, so that the text itself would be refused.
    documents = stored(tmp_path, ["x" * 20_000_000, "y" * 9_000_000])
    session = opened(documents)
    seen: list[SubCall] = []
    code = "f(context[0])\nf([context[0], context[1]])\nf(context)\nf({'a': context[1]})"
    assert run_in(session, code, lambda call: seen.append(call) or Resume("ok")).error is None
    assert [len(call.args[0]) for call in seen] == [20_000_000, 2, 2, 1]
    assert "characters: pass smaller pieces" in run_in(session, "f(context[0] + '')").error


def test_documents_passed_on_one_by_one_are_bounded_in_all(
    documents: StoredDocuments, opened: Any, run_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_integrations.sandbox.on_disk.MAX_READ_BYTES", 1000)
    session = opened(documents)
    assert "pass fewer" in run_in(session, "f({d.id: d for d in context})").error
    assert calls(session, "f(list(context))")[0].args == (StoredDocuments(documents.store, tuple(range(40))),)


def test_a_final_value_is_text(documents: StoredDocuments, opened: Any, run_in: Any) -> None:
    session = opened(documents)
    final = run_in(session, "FINAL(context[3])").final.value
    assert (final, type(final), final.metadata["path"][-8:]) == (TEXTS[3], Document, "0003.txt")
    assert run_in(session, "FINAL({'found': context[1:3]})").final.value == {"found": TEXTS[1:3]}
    assert run_in(session, "answer['content'], answer['ready'] = [context[5]], True").final.value == [TEXTS[5]]


# Search


@pytest.mark.parametrize("name", ["documents", "large"])
def test_passages_are_exact_text_at_their_place(
    name: str, request: pytest.FixtureRequest, opened: Any, run_in: Any
) -> None:
    value: StoredDocuments = request.getfixturevalue(name)
    words = "name of ship Ærø5" if name == "documents" else "keeper of lamp Jørgen5"
    session = opened(value)
    for brief in (False, True):
        code = f"[[p.id, p.start, str(p), p['path']] for p in search({words!r}, 1, brief={brief})]"
        ((id, start, text, path),) = found(run_in, session, code)
        document = value[5]
        assert (id, path) == (document.id, document.metadata["path"])
        assert words.rpartition(" ")[2] in text
        assert document[start : start + len(text)].rstrip() == text.rstrip()
    assert len(found(run_in, session, "search('closed at dusk', 7)")) == 7
    assert found(run_in, session, "search('notthere')") == found(run_in, session, "search('\\ud800')") == []


def test_a_document_is_found_by_its_path(large: StoredDocuments, opened: Any, run_in: Any) -> None:
    assert found(run_in, opened(large), "[[p.id, p.start] for p in search('0007', 1)]") == [["0007.txt", 0]]


def test_words_that_stand_together_are_found_among_many_blocks_that_hold_them(
    tmp_path: Path, opened: Any, run_in: Any
) -> None:
    apart = f"The master came aboard. {FILLER * 24}The harbour lay behind.\n{FILLER * 22}"
    near = "The master of the harbour was Ærø Østergaard.\n"
    session = opened(stored(tmp_path, [apart * 90] * 8 + [apart * 40 + near + apart * 40] + [apart * 90] * 4))
    [(id, text)] = found(run_in, session, "[(hit.id, hit) for hit in search('harbour master', 1)]")
    assert id == "0008.txt"
    assert near.strip() in text


def test_a_search_of_some_documents_shows_no_others(large: StoredDocuments, opened: Any, run_in: Any) -> None:
    some = StoredDocuments(large.store, tuple(n for n in range(12) if n != 5))
    assert some.chars > INDEXED_CHARS
    session = opened(some)
    assert found(run_in, session, "search('Jørgen5')") == []
    hits = found(run_in, session, "[p.id for p in search('keeper of lamp', 50)]")
    assert set(hits) == {f"{n:04}.txt" for n in range(12) if n != 5}


class Slow(Store):
    """A store whose index answers when it is let."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.path, store.facts, os.dup(store.pack.fd))
        self.asked, self.let = threading.Event(), threading.Event()

    def candidates(self, *args: Any, **kwargs: Any) -> Any:
        self.seconds = args[3]
        self.asked.set()
        assert self.let.wait(10)
        return super().candidates(*args[:3])


def test_an_event_loop_goes_on_while_the_index_is_asked(large: StoredDocuments, sandbox: ProcessSandbox) -> None:
    store = Slow(large.store)

    async def main() -> str:
        session = await sandbox.aopen({"context": store.documents()}, [])
        step = asyncio.ensure_future(session.aadvance(Run("print(search('Jørgen5', 1)[0].id)")))
        while not store.asked.is_set():
            await asyncio.sleep(0.001)
        store.let.set()
        output = await step
        session.close()
        assert isinstance(output, CellOutput)
        return output.stdout

    assert asyncio.run(main()) == "0005.txt\n"


def test_the_clock_of_a_cell_stops_while_the_index_is_asked(large: StoredDocuments, opened: Any, run_in: Any) -> None:
    store = Slow(large.store)
    with ProcessSandbox(timeout_s=0.5) as hasty:
        session = opened(store.documents(), hasty)
        run_in(session, "1")
        timer = threading.Timer(0.7, store.let.set)
        timer.start()
        assert run_in(session, "print(search('Jørgen5', 1)[0].id)").stdout == "0005.txt\n"
        timer.join()


def test_the_time_of_a_whole_run_goes_on_while_the_index_is_asked(
    large: StoredDocuments, sandbox: ProcessSandbox, opened: Any
) -> None:
    store = Slow(large.store)
    session = opened(store.documents())
    run_cell(session, "1")
    timer = threading.Timer(0.4, store.let.set)
    timer.start()
    output = run_cell(session, "search('Jørgen5')", timeout_s=0.3)
    assert "took longer than 0.3 s" in (output.error or "")
    assert 0 <= store.seconds <= 0.3
    timer.join()


def test_searches_without_end_come_to_an_end(
    large: StoredDocuments, opened: Any, run_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_integrations.sandbox.session.FREE_SEARCH_S", 0)
    store = Slow(large.store)
    with ProcessSandbox(timeout_s=0.3) as hasty:
        session = opened(store.documents(), hasty)
        run_in(session, "1")
        timer = threading.Timer(0.4, store.let.set)
        timer.start()
        assert "took longer than 0.3 s" in run_in(session, "search('Jørgen5')").error
        timer.join()


def test_an_index_that_cannot_be_read_is_an_error_for_model_code(
    tmp_path: Path, opened: Any, run_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    documents = stored(tmp_path, [FILLER * 60_000])
    session = opened(documents)
    Path(documents.store.path, INDEX).unlink()
    code = "try:\n    search('dusk')\nexcept RuntimeError as error:\n    print(error)\nprint(len(context))"
    output = run_in(session, code).stdout
    assert "the index of the documents can't be read" in output
    assert documents.store.path not in output
    assert documents.store.path in caplog.text
    assert output.endswith("\n1\n")


# Memory


def repeated(folder: Path, text: str, times: int) -> StoredDocuments:
    """A store that says of one text that it is many documents."""
    documents = stored(folder, [text])
    facts = documents.store.facts
    row = documents.store.pack.row(0)
    with open(Path(documents.store.path, PACK), "r+b") as file:
        file.seek(facts.table)
        file.write(b"".join(number.to_bytes(8, "little") for number in row) * times)
    return again(documents.store, documents=times)


def again(store: Store, **facts: int) -> StoredDocuments:
    """The documents of a store whose file was changed."""
    return Store(store.path, replace(store.facts, **facts), os.dup(store.pack.fd)).documents()  # type: ignore[arg-type]


def test_a_gigabyte_of_documents_goes_through_300_mb_of_memory(tmp_path: Path, opened: Any) -> None:
    documents = repeated(tmp_path, ("needle " + "x" * 993) * 1_000, 1_000)
    with ProcessSandbox(memory_mb=300) as sandbox:
        session = opened(documents, sandbox)
        code = "print(sum(doc.count('needle') for doc in context), sum(map(len, context[::100])))"
        assert run_cell(session, code) == CellOutput("1000000 10000000\n")
        kept = run_cell(session, "kept = list(context)")
        assert "MemoryError: a document of 1,000,000 characters does not fit" in (kept.error or "")
        assert run_cell(session, "print(len(context[5]))").stdout == "1000000\n"


def test_a_document_that_does_not_fit_into_memory_is_an_error_that_says_so(tmp_path: Path, opened: Any) -> None:
    documents = stored(tmp_path, ["small", "x"])
    small, huge = documents.store.pack.row(0), documents.store.pack.row(1)
    # The second one grows by what is not even on disk.
    end = huge.text_start + 400_000_000
    rows = [small, Row(huge.head_start, huge.text_start, end, 400_000_000)]
    with open(Path(documents.store.path, PACK), "r+b") as file:
        file.truncate(huge.text_end)
        file.truncate(end)
        file.seek(end)
        file.write(b"".join(number.to_bytes(8, "little") for row in rows for number in row))
    with ProcessSandbox(memory_mb=300) as sandbox:
        session = opened(again(documents.store, table=end), sandbox)
        output = run_cell(session, "x = 1\nfor document in context:\n    print(len(document))")
        assert output.stdout == "5\n"
        assert "MemoryError: a document of 400,000,000 characters does not fit" in (output.error or "")
        assert run_cell(session, "print(x)") == CellOutput("1\n")


def test_the_memory_of_a_worker_is_made_for_the_largest_document(tmp_path: Path, sandbox: ProcessSandbox) -> None:
    # One character that is wide makes all of them as wide.
    documents = stored(tmp_path, ["a", "b" * 2_000_000, "c" * 1_000_000 + "\U0001f600"])
    session = sandbox.open({"context": documents}, [])
    assert session._memory_bytes == pytest.approx((512 << 20) + 4 * 4_000_000, abs=1000)
    session.close()


# Workers and their descriptors


def test_a_worker_that_is_lost_is_replaced_by_one_with_the_same_documents(
    documents: StoredDocuments, opened: Any, run_in: Any
) -> None:
    session = opened(documents)

    def kill(call: SubCall) -> Resume:
        os.kill(session._worker._pid, signal.SIGKILL)
        return Resume()

    output = run_in(session, "x = len(context)\nf()", kill)
    assert output.restarted
    assert found(run_in, session, "[context[7], 'x' in globals()]") == [TEXTS[7], False]


def listed(code: str, context: Any, *skip: str) -> str:
    with ProcessSandbox(timeout_s=10) as sandbox:
        sandbox._policy, sandbox._launcher = False, Launcher(("seccomp", "landlock", *skip))
        outputs = []
        for value in (context, "x"):
            session = sandbox.open({"context": value}, [])
            output = run_cell(session, code)
            outputs.append(output.stdout + (output.error or ""))
            session.close()
        sandbox._launcher.close()
    return "".join(outputs)


def test_only_a_worker_with_documents_has_a_descriptor_for_them(documents: StoredDocuments) -> None:
    code = "import os\nprint(sorted(os.listdir('/proc/self/fd'))[:-1])"
    # The last descriptor is the one that lists them.
    assert listed(code, documents) == "['0', '1', '2', '3', '4']\n['0', '1', '2', '3']\n"


def test_the_descriptor_is_for_reading_only(documents: StoredDocuments) -> None:
    code = "import os\nfor act in (lambda: os.write(4, b'x'), lambda: os.ftruncate(4, 0), lambda: os.pread(4, 4, 0)):\n"
    code += "    try:\n        print(act())\n    except OSError as error:\n        print(error.strerror)"
    size = os.fstat(documents.store.pack.fd).st_size
    output = listed(code, documents, "rlimits").splitlines()
    assert output[:2] == ["Bad file descriptor", "Invalid argument"]
    assert output[2].startswith("b'[")
    assert os.fstat(documents.store.pack.fd).st_size == size


def test_a_locked_worker_reads_no_other_descriptor(documents: StoredDocuments, sandbox: ProcessSandbox) -> None:
    with ProcessSandbox() as plain:
        plain._policy = False
        session = plain.open({"context": documents}, [])
        code = "import os\nfor number in (0, 3, 4, 5):\n    try:\n        print(len(os.pread(number, 4, 0)))\n"
        code += "    except OSError as error:\n        print(error.errno)"
        assert run_cell(session, code).stdout == "1\n1\n4\n1\n"
        session.close()


def test_neither_host_nor_prepared_parent_keeps_descriptors(documents: StoredDocuments) -> None:
    with ProcessSandbox() as sandbox:
        sandbox.open({"context": "x"}, []).advance(Run("1"))
        parent = psutil.Process(sandbox._launcher._parent._process.pid)
        before = parent.num_fds(), psutil.Process().num_fds()
        for _ in range(20):
            session = sandbox.open({"context": documents}, [])
            assert run_cell(session, "print(len(context))").stdout == "40\n"
            session.close()
        deadline = time.monotonic() + 5
        while (parent.num_fds(), psutil.Process().num_fds()) > before:
            assert time.monotonic() < deadline


REACHING = {
    "a private attribute": "context[:1]._pack",
    "a private attribute by name": "getattr(context, '_pack')",
    "the attributes": "vars(context)",
    "the memo of a copy": "import copy\nmemo = {}\ncopy.deepcopy([context], memo)\n"
    "[value for value in memo.values() if hasattr(value, 'read_bytes')][0]",
    "a subclass": "class Mine(type(context)):\n    def it(self):\n        return self._pack\nMine.it(context)",
    "a descriptor": "class Mine(type(context)):\n    pass\nMine._pack.__get__(context)",
    "other numbers": "some = context[:1]\nsome._numbers = range(40)",
    "other numbers by a subclass": "class Mine(type(context)):\n    pass\nMine._numbers.__set__(context, range(40))",
    "other numbers by a new start": "some = context[:1]\nsome.__init__(some, range(40))\nsome[7]",
    "the frame of an iterator": "iter(context).gi_frame",
    "the frame of an error": "try:\n    context[99]\nexcept IndexError as error:\n    error.__traceback__.tb_frame",
    "the number of a document": "context[0]._number",
    "what a search holds": "search.__closure__",
}


@pytest.mark.parametrize("way", REACHING)
def test_model_code_has_no_way_to_documents_that_it_was_not_given(
    way: str, documents: StoredDocuments, opened: Any
) -> None:
    output = run_cell(opened(StoredDocuments(documents.store, range(5))), REACHING[way])
    assert output.error
    assert not output.stdout
    assert not output.restarted


# Where it can't be


def test_a_pool_without_fork_refuses_documents_on_disk(documents: StoredDocuments) -> None:
    with ProcessSandbox() as sandbox:
        sandbox._launcher = PoolLauncher()
        with pytest.raises(InvalidInput, match=r"context lies on disk, and ProcessSandbox on .* can't give files"):
            sandbox.open({"context": documents}, [])


def test_monty_refuses_documents_on_disk(documents: StoredDocuments) -> None:
    pytest.importorskip("pydantic_monty")
    with MontySandbox() as sandbox, pytest.raises(InvalidInput, match="MontySandbox can't give files to its workers"):
        sandbox.open({"context": documents[3]}, [])


def test_two_stores_in_one_session_are_refused(
    documents: StoredDocuments, large: StoredDocuments, sandbox: ProcessSandbox
) -> None:
    with pytest.raises(InvalidInput, match="in several places"):
        sandbox.open({"context": documents, "other": large}, [])


# What stands packed in a file, of a host that has no store


def packed(path: Path, kind: Any, documents: list[str]) -> Packed:
    with open(path, "wb") as file:
        size = write_pack(file, documents)
    return Packed(os.open(path, os.O_RDONLY), size.documents, size.table, kind, 1_000_000)


PACKED = {
    "text": ("text", "Ærø " * 1_000_000),
    "document": ("text", Document("Ærø", id="a", metadata={"b": [1]})),
    "list": ("list", [Document("Ærø", id="a", metadata={"b": 1}), "plain", Document("")]),
    "json": ("json", {"$": [1, None, {"k": Document("Ærø", id="a")}], "t": "\ud800"}),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_value_is_what_it_was(name: str, tmp_path: Path, opened: Any, run_in: Any) -> None:
    kind, value = PACKED[name]
    texts = value if kind == "list" else [json.dumps(tagged(value)) if kind == "json" else value]
    context = packed(tmp_path / "pack", kind, texts)
    try:
        session = opened(context)
        code = "h = hashlib.sha256(repr(context).encode('utf-8', 'replace')).hexdigest()\n[h, type(context).__name__]"
        expected = run_in(opened(value), code)
        assert run_in(session, code) == expected
        seen: list[SubCall] = []
        if name != "json":
            run_in(session, "f(context)", lambda call: seen.append(call) or Resume("ok"))
            assert seen == [SubCall("f", (value,), {})]
            assert run_in(session, "search('Ærø', 1)[0].start").stdout == "0\n"
        assert run_in(session, "f(1)", lambda call: session._worker.kill() or Resume()).restarted
        assert run_in(session, code) == expected
    finally:
        os.close(context.fd)


def test_a_packed_value_is_checked(tmp_path: Path, sandbox: ProcessSandbox) -> None:
    with pytest.raises(InvalidInput, match="the kind of a Packed is 'set'"):
        Packed(0, 1, 0, "set", 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="holds 2 texts"):
        Packed(0, 2, 0, "text", 1)
    with open(tmp_path / "pack", "w+b") as file:
        size = write_pack(file, ["x"])
        with pytest.raises(InvalidInput, match="open for writing"):
            sandbox.open({"context": Packed(file.fileno(), 1, size.table, "text", 1)}, [])
