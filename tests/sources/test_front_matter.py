"""What a search of a course can be narrowed by, where only its pages say so."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from shutil import rmtree
from typing import Any, get_args

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Document
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.filters import Filter, NoneOf
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.sources.front_matter import front_matter_of

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"))

Pages = Sequence[Mapping[str, Any]]


def told(model: Any) -> dict[str, Any]:
    """The fields of a model by their names in the front matter: their values, or else their type."""
    fields = model.model_fields.items() if model else ()
    single = {field.alias or name: get_args(field.annotation)[0] for name, field in fields}
    return {name: list(get_args(type_)) or type_ for name, type_ in single.items()}


def pages_with(field: str, *values: Any) -> Pages:
    return [{field: value} for value in values]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ((3, 1, 2, 1), [1, 2, 3]),
        ((1.5, 2, 1.5), [1.5, 2.0]),
        (range(17), int),
        ([number / 2 for number in range(17)], float),
        (("beginner", "expert", "expert", "beginner"), ["beginner", "expert"]),
        (("शुरुआती", "शुरुआती", "مبتدی", "مبتدی", "C++", "C++"), ["C++", "مبتدی", "शुरुआती"]),
        ((["arm", "leg"], ["leg"], ["arm"]), ["arm", "leg"]),
        (("2030-01-01", "2030-02-01T12:00:00Z"), date),
        ((True, False), bool),
        ((True, None), bool),
        ((4, None), [4]),
    ],
)
def test_a_field_is_of_its_values_where_they_are_few_and_else_of_its_type(values: Sequence[Any], type_: Any):
    assert told(front_matter_of(pages_with("field", *values))) == {"field": type_}


@pytest.mark.parametrize(
    "values",
    [
        (1, 1),
        ("a", "a"),
        (["a", "b"], ["b", "a"]),
        (None, None),
        ("own", "names", "each"),
        [name for number in range(17) for name in [f"kind {number}"] * 2],
        (1, "one"),
        (True, 1),
        ({"a": 1}, {"a": 2}),
        ([{"a": 1}], [1]),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (10**400, 1),
        (["a sentence that tells the model what to do"] * 2 + ["b"] * 2),
        (["a" * 33] * 2 + ["b"] * 2),
        (["ada@example.org"] * 2 + ["b"] * 2),
        (["</tools>"] * 2 + ["b"] * 2),
        (["two\nlines"] * 2 + ["b"] * 2),
        (["\ud800"] * 2 + ["b"] * 2),
        ([""] * 2 + ["b"] * 2),
    ],
)
def test_what_tells_no_kinds_of_pages_apart_or_is_no_plain_value_is_no_field(values: Sequence[Any]):
    assert front_matter_of(pages_with("field", *values)) is None


@pytest.mark.parametrize("name", ["path", "title", "sidebar_position", "toc_max_heading_level", "_secret", "a b", "ü"])
def test_the_place_of_a_page_and_private_fields_are_none(name: str):
    assert front_matter_of(pages_with(name, 1, 2)) is None


def test_names_that_a_model_could_not_have_are_its_fields_all_the_same():
    names = ("module-number", "schema", "model_fields", "copy")

    model = front_matter_of([dict.fromkeys(names, number) for number in (1, 2)])

    assert told(model) == {name: [1, 2] for name in names}


def test_of_many_fields_those_that_most_pages_have_are_taken():
    pages = [{f"field{field}": page % 2 for field in range(9) if page <= field * 2} for page in range(20)]

    assert list(told(front_matter_of(pages))) == [f"field{field}" for field in range(3, 9)]


def test_the_same_fields_make_the_same_model():
    one, same = (front_matter_of(pages_with("week", *weeks)) for weeks in ((1, 2), (2, 1, 2)))

    assert one is same
    assert one is not front_matter_of(pages_with("week", 1, 2, 3))


def record(path: str, site: str = "", **metadata: Any) -> PageRecord:
    document = Document(path=path, title=path, sections=(), metadata=metadata)
    return PageRecord.of(document, site=site, base_url="")


WEEKS = [record("/1", week=1), record("/2", week=2)]


class CountingIndex(MemoryIndex):
    """Counts how often all its pages were asked for."""

    asked = 0

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        self.asked += 1
        return await super().records(site=site)


async def test_pages_are_looked_at_once_for_a_generation_and_again_for_the_next():
    index = CountingIndex()
    source = CourseSource(index)
    assert await source.front_matter(ADA) is None
    await index.publish(WEEKS, [])
    assert told(await source.front_matter(ADA)) == {"week": [1, 2]}
    asked = index.asked

    assert told(await source.front_matter(ADA)) == {"week": [1, 2]}
    assert index.asked == asked
    await index.publish([*WEEKS, record("/3", week=3)], [])
    assert told(await source.front_matter(ADA)) == {"week": [1, 2, 3]}
    assert index.asked == asked + 1
    await index.activate("gen-1")
    assert told(await source.front_matter(ADA)) == {"week": [1, 2]}


async def test_an_index_that_was_removed_and_built_anew_is_looked_at_anew(tmp_path: Path):
    async with EdgeIndex(tmp_path / "index") as index:
        await index.publish(WEEKS, [])
        source = CourseSource(index)
        assert told(await source.front_matter(ADA)) == {"week": [1, 2]}

        rmtree(tmp_path / "index")
        async with EdgeIndex(tmp_path / "index") as other:
            assert await other.publish([record("/1", chapter=1), record("/2", chapter=2)], []) == "gen-1"

        assert told(await source.front_matter(ADA)) == {"chapter": [1, 2]}


async def test_nothing_of_pages_that_a_reader_may_not_see_is_told():
    def students_only(context: RequestContext) -> Filter:
        return Filter() if "teacher" in context.principal.roles else Filter(audience=NoneOf("teachers"))

    index = MemoryIndex()
    secret = record("/secret", week=9, audience="teachers", answers=1)
    draft = record("/draft", week=8, draft=True)
    await index.publish([*WEEKS, record("/3", week=2), secret, draft], [])
    source = CourseSource(index, visible=students_only)
    teacher = RequestContext(principal=Principal("eve", roles=("teacher",)))

    assert told(await source.front_matter(ADA)) == {"week": [1, 2]}
    assert told(await source.front_matter(teacher)) == {"week": [1, 2, 9], "answers": [1]}
    assert told(await source.front_matter(ADA)) == {"week": [1, 2]}


async def test_readers_whose_filters_differ_by_the_kind_of_a_value_alone_are_told_apart():
    index = MemoryIndex()
    await index.publish([*WEEKS, record("/3", week=3, level=1), record("/4", week=4, level=True)], [])
    source = CourseSource(index, visible=lambda context: Filter(level=(context.principal.claims["level"], None)))

    of_one, of_true = [
        told(await source.front_matter(RequestContext(principal=Principal("ada", claims={"level": level}))))
        for level in (1, True)
    ]

    assert of_one == {"week": [1, 2, 3], "level": [1]}
    assert of_true == {"week": [1, 2, 4], "level": bool}


async def test_a_site_has_the_fields_of_its_own_pages():
    index = MemoryIndex()
    await index.publish([*WEEKS, record("/1", "bread", flour="rye"), record("/2", "bread")], [])

    found = told(await CourseSource(index).front_matter(RequestContext(principal=Principal("ada"), site="bread")))

    assert found == {}


async def test_the_example_course_is_narrowed_by_module_and_week(course_index: EdgeIndex):
    found = told(await CourseSource(course_index).front_matter(ADA))

    assert found == {"module": [1, 2, 3, 4, 5], "week": list(range(1, 11))}
