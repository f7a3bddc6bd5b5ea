"""What a question may be asked of."""

from __future__ import annotations

import copy
import datetime
import pickle
import time
from pathlib import Path

import pytest

from rlm_integrations import Context, Document, InvalidInput
from rlm_integrations.context import STEP_CHARS


def test_a_document_is_text_that_knows_where_it_came_from() -> None:
    document = Document("some text", id="a.txt", metadata={"page": 3})
    assert document[5:] == "text"
    assert "-".join([document]) == "some text"
    assert (document.id, document.metadata) == ("a.txt", {"page": 3})


def test_a_document_survives_a_copy_and_a_pickle() -> None:
    document = Document("text", id="a", metadata={"page": 3})
    for twin in (copy.deepcopy(document), pickle.loads(pickle.dumps(document))):
        assert (twin, twin.id, twin.metadata, twin["page"]) == ("text", "a", {"page": 3}, 3)


def test_a_document_takes_numbers_and_slices_as_any_text_does() -> None:
    document, text = Document("some text", id="a", metadata={0: "zero"}), "some text"
    for index in (0, -1, True, slice(2, 5), slice(None, None, -1), slice(None)):
        assert document[index] == text[index]
        assert type(document[index]) is str
    for index in (9, 1.5, None):
        with pytest.raises((IndexError, TypeError)) as caught:
            text[index]  # type: ignore[index]
        with pytest.raises(caught.type, match=str(caught.value)):
            document[index]


def test_a_document_gives_its_metadata_by_name_and_then_its_id_and_its_text() -> None:
    document = Document("some text", id="a.txt", metadata={"page": 3, "none": None})
    assert (document["page"], document["none"]) == (3, None)
    assert (document["id"], document["text"], document["metadata"]) == ("a.txt", "some text", document.metadata)
    assert type(document["text"]) is str
    own = Document("some text", id="a.txt", metadata={"id": 7, "text": "short", "metadata": "none"})
    assert (own["id"], own["text"], own["metadata"]) == (7, "short", "none")


@pytest.mark.parametrize(
    ("text", "metadata", "reason"),
    [
        (
            "The Author is Ada.",
            {"page": 3, "day": 4},
            "author is not in the metadata (page, day); its text has: ...The Author is Ada....",
        ),
        (
            "It is of 1843.",
            {},
            "author is not in the metadata (empty); a document is its text: try document.splitlines()",
        ),
        (
            "İİİİ" + "-" * 60 + "author: Ada",
            {},
            f"author is not in the metadata (empty); its text has: ...{'-' * 60}author: Ada...",
        ),
    ],
)
def test_a_name_that_a_document_does_not_have_is_refused_with_those_it_has(
    text: str, metadata: dict[str, object], reason: str
) -> None:
    with pytest.raises(KeyError) as caught:
        Document(text, metadata=metadata)["author"]
    assert caught.value.args == (reason,)


def test_what_is_said_of_a_missing_name_is_short_and_soon_said() -> None:
    document = Document("word " * 20_000_000 + "author", metadata={f"{n}" * 1_000: n for n in range(1_000)})
    started = time.monotonic()
    for name in ("author", "y" * 1_000_000, ""):
        with pytest.raises(KeyError) as caught:
            document[name]
        assert len(str(caught.value)) < 4_000
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("abc", [("context", "abc")]),
        (Document("abc", id="d"), [("d", "abc")]),
        (["a", Document("b", id="B")], [("0", "a"), ("B", "b")]),
        ({"x": ["a", {"y": "b"}], "n": 1}, [("x[0]", "a"), ("x[1].y", "b")]),
        ([{"name": "Ada"}, {"name": "Bob"}], [("0.name", "Ada"), ("1.name", "Bob")]),
    ],
)
def test_every_text_in_a_context_is_a_document_with_an_id(value: object, texts: list[tuple[str, str]]) -> None:
    assert list(Context.of(value).texts()) == texts


def test_a_summary_describes_and_does_not_hold_the_text() -> None:
    summary = Context.of(["x" * 1000, "y" * 500]).summary
    assert (summary.type, summary.chars, summary.documents) == ("list of 2 str", 1500, 2)
    assert len(summary.head) == 200
    assert len(summary.sha256) == 64


def test_contexts_that_differ_in_text_ids_metadata_or_shape_have_different_hashes() -> None:
    contexts = [
        "ab",
        ["ab"],
        ["a", "b"],
        ["ab", ""],
        [Document("ab", id="x")],
        [Document("ab", id="y")],
        [Document("ab", id="y", metadata={"page": 1})],
        {"k": "ab"},
        {"k": "ab", "n": 1},
    ]
    assert len({Context.of(context).sha256 for context in contexts}) == len(contexts)


def test_a_list_changed_by_its_owner_does_not_change_the_context() -> None:
    texts = ["a", "b"]
    context = Context.of(texts)
    texts.append("c")
    assert context.value == ["a", "b"]


def test_a_type_inside_a_context_that_is_not_supported_is_named_with_its_place() -> None:
    with pytest.raises(InvalidInput, match=r"context\[1\]\.when is a date"):
        Context.of(["a", {"when": datetime.date(2026, 1, 1)}])


def test_bytes_are_refused_with_a_hint() -> None:
    with pytest.raises(InvalidInput, match="decode bytes first"):
        Context.of(b"abc")


