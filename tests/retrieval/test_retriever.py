"""A question to the passages that answer it, over an index that says what it was asked."""

import uuid
from typing import Any

import pytest

from chatkit_rag.documents import Hit, Passage
from chatkit_rag.retrieval.index import Matches
from chatkit_rag.retrieval.retriever import RetrievalOptions, Retrieved, Retriever

pytestmark = pytest.mark.anyio


def hit(number: int, score: float, *, path: str = "/page", **fields: Any) -> Hit:
    given = {"anchor": "a", "title": "Page", "heading_path": ("Page", "Why"), "text": "Text.", "url": f"{path}#a"}
    return Hit(passage=Passage(id=str(uuid.UUID(int=number)), path=path, **(given | fields)), score=score)


class Fixed:
    """An index that finds the same whatever it is asked."""

    def __init__(self, *hits: Hit, confidence: float = 1.0) -> None:
        self.matches = Matches(hits=hits, confidence=confidence)
        self.asked: list[tuple[str, int, str | None]] = []

    async def search(self, query: str, *, limit: int = 100, site: str | None = None) -> Matches:
        self.asked.append((query, limit, site))
        return self.matches


def numbers(found: Retrieved) -> list[int]:
    return [uuid.UUID(hit.passage.id).int for hit in found.hits]


async def test_the_index_is_asked_for_candidates_of_the_site():
    index: Any = Fixed()

    await Retriever(index, RetrievalOptions(candidates=7)).retrieve("why", site="course")

    assert index.asked == [("why", 7, "course")]


async def test_no_page_fills_the_answer_alone():
    index: Any = Fixed(hit(1, 9), hit(2, 8), hit(3, 7), hit(4, 2, path="/b"), hit(5, 1, path="/c"))

    found = await Retriever(index, RetrievalOptions(per_page=2, limit=4)).retrieve("why")

    assert numbers(found) == [1, 2, 4, 5]


async def test_a_page_about_it_comes_before_a_lucky_passage():
    index: Any = Fixed(hit(1, 5.1, path="/lucky"), hit(2, 5), hit(3, 5), hit(4, 5))

    assert numbers(await Retriever(index).retrieve("why"))[0] == 2


@pytest.mark.parametrize(("limit", "number"), [(None, 5), (1, 1), (7, 7), (100, 9), (0, 0)])
async def test_the_limit_is_the_callers_or_else_the_options(limit: int | None, number: int):
    index: Any = Fixed(*(hit(number, 1, path=f"/{number}") for number in range(9)))

    assert len((await Retriever(index).retrieve("why", limit=limit)).hits) == number


@pytest.mark.parametrize(("confidence", "weak"), [(0.0, True), (0.49, True), (0.5, False), (1.0, False)])
async def test_it_says_where_the_course_hardly_answers(confidence: float, weak: bool):  # noqa: FBT001 - a table
    index: Any = Fixed(hit(1, 1), confidence=confidence)

    assert (await Retriever(index, RetrievalOptions(weak_below=0.5)).retrieve("why")).weak is weak


async def test_nothing_found_is_weak():
    index: Any = Fixed(confidence=1.0)

    assert await Retriever(index).retrieve("why") == Retrieved(hits=(), weak=True)


def test_json_carries_what_a_client_shows():
    found = Retrieved(hits=(hit(1, 1.23456, site="course", metadata={"week": 2}),), weak=False)

    assert found.to_json("why") == {
        "query": "why",
        "hits": [
            {
                "id": str(uuid.UUID(int=1)),
                "score": 1.2346,
                "title": "Page",
                "heading_path": ("Page", "Why"),
                "url": "/page#a",
                "text": "Text.",
                "site": "course",
                "metadata": {"path": "/page", "week": 2},
            }
        ],
    }
