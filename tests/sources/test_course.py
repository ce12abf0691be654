"""The course as a source: what may be found is what is asked for, of what is published, of what the reader may see."""

from collections.abc import AsyncIterator
from datetime import date

import pytest
from pydantic import BaseModel

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Passage
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.retrieval.filters import Filter, NoneOf, Range
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.testing.index.part import passage, paths

pytestmark = pytest.mark.anyio

READER = RequestContext(principal=Principal("ada"))
PASSAGES = [
    passage("/open", "Open", "A node.", {"week": 1}),
    passage("/late", "Late", "A node.", {"week": 9, "day": "2026-05-01"}),
    passage("/secret", "Secret", "A node.", {"week": 1, "audience": "teachers"}),
    passage("/draft", "Draft", "A node.", {"draft": True}),
    passage("/unlisted", "Unlisted", "A node.", {"unlisted": True}),
    passage("/unpublished", "Unpublished", "A node.", {"published": False}),
    passage("/elsewhere", "Elsewhere", "A node.", {"week": 1}, site="b"),
]


class Fields(BaseModel):
    week: int = 0
    audience: str = "all"
    day: date | None = None
    tags: list[str] = []


@pytest.fixture
async def index() -> AsyncIterator[MemoryIndex]:
    async with MemoryIndex() as opened:
        await opened.publish([], PASSAGES)
        yield opened


def students_only(context: RequestContext) -> Filter:
    return Filter() if "teacher" in context.principal.roles else Filter(audience=NoneOf("teachers"))


async def found(source: CourseSource, context: RequestContext = READER, where: Filter | None = None) -> set[str]:
    return set(paths((await source.search("node", context, limit=50, where=where)).hits))


async def test_what_is_not_published_is_never_found(index: MemoryIndex):
    source = CourseSource(index)

    assert await found(source) == {"/open", "/late", "/secret", "/elsewhere"}
    for where in (Filter(draft=True), Filter(unlisted=True), Filter(published=False), Filter(path="/draft")):
        assert await found(source, where=where) == set()


async def test_only_the_site_of_the_request_is_searched(index: MemoryIndex):
    context = RequestContext(principal=Principal("ada"), site="b")

    assert await found(CourseSource(index), context) == {"/elsewhere"}
    assert await found(CourseSource(index), context, Filter(site="a")) == set()


async def test_what_a_reader_may_not_see_cannot_be_asked_for(index: MemoryIndex):
    source = CourseSource(index, visible=students_only)

    assert await found(source) == {"/open", "/late", "/elsewhere"}
    for where in (Filter(audience="teachers"), Filter(path="/secret"), Filter(audience=("teachers", None))):
        assert "/secret" not in await found(source, where=where)
    teacher = RequestContext(principal=Principal("eve", roles=("teacher",)))
    assert "/secret" in await found(source, teacher)


async def test_what_a_filter_asks_for_is_brought_to_the_fields_types(index: MemoryIndex):
    source = CourseSource(index, fields=Fields, visible=students_only)

    assert await found(source, where=Filter(week="1")) == {"/open", "/elsewhere"}
    assert await found(source, where=Filter(week=Range(at_least=2))) == {"/late"}
    assert await found(source, where=Filter(week=("9", None), site="a")) == {"/late"}
    assert await found(source, where=Filter(tags="ros")) == set()
    assert await found(source, where=Filter(day="2026-05-01")) == {"/late"}
    assert "/late" not in await found(source, where=Filter(day=NoneOf(date(2026, 5, 1))))


@pytest.mark.parametrize("where", [Filter(wek=1), Filter(week="soon"), Filter(week=Range(at_least=True, at_most=[]))])
async def test_a_filter_about_no_field_or_no_value_of_one_is_named(index: MemoryIndex, where: Filter):
    with pytest.raises(ConfigurationError, match="Fields"):
        await CourseSource(index, fields=Fields).search("node", READER, where=where)


async def test_a_passage_is_admitted_by_its_own_fields_alone():
    one = Passage(**{**{name: getattr(PASSAGES[0], name) for name in Passage.__dataclass_fields__}, "site": "x"})

    assert Filter(site="x").admits(one)
    assert not Filter(site="a").admits(one)
