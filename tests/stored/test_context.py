"""A context over documents on disk is the one that it would be in memory, without ever being there."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_integrations import Context, Document, InvalidInput
from rlm_integrations.prompts import Prompts
from rlm_integrations.stored import StoredDocument, StoredDocuments


def test_it_is_the_context_that_it_would_be_in_memory(eager: Context, lazy: Context) -> None:
    assert lazy.summary == eager.summary
    assert list(lazy.texts()) == list(eager.texts())
    assert [(d.id, d.metadata, str(d)) for d in lazy.value] == [(d.id, d.metadata, str(d)) for d in eager.value]
    assert (lazy.chars, lazy.documents, lazy.metadata_keys) == (eager.chars, eager.documents, eager.metadata_keys)
    assert (lazy.is_documents, lazy.is_on_disk, eager.is_on_disk) == (True, True, False)
    assert Context.of(lazy.value).summary == eager.summary


@pytest.mark.parametrize("numbers", [slice(1, 4), slice(None, None, -2), slice(2, 3)])
def test_a_part_of_it_is_the_context_that_it_would_be_in_memory(eager: Context, lazy: Context, numbers: slice) -> None:
    part, same = Context.of(lazy.value[numbers]), Context.of(eager.value[numbers])
    assert isinstance(part.value, StoredDocuments)
    assert replace(part.summary, sha256="") == replace(same.summary, sha256="")
    assert (part.metadata_keys, part.documents, part.chars) == (same.metadata_keys, same.documents, same.chars)
    assert list(part.value.ids()) == [document.id for document in same.value]


def test_a_part_has_a_hash_of_its_own_for_which_nothing_is_read(lazy: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = lazy.value
    monkeypatch.setattr(type(documents.store), "document", None)
    parts = [documents[1:4], documents[::-2], documents[2:3], documents[3:0:-1]]
    assert len({part.sha256 for part in parts} | {lazy.sha256}) == 5
    assert StoredDocuments(documents.store, (1, 2, 3)).sha256 == documents[1:4].sha256


def test_one_document_is_a_context_of_its_own(eager: Context, lazy: Context) -> None:
    for number in (0, 2):
        assert Context.of(lazy.value[number]).summary == Context.of(eager.value[number]).summary
        assert Context.of([lazy.value[number]]).summary == Context.of([eager.value[number]]).summary


def test_a_part_without_text_is_refused_as_any_context_is(lazy: Context) -> None:
    for empty in (lazy.value[1:2], lazy.value[:0]):
        with pytest.raises(InvalidInput, match="the context is empty"):
            Context.of(empty)


def test_the_same_paths_are_read_in_the_same_order_with_the_same_ids(folder: Path) -> None:
    (folder / "a.txt#2").write_text("named like a second one")
    paths = [folder / "c.csv", str(folder), folder / "a.txt", folder / "c.csv", folder / "a.txt"]
    eager, lazy = Context.from_files(paths), Context.from_files(iter(paths), lazy=True)
    assert list(lazy.texts()) == list(eager.texts())
    assert lazy.summary == eager.summary


@pytest.mark.parametrize("paths", [["nowhere"], [], ["none"], ["docs", "image.png"], ["empty"]])
def test_what_can_not_be_read_is_refused_in_the_same_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("none").mkdir()
    Path("image.png").write_bytes(b"\x89PNG\0\0")
    Path("empty").touch()
    with pytest.raises(InvalidInput) as eager:
        Context.from_files(paths)
    with pytest.raises(InvalidInput) as lazy:
        Context.from_files(paths, lazy=True)
    assert str(lazy.value) == str(eager.value)


def test_a_pickle_is_a_reference_to_the_same_store(lazy: Context) -> None:
    many, one = lazy.value, lazy.value[0]
    assert len(pickle.dumps((many, many[1:3], one, lazy))) < 1_000
    assert pickle.loads(pickle.dumps(one)) is one
    assert pickle.loads(pickle.dumps(many)) == many == copy.deepcopy(many)
    assert pickle.loads(pickle.dumps(many[::-2])) == many[::-2] != many[::-1]
    assert pickle.loads(pickle.dumps(lazy)).summary == lazy.summary


def test_documents_are_a_sequence(eager: Context, lazy: Context) -> None:
    many = lazy.value
    assert (len(many), many[-1], many[1:][0]) == (4 + 1, eager.value[-1], eager.value[1])
    assert list(reversed(many)) == list(reversed(eager.value))
    assert eager.value[2] in many
    assert many.index(eager.value[2]) == 2
    assert (isinstance(many[0], StoredDocument), isinstance(many[0], Document)) == (True, True)
    assert (many[2].store, many[1:][1].number) == (many.store, 2)
    for number in (5, -6):
        with pytest.raises(IndexError):
            many[number]
    for numbers in ((0, 5), (-1, 2), range(6)):
        with pytest.raises(IndexError, match="the store has 5 documents"):
            StoredDocuments(many.store, numbers)


def test_a_document_is_shared_while_it_is_held_and_let_go_after(lazy: Context) -> None:
    held = lazy.value[0]
    assert lazy.value[0] is held
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None


def test_no_more_than_a_document_is_in_memory(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"document {number}\n" * 70_000)
    lazy = Context.from_files(tmp_path, lazy=True)
    # What is read, cached and compiled once.
    _ = lazy.find("nothing"), Prompts().view(lazy), lazy.value[0].count("x")
    tracemalloc.start()
    assert sum(document.count("document") for document in lazy.value) == 40 * 70_000
    assert sum(len(text) for _, text in Context.of(lazy.value[1:]).texts()) == lazy.chars - len(lazy.value[0])
    assert len(Context.of(lazy.value[1:]).sha256) == 64
    assert len(Prompts().render_question("q", lazy, "tag", "")) < 2_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * max(map(len, lazy.value)) < lazy.chars / 8


def test_what_is_said_of_it_tells_how_to_read_it(lazy: Context, eager: Context) -> None:
    said = Prompts().render_question("q", lazy, "tag", "")
    assert "`context` holds 5 documents (str, each with .id and .metadata)" in said
    assert "on disk" in said
    assert "for doc in context" in said
    assert "a.txt, b/empty.md" in said
    assert ".metadata of the first: {'path': " in said
    assert "The first begins:\nThe quick fox jumps." in said
    assert "on disk" not in Prompts().render_question("q", eager, "tag", "")


def test_an_index_is_for_documents_on_disk(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="lazy=True"):
        Context.from_files(folder, index=tmp_path / "index")
    with pytest.raises(InvalidInput, match="path of a folder"):
        Context.from_files(folder, lazy=True, index=7)  # type: ignore[arg-type]
