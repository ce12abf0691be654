"""`MemoryIndex`: an index in this process' memory, for tests. It computes what the engines do, passage by passage."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio.to_thread

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexMissing
from chatkit_rag.retrieval.analysis import SparseVector, question_vector
from chatkit_rag.retrieval.counting import rarity
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generation_index import GenerationIndex
from chatkit_rag.retrieval.index import Around, Matches
from chatkit_rag.retrieval.knowledge import Knowledge, Scored, make_payloads, read_payload
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.vectors import embed_changed


class _Generation:
    def __init__(
        self,
        knowledge: Knowledge,
        payloads: Sequence[Mapping[str, Any]],
        terms: Iterable[SparseVector],
        vectors: Sequence[Vector],
    ) -> None:
        self.knowledge = knowledge
        self.ids = [str(payload["id"]) for payload in payloads]
        self.digests = {str(payload["id"]): str(payload.get("embedded", "")) for payload in payloads}
        self.vectors = {id_: _of_length_one(vector) for id_, vector in zip(self.ids, vectors, strict=False)}
        self._holding: dict[int, dict[str, float]] = {}
        for id_, vector in zip(self.ids, terms, strict=True):
            for term, value in zip(vector.indices, vector.values, strict=True):
                self._holding.setdefault(term, {})[id_] = value
        for id_, payload in zip(self.ids, payloads, strict=True):
            knowledge.get_to_know(id_, *read_payload(payload))

    def by_words(self, asked: list[int], admitted: set[str]) -> list[Scored]:
        """Every passage that holds a term of the question."""
        scores: dict[str, float] = {}
        question = question_vector(asked)
        for term, weight in zip(question.indices, question.values, strict=True):
            holding = self._holding.get(term, {})
            worth = weight * rarity(len(holding), len(self.ids))
            for id_, value in holding.items():
                if id_ in admitted:
                    scores[id_] = scores.get(id_, 0.0) + worth * value
        return list(scores.items())

    def by_meaning(self, vector: Vector, admitted: set[str]) -> list[Scored]:
        """The cosine of every passage."""
        asked = _of_length_one(vector)
        return [
            (id_, sum(a * b for a, b in zip(asked, other, strict=True)))
            for id_, other in self.vectors.items()
            if id_ in admitted
        ]


class MemoryIndex(GenerationIndex):
    """A `PassageIndex` that is gone with the process."""

    def __init__(self, *, language: str = "english", embedder: Embedder | None = None) -> None:
        super().__init__(language=language, embedder=embedder)
        self._generations: dict[str, _Generation] = {}
        self._current = ""

    async def open(self) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Closes the embedder; the passages stay."""
        if self._embedder is not None:
            await self._embedder.close()

    async def search(
        self, query: str, *, vector: Vector | None = None, limit: int = 100, where: Filter | None = None
    ) -> Matches:
        """See `PassageIndex.search`."""
        served = self._served
        if served is None:
            return Matches()
        knowledge = served.knowledge
        admitted = {id_ for id_ in served.ids if where is None or where.admits(knowledge.known[id_].passage)}
        asked = knowledge.asked(query)
        near = vector is not None and len(vector) == knowledge.dimension
        return knowledge.matches(
            asked,
            _first(served.by_words(asked.terms, admitted), limit),
            _first(served.by_meaning(vector, admitted), limit) if near and vector else (),
        )

    async def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """See `PassageIndex.around`."""
        served = self._served
        known = served.knowledge.known if served else {}
        found = {passage.id: known[passage.id] for passage in passages if passage.id in known}
        return {
            id_: Around(
                known[one.before].passage if one.before else None, known[one.after].passage if one.after else None
            )
            for id_, one in found.items()
        }

    async def generation(self) -> str:
        """See `PassageIndex.generation`."""
        return self._current

    async def edition(self) -> str:
        """See `PassageIndex.edition`: the generation's name."""
        return self._current

    async def generations(self) -> Sequence[str]:
        """See `PassageIndex.generations`: all of them."""
        return list(self._generations)

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`."""
        vectors: list[Vector] = []
        if self._embedder is not None:
            vectors = await embed_changed(passages, self._embedder, self._kept)
        built = await anyio.to_thread.run_sync(self._build, records, passages, vectors)
        self._current = f"gen-{len(self._generations) + 1}"
        self._generations[self._current] = built
        return self._current

    async def activate(self, generation: str) -> None:
        """See `PassageIndex.activate`."""
        if generation not in self._generations:
            raise IndexMissing(
                f"there is no generation {generation!r} (kept: {', '.join(self._generations) or 'none'})"
            )
        self._current = generation

    async def _knowledge(self, *, at_once: bool = False) -> Knowledge | None:  # noqa: ARG002 - to look costs nothing
        return self._served.knowledge if self._served else None

    @property
    def _served(self) -> _Generation | None:
        return self._generations.get(self._current)

    async def _kept(self, ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
        served = self._served
        if served is None or self._embedder is None or served.knowledge.embedder != self._embedder.signature:
            return {}
        return {id_: (served.digests[id_], served.vectors[id_]) for id_ in ids if id_ in served.vectors}

    def _build(
        self, records: Sequence[PageRecord], passages: Sequence[Passage], vectors: Sequence[Vector]
    ) -> _Generation:
        knowledge, terms = self._read(records, passages, vectors)
        return _Generation(knowledge, make_payloads(passages, embedded=bool(vectors)), terms, vectors)


def _first(scored: list[Scored], limit: int) -> list[Scored]:
    return sorted(scored, key=lambda one: (-one[1], one[0]))[:limit]


def _of_length_one(vector: Vector) -> Vector:
    length = math.hypot(*vector)
    return [value / length for value in vector]
