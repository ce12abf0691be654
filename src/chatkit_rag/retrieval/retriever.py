"""A question to the passages that answer it."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chatkit_rag.documents import Hit, Passage
from chatkit_rag.errors import RerankingFailed
from chatkit_rag.retrieval.breaker import CircuitBreaker
from chatkit_rag.retrieval.embedding import Vector, check_vectors
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.fusion import Fusion, by_score, diverse, favour, fuse, rank, spread
from chatkit_rag.retrieval.index import Around, PassageIndex
from chatkit_rag.retrieval.reranking import Reranker
from chatkit_rag.retrieval.segmentation import words

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """How passages are searched and chosen; times in seconds."""

    candidates: int = 100
    """Passages that the index is asked for, by words and by meaning each, before pages are weighed."""
    limit: int = 5
    """Passages that are returned."""
    per_page: int = 2
    """Passages of one page that come before those of other pages."""
    weak_below: float = 0.6
    """Confidence below which the course is held not to answer."""
    near_enough: float = 1.0
    """The cosine from which on it answers all the same. It depends on the embedder; 1 leaves it to the words."""
    fusion: Fusion = "dbsf"
    """How the two searches become one, where there is an embedder."""
    rrf_k: int = 60
    """With `rrf`: the greater, the less the first ranks stand out."""
    open_page: float = 0.1
    """The share of the best score that passages of the open page, and of its folder, get on top; 0 for none."""
    diversity: float = 0.0
    """How much a passage loses by saying what one before it says: 0 for nothing, up to 1."""
    around: bool = False
    """Whether what stands right before and after each passage, in its own section, comes along."""
    rerank: int = 30
    """Passages that a reranker gets."""
    embed_seconds: float = 1.0
    """What the embedder has for a question; then search is by words."""
    rerank_seconds: float = 1.5
    """What the reranker has; then the order stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What a question found."""

    hits: tuple[Hit, ...] = ()
    """Best first."""
    weak: bool = True
    """True where the passages hold too little of the question to answer it."""

    def to_json(self, query: str) -> dict[str, Any]:
        """`{"query", "hits"}`: what the `search` command prints and the route answers."""
        hits = [
            {
                "id": hit.passage.id,
                "score": round(hit.score, 4),
                "title": hit.passage.title,
                "heading_path": hit.passage.heading_path,
                "url": hit.passage.url,
                "text": hit.passage.text,
                "site": hit.passage.site,
                "metadata": {"path": hit.passage.path, **hit.passage.metadata},
            }
            for hit in self.hits
        ]
        return {"query": query, "hits": hits}


class Retriever:
    """Searches an index and weighs what it finds. Keeps nothing but what has failed of late.

    Without the embedder the words are searched alone, without the reranker the order stays: a reader who waits gets the
    second best, and the log says why.
    """

    def __init__(
        self, index: PassageIndex, options: RetrievalOptions | None = None, *, reranker: Reranker | None = None
    ) -> None:
        self._index = index
        self._options = options or RetrievalOptions()
        self._reranker = reranker
        self._breakers = {"embedder": CircuitBreaker(), "reranker": CircuitBreaker()}
        self._told = ""

    @property
    def options(self) -> RetrievalOptions:
        """How it searches and chooses."""
        return self._options

    async def retrieve(
        self, question: str, *, limit: int | None = None, where: Filter | None = None, open_page: str = ""
    ) -> Retrieved:
        """The passages that fit `question` best, the best page's first.

        Args:
            question: in the reader's words.
            limit: None takes the options'.
            where: which passages may be found, and come along; no other leaves, whatever the index does.
            open_page: the path of the page that the reader has in front of them.
        """
        options = self._options
        limit = options.limit if limit is None else limit
        vector = await self._embed(question)
        matches = await self._index.search(question, vector=vector, limit=options.candidates, where=where)
        found = fuse(matches.hits, matches.near, method=options.fusion, rrf_k=options.rrf_k)
        if open_page and options.open_page:
            found = favour(found, open_page, share=options.open_page)
        hits = rank(found)
        if where:
            hits = [hit for hit in hits if where.admits(hit.passage)]
        hits = await self._rerank(question, hits, max(limit, options.rerank))
        if options.diversity:
            hits = diverse(hits, diversity=options.diversity, limit=limit, likeness=_likeness)
        hits = spread(hits, per_page=options.per_page)[:limit]
        near = bool(matches.near) and matches.near[0].score >= options.near_enough
        weak = not hits or (matches.confidence < options.weak_below and not near)
        return Retrieved(hits=tuple(await self._with_around(hits, where)), weak=weak)

    async def close(self) -> None:
        """Closes the reranker; the index is whose it is."""
        if self._reranker is not None:
            await self._reranker.close()

    async def _embed(self, question: str) -> Vector | None:
        """The question's vector; None where there is none, or none that the index could be searched by."""
        embedder = self._index.embedder
        if embedder is None or not question.strip():
            return None
        built_by = await self._index.embedded_by()
        if built_by != embedder.signature:
            self._tell_once(
                f"the index was built with {built_by or 'no embedder'}, not with {embedder.signature}: "
                "search is by words until the pages are indexed again"
            )
            return None

        async def embedded() -> Vector:
            vector = await embedder.embed_query(question)
            check_vectors([vector], count=1, dimension=embedder.dimension, who=embedder.signature)
            return vector

        return await self._try("embedder", embedded, self._options.embed_seconds)

    async def _rerank(self, question: str, hits: list[Hit], most: int) -> list[Hit]:
        reranker = self._reranker
        if reranker is None or len(hits) < 2:
            return hits
        first = hits[:most]
        passages = [hit.passage for hit in first]

        async def scored() -> Sequence[float]:
            scores = await reranker.rerank(question, passages)
            if len(scores) != len(first) or not all(map(math.isfinite, scores)):
                raise RerankingFailed(
                    f"it gave {len(scores)} scores for {len(first)} passages, or some that are no numbers"
                )
            return scores

        scores = await self._try("reranker", scored, self._options.rerank_seconds)
        if scores is None:
            return hits
        reranked = [Hit(passage=hit.passage, score=score) for hit, score in zip(first, _shares(scores), strict=True)]
        return sorted(reranked, key=by_score)

    async def _with_around(self, hits: list[Hit], where: Filter | None) -> list[Hit]:
        if not self._options.around or not hits:
            return hits
        found = await self._index.around([hit.passage for hit in hits])

        def admitted(passage: Passage | None) -> Passage | None:
            return passage if passage is not None and (where is None or where.admits(passage)) else None

        def with_around(hit: Hit) -> Hit:
            around = found.get(hit.passage.id, Around())
            return hit._replace(before=admitted(around.before), after=admitted(around.after))

        return [with_around(hit) for hit in hits]

    async def _try(self, what: str, call: Callable[[], Awaitable[_Result]], seconds: float) -> _Result | None:
        """What `call` gives; None where it fails, takes too long, or has failed so often that it is not asked."""
        breaker = self._breakers[what]
        if not breaker.lets_through():
            return None
        try:
            async with asyncio.timeout(seconds):
                result = await call()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the reader gets the second best
            breaker.failed()
            why = f"took more than {seconds:g} s" if isinstance(exc, TimeoutError) else str(exc)
            _log.warning("going on without the %s: %s", what, why)
            return None
        breaker.succeeded()
        return result

    def _tell_once(self, message: str) -> None:
        if message != self._told:
            self._told = message
            _log.warning(message)


def _shares(scores: Sequence[float]) -> list[float]:
    """Scores as 0..1: rerankers give shares, or logits."""
    if all(0 <= score <= 1 for score in scores):
        return list(scores)
    return [1 / (1 + math.exp(-max(-500.0, min(500.0, score)))) for score in scores]


def _likeness(one: Hit, other: Hit) -> float:
    """The share of words that two passages have in common, of those that either has."""
    first, second = set(words(one.passage.text)), set(words(other.passage.text))
    return len(first & second) / len(first | second) if first or second else 1.0
