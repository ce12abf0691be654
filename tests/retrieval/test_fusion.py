"""Arithmetic over results."""

from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Hit, Passage
from chatkit_rag.retrieval.fusion import by_score, fuse, page_scores, rank, spread


def hit(id_: str, score: float, *, path: str = "/page", site: str = "") -> Hit:
    passage = Passage(id=id_, path=path, anchor="", title="", heading_path=("T",), text="", url=path, site=site)
    return Hit(passage=passage, score=score)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


results = st.lists(
    st.builds(
        lambda number, score, page, site: hit(number, score, path=page, site=site),
        st.uuids().map(str),
        st.floats(0, 50),
        st.sampled_from(["/a", "/b", "/c"]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=25,
    unique_by=lambda found: found.passage.id,
)


class TestPageScores:
    def test_a_page_counts_by_its_three_best_passages(self):
        hits = [hit(str(score), score) for score in (1.0, 5.0, 3.0, 2.0)]

        assert page_scores(hits) == {("", "/page"): 10.0}

    def test_pages_of_one_path_on_two_sites_are_two(self):
        assert page_scores([hit("1", 1.0, site="x"), hit("2", 2.0, site="y")]) == {
            ("x", "/page"): 1.0,
            ("y", "/page"): 2.0,
        }


class TestFuse:
    def test_what_stands_out_by_far_is_not_levelled(self):
        # Both are more than three standard deviations above the mean of what else has one of the words.
        others = [hit(f"other-{number}", 1 + number / 100, path=f"/{number}") for number in range(98)]
        words = [hit("a", 60.0), hit("b", 50.0), *others]
        near = [hit("b", 0.62), hit("a", 0.61), *[hit(one.passage.id, 0.1 + one.score / 4) for one in others]]

        fused = fuse(words, near)

        assert ids(sorted(fused, key=by_score))[:2] == ["a", "b"]

    def test_what_is_found_last_is_worth_no_more_than_what_is_not_found(self):
        words = [hit("a", 3.0), hit("b", 2.0), hit("c", 1.0)]
        near = [hit("a", 0.9), hit("b", 0.5), hit("d", 0.1)]

        scores = {found.passage.id: found.score for found in fuse(words, near)}

        assert scores["a"] > scores["b"] > scores["c"] == scores["d"] == 0

    def test_one_that_is_found_alone_counts(self):
        near = [hit("b", 0.9), hit("c", 0.5), hit("a", 0.1)]

        assert ids(sorted(fuse([hit("a", 7.0)], near), key=by_score))[0] == "a"

    @given(results, results)
    def test_neither_search_is_turned_round(self, words: list[Hit], near: list[Hit]):
        scores = {found.passage.id: found.score for found in fuse(words, near)}
        alone = {one.passage.id for one in words} - {one.passage.id for one in near}
        ordered = sorted((one for one in words if one.passage.id in alone), key=lambda one: one.score)

        assert len(scores) == len({one.passage.id for one in (*words, *near)})
        assert [scores[one.passage.id] for one in ordered] == sorted(scores[one.passage.id] for one in ordered)


class TestRank:
    def test_among_equals_the_one_on_the_page_about_it_comes_first(self):
        hits = [hit("a", 2.0, path="/other"), hit("b", 2.0), hit("c", 1.0)]

        assert ids(rank(hits)) == ["b", "a", "c"]

    def test_a_far_better_passage_beats_a_better_page(self):
        hits = [hit("a", 9.0, path="/other"), hit("b", 3.0), hit("c", 3.0), hit("d", 3.0)]

        assert ids(rank(hits))[0] == "a"

    def test_without_a_weight_pages_do_not_count(self):
        hits = [hit("a", 2.0, path="/other"), hit("b", 2.0), hit("c", 1.0)]

        assert [(found.passage.id, found.score) for found in rank(hits, page_weight=0)] == [
            ("a", 2),
            ("b", 2),
            ("c", 1),
        ]

    def test_equal_scores_come_in_the_order_of_their_ids(self):
        assert ids(rank([hit("b", 1.0), hit("a", 1.0), hit("c", 1.0)])) == ["a", "b", "c"]

    @given(results, st.randoms())
    def test_the_order_of_what_comes_in_does_not_matter(self, hits: list[Hit], random):
        shuffled = hits.copy()
        random.shuffle(shuffled)

        assert ids(rank(shuffled)) == ids(rank(hits))

    @given(results)
    def test_nothing_is_lost_and_the_best_comes_first(self, hits: list[Hit]):
        ranked = rank(hits)

        assert sorted(ids(ranked)) == sorted(ids(hits))
        assert ranked == sorted(ranked, key=by_score)


class TestSpread:
    def test_what_is_beyond_a_pages_share_comes_behind_the_others(self):
        hits = [hit(id_, 1.0, path=f"/{id_[0]}") for id_ in ("a1", "a2", "a3", "b1", "a4", "c1")]

        assert ids(spread(hits, per_page=2)) == ["a1", "a2", "b1", "c1", "a3", "a4"]

    def test_one_path_on_two_sites_has_two_shares(self):
        hits = [hit("1", 1.0, site="x"), hit("2", 1.0, site="x"), hit("3", 1.0, site="y")]

        assert ids(spread(hits, per_page=1)) == ["1", "3", "2"]

    @given(results, st.integers(1, 5))
    def test_nothing_is_lost_and_each_page_keeps_its_order(self, hits: list[Hit], per_page: int):
        spread_out = spread(hits, per_page=per_page)

        assert sorted(ids(spread_out)) == sorted(ids(hits))
        for page in {(found.passage.site, found.passage.path) for found in hits}:
            of_page = [found for found in hits if (found.passage.site, found.passage.path) == page]
            assert [f for f in spread_out if (f.passage.site, f.passage.path) == page] == of_page
