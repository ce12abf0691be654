"""What a reader may ask next: what the course really answers, beside what it has just answered.

Candidates are headings, in the course's own words and language: those behind the best passage on its page, then those
of the other passages that were found. Each is searched as if the reader had asked it, and stays where that finds its
page first. No model is asked.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from chatkit.types import ClientEffectEvent

from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Hit, Passage
from chatkit_rag.errors import ChatKitRagError
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.retrieval.segmentation import words
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource

_log = logging.getLogger(__name__)

SUGGEST = "suggest"
"""The client effect's name; its data is `{"questions": […]}`."""

_SHOWN = 3
_SEARCHED = 6
"""Candidates at most: each costs a search."""
_LONGEST = 80
"""Characters of a heading that can be pressed."""

_Search = Callable[[str, RequestContext], Awaitable[Retrieved]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    text: str
    path: str


async def follow_ups(
    source: Source, search: _Search, question: str, found: Retrieved, context: RequestContext
) -> AsyncIterator[ClientEffectEvent]:
    """One effect with two or three suggestions, or nothing; behind an answer, which no failure here spoils."""
    if found.weak or not found.hits or not isinstance(source, CourseSource):
        return
    chosen: list[str] = []
    try:
        records = await source.pages(context)
        for candidate in _candidates(records, found.hits, question):
            if len(chosen) == _SHOWN:
                break
            answer = await search(candidate.text, context)
            if not answer.weak and answer.hits and answer.hits[0].passage.path == candidate.path:
                chosen.append(candidate.text)
    except ChatKitRagError as exc:
        _log.warning("nothing is suggested: %s", type(exc).__name__)
        return
    if len(chosen) > 1:
        yield ClientEffectEvent(name=SUGGEST, data={"questions": chosen})


def _candidates(records: Iterable[PageRecord], hits: Iterable[Hit], question: str) -> list[_Candidate]:
    """What comes next on the best passage's page, then what else was found; never what was asked."""
    best, *others = [hit.passage for hit in hits]
    following = [_Candidate(heading, best.path) for heading in _headings_behind(records, best)]
    beside = [_Candidate(other.heading, other.path) for other in others if other.heading != best.heading]
    asked = set(words(question))
    told = {best.heading, best.title}
    by_text = {
        candidate.text: candidate
        for candidate in (*following[:_SHOWN], *beside, *following[_SHOWN:])
        if candidate.text not in told
        and len(candidate.text) <= _LONGEST
        and not asked.issuperset(words(candidate.text))
    }
    return list(by_text.values())[:_SEARCHED]


def _headings_behind(records: Iterable[PageRecord], best: Passage) -> list[str]:
    record = next((one for one in records if (one.site, one.document.path) == (best.site, best.path)), None)
    if record is None:
        return []
    sections = record.document.sections
    place = next(
        (at for at, section in enumerate(sections) if section.heading_path == best.heading_path), len(sections)
    )
    return [section.heading_path[-1] for section in sections[place + 1 :] if section.blocks]
