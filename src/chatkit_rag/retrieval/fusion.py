"""Arithmetic over results: which page, which of its passages, and in which order. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from chatkit_rag.documents import Hit, Passage

Fusion = Literal["dbsf", "rrf"]
"""How one order is made of two: of scores brought to one scale (distribution-based score fusion), or of ranks alone
(reciprocal rank fusion)."""

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


def fuse(by_words: Sequence[Hit], by_meaning: Sequence[Hit], *, method: Fusion = "dbsf", rrf_k: int = 60) -> list[Hit]:
    """What either search found, with the sum of what it is worth in each; unordered.

    Where one of them found nothing, the other's scores stand as they are.
    """
    if not by_words or not by_meaning:
        return list(by_words or by_meaning)
    passages: dict[str, Passage] = {}
    worth: dict[str, float] = {}
    for hits in (by_words, by_meaning):
        scores = _on_one_scale(hits) if method == "dbsf" else [1 / (rrf_k + rank) for rank in range(1, len(hits) + 1)]
        for hit, score in zip(hits, scores, strict=True):
            passages[hit.passage.id] = hit.passage
            worth[hit.passage.id] = worth.get(hit.passage.id, 0.0) + score
    return [Hit(passage=passages[id_], score=score) for id_, score in worth.items()]


def _on_one_scale(hits: Sequence[Hit]) -> list[float]:
    """Scores in standard deviations above the last one, and 3 for each where all are equal.

    So the last of the candidates is worth as little as what was not found, and a page does not gain by how many of its
    passages are among them. Nothing is cut off at the top, as it is where three deviations above the mean are the most:
    the few passages that have all of a question's words stand out by more, and would be worth the same. (Measured with
    a small model: +0.03 nDCG@10 on short questions, +0.02 on a course's.)
    """
    scores = [hit.score for hit in hits]
    last = min(scores)
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / max(1, len(scores) - 1))
    if deviation < 1e-9 * max(1.0, abs(mean)):
        return [3.0] * len(scores)
    return [(score - last) / deviation for score in scores]


def favour(hits: Iterable[Hit], open_page: str, *, share: float) -> list[Hit]:
    """The hits, those of the page that the reader has open, and of its folder, with `share` of the best score more.

    Most questions are about what the reader is at; where this one is not, so little is lost that none was measured.
    """
    given = list(hits)
    best = max((hit.score for hit in given), default=0.0)
    page = open_page.rstrip("/")
    folder = page.rpartition("/")[0]
    if not page or not best:
        return given

    def is_near(passage: Passage) -> bool:
        places = (passage.path.rstrip("/"), _path_of(passage.url).rstrip("/"))
        return page in places or (bool(folder) and any(place.startswith(f"{folder}/") for place in places))

    return [Hit(passage=hit.passage, score=hit.score + share * best) if is_near(hit.passage) else hit for hit in given]


def _path_of(url: str) -> str:
    """The path in an address, which may have a host or not."""
    place = url.partition("#")[0]
    return "/" + place.partition("://")[2].partition("/")[2] if "://" in place else place


def diverse(hits: Sequence[Hit], *, diversity: float, limit: int, likeness: Callable[[Hit, Hit], float]) -> list[Hit]:
    """The first `limit` hits by maximal marginal relevance (Carbonell and Goldstein, 1998), and then the others.

    Args:
        hits: best first, with scores from 0 on.
        diversity: 0 keeps their order; 1 looks at nothing but how unlike those before a hit is.
        limit: how many are chosen so.
        likeness: of two hits, 0..1.
    """
    best = max((hit.score for hit in hits), default=0.0)
    if diversity <= 0 or best <= 0:
        return list(hits)
    chosen: list[Hit] = []
    left = list(hits)
    nearest = [0.0] * len(left)
    while left and len(chosen) < limit:
        worth = [(1 - diversity) * hit.score / best - diversity * near for hit, near in zip(left, nearest, strict=True)]
        place = worth.index(max(worth))
        chosen.append(left.pop(place))
        nearest.pop(place)
        nearest = [max(near, likeness(chosen[-1], hit)) for near, hit in zip(nearest, left, strict=True)]
    return chosen + left
