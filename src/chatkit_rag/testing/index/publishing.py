"""Publishing: whole generations, vectors that are kept, and the way back."""

from collections.abc import Sequence

import pytest

from chatkit_rag.errors import EmbeddingFailed, IndexMissing
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.index.part import NODES, MakeIndex, Part, WordsEmbedder, course, passage, paths, record

_NEW = passage("/zeppelin", "Zeppelins", "A zeppelin flies.")


class Publishing(Part):
    """A generation is exactly what was published."""

    async def test_what_is_published_takes_the_place_of_all_that_was(self, make_index: MakeIndex) -> None:
        index = make_index()
        first = await index.publish(*course())
        second = await index.publish([record(_NEW)], [_NEW])

        assert first != second == await index.generation()
        assert paths((await index.search("zeppelin node")).hits) == ["/zeppelin"]
        assert [one.document.path for one in await index.records()] == ["/zeppelin"]
        assert await index.page("/nodes") is None
        await index.close()

    async def test_an_edition_lasts_as_long_as_a_generation(self, make_index: MakeIndex) -> None:
        index = make_index()
        empty = await index.edition()
        await index.publish(*course())
        first = await index.edition()
        await index.search("process")
        assert await index.edition() == first

        await index.publish([record(_NEW)], [_NEW])

        assert len({empty, first, await index.edition()}) == 3
        await index.close()

    async def test_records_and_pages_are_the_sites_own(self, make_index: MakeIndex) -> None:
        records, passages = course("a", "b")
        index = make_index()
        await index.publish(records[::-1], passages)

        found = [(one.document.path, one.site) for one in await index.records()]

        assert found == sorted(found)
        assert {one.site for one in await index.records(site="b")} == {"b"}
        assert await index.page("/nodes", site="b") == records[0].document
        assert await index.page("/nodes", site="c") is None
        await index.close()

    async def test_a_generation_of_nothing_finds_nothing(self, make_index: MakeIndex) -> None:
        index = make_index()

        assert await index.publish([], []) == await index.generation() != ""
        assert (await index.search("node")).hits == ()
        await index.close()

    @requires("generations")
    async def test_what_was_served_before_can_be_served_again(self, make_index: MakeIndex) -> None:
        index = make_index()
        first = await index.publish(*course())
        second = await index.publish([record(_NEW)], [_NEW])
        assert list(await index.generations()) == [first, second]

        await index.activate(first)

        assert await index.generation() == first
        assert paths((await index.search("process")).hits) == ["/nodes"]
        with pytest.raises(IndexMissing, match="nowhere"):
            await index.activate("nowhere")
        third = await index.publish([record(_NEW)], [_NEW])
        assert third not in (first, second)
        await index.close()

    @requires("generations")
    async def test_what_was_gone_back_to_outlasts_what_was_no_good(self, make_index: MakeIndex) -> None:
        index = make_index()
        good = await index.publish(*course())
        await index.publish([record(_NEW)], [_NEW])
        await index.activate(good)
        await index.publish([record(_NEW)], [_NEW])

        await index.activate(good)

        assert paths((await index.search("process")).hits) == ["/nodes"]
        await index.close()

    @requires("shared")
    async def test_another_index_finds_what_was_published(self, make_index: MakeIndex) -> None:
        writer, reader = make_index(), make_index()
        records, passages = course()
        await writer.publish(records, passages)
        await writer.close()

        await reader.open()

        assert paths((await reader.search("process")).hits) == ["/nodes"]
        assert list(await reader.records()) == sorted(records, key=lambda one: one.document.path)
        await reader.close()


class Embedding(Part):
    """What is embedded, and what becomes of vectors that cannot be used."""

    @requires("meaning")
    async def test_a_passage_whose_text_is_the_same_is_not_embedded_again(self, make_index: MakeIndex) -> None:
        embedder = WordsEmbedder()
        index = make_index(embedder=embedder)
        records, passages = course()
        await index.publish(records, passages)
        assert len(embedder.embedded) == len(passages)
        embedder.embedded.clear()

        changed = passage("/nodes", "Nodes", "A node is something else now.")
        await index.publish(records, [changed, *passages[1:], _NEW])

        assert [text.rpartition("\n")[2] for text in embedder.embedded] == [changed.text, _NEW.text]
        for one in (passages[1], changed, _NEW):
            vector = await embedder.embed_query(f"{one.title} > {one.heading}\n{one.text}")
            nearest = (await index.search("", vector=vector)).near[0]
            assert nearest.passage == one
            assert nearest.score == pytest.approx(1, abs=1e-3)
        await index.close()

    @requires("meaning")
    @pytest.mark.parametrize("vectors", [[], [[1.0] * 3], [[float("nan")] * 64], [[0.0] * 64], [[float("inf")] * 64]])
    async def test_vectors_that_cannot_be_used_leave_the_current_generation(
        self, make_index: MakeIndex, vectors: Sequence[Vector]
    ) -> None:
        embedder = WordsEmbedder()
        index = make_index(embedder=embedder)
        await index.publish(*course())
        before = await index.generation()
        embedder.vectors = vectors

        with pytest.raises(EmbeddingFailed):
            await index.publish([record(_NEW)], [_NEW])

        assert await index.generation() == before
        assert paths((await index.search("process", vector=await embedder.embed_query(NODES))).near)[0] == "/nodes"
        await index.close()

    @requires("meaning", "shared")
    async def test_it_says_which_embedder_its_vectors_are_of(self, make_index: MakeIndex) -> None:
        first, second = WordsEmbedder(name="first"), WordsEmbedder(name="second")
        writer, reader = make_index(embedder=first), make_index(embedder=second)
        records, passages = course()
        await writer.publish(records, passages)
        await writer.close()

        assert await reader.embedded_by() == first.signature != second.signature
        assert writer.signature != reader.signature
        await reader.publish(records, passages)
        assert len(second.embedded) == len(passages)
        assert await reader.embedded_by() == second.signature
        await reader.close()
