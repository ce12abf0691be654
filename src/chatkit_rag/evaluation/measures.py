"""The measures of ranked retrieval, as trec_eval and BEIR define them. Pure.

In each, `ranked` holds what was found, best first, without repeats, and `gains` what was judged to be right, with how
much it is worth (1 or more). A question that nothing is right for has no measure: it is not to be asked here.
"""

from collections.abc import Mapping, Sequence
from math import log2


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], depth: int) -> float:
    """Normalised discounted cumulative gain of the first `depth`, 0..1, with linear gains (trec_eval's `ndcg_cut`)."""
    found = _discounted([gains.get(name, 0.0) for name in ranked[:depth]])
    best = _discounted(sorted(gains.values(), reverse=True)[:depth])
    return found / best


def recall(ranked: Sequence[str], gains: Mapping[str, float], depth: int) -> float:
    """The share of what is right that is among the first `depth`, 0..1."""
    return len(gains.keys() & set(ranked[:depth])) / len(gains)


def reciprocal_rank(ranked: Sequence[str], gains: Mapping[str, float], depth: int) -> float:
    """One over the rank of the first that is right; 0 where there is none among the first `depth`."""
    return next((1 / rank for rank, name in enumerate(ranked[:depth], 1) if name in gains), 0.0)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of one value or more."""
    return sum(values) / len(values)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, 1))
