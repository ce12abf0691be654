"""The measures, on rankings that can be reckoned by hand."""

from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.evaluation.measures import mean, ndcg, recall, reciprocal_rank

GAINS = {"a": 3.0, "b": 1.0}


def test_the_ideal_order_is_worth_1():
    assert ndcg(["a", "b", "x"], GAINS, 10) == pytest.approx(1)


def test_gains_are_linear_and_discounted_by_the_logarithm_of_the_rank():
    found = ndcg(["b", "x", "a"], GAINS, 10)

    assert found == pytest.approx((1 / log2(2) + 3 / log2(4)) / (3 / log2(2) + 1 / log2(3)))


def test_what_is_behind_the_depth_counts_for_nothing():
    assert ndcg(["x", "y", "a"], GAINS, 2) == 0
    assert recall(["x", "y", "a"], GAINS, 2) == 0
    assert reciprocal_rank(["x", "y", "a"], GAINS, 2) == 0


def test_recall_is_the_share_of_what_is_right():
    assert recall(["x", "b"], GAINS, 5) == 0.5


def test_the_reciprocal_rank_is_that_of_the_first_that_is_right():
    assert reciprocal_rank(["x", "b", "a"], GAINS, 10) == 0.5


def test_the_mean_of_shares_is_a_share():
    assert mean([True, False, False, True]) == 0.5


@given(ranked=st.lists(st.sampled_from("abcdef"), unique=True), depth=st.integers(1, 8))
def test_no_measure_leaves_0_to_1(ranked: list[str], depth: int):
    gains = {"a": 4.0, "c": 1.0, "f": 2.0}

    for measure in (ndcg, recall, reciprocal_rank):
        assert 0 <= measure(ranked, gains, depth) <= 1.0000001
