"""A question to the passages that answer it."""

from dataclasses import dataclass
from typing import Any

from chatkit_rag.documents import Hit
from chatkit_rag.retrieval.fusion import rank, spread
from chatkit_rag.retrieval.index import PassageIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """How passages are searched and chosen."""

    candidates: int = 100
    """Passages that the index is asked for, before pages are weighed."""
    limit: int = 5
    """Passages that are returned."""
    per_page: int = 2
    """Passages of one page that come before those of other pages."""
    weak_below: float = 0.585
    """Confidence below which the course is held not to answer."""


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
    """Searches an index and weighs what it finds; holds no state of its own."""

    def __init__(self, index: PassageIndex, options: RetrievalOptions | None = None) -> None:
        self._index = index
        self._options = options or RetrievalOptions()

    @property
    def options(self) -> RetrievalOptions:
        """How it searches and chooses."""
        return self._options

    async def retrieve(self, question: str, *, limit: int | None = None, site: str | None = None) -> Retrieved:
        """The passages that fit `question` best, the best page's first; `limit` None takes the options'."""
        matches = await self._index.search(question, limit=self._options.candidates, site=site)
        hits = spread(rank(matches.hits), per_page=self._options.per_page)
        hits = hits[: self._options.limit if limit is None else limit]
        return Retrieved(hits=tuple(hits), weak=not hits or matches.confidence < self._options.weak_below)
