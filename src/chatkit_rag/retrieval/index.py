"""What every search index of passages can do, whichever engine is below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chatkit_rag.documents import Document, Hit, Passage
from chatkit_rag.retrieval.manifest import PageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What an index found."""

    hits: tuple[Hit, ...] = ()
    """Best first; equal scores in the order of their ids."""
    confidence: float = 0.0
    """How likely the course answers what was asked, 0..1; see `Lexicon.confidence`."""


class PassageIndex(Protocol):
    """Passages that can be searched, and the pages that they were cut from.

    A generation is published whole: a search sees all of one or all of the next, and a process that dies while it
    builds one leaves the current one as it was.
    """

    @property
    def signature(self) -> str:
        """What decides how passages are indexed: where it differs, the same pages have to be indexed again."""
        ...

    async def open(self) -> None:
        """Makes the index ready to be searched; a second call does nothing.

        An index that was never published opens empty. An index that is published later is taken over by itself.

        Raises:
            IndexUnreadable: it is damaged, or of a format that this version does not know.
        """
        ...

    async def close(self) -> None:
        """Releases what `open` took; a second call does nothing."""
        ...

    async def search(self, query: str, *, limit: int = 100, site: str | None = None) -> Matches:
        """The `limit` passages that fit `query` best; `site` None searches all.

        Raises:
            IndexUnreadable: as `open`.
        """
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

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """Builds a generation of exactly these pages and passages, makes it the current one, and returns its name."""
        ...
