"""A question to the passages that answer it, over an index that says what it was asked."""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from chatkit_rag.documents import Hit, Passage
from chatkit_rag.errors import EmbeddingFailed, RerankingFailed
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.index import Around, Matches
from chatkit_rag.retrieval.retriever import RetrievalOptions, Retrieved, Retriever
from chatkit_rag.testing.index_contract import WordsEmbedder

pytestmark = pytest.mark.anyio


def hit(number: int, score: float, *, path: str = "/page", **fields: Any) -> Hit:
    given = {"anchor": "a", "title": "Page", "heading_path": ("Page", "Why"), "text": "Text.", "url": f"{path}#a"}
    return Hit(passage=Passage(id=str(uuid.UUID(int=number)), path=path, **(given | fields)), score=score)


class Fixed:
    """An index that finds the same whatever it is asked."""

    def __init__(self, *hits: Hit, confidence: float = 1.0, near: Sequence[Hit] = (), embedder: Any = None) -> None:
        self.matches = Matches(hits=hits, near=tuple(near), confidence=confidence)
        self.embedder = embedder
        self.built_by = embedder.signature if embedder else ""
        self.asked: list[tuple[str, int, Filter | None]] = []
        self.vectors: list[Any] = []
        self.pieces: Mapping[str, Around] = {}

    async def search(self, query: str, *, vector: Any, limit: int, where: Filter | None) -> Matches:
        self.asked.append((query, limit, where))
        self.vectors.append(vector)
        return self.matches

    async def embedded_by(self) -> str:
        return self.built_by

    async def around(self, _passages: Sequence[Passage]) -> Mapping[str, Around]:
        return self.pieces


class Failing(WordsEmbedder):
    """An embedder that has no vector for a question."""

    def __init__(self, *, slow: bool = False) -> None:
        super().__init__()
        self.slow = slow
        self.asked = 0

    async def embed_query(self, text: str) -> Any:
        self.asked += 1
        if self.slow:
            await asyncio.Event().wait()
        raise EmbeddingFailed("the server is away")


class Scores:
    """A reranker with scores to give."""

    def __init__(self, *scores: float, slow: bool = False) -> None:
        self.scores = scores
        self.slow = slow
        self.asked: list[int] = []

    async def rerank(self, _question: str, passages: Sequence[Passage]) -> Sequence[float]:
        self.asked.append(len(passages))
        if self.slow:
            await asyncio.Event().wait()
        if not self.scores:
            raise RerankingFailed("the server is away")
        return self.scores[: len(passages)]

    async def close(self) -> None:
        self.asked.append(-1)


def numbers(found: Retrieved) -> list[int]:
    return [uuid.UUID(hit.passage.id).int for hit in found.hits]


async def test_the_index_is_asked_for_candidates_that_may_be_found():
    index: Any = Fixed()

    await Retriever(index, RetrievalOptions(candidates=7)).retrieve("why", where=Filter(site="course"))

    assert index.asked == [("why", 7, Filter(site="course"))]


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


async def test_no_passage_leaves_that_the_filter_does_not_admit_whatever_the_index_does():
    index: Any = Fixed(hit(1, 9, metadata={"draft": True}), hit(2, 1))
    piece = hit(3, 0, metadata={"draft": True}).passage
    index.pieces = {str(uuid.UUID(int=2)): Around(piece, None)}
    where = Filter(draft=None)

    found = await Retriever(index, RetrievalOptions(around=True)).retrieve("why", where=where)

    assert numbers(found) == [2]
    assert found.hits[0].before is None


class TestMeaning:
    async def test_what_both_searches_find_comes_first(self):
        words = [hit(1, 9, path="/1"), hit(2, 8, path="/2"), hit(3, 1, path="/3")]
        near = [hit(4, 0.9, path="/4"), hit(2, 0.8, path="/2"), hit(5, 0.1, path="/5")]
        for method in ("dbsf", "rrf"):
            index: Any = Fixed(*words, near=near, embedder=WordsEmbedder())
            found = await Retriever(index, RetrievalOptions(fusion=method)).retrieve("why")
            assert numbers(found)[0] == 2
            assert set(numbers(found)) == {1, 2, 3, 4, 5}
            assert index.vectors[0] is not None

    async def test_a_near_passage_makes_an_answer_that_words_alone_do_not(self):
        index: Any = Fixed(confidence=0.1, near=[hit(1, 0.8)], embedder=WordsEmbedder())

        assert (await Retriever(index).retrieve("why")).weak
        assert not (await Retriever(index, RetrievalOptions(near_enough=0.75)).retrieve("why")).weak

    @pytest.mark.parametrize("slow", [False, True])
    async def test_without_the_embedder_words_are_searched_and_it_is_left_alone_for_a_while(
        self,
        slow: bool,  # noqa: FBT001 - a table
        caplog: pytest.LogCaptureFixture,
    ):
        embedder = Failing(slow=slow)
        index: Any = Fixed(hit(1, 1), embedder=embedder)
        retriever = Retriever(index, RetrievalOptions(embed_seconds=0.02))

        found = [numbers(await retriever.retrieve("why")) for _ in range(5)]

        assert found == [[1]] * 5
        assert embedder.asked == 3
        assert index.vectors == [None] * 5
        assert "going on without the embedder" in caplog.text

    @pytest.mark.parametrize("vector", [[float("nan")] * 64, [0.0] * 64, [1.0]])
    async def test_a_vector_that_is_none_is_not_searched_by(
        self, vector: list[float], caplog: pytest.LogCaptureFixture
    ):
        class Broken(WordsEmbedder):
            async def embed_query(self, text: str) -> Any:
                return vector

        index: Any = Fixed(hit(1, 1), embedder=Broken())

        assert numbers(await Retriever(index).retrieve("why")) == [1]

        assert index.vectors == [None]
        assert "going on without the embedder: words:64 gave a vector" in caplog.text

    async def test_vectors_of_another_embedder_are_not_asked_for_and_that_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ):
        index: Any = Fixed(hit(1, 1), embedder=WordsEmbedder())
        index.built_by = "another"
        retriever = Retriever(index)

        for _ in range(3):
            assert numbers(await retriever.retrieve("why")) == [1]

        assert index.vectors == [None] * 3
        [told] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "built with another, not with words:64" in told.getMessage()


