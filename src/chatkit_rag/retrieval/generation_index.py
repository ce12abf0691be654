"""What is the same in every index over generations: what it says out of the `Knowledge` of the one that is served."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self

from chatkit_rag.documents import Document, Passage
from chatkit_rag.retrieval.analysis import SparseVector, analyser_of
from chatkit_rag.retrieval.counting import Reading
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.index import index_signature
from chatkit_rag.retrieval.knowledge import Knowledge
from chatkit_rag.retrieval.languages import find_language
from chatkit_rag.retrieval.manifest import PageRecord


class GenerationIndex(ABC):
    """The part of a `PassageIndex` that does not depend on the engine."""

    def __init__(self, *, language: str, embedder: Embedder | None) -> None:
        self._language = find_language(language).name
        self._embedder = embedder

    @property
    def signature(self) -> str:
        """See `PassageIndex.signature`."""
        return index_signature(self._language, self._embedder)

    @property
    def embedder(self) -> Embedder | None:
        """See `PassageIndex.embedder`."""
        return self._embedder

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @abstractmethod
    async def open(self) -> None:
        """See `PassageIndex.open`."""

    @abstractmethod
    async def close(self) -> None:
        """See `PassageIndex.close`."""

    @abstractmethod
    async def _knowledge(self, *, at_once: bool = False) -> Knowledge | None:
        """Of the generation that is served; None before the first.

        Args:
            at_once: whether to look up which one that is, where it may have been looked up a while ago.
        """

    def _read(
        self, records: Sequence[PageRecord], passages: Sequence[Passage], vectors: Sequence[Vector]
    ) -> tuple[Knowledge, Iterator[SparseVector]]:
        """The knowledge of a generation to be, and what each of its passages is indexed under. For a worker."""
        reading = Reading(passages, analyser_of(self._language))
        knowledge = Knowledge.of(
            records,
            passages,
            reading.counts,
            language=self._language,
            embedder=self._embedder.signature if self._embedder else "",
            dimension=len(vectors[0]) if vectors else 0,
        )
        return knowledge, reading.vectors(reading.counts.average_length)

    async def embedded_by(self) -> str:
        """See `PassageIndex.embedded_by`."""
        knowledge = await self._knowledge()
        return knowledge.embedder if knowledge else ""

    async def page(self, path: str, *, site: str | None = None) -> Document | None:
        """See `PassageIndex.page`."""
        knowledge = await self._knowledge()
        found = knowledge.pages.get(path, ()) if knowledge else ()
        return next((record.document for record in found if site in (None, record.site)), None)

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        """See `PassageIndex.records`."""
        knowledge = await self._knowledge(at_once=True)
        return [record for record in knowledge.records if site in (None, record.site)] if knowledge else []
