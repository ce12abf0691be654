"""One search over several sources: the first answers for the course, and the others add what they have."""

import asyncio
import logging
from collections.abc import Sequence

from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Hit
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.sources.base import Source

_log = logging.getLogger(__name__)

_BESIDES = 2
"""Passages of the first source where another has something to say."""


async def search_together(sources: Sequence[Source], question: str, context: RequestContext) -> Retrieved:
    """What the first source finds, and, where others find something too, the best of it before theirs.

    All are searched at the same time. What the first raises is raised; another that fails has found nothing. Where
    the first finds too little, the others answer alone.
    """
    first, *others = sources
    if not others:
        return await first.search(question, context)
    searching = [asyncio.ensure_future(_whatever_is_found(source, question, context)) for source in others]
    try:
        found = await first.search(question, context)
        beside = await asyncio.gather(*searching)
    finally:
        for search in searching:
            search.cancel()
        await asyncio.gather(*searching, return_exceptions=True)
    added = [hit for other in beside if not other.weak for hit in _on_one_scale(other.hits)]
    if not added:
        return found
    kept = () if found.weak else _on_one_scale(found.hits)[:_BESIDES]
    return Retrieved(hits=(*kept, *added), weak=False)


async def _whatever_is_found(source: Source, question: str, context: RequestContext) -> Retrieved:
    try:
        return await source.search(question, context)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the answer goes on without it
        _log.warning("a source could not be searched: %s", type(exc).__name__, exc_info=exc)
        return Retrieved()


def _on_one_scale(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """The best of each source counts 1: scores compare within one result only."""
    best = max((hit.score for hit in hits), default=1.0) or 1.0
    return tuple(hit._replace(score=hit.score / best) for hit in hits)
