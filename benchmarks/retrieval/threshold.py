"""From which confidence on a question is answered: fitted on one half of the golden questions, reported on the other.

Run as `python benchmarks/retrieval/threshold.py`. Every second question that the course answers, and every second that
it does not, make a half. The fit declines as many of the unanswerable as it can while it declines at most a twentieth
of the answerable, and takes the middle of the range in which it does.
"""

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from chatkit_rag.evaluation.golden import GoldenQuestion, read_golden
from chatkit_rag.evaluation.measures import mean
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.retriever import RetrievalOptions

_COURSE = Path(__file__).parents[2] / "examples" / "course"
_AT_MOST = 0.05
"""The share of answerable questions that may be declined."""


@dataclass(frozen=True, slots=True)
class _Judged:
    answerable: bool
    confidence: float


async def main() -> None:
    """Prints the threshold of each half, and what it does to the other half; then what the one in use does to all."""
    judged = await _judged(read_golden(_COURSE / "golden.jsonl"))
    first, second = _halves(judged)
    for name, fitted, reported in (("odd", first, second), ("even", second, first)):
        threshold = _fit(fitted)
        print(f"fitted on the {name} questions: {threshold:.3f}; on the others: {_line(threshold, reported)}")
    in_use = RetrievalOptions().weak_below
    print(f"in use: {in_use:.3f}; on all: {_line(in_use, judged)}")
    for name in ("golden-indirect", "golden-misspelled"):
        print(f"in use, on {name}: {_line(in_use, await _judged(read_golden(_COURSE / f'{name}.jsonl')))}")


async def _judged(questions: Sequence[GoldenQuestion]) -> list[_Judged]:
    with tempfile.TemporaryDirectory() as place:
        async with EdgeIndex(place) as index:
            await ingest(_COURSE / "docs", index)
            return [
                _Judged(question.page is not None, (await index.search(question.question)).confidence)
                for question in questions
            ]


def _halves(judged: Sequence[_Judged]) -> tuple[list[_Judged], list[_Judged]]:
    kinds = [[one for one in judged if one.answerable is answerable] for answerable in (True, False)]
    return [one for kind in kinds for one in kind[::2]], [one for kind in kinds for one in kind[1::2]]


def _fit(judged: Sequence[_Judged]) -> float:
    values = sorted({0.0, *(one.confidence for one in judged), 1.0})
    cuts = [(low + high) / 2 for low, high in pairwise(values)]
    kept = [cut for cut in cuts if _declined(cut, judged, answerable=True) <= _AT_MOST]
    most = max(_declined(cut, judged, answerable=False) for cut in kept)
    best = [cut for cut in kept if _declined(cut, judged, answerable=False) == most]
    return (min(best) + max(best)) / 2


def _declined(threshold: float, judged: Iterable[_Judged], *, answerable: bool) -> float:
    return mean([one.confidence < threshold for one in judged if one.answerable is answerable])


def _line(threshold: float, judged: Sequence[_Judged]) -> str:
    shares = {
        name: _declined(threshold, judged, answerable=answerable)
        for name, answerable in (("answerable", True), ("unanswerable", False))
        if any(one.answerable is answerable for one in judged)
    }
    return "declined of " + ", of ".join(f"the {name} {share:.1%}" for name, share in shares.items())


if __name__ == "__main__":
    asyncio.run(main())
