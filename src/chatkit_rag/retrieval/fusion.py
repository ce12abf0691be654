"""Arithmetic over results: which page, which of its passages, and in which order. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from chatkit_rag.documents import Hit

PASSAGES_PER_PAGE_SCORE = 3
"""A page counts by its best three passages: one lucky passage is not a page about the question, and a long page does
not win by its length. (Measured: +0.02 nDCG@10 over the best passage alone.)"""


def page_scores(hits: Iterable[Hit]) -> dict[tuple[str, str], float]:
    """`(site, path)` -> the sum of the page's best scores."""
    scores: dict[tuple[str, str], list[float]] = {}
    for hit in hits:
        scores.setdefault((hit.passage.site, hit.passage.path), []).append(hit.score)
    return {page: sum(sorted(all_, reverse=True)[:PASSAGES_PER_PAGE_SCORE]) for page, all_ in scores.items()}


def rank(hits: Sequence[Hit], *, page_weight: float = 0.25) -> list[Hit]:
    """Orders passages by their own score and, in part, by their page's; equal ones by id.

    The score of a result is the passage's plus `page_weight` times its page's, so that among passages that fit
    equally well the one on the page about the subject comes first.
    """
    pages = page_scores(hits)
    fused = [
        Hit(passage=hit.passage, score=hit.score + page_weight * pages[hit.passage.site, hit.passage.path])
        for hit in hits
    ]
    return sorted(fused, key=by_score)


def by_score(hit: Hit) -> tuple[float, str]:
    """Sort key: best first. The engine returns equal scores in a different order each time; ids decide."""
    return (-hit.score, hit.passage.id)


def spread(hits: Iterable[Hit], *, per_page: int) -> list[Hit]:
    """The hits in their order, with those beyond the first `per_page` of a page put behind the others.

    Five passages of one page say less than two of each of three, should the first page not be the right one.
    """
    taken: Counter[tuple[str, str]] = Counter()
    first: list[Hit] = []
    rest: list[Hit] = []
    for hit in hits:
        page = (hit.passage.site, hit.passage.path)
        taken[page] += 1
        (first if taken[page] <= per_page else rest).append(hit)
    return first + rest
