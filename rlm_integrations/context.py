"""What a question is asked of: the value model code sees as ``context``, and facts about it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from rlm_integrations.errors import InvalidInput, MissingExtra

__all__ = ["Context", "ContextSummary", "Document"]

logger = logging.getLogger(__name__)

BLOCKS = (
    "address article aside blockquote br caption dd details dialog div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section summary table td th title tr ul"
).split()
ACCEPTED = "a str, a list of str or Document, a dict or list of JSON values, or a Context"
MAX_DEPTH = 100
HEAD_CHARS = 200
TOLD_KEYS = 30
NAME_CHARS = 100
LARGE_VALUES, LARGE_CHARS = 1_000, 1_000_000
MAX_INT_BITS = 10_000
STEP_CHARS = 1 << 20
PLAIN = (str, int, float, bool, type(None))


class Document(str):
    """Text that knows where it came from: a ``str`` to slice, search and join, with ``.id`` and ``.metadata``."""

    id: str | None
    metadata: dict[str, Any]

    def __new__(cls, text: str, *, id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Document:
        document = super().__new__(cls, text)
        document.id = id
        document.metadata = dict(metadata or {})
        return document

    def __getitem__(self, index: Any) -> Any:
        """A piece of the text, as of any ``str``; by a name, what the metadata has under it, or the id or the text.

        Raises ``KeyError`` for another name, with the names that there are and the first place in the text.
        """
        if not isinstance(index, str):
            return str.__getitem__(self, index)
        if index in self.metadata:
            return self.metadata[index]
        match index:
            case "id":
                return self.id
            case "metadata":
                return self.metadata
            case "text":
                return str(self)
        raise KeyError(self._missing(index[:NAME_CHARS]))

    def _missing(self, name: str) -> str:
        # Offsets in a lowered text would be others where letters grow, and all of a long one would be copied.
        place = re.search(re.escape(name), self[:STEP_CHARS], re.IGNORECASE) if name else None
        text = self[max(0, place.start() - 60) : place.start() + 100] if place else ""
        has = f"its text has: ...{text}..." if place else "a document is its text: try document.splitlines()"
        keys = ", ".join(str(key)[:NAME_CHARS] for key in islice(self.metadata, TOLD_KEYS))
        more = ", ..." if len(self.metadata) > TOLD_KEYS else ""
        return f"{name} is not in the metadata ({keys or 'empty'}{more}); {has}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (str(self), self.id, self.metadata)


def _rebuild(text: str, id: str | None, metadata: dict[str, Any]) -> Document:
    return Document(text, id=id, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ContextSummary:
    """A context without its text: what traces and records hold of it."""

    type: str
    chars: int
    documents: int
    sha256: str
    head: str


class Context:
    """A checked context. ``value`` is what model code sees; build one with ``of`` or ``from_files``."""

    __slots__ = ("__dict__", "value")

    value: Any

    def __init__(self, value: Any) -> None:
        self.value = _checked(value)
        if not any(text for _, text in self.texts()) and (not self.value or not _is_json(self.value)):
            raise InvalidInput(f"the context is empty: pass {ACCEPTED} with some text in it")

    @classmethod
    def of(cls, value: Any) -> Context:
        """``value`` as a context. Raises ``InvalidInput`` for a type that is not supported, and for an empty one."""
        return value if isinstance(value, Context) else cls(value)

    @classmethod
    def from_files(cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Context:
        """One ``Document`` for each file; its id is its path as given, or within the one folder that was given.

        Folders are read in sorted order, with all folders in them; hidden files and files that are not text are left
        out (and logged). Text keeps its line ends. HTML is reduced to its text, PDF (extra ``pdf``) too, with a form
        feed between pages. Raises ``InvalidInput`` for a path that does not exist or a named file that is not text.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        documents: list[Document] = []
        paths = list(paths)
        for given in paths:
            path = Path(given)
            if path.is_dir():
                documents.extend(_read_folder(path, "" if len(paths) == 1 else f"{given}/"))
            elif path.exists():
                documents.append(_read_file(path, id=str(given)))
            else:
                raise InvalidInput(f"there is no file or folder {str(given)!r}: check the path (from {os.getcwd()})")
        if not documents:
            raise InvalidInput("no text files found: name at least one file, or a folder with text files in it")
        return cls(documents)

    def __repr__(self) -> str:
        return f"<Context: {self.type}, {self.chars:,} characters>"

    def texts(self) -> Iterator[tuple[str, str]]:
        """``(document id, text)`` of all text in order; in JSON every string is a document, named by its path."""
        yield from texts_of(self.value)

    @cached_property
    def documents(self) -> int:
        """How many texts there are."""
        return sum(1 for _ in self.texts())

    @cached_property
    def chars(self) -> int:
        """Characters of text in all."""
        return sum(len(text) for _, text in self.texts())

    @cached_property
    def is_documents(self) -> bool:
        """Whether ``value`` is a list of texts and nothing else."""
        return isinstance(self.value, list) and all(isinstance(item, str) for item in self.value)

    @cached_property
    def metadata_keys(self) -> tuple[str, ...]:
        """All keys of the documents' metadata, sorted."""
        documents = self.value if self.is_documents else ()
        return tuple(sorted({key for document in documents for key in getattr(document, "metadata", {})}))

    @cached_property
    def type(self) -> str:
        """The shape of ``value`` in words, e.g. ``list of 12 Document``."""
        value = self.value
        if not isinstance(value, list):
            return type(value).__name__
        kinds = {type(item).__name__ for item in value}
        return f"list of {len(value)} {kinds.pop()}" if len(kinds) == 1 else f"list of {len(value)} items"

    @cached_property
    def sha256(self) -> str:
        """Hash of everything in the context: text, ids and metadata."""
        digest = hashlib.sha256(type(self.value).__name__.encode())
        for id, text in self.texts():
            digest.update(f"\0{id}\0{len(text)}\0".encode("utf-8", "surrogatepass"))
            # In pieces, since encoding 1 GB at once would hold it twice.
            for start in range(0, len(text), 1 << 20):
                digest.update(text[start : start + (1 << 20)].encode("utf-8", "surrogatepass"))
        if _is_json(self.value):
            digest.update(_dumps(self.value))
        elif isinstance(self.value, list):
            digest.update(_dumps([getattr(item, "metadata", {}) for item in self.value]))
        return digest.hexdigest()

    @cached_property
    def summary(self) -> ContextSummary:
        """The description that traces may hold."""
        head = next((text[:HEAD_CHARS] for _, text in self.texts() if text), "")
        return ContextSummary(self.type, self.chars, self.documents, self.sha256, head)

    def find(self, quote: str) -> tuple[str, int] | None:
        """Document id and offset of the first place where ``quote`` stands word for word."""
        for id, text in self.texts():
            # In steps, since no other thread runs during one.
            for begin in range(0, max(1, len(text)), STEP_CHARS):
                if (start := text.find(quote, begin, begin + STEP_CHARS + len(quote) - 1)) >= 0:
                    return id, start
        return None