def test_files_and_folders_become_documents(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.md").write_text("# b")
    (folder / "sub" / "a.csv").write_text("x,y\n1,2\n")
    (folder / ".hidden").write_text("no")
    (folder / "image.png").write_bytes(b"\x89PNG\0\0")
    single = tmp_path / "one.json"
    single.write_text('{"a": 1}')
    context = Context.from_files([folder, single])
    assert [(document.id, str(document)) for document in context.value] == [
        (f"{folder}/b.md", "# b"),
        (f"{folder}/sub/a.csv", "x,y\n1,2\n"),
        (str(single), '{"a": 1}'),
    ]
    assert context.value[0].metadata == {"path": str(folder / "b.md")}


def test_line_ends_and_odd_characters_of_a_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes("one\r\ntwo\rthree\u2028\U0001f600".encode())
    assert Context.from_files(path).value == ["one\r\ntwo\rthree\u2028\U0001f600"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mark.txt"
    path.write_bytes("Grüße".encode(encoding))
    assert Context.from_files([path]).value == ["Grüße"]


def test_html_is_reduced_to_its_text(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<html><script>x=1</script><h1>Title</h1><p>The <b>staging</b> port\n is <i>84</i>43.</p>"
        "<table><tr><td>a</td><td>b</td></tr></table>One &amp;<br>two</html>"
    )
    assert Context.from_files([path]).value == ["Title\nThe staging port is 8443.\na\nb\nOne &\ntwo"]


def test_a_pdf_is_reduced_to_its_text(tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf("Hello from a page"))
    document = Context.from_files([path]).value[0]
    assert document.strip() == "Hello from a page"
    assert document.metadata["pages"] == 1


def pdf(text: str) -> bytes:
    """A PDF with one page and one line of text."""
    from io import BytesIO

    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    page = writer.add_blank_page(300, 100)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = DictionaryObject(
        {NameObject("/F1"): DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})}
    )
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    stream = BytesIO()
    writer.write(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("broken.pdf", b"%PDF-1.4 nothing more", "not a readable PDF"),
        ("data.bin", b"\xff\xd8\xff\xe0\0\x10", "is not text"),
        ("latin.txt", b"caf\xe9", "is not text"),
    ],
)
def test_a_named_file_that_is_not_text_is_refused(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=reason):
        Context.from_files([tmp_path / name])


def test_a_missing_path_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file or folder .*nowhere"):
        Context.from_files([tmp_path / "nowhere"])


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no text files found"):
        Context.from_files([tmp_path])


HOLDS_ITSELF: dict[str, object] = {}
HOLDS_ITSELF["me"] = [HOLDS_ITSELF]


def nested(levels: int) -> dict[str, object]:
    """Metadata of so many levels."""
    metadata: dict[str, object] = {"key": "value"}
    for _ in range(levels - 1):
        metadata = {"key": metadata}
    return metadata


@pytest.mark.parametrize(
    ("key", "name"), [((1, 2), "(1, 2)"), (datetime.date(2026, 1, 1), "2026-01-01"), (True, "true"), (1.5, "1.5")]
)
def test_keys_in_metadata_are_text_at_every_level(key: object, name: str) -> None:
    document = Document("text", id="a", metadata={"x": [{"y": {key: {key: datetime.date(2026, 1, 2)}}}]})
    assert Context.of(document).value.metadata == {"x": [{"y": {name: {name: "2026-01-02"}}}]}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (HOLDS_ITSELF, "nested deeper than 100 levels, or hold themselves"),
        (nested(102), "nested deeper than 100 levels"),
        ({"n": 10**5_000}, "Exceeds the limit"),
        ({"n": [10**5_000]}, "Exceeds the limit"),
    ],
    ids=["holding itself", "deep", "number", "number in a list"],
)
def test_metadata_that_no_json_holds_are_refused_with_their_document(metadata: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidInput, match=rf"metadata of document 'b' \(context\[1\]\) .*{reason}"):
        Context.of([Document("text", id="a"), Document("text", id="b", metadata=metadata)])
    assert Context.of(Document("text", metadata=nested(100))).value.metadata == nested(100)


def test_a_hash_is_the_same_in_every_release() -> None:
    metadata = {"page": 3, 7: None, "when": datetime.date(2026, 1, 1), "nested": {1: (2, {True: "ü"}), None: 1.5}}
    context = Context.of(["a", Document("b", id="x", metadata=metadata), Document("c", id="x")])
    assert [id for id, _ in context.texts()] == ["0", "x", "x#2"]
    assert context.sha256 == "226d6b6a6684dcef7867b91ab443520d4e6654a29668cb3fe565158b9bfa50ca"


def test_documents_of_one_id_get_ids_that_no_other_has() -> None:
    context = Context.of([Document(text, id=id) for text, id in (("one", "a"), ("two", "a"), ("three", "a#2"))])
    assert [id for id, _ in context.texts()] == ["a", "a#3", "a#2"]


@pytest.mark.parametrize("start", [0, STEP_CHARS - 3, STEP_CHARS, 2 * STEP_CHARS - 5])
def test_a_quote_is_found_where_two_steps_of_the_search_meet(start: int) -> None:
    text = "x" * start + "needle" + "x" * STEP_CHARS
    assert Context.of(["none", text]).find("needle") == ("1", start)
    assert Context.of(text).find("needles") is None


def test_lines_of_a_long_text_are_all_counted() -> None:
    assert Context.of("a\n" * 1_500_000).lines == 1_500_001
    assert Context.of("a").lines == 1