class TestTheOpenPage:
    @pytest.mark.parametrize(
        ("open_page", "first"),
        [("/docs/m1/nodes", 2), ("/m1/nodes/", 2), ("/docs/m1/other", 2), ("/elsewhere", 1), ("", 1), ("/", 1)],
    )
    async def test_its_passages_and_those_of_its_folder_come_a_little_sooner(self, open_page: str, first: int):
        index: Any = Fixed(
            hit(1, 10, path="/m2/topics", url="https://c.test/docs/m2/topics#a"),
            hit(2, 9.5, path="/m1/nodes", url="https://c.test/docs/m1/nodes#a"),
        )

        found = await Retriever(index).retrieve("why", open_page=open_page)

        assert numbers(found)[0] == first

    async def test_not_so_much_that_a_better_passage_is_lost(self):
        index: Any = Fixed(hit(1, 10, path="/m2/topics"), hit(2, 5, path="/m1/nodes"))

        assert numbers(await Retriever(index).retrieve("why", open_page="/m1/nodes")) == [1, 2]


class TestDiversity:
    async def test_what_was_said_already_comes_later(self):
        same = "A node is a process of a robot."
        index: Any = Fixed(
            hit(1, 10, path="/1", text=same),
            hit(2, 9, path="/2", text=same),
            hit(3, 8, path="/3", text="Topics carry."),
        )

        assert numbers(await Retriever(index).retrieve("why")) == [1, 2, 3]
        assert numbers(await Retriever(index, RetrievalOptions(diversity=0.5)).retrieve("why")) == [1, 3, 2]


class TestReranking:
    async def test_the_rerankers_order_counts(self):
        index: Any = Fixed(hit(1, 9, path="/1"), hit(2, 8, path="/2"), hit(3, 7, path="/3"))
        reranker = Scores(-4.0, 0.5, 7.0)

        found = await Retriever(index, reranker=reranker).retrieve("why")

        assert numbers(found) == [3, 2, 1]
        assert all(0 <= hit.score <= 1 for hit in found.hits)

    async def test_it_gets_no_more_than_it_is_to_have(self):
        index: Any = Fixed(*(hit(number, 9 - number, path=f"/{number}") for number in range(9)))
        reranker = Scores(*(0.1 * number for number in range(9)))

        found = await Retriever(index, RetrievalOptions(rerank=4, limit=2), reranker=reranker).retrieve("why")

        assert reranker.asked == [4]
        assert numbers(found) == [3, 2]

    @pytest.mark.parametrize("slow", [False, True])
    async def test_without_it_the_order_stays(self, slow: bool):  # noqa: FBT001 - a table
        index: Any = Fixed(hit(1, 9, path="/1"), hit(2, 8, path="/2"))
        reranker = Scores(*([0.1, 0.9] if slow else []), slow=slow)
        retriever = Retriever(index, RetrievalOptions(rerank_seconds=0.02), reranker=reranker)

        assert [numbers(await retriever.retrieve("why")) for _ in range(5)] == [[1, 2]] * 5
        assert reranker.asked == [2, 2, 2]

    @pytest.mark.parametrize("scores", [(0.5,), (0.1, float("nan")), (0.1, float("inf"))])
    async def test_scores_that_are_none_count_for_nothing_and_that_is_told(
        self, scores: tuple[float, ...], caplog: pytest.LogCaptureFixture
    ):
        index: Any = Fixed(hit(1, 9, path="/1"), hit(2, 8, path="/2"))

        assert numbers(await Retriever(index, reranker=Scores(*scores)).retrieve("why")) == [1, 2]

        assert "going on without the reranker: it gave" in caplog.text


async def test_what_stands_around_a_passage_comes_along():
    one, before = hit(1, 1), hit(2, 0, text="Before.").passage
    index: Any = Fixed(one)
    index.pieces = {one.passage.id: Around(before, None)}

    [found] = (await Retriever(index, RetrievalOptions(around=True)).retrieve("why")).hits

    assert (found.before, found.after) == (before, None)
    assert found.text == "Before.\n\nText."
    assert (await Retriever(index).retrieve("why")).hits[0].before is None


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
