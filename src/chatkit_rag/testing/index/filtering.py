"""Filters: every kind of condition, in words and in meaning."""

from datetime import UTC, date, datetime
from enum import Enum

import pytest

from chatkit_rag.retrieval.filters import Filter, NoneOf, Range
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.index.part import COURSE, MakeIndex, Part, WordsEmbedder, course, paths

_EVERY = " ".join(text for _, _, text, _ in COURSE)
_ALL = {path for path, *_ in COURSE}
_DAY = date(2019, 5, 1)


class _Level(Enum):
    EXPERT = "expert"


FILTERS = [
    (Filter(), _ALL),
    (Filter(site="a"), _ALL),
    (Filter(site="c"), set[str]()),
    (Filter(path="/nodes"), {"/nodes"}),
    (Filter(level="beginner"), {"/nodes"}),
    (Filter(level=("beginner", "expert")), {"/nodes", "/topics"}),
    (Filter(level=("beginner", None)), _ALL - {"/topics"}),
    (Filter(level=()), set[str]()),
    (Filter(level=None), _ALL - {"/nodes", "/topics"}),
    (Filter(level=NoneOf("beginner")), _ALL - {"/nodes"}),
    (Filter(level=NoneOf("beginner", None)), {"/topics"}),
    (Filter(week=1), {"/nodes"}),
    (Filter(week=3.5), {"/gait"}),
    (Filter(week=(1, 2)), {"/nodes", "/topics"}),
    (Filter(week="1"), set[str]()),
    (Filter(unit=2), {"/nodes"}),
    (Filter(unit=(2, "2b")), {"/nodes", "/topics"}),
    (Filter(unit=Range(at_least=1)), {"/nodes"}),
    (Filter(unit=NoneOf("2b")), _ALL - {"/topics"}),
    (Filter(unit=None), _ALL - {"/nodes", "/topics"}),
    (Filter(level=_Level.EXPERT), {"/topics"}),
    (Filter(level=NoneOf(_Level.EXPERT)), _ALL - {"/topics"}),
    (Filter(week=Range(at_least=2)), {"/topics", "/gait"}),
    (Filter(week=Range(at_least=1.5, at_most=3)), {"/topics"}),
    (Filter(draft=True), {"/gait"}),
    (Filter(draft=NoneOf(True)), _ALL - {"/gait"}),  # noqa: FBT003 - a value
    (Filter(draft=1), set[str]()),
    (Filter(tags="ros"), {"/nodes"}),
    (Filter(tags=("graph", "maths")), {"/nodes", "/spin"}),
    (Filter(tags=NoneOf("ros")), _ALL - {"/nodes"}),
    (Filter(released=Range(at_least=date(2020, 1, 1))), {"/new"}),
    (Filter(released=Range(at_most=datetime(2024, 5, 1, 10, tzinfo=UTC))), {"/old", "/new"}),
    (Filter(released=Range(at_most=datetime(2024, 5, 1, 9, 59, tzinfo=UTC))), {"/old"}),
    (Filter(released=_DAY), {"/old"}),
    (Filter(released=Range(at_least=_DAY, at_most=_DAY)), {"/old"}),
    (Filter(**{"a b": "x"}), {"/old"}),
    (Filter(**{'a "b"': "x"}), {"/spin"}),
    (Filter(**{'a "b"': NoneOf("x")}), _ALL - {"/spin"}),
    (Filter(**{'a "b"': "x"}, tags="ros"), set[str]()),
    (Filter(nowhere="x"), set[str]()),
    (Filter(nowhere=NoneOf("x")), _ALL),
    (Filter(nowhere=("x", None)), _ALL),
    (Filter(version="2.0") & Filter(version=NoneOf("2.0")), set[str]()),
    (Filter(level="beginner") & Filter(week=1), {"/nodes"}),
]
"""Filters, and the pages of the small course that they admit."""


class Filtering(Part):
    """A filter admits the same passages in every engine."""

    async def test_a_filter_admits_what_it_says(self, make_index: MakeIndex) -> None:
        index = make_index()
        await index.publish(*course())

        for filter_, admitted in FILTERS:
            found = await index.search(_EVERY, where=filter_)
            assert (filter_, set(paths(found.hits))) == (filter_, admitted)
        await index.close()

    @requires("meaning")
    async def test_it_admits_the_same_by_meaning(self, make_index: MakeIndex) -> None:
        embedder = WordsEmbedder()
        index = make_index(embedder=embedder)
        await index.publish(*course())
        vector = await embedder.embed_query(_EVERY)

        for filter_, admitted in FILTERS:
            found = await index.search("", vector=vector, where=filter_)
            assert (filter_, set(paths(found.near))) == (filter_, admitted)
        await index.close()

    async def test_a_filter_says_the_same_of_a_passage_by_itself(self) -> None:
        _, passages = course()

        for filter_, admitted in FILTERS:
            assert (filter_, {one.path for one in passages if filter_.admits(one)}) == (filter_, admitted)

    @pytest.mark.parametrize("site", ["a", "b"])
    async def test_a_search_stays_within_its_site(self, make_index: MakeIndex, site: str) -> None:
        index = make_index()
        await index.publish(*course("a", "b"))

        found = await index.search("node", where=Filter(site=site))

        assert {hit.passage.site for hit in found.hits} == {site}
        assert {hit.passage.site for hit in (await index.search("node")).hits} == {"a", "b"}
        await index.close()