def _checked(value: Any) -> Any:
    """``value`` with its outer list copied, so that the caller's later changes do not reach a run."""
    if isinstance(value, str):
        return _sound(value, "context")
    if isinstance(value, tuple | list):
        items = _with_own_ids([_sound(item, f"context[{index}]") for index, item in enumerate(value)])
        for index, item in enumerate(items):
            _check_json(item, f"[{index}]", 1)
        return items
    if isinstance(value, dict):
        _check_json(value, "", 0)
        return dict(value)
    raise InvalidInput(f"a context can't be a {type(value).__name__}: pass {ACCEPTED}{_hint(value)}")


def _sound(value: Any, place: str) -> Any:
    """A ``Document`` whose id is a ``str`` and whose metadata are JSON values, dates and the like as text."""
    if not isinstance(value, Document):
        return value
    id = value.id if value.id is None or isinstance(value.id, str) else str(value.id)
    if id is value.id and all(type(key) is str and _is_plain(item) for key, item in value.metadata.items()):
        return value
    try:
        metadata = json.loads(json.dumps(_keyed({str(key): item for key, item in value.metadata.items()}), default=str))
    except ValueError as error:
        raise InvalidInput(f"the metadata of document {id!r} ({place}) can't be written as JSON: {error}") from error
    if id == value.id and metadata == value.metadata:
        return value
    return Document(value, id=id, metadata=metadata)


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN and (type(value) is not int or value.bit_length() <= MAX_INT_BITS)


