"""``search`` over documents on disk: the host tells from its index where the words stand, passages are found there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm_integrations.sandbox.documents import Documents
from rlm_integrations.sandbox.search import INDEXED_CHARS, Index, Passage, Passages, asked
from rlm_integrations.sandbox.wire import MAX_PLACES, MAX_TERM_CHARS
from rlm_integrations.stored.pack import Pack

__all__ = ["Ask", "StoredIndex"]

# Words in, the best blocks of text that hold them out, up to a number: which document, and from which byte of its text
# up to which.
Ask = Callable[[Sequence[str], int], Sequence[tuple[int, int, int]]]
# A block is of 4,000 characters. Words that are in one may be far apart there: to see where they are not, of many takes
# some 100 ms; so long takes it too to index as many characters.
BLOCKS, BLOCKS_A_PASSAGE = 1_200, 10
BLOCKS_CHARS = 400_000


class StoredIndex:
    """Finds passages of documents on disk; few of them are indexed here as those of any context are."""

    def __init__(self, documents: Documents, ask: Ask) -> None:
        self._documents, self._ask = documents, ask
        self._whole: Index | None = None
        self._is_small: bool | None = None

    def search(self, words: str | Sequence[str], n: int = 5, brief: bool = False) -> Passages:
        """See ``Index.search``."""
        if self._is_small is None:
            self._is_small = self._documents._has_at_most(INDEXED_CHARS)
        if self._is_small:
            self._whole = self._whole or Index(list(self._documents))
            return self._whole.search(words, n, brief)
        terms = [term[:MAX_TERM_CHARS] for term in asked(words)[1]]
        if not terms or n < 1:
            return Passages()
        limit = min(MAX_PLACES, max(BLOCKS, BLOCKS_A_PASSAGE * int(n)))
        return _Blocks(self._documents._pack, self._ask(terms, limit)).search(words, n, brief)


class _Blocks(Index):
    """The index of some blocks of documents, as if each were a document by itself."""

    indexed_chars = BLOCKS_CHARS

    def __init__(self, pack: Pack, blocks: Sequence[tuple[int, int, int]]) -> None:
        super().__init__([])
        self._pack, self._blocks = pack, blocks

    def _split(self) -> None:
        heads = {number: self._pack.head(number) for number, _, _ in self._blocks}
        self._context = [self._pack.piece(*block) for block in self._blocks]
        super()._split()
        # What documents say of themselves goes with their first blocks only, as it does with their first passages.
        self._metadata = [heads[number][1] for number, _, _ in self._blocks]
        self._texts = [
            (heads[number][0] or str(number), text)
            for (number, _, _), (_, text) in zip(self._blocks, self._texts, strict=True)
        ]

    def _said_of(self, number: int) -> str:
        return super()._said_of(number) if self._blocks[number][1] == 0 else ""

    def _passage(self, row: int) -> Passage:
        passage = super()._passage(row)
        number, start, _ = self._blocks[self._owners[row]]
        passage.start += self._pack.offset(number, start)
        return passage
