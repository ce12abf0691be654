"""What every search index of passages can do, whichever engine is below it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatkit_rag.documents import Document, Hit, Passage
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.manifest import PageRecord

TERMS = "terms"
"""The sparse vector of a point, in every engine."""
MEANING = "meaning"
"""The dense one, where there is an embedder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What an index found. Scores of `hits` and `near` are of different scales; see `fusion.fuse`."""

    hits: tuple[Hit, ...] = ()
    """By words, best first; equal scores in the order of their ids."""
    near: tuple[Hit, ...] = ()
    """By meaning, in the same order: the score is the cosine."""
    confidence: float = 0.0
    """How likely the course answers what was asked, 0..1; see `Lexicon.confidence`."""


@dataclass(frozen=True, slots=True)
class Around:
    """The pieces of a passage's own section right before and after it; None where there are none."""

    before: Passage | None = None
    after: Passage | None = None


class PassageIndex(Protocol):
    """Passages that can be searched, and the pages that they were cut from.

    A generation is published whole: a search sees all of one or all of the next, and a process that dies while it
    builds one leaves the current one as it was.
    """

    @property
    def signature(self) -> str:
        """What decides how passages are indexed: where it differs, the same pages have to be indexed again."""
        ...

    @property
    def embedder(self) -> Embedder | None:
        """What passages are embedded by when they are published; None where they are found by words only."""
        ...

    async def open(self) -> None:
        """Makes the index ready to be searched; a second call does nothing.

        An index that was never published opens empty. An index that is published later is taken over by itself.

        Raises:
            IndexUnreadable: it is damaged, or of a format that this version does not know.
            IndexUnavailable: it is on a server that does not answer.
        """
        ...

    async def close(self) -> None:
        """Releases what `open` took, the embedder's connections too; a second call does nothing."""
        ...

    async def embedded_by(self) -> str:
        """The signature of the embedder of the generation that is served; empty where it has no vectors."""
        ...

    async def search(
        self, query: str, *, vector: Vector | None = None, limit: int = 100, where: Filter | None = None
    ) -> Matches:
        """The `limit` passages that fit the words of `query` best, and as many that are nearest to `vector`.

        Args:
            query: the question.
            vector: the question's, by the embedder of the generation that is served; another length finds nothing.
            limit: of each kind.
            where: which passages may be found; None for all.

        Raises:
            IndexUnreadable, IndexUnavailable: as `open`.
        """
        ...

    async def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """What stands right around passages that were found, by their ids: one look-up for all of them."""
        ...

    async def page(self, path: str, *, site: str | None = None) -> Document | None:
        """The page at `path`; None where the index holds none."""
        ...

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        """What is known of every page, in the order of their paths."""
        ...

    async def generation(self) -> str:
        """The name of the generation that is served; empty before the first."""
        ...

    async def edition(self) -> str:
        """What is another whenever another generation is searched, for what is kept of one beside the index.

        It is asked in every turn: an index on a server says what the next search would be of, and does not look it up.
        An index that was built anew under the names of an old one is another edition, where it can be told.
        """
        ...

    async def generations(self) -> Sequence[str]:
        """The names of all that are kept, oldest first."""
        ...

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """Builds a generation of exactly these pages and passages, makes it the current one, and returns its name.

        A passage whose text has not changed keeps its vector. The passages of a page come in reading order. Where it is
        cancelled, the generation is published all the same, or nothing is.

        Raises:
            EmbeddingFailed: the embedder gave no vectors that can be used; the current generation stays.
            IndexError_: it cannot be written, or somebody else publishes at this moment; likewise.
        """
        ...

    async def activate(self, generation: str) -> None:
        """Makes a generation that is kept the current one again.

        Raises:
            IndexMissing: there is none of this name.
        """
        ...


def index_signature(language: str, embedder: Embedder | None) -> str:
    """What `PassageIndex.signature` is in our own indexes."""
    return f"{language} {embedder.signature}" if embedder else language
