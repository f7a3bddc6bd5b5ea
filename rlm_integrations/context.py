"""What a question is asked of: the value model code sees as ``context``, and facts about it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rlm_integrations.errors import InvalidInput, MissingExtra

__all__ = ["Context", "ContextSummary", "Document"]

logger = logging.getLogger(__name__)

BLOCKS = (
    "address article aside blockquote br caption dd details dialog div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section summary table td th title tr ul"
).split()
NO_FILES = "no text files found: name at least one file, or a folder with text files in it"
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


class DocumentsOnDisk(Sequence[Document]):
    """Documents of which each is read when it is asked for, and let go; a context over them is never in memory."""

    __slots__ = ()

    @property
    @abstractmethod
    def chars(self) -> int:
        """Characters of text in all."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """A hash of all documents: of a whole store what ``Context.sha256`` of a list of the same ones is."""

    @property
    @abstractmethod
    def head(self) -> str:
        """The first characters of the first text that has any, at most ``HEAD_CHARS``."""

    @property
    @abstractmethod
    def metadata_keys(self) -> tuple[str, ...]:
        """All keys of the documents' metadata, sorted."""

    @abstractmethod
    def heads(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and metadata of each document in order, without its text."""

    def metadata_of(self, ids: Set[str]) -> dict[str, dict[str, Any]]:
        """The metadata of the documents ``ids``."""
        return {id: metadata for id, metadata in self.heads() if id in ids}

    @abstractmethod
    def find(self, quote: str) -> tuple[str, int] | None:
        """Document id and offset of a place where ``quote`` stands word for word: one that is found quickly, if any."""

    @abstractmethod
    def near(self, words: Sequence[str]) -> Iterator[str]:
        """Pieces of the documents that may hold ``words`` in one place, best first; few, and found quickly."""


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
    def from_files(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        lazy: bool = False,
        index: str | os.PathLike[str] | None = None,
    ) -> Context:
        """One ``Document`` for each file; its id is its path as given, or within the one folder that was given.

        Folders are read in sorted order, with all folders in them; hidden files and files that are not text are left
        out (and logged). Text keeps its line ends. HTML is reduced to its text, PDF (extra ``pdf``) too, with a form
        feed between pages. Raises ``InvalidInput`` for a path that does not exist or a named file that is not text.

        ``lazy``: for more text than memory. It is written once into a store on disk, with an index for ``search``; a
        document is read when code touches it, and let go. ``index``: the folder in which the store is kept, to be used
        again for as long as the files don't change; without it, the store lies in the temporary folder (``TMPDIR``) and
        goes with the context, or at the end of the program. A store takes about 1.2 times the size of its text.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        paths = list(paths)
        if lazy:
            # What reads a store is not needed by the many who never have one.
            from rlm_integrations.stored import stored_files

            return cls(stored_files(paths, index))
        if index is not None:
            raise InvalidInput("index is for documents that stay on disk: pass lazy=True with it")
        documents = list(read_files(files_of(paths)))
        if not documents:
            raise InvalidInput(NO_FILES)
        return cls(documents)

    def __repr__(self) -> str:
        return f"<Context: {self.type}, {self.chars:,} characters>"

    def texts(self) -> Iterator[tuple[str, str]]:
        """``(document id, text)`` of all text in order; in JSON every string is a document, named by its path."""
        yield from texts_of(self.value)

    @cached_property
    def documents(self) -> int:
        """How many texts there are."""
        return len(self.value) if self.is_on_disk else sum(1 for _ in self.texts())

    @cached_property
    def chars(self) -> int:
        """Characters of text in all."""
        return self.value.chars if self.is_on_disk else sum(len(text) for _, text in self.texts())

    def look_through(self) -> None:
        """Find out now, and once, what is told of it and takes a look at all of it. Blocks."""
        _ = self.summary, self.metadata_keys
        if isinstance(self.value, str):
            _ = self.lines

    @cached_property
    def lines(self) -> int:
        """Lines of a context that is one text."""
        # In steps, since no other thread runs during one.
        steps = range(0, len(self.value), STEP_CHARS)
        counts: Iterable[int] = (self.value.count("\n", begin, begin + STEP_CHARS) for begin in steps)
        return 1 + sum(counts)

    @property
    def is_on_disk(self) -> bool:
        """Whether ``value`` is ``DocumentsOnDisk``, which must not be read as a whole."""
        return isinstance(self.value, DocumentsOnDisk)

    @cached_property
    def is_documents(self) -> bool:
        """Whether ``value`` is texts and nothing else, one after the other."""
        return self.is_on_disk or (isinstance(self.value, list) and all(isinstance(item, str) for item in self.value))

    @cached_property
    def metadata_keys(self) -> tuple[str, ...]:
        """All keys of the documents' metadata, sorted."""
        if isinstance(self.value, DocumentsOnDisk):
            return self.value.metadata_keys
        documents = self.value if self.is_documents else ()
        return tuple(sorted({key for document in documents for key in getattr(document, "metadata", {})}))

    @cached_property
    def type(self) -> str:
        """The shape of ``value`` in words, e.g. ``list of 12 Document``."""
        value = self.value
        if isinstance(value, DocumentsOnDisk):
            return f"list of {len(value)} Document"
        if not isinstance(value, list):
            return _type_name(value)
        kinds = {_type_name(item) for item in value}
        return f"list of {len(value)} {kinds.pop()}" if len(kinds) == 1 else f"list of {len(value)} items"

    @cached_property
    def sha256(self) -> str:
        """Hash of everything in the context: text, ids and metadata."""
        if isinstance(self.value, DocumentsOnDisk):
            return self.value.sha256
        digest = Digest(_type_name(self.value))
        for id, text in self.texts():
            digest.add(id, text)
        if _is_json(self.value):
            digest.add_json(self.value)
        elif isinstance(self.value, list):
            digest.add_metadata(getattr(item, "metadata", {}) for item in self.value)
        return digest.hexdigest()

    @cached_property
    def summary(self) -> ContextSummary:
        """The description that traces may hold."""
        value = self.value
        is_on_disk = isinstance(value, DocumentsOnDisk)
        head = value.head if is_on_disk else next((text[:HEAD_CHARS] for _, text in self.texts() if text), "")
        return ContextSummary(self.type, self.chars, self.documents, self.sha256, head)

    def find(self, quote: str) -> tuple[str, int] | None:
        """Document id and offset of the first place where ``quote`` stands word for word."""
        if isinstance(self.value, DocumentsOnDisk):
            return self.value.find(quote)
        for id, text in self.texts():
            # In steps, since no other thread runs during one.
            for begin in range(0, max(1, len(text)), STEP_CHARS):
                if (start := text.find(quote, begin, begin + STEP_CHARS + len(quote) - 1)) >= 0:
                    return id, start
        return None


class Digest:
    """The hash of a context: ids and texts in order, then the metadata of all, or the JSON values."""

    def __init__(self, type_name: str) -> None:
        self._digest = hashlib.sha256(type_name.encode())

    def add(self, id: str, text: str) -> None:
        """The next text."""
        self._digest.update(f"\0{id}\0{len(text)}\0".encode("utf-8", "surrogatepass"))
        # In pieces, since encoding 1 GB at once would hold it twice.
        for start in range(0, len(text), 1 << 20):
            self._digest.update(str.__getitem__(text, slice(start, start + (1 << 20))).encode("utf-8", "surrogatepass"))

    def add_metadata(self, metadata: Iterable[Mapping[str, Any]]) -> None:
        """What all texts say about themselves, in order."""
        for number, item in enumerate(metadata):
            self._digest.update(b", " if number else b"[")
            self._digest.update(_dumps(item))
        self._digest.update(b"]")

    def add_json(self, value: Any) -> None:
        """All values of a context that is more than text."""
        self._digest.update(_dumps(value))

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._digest.hexdigest()


def _type_name(value: Any) -> str:
    # A document that was read from a store is still a Document, and hashes like one.
    return getattr(type(value), "type_name", type(value).__name__)


def _checked(value: Any) -> Any:
    """``value`` with its outer list copied, so that the caller's later changes do not reach a run."""
    if isinstance(value, DocumentsOnDisk):
        return value
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
    for index, own in own_ids(ids).items():
        items[index] = Document(items[index], id=own, metadata=items[index].metadata)
    return items


def own_ids(ids: Sequence[str | None]) -> dict[int, str]:
    """By its index, a new id for each one of ``ids`` that came before."""
    taken = set(ids)
    seen: dict[str, int] = {}
    own_ids: dict[int, str] = {}
    for index, id in enumerate(ids):
        if id is None:
            continue
        seen[id] = seen.get(id, 0) + 1
        if seen[id] > 1:
            while (own := f"{id}#{seen[id]}") in taken:
                seen[id] += 1
            taken.add(own)
            own_ids[index] = own
    return own_ids


def cuts(text: str, chars: int) -> Iterator[tuple[int, int]]:
    """Where to cut ``text``: at the last paragraph, line, sentence or word end within ``chars``."""
    start = 0
    while start < len(text):
        end = start + chars
        if end < len(text):
            for mark in ("\n\n", "\n", ". ", " "):
                found = text.rfind(mark, start + chars // 3, end)
                if found >= 0:
                    end = found + len(mark)
                    break
        yield start, min(end, len(text))
        start = end


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
    elif isinstance(value, DocumentsOnDisk):
        raise InvalidInput(
            f"context{path} is {len(value):,} documents on disk, which go by themselves and not in a list or dict: "
            "pass one slice of them, or a list of nothing but documents"
        )
    else:
        raise InvalidInput(f"context{path} is a {type(value).__name__}: pass {ACCEPTED}{_hint(value)}")


def _is_json(value: Any) -> bool:
    """Whether ``value`` is more than text and lists of text."""
    if isinstance(value, str | DocumentsOnDisk):
        return False
    return not isinstance(value, list) or not all(isinstance(item, str) for item in value)


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """``(document id, text)`` of all text in a context's value; ``path`` is where the value stands in a larger one."""
    match value:
        case str():
            yield getattr(value, "id", None) or path or "context", value
        case list() | tuple() | DocumentsOnDisk():
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
        if isinstance(item, DocumentsOnDisk):
            return True
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


class File(NamedTuple):
    """A file to be read as the document ``id``; what is not text is refused if it ``is_named``, else left out."""

    path: Path
    id: str
    is_named: bool


def files_of(paths: Sequence[str | os.PathLike[str]]) -> Iterator[File]:
    """All files at ``paths``, in order. Raises ``InvalidInput`` for a path that does not exist."""
    for given in paths:
        path = Path(given)
        if path.is_dir():
            prefix = "" if len(paths) == 1 else f"{given}/"
            for file in sorted(path.rglob("*")):
                inside = file.relative_to(path)
                if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                    yield File(file, prefix + inside.as_posix(), False)
        elif path.exists():
            yield File(path, str(given), True)
        else:
            raise InvalidInput(f"there is no file or folder {str(given)!r}: check the path (from {os.getcwd()})")


def read_files(files: Iterable[File]) -> Iterator[Document]:
    """The document of each file that is text. Raises ``InvalidInput`` for a named one that is not."""
    for file in files:
        try:
            yield _read_file(file.path, file.id)
        except InvalidInput as error:
            if file.is_named:
                raise
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
