"""A store is built once, used for as long as its files stay as they are, and thrown away or kept as asked."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import rlm_integrations
from rlm_integrations import Context, InvalidInput
from rlm_integrations.stored import Store, building
from rlm_integrations.stored.locks import unused

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(rlm_integrations.__file__).parents[1])}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Where stores are kept; it is not there yet."""
    return tmp_path / "kept" / "index"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def stores(index: Path) -> list[Path]:
    """All that is in the folder of an index, but for its lock."""
    return sorted(path for path in index.iterdir() if path.name != ".lock")


def test_a_temporary_store_goes_with_the_last_that_refers_to_it(folder: Path, temporary: Path) -> None:
    context = Context.from_files(folder, lazy=True)
    document = context.value[0]
    del context
    gc.collect()
    assert len(stores(temporary)) == 1
    assert pickle.loads(pickle.dumps(document)) is document
    del document
    gc.collect()
    assert stores(temporary) == []


def test_what_killed_programs_left_is_removed_and_what_others_use_is_not(folder: Path, temporary: Path) -> None:
    building = "lookup.IndexWriter.end = lambda self: (print('now', flush=True), signal.pause())\n"
    code = (
        "import os, signal\nfrom rlm_integrations import Context\nfrom rlm_integrations.stored import lookup\n"
        "{0}context = Context.from_files({1!r}, lazy=True)\nprint('now', flush=True)\nsignal.pause()\n"
    )
    long_ago = time.time() - 3600

    def program(before: str) -> tuple[subprocess.Popen[str], Path]:
        others = set(stores(temporary))
        process = subprocess.Popen(
            [sys.executable, "-c", code.format(before, str(folder))],
            env={**ENVIRONMENT, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "now\n"
        [own] = set(stores(temporary)) - others
        os.utime(own, (long_ago, long_ago))
        return process, own

    programs = [program(before) for before in (building, "", building, "")]
    foreign = temporary / "rlm-store-of-one-who-begins"
    foreign.mkdir()
    try:
        for process, _ in programs[:2]:
            process.kill()
            process.wait()
        context = Context.from_files(folder, lazy=True)
        left = [own for _, own in programs[2:]]
        assert stores(temporary) == sorted([*left, foreign, Path(context.value.store.path)])
        assert Store.open(left[1]).documents()[0] == context.value[0]
    finally:
        for process, _ in programs:
            process.kill()
            with process:
                pass


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError", "pid = os.fork()\nif pid: os.waitpid(pid, 0)"])
def test_a_temporary_store_is_gone_at_the_end_of_the_program(folder: Path, temporary: Path, end: str) -> None:
    code = (
        "import os, sys\nfrom rlm_integrations import Context\n"
        f"context = Context.from_files({str(folder)!r}, lazy=True)\n{end}\n"
        "print(len(context.value[0]), os.path.isdir(context.value.store.path), flush=True)\n"
    )
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    chars = str(len((folder / "a.txt").read_text()))
    # A process that was forked ends first, and leaves the store to its parent.
    assert ended.stdout.splitlines() == [f"{chars} True"] * (2 if "fork" in end else 0 if end else 1), ended.stderr
    assert stores(temporary) == []


def test_a_build_that_fails_leaves_nothing(folder: Path, temporary: Path, index: Path) -> None:
    (folder / "z.bin").write_bytes(b"\xff\xfe\xfd")
    for kept in (None, index):
        with pytest.raises(InvalidInput, match="is not text"):
            Context.from_files([folder, folder / "z.bin"], lazy=True, index=kept)
    assert stores(temporary) == stores(index) == []


def test_a_kept_store_is_used_again(folder: Path, index: Path, eager: Context) -> None:
    first = Context.from_files(folder, lazy=True, index=index)
    written = {path: path.stat().st_mtime_ns for path in index.rglob("*")}
    del first
    gc.collect()
    again = Context.from_files(str(folder), lazy=True, index=str(index))
    assert again.summary == eager.summary
    assert {path: path.stat().st_mtime_ns for path in index.rglob("*")} == written
    assert [sorted(os.listdir(store)) for store in stores(index)] == [["documents", "passages.sqlite", "store.json"]]


def changed(folder: Path) -> None:
    (folder / "a.txt").write_text("other text")


def touched(folder: Path) -> None:
    os.utime(folder / "a.txt", ns=(0, 7))


def added(folder: Path) -> None:
    (folder / "new.txt").write_text("new")


def removed(folder: Path) -> None:
    (folder / "c.csv").unlink()


def renamed(folder: Path) -> None:
    (folder / "c.csv").rename(folder / "e.csv")


@pytest.mark.parametrize("change", [changed, touched, added, removed, renamed])
def test_a_file_that_changes_has_the_store_built_anew(
    folder: Path, index: Path, change: Callable[[Path], None]
) -> None:
    Context.from_files(folder, lazy=True, index=index)
    before = stores(index)
    change(folder)
    gc.collect()
    after = Context.from_files(folder, lazy=True, index=index)
    assert list(after.texts()) == list(Context.from_files(folder).texts())
    assert len(stores(index)) == 1
    assert stores(index) != before


def test_a_store_that_is_used_outlives_the_change_of_its_files(folder: Path, index: Path) -> None:
    before = Context.from_files(folder, lazy=True, index=index)
    was = [(id, str(text)) for id, text in before.texts()]
    changed(folder)
    after = Context.from_files(folder, lazy=True, index=index)
    assert list(before.texts()) == was
    assert before.value.store.candidates(["staging"])[0][0] == 0
    assert after.value[0] == "other text"
    assert after.value.store.candidates(["staging"]) == []
    assert len(stores(index)) == 2
    del before
    gc.collect()
    touched(folder)
    after = Context.from_files(folder, lazy=True, index=index)
    assert len(stores(index)) == 2  # The one that ``after`` was made of then, and the new one.


def test_a_store_can_not_be_opened_while_it_is_removed(folder: Path, index: Path) -> None:
    path = Path(Context.from_files(folder, lazy=True, index=index).value.store.path)
    gc.collect()
    with unused(path / "documents") as is_unused:
        assert is_unused
        with pytest.raises(InvalidInput, match="it is being removed"):
            Store.open(path)
    context = Context.from_files(folder, lazy=True, index=index)
    with unused(path / "documents") as is_unused:
        assert not is_unused
    assert context.documents == 5


def test_stores_of_other_paths_live_side_by_side(folder: Path, index: Path) -> None:
    for paths in (folder, folder / "b", [folder / "c.csv"]):
        Context.from_files(paths, lazy=True, index=index)
    gc.collect()
    assert len(stores(index)) == 3
    Context.from_files(folder, lazy=True, index=index)
    assert len(stores(index)) == 3


@pytest.mark.parametrize("name", ["documents", "passages.sqlite", "store.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_store_is_built_again(folder: Path, index: Path, eager: Context, name: str, damage: str) -> None:
    Context.from_files(folder, lazy=True, index=index)
    gc.collect()
    [store] = stores(index)
    if damage == "cut":
        (store / name).write_bytes((store / name).read_bytes()[:-100])
    else:
        (store / name).unlink()
    again = Context.from_files(folder, lazy=True, index=index)
    assert again.summary == eager.summary
    assert again.value.store.candidates(["staging"])[0][0] == 0


def test_a_store_that_is_no_store_is_refused(tmp_path: Path, lazy: Context) -> None:
    with pytest.raises(InvalidInput, match="no whole store"):
        Store.open(tmp_path)
    facts = json.loads(Path(lazy.value.store.path, "store.json").read_text())
    for wrong in ({"version": 99}, {"documents": -1}, {"table": "7"}, {"documents": 1 << 40}, {"more": 1}):
        copied = tmp_path / f"copy-{next(iter(wrong))}-{next(iter(wrong.values()))}"
        shutil.copytree(lazy.value.store.path, copied)
        (copied / "store.json").write_text(json.dumps(facts | wrong))
        with pytest.raises(InvalidInput, match="no whole store"):
            Store.open(copied)


def test_a_build_that_was_killed_is_not_taken_for_whole_and_is_tidied_up(folder: Path, index: Path) -> None:
    code = (
        "import os, signal\nfrom rlm_integrations import Context\nfrom rlm_integrations.stored import lookup\n"
        "lookup.IndexWriter.end = lambda self: (print('now', flush=True), signal.pause())\n"
        f"Context.from_files({str(folder)!r}, lazy=True, index={str(index)!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "now\n"
        [unfinished] = stores(index)
        # While it goes on, nobody removes it.
        Context.from_files(folder / "b", lazy=True, index=index)
        assert unfinished in stores(index)
        process.send_signal(signal.SIGKILL)
        process.wait()
    context = Context.from_files(folder, lazy=True, index=index)
    assert context.documents == 5
    assert unfinished not in stores(index)
    assert len(stores(index)) == 2


def test_processes_that_build_the_same_at_once_all_succeed(folder: Path, index: Path) -> None:
    code = (
        "import sys\nfrom rlm_integrations import Context\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        f"context = Context.from_files({str(folder)!r}, lazy=True, index={str(index)!r})\n"
        "print(context.sha256, context.value.store.candidates(['staging'])[0][0], flush=True)\nsys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        process.communicate("end\n")
    assert said == [f"{Context.from_files(folder).sha256} 0\n"] * 3
    assert len(stores(index)) == 1


def test_a_build_that_another_beats_takes_the_others_store(
    folder: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = building._build

    def late(place: Path, files: object) -> None:
        build(place, files)  # type: ignore[arg-type]
        monkeypatch.setattr(building, "_build", build)
        others.append(Context.from_files(folder, lazy=True, index=index))

    others: list[Context] = []
    monkeypatch.setattr(building, "_build", late)
    own = Context.from_files(folder, lazy=True, index=index)
    assert own.value.store is others[0].value.store
    assert len(stores(index)) == 1


def test_an_index_among_the_documents_is_refused_unless_it_is_hidden(folder: Path) -> None:
    for index in (folder, folder / "index", folder / "b" / "index"):
        with pytest.raises(InvalidInput, match="would be read as documents"):
            Context.from_files(folder, lazy=True, index=index)
    sha256 = Context.from_files(folder, lazy=True, index=folder / ".index").sha256
    assert sha256 == Context.from_files(folder, lazy=True, index=folder / ".index").sha256


def test_a_place_that_can_not_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidInput, match=r"can't be stored in .*/file.*Not a directory|File exists"):
        Context.from_files(folder, lazy=True, index=tmp_path / "file")


def test_a_disk_that_takes_no_more_is_told(folder: Path, index: Path, temporary: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for kept in (None, index):
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        try:
            with pytest.raises(InvalidInput, match=r"can't be stored in .*File too large.*index="):
                Context.from_files(folder, lazy=True, index=kept)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stores(temporary) == stores(index) == []


def test_a_build_tells_how_far_it_is(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rlm_integrations.stored")
    news = building._News(2)
    news.tell(1, 10)
    assert caplog.messages == []
    news._told -= 60
    news.tell(2, 1_000_000)
    assert caplog.messages == ["stored 2 of at most 2 documents, 1 million characters, in 0 s"]
