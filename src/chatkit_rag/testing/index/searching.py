"""Searching, by words and by meaning, and what stands around what was found."""

from dataclasses import replace

import pytest

from chatkit_rag.documents import Hit
from chatkit_rag.retrieval.index import Around, Matches
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.index.part import NODES, MakeIndex, Part, WordsEmbedder, course, passage, paths, record

_QUESTIONS = ("what is a node", "how do nodes send messages", "double support", "robot without lock", "master nodes")


class Searching(Part):
    """What is found, in which order, and how it comes back."""

    async def test_an_index_that_was_never_published_is_empty(self, make_index: MakeIndex) -> None:
        index = make_index()
        await index.open()

        assert await index.search("node") == Matches()
        assert await index.records() == []
        assert await index.page("/nodes") is None
        assert await index.generation() == ""
        await index.close()

    @pytest.mark.parametrize(
        ("question", "path"),
        [("what is a process", "/nodes"), ("double support", "/gait"), ("whta is a quaternoin", "/spin")],
    )
    async def test_the_passage_that_answers_comes_first(self, make_index: MakeIndex, question: str, path: str) -> None:
        index = make_index()
        await index.publish(*course())

        found = await index.search(question)

        assert paths(found.hits)[0] == path
        assert 0 < found.confidence <= 1
        scores = [hit.score for hit in found.hits]
        assert scores == sorted(scores, reverse=True)
        await index.close()

    async def test_a_passage_comes_back_as_it_was_published(self, make_index: MakeIndex) -> None:
        metadata = {"week": 1, "share": 0.5, "on": True, "tags": ["\N{SNOWMAN}", "b"], "deep": {"list": [1, None]}}
        one = passage("/nodes", "Nodes", f"{NODES}\n\n```py\nprint('\N{SNOWMAN}')\n```", metadata)
        index = make_index()
        await index.publish([record(one)], [one])

        assert [hit.passage for hit in (await index.search("node")).hits] == [one]
        await index.close()

    @pytest.mark.parametrize("question", ["", " ?! ", "the of and", "zeppelin", "\x00", "\N{SNOWMAN}", "a" * 9_000])
    async def test_a_question_of_which_the_course_holds_nothing_finds_nothing(
        self, make_index: MakeIndex, question: str
    ) -> None:
        index = make_index()
        await index.publish(*course())

        assert await index.search(question) == Matches()
        await index.close()

    async def test_equal_scores_come_in_the_order_of_their_ids_and_no_more_than_the_limit(
        self, make_index: MakeIndex
    ) -> None:
        same = [passage("/page", "Page", "A node is a process.", number=number) for number in range(40)]
        index = make_index()
        await index.publish([], same)

        ids = [hit.passage.id for hit in (await index.search("node", limit=100)).hits]

        assert ids == sorted(one.id for one in same)
        assert len((await index.search("node", limit=7)).hits) == 7
        await index.close()

    async def test_what_stands_around_a_passage_is_of_its_own_section(self, make_index: MakeIndex) -> None:
        first, second, third = (passage("/page", "Page", f"Piece {n} of it.", number=n) for n in range(3))
        # A heading that has no anchor of its own goes by that of the heading above it.
        below = replace(passage("/page", "Page", "Piece of it.", number=3), heading_path=("Page", "About page", "More"))
        other = passage("/other", "Other", "Piece of another page.")
        index = make_index()
        await index.publish([], [first, second, third, below, other])

        around = await index.around([second, other, first, below])

        assert around == {
            second.id: Around(first, third),
            first.id: Around(None, second),
            other.id: Around(None, None),
            below.id: Around(None, None),
        }
        assert await index.around([]) == {}
        await index.close()

    async def test_it_finds_what_the_reference_finds(self, make_index: MakeIndex) -> None:
        records, passages = course("a", "b")
        index, reference = make_index(), MemoryIndex()
        await index.publish(records, passages)
        await reference.publish(records, passages)

        for question in _QUESTIONS:
            found, expected = await index.search(question, limit=10), await reference.search(question, limit=10)
            assert _scored(found.hits) == _scored(expected.hits)
            assert found.confidence == pytest.approx(expected.confidence)
        await index.close()


class Meaning(Part):
    """Search by vectors."""

    @requires("meaning")
    async def test_the_nearest_come_first(self, make_index: MakeIndex) -> None:
        embedder = WordsEmbedder()
        index = make_index(embedder=embedder)
        await index.publish(*course())

        found = await index.search("zeppelin", vector=await embedder.embed_query(NODES), limit=3)

        assert found.hits == ()
        assert paths(found.near)[0] == "/nodes"
        assert len(found.near) == 3
        assert 1 >= found.near[0].score > found.near[1].score
        assert await index.embedded_by() == embedder.signature
        await index.close()

    @requires("meaning")
    async def test_by_meaning_too_it_finds_what_the_reference_finds(self, make_index: MakeIndex) -> None:
        records, passages = course("a", "b")
        embedder = WordsEmbedder()
        index, reference = make_index(embedder=embedder), MemoryIndex(embedder=embedder)
        await index.publish(records, passages)
        await reference.publish(records, passages)

        for question in _QUESTIONS:
            vector = await embedder.embed_query(question)
            found = await index.search(question, vector=vector, limit=10)
            expected = await reference.search(question, vector=vector, limit=10)
            assert _scored(found.hits) == _scored(expected.hits)
            assert [score for _, score in _scored(found.near)] == [score for _, score in _scored(expected.near)]
        await index.close()

    @requires("meaning")
    async def test_a_vector_of_another_length_finds_nothing_and_words_still_do(self, make_index: MakeIndex) -> None:
        index = make_index(embedder=WordsEmbedder())
        await index.publish(*course())

        found = await index.search("node", vector=[1.0, 0.0])

        assert found.near == ()
        assert paths(found.hits)[0] == "/nodes"
        await index.close()

    @requires("meaning")
    async def test_without_an_embedder_there_is_nothing_near(self, make_index: MakeIndex) -> None:
        index = make_index()
        await index.publish(*course())

        assert (await index.search("node", vector=[1.0] * 64)).near == ()
        assert await index.embedded_by() == ""
        await index.close()


def _scored(hits: tuple[Hit, ...]) -> list[tuple[str, float]]:
    """Ids and scores, as far as two engines' arithmetic agrees."""
    return [(hit.passage.id, float(f"{hit.score:.3g}")) for hit in hits]