def _keyed(value: Any, depth: int = 0) -> Any:
    """``value`` with keys that JSON has no form for as text. Raises ``ValueError`` for what is nested too deeply."""
    if depth > MAX_DEPTH:
        raise ValueError(f"they are nested deeper than {MAX_DEPTH} levels, or hold themselves")
    if isinstance(value, dict):
        return {key if isinstance(key, PLAIN) else str(key): _keyed(item, depth + 1) for key, item in value.items()}
    return [_keyed(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def _with_own_ids(items: list[Any]) -> list[Any]:
    """Documents that share an id get a number behind it, or a citation could mean either."""
    ids = [getattr(item, "id", None) for item in items]
    taken = set(ids)
    seen: dict[str, int] = {}
    for index, (id, item) in enumerate(zip(ids, items, strict=True)):
        if id is None:
            continue
        seen[id] = seen.get(id, 0) + 1
        if seen[id] > 1:
            while (own := f"{id}#{seen[id]}") in taken:
                seen[id] += 1
            taken.add(own)
            items[index] = Document(item, id=own, metadata=item.metadata)
    return items


def _hint(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return " (decode bytes first)"
    if isinstance(value, os.PathLike):
        return " (Context.from_files(path) reads files)"
    if hasattr(value, "page_content") or hasattr(value, "get_content"):
        return " (a framework's documents go through rlm_integrations' face for that framework)"
    return ""


def _check_json(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"the context is nested deeper than {MAX_DEPTH} levels at {path[:80]}...")
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise InvalidInput(f"context{path} is a number of more than {MAX_INT_BITS:,} bits: pass it as text")
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"context{path} has the key {key!r}: keys of a dict must be str")
            _check_json(item, f"{path}.{key}", depth + 1)
    else:
        raise InvalidInput(f"context{path} is a {type(value).__name__}: pass {ACCEPTED}{_hint(value)}")


def _is_json(value: Any) -> bool:
    """Whether ``value`` is more than text and lists of text."""
    if isinstance(value, str):
        return False
    return not isinstance(value, list) or not all(isinstance(item, str) for item in value)


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """``(document id, text)`` of all text in a context's value; ``path`` is where the value stands in a larger one."""
    match value:
        case str():
            yield getattr(value, "id", None) or path or "context", value
        case list() | tuple():
            for index, item in enumerate(value):
                yield from texts_of(item, f"{path}[{index}]" if path else str(index))
        case dict():
            for key, item in value.items():
                yield from texts_of(item, f"{path}.{key}" if path else key)


def is_large(value: Any) -> bool:
    """Whether it may take more than a moment to check and hash ``value`` as a context."""
    chars = count = 0
    left = [value.value if isinstance(value, Context) else value]
    while left:
        item = left.pop()
        count += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, dict | list | tuple):
            count += len(item)
            if count <= LARGE_VALUES:
                left.extend(item.values() if isinstance(item, dict) else item)
        if count > LARGE_VALUES or chars > LARGE_CHARS:
            return True
    return False


def _dumps(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


def _read_folder(folder: Path, prefix: str) -> Iterator[Document]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        try:
            yield _read_file(path, id=prefix + inside.as_posix())
        except InvalidInput as error:
            logger.warning("left out of the context: %s", error)


def _read_file(path: Path, id: str) -> Document:
    suffix = path.suffix.lower()
    metadata: dict[str, Any] = {"path": str(path)}
    try:
        if suffix == ".pdf":
            pages = _pdf_pages(path)
            metadata["pages"] = len(pages)
            text = "\f".join(pages)
        else:
            text = _decoded(path)
            if suffix in (".html", ".htm", ".xhtml"):
                text = _html_text(text)
    except OSError as error:
        raise InvalidInput(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    return Document(text, id=id, metadata=metadata)


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidInput(
            f"{str(path)!r} is not text (UTF-8 or UTF-16 expected): convert it to text first, "
            "or load it with a LangChain or LlamaIndex reader"
        )
    return text


def _html_text(markup: str) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(markup, "html.parser")
    for element in soup(["script", "style", "template"]):
        element.decompose()
    for text in soup.find_all(string=True):
        if text.find_parent("pre") is None:
            text.replace_with(re.sub(r"\s+", " ", text))
    # Words that only differ in type stay together; blocks and cells stand on lines of their own.
    for element in soup.find_all(BLOCKS):
        element.insert_before("\n")
        element.append("\n")
    lines = (line.strip() for line in soup.get_text().splitlines())
    return "\n".join(line for line in lines if line)


def _pdf_pages(path: Path) -> list[str]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise MissingExtra("pdf", f"reading {str(path)!r}") from error
    try:
        return [page.extract_text() for page in PdfReader(path).pages]
    except PyPdfError as error:
        raise InvalidInput(f"{str(path)!r} is not a readable PDF: {error}") from error
