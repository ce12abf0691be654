"""`QdrantIndex` where the server is slow, away or full, and where somebody else is at work on it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.errors import IndexError_, IndexUnavailable, IndexUnreadable
from chatkit_rag.retrieval.qdrant import QdrantIndex, QdrantOptions
from chatkit_rag.testing.index.part import course, passage, paths, record
from chatkit_rag.testing.index_contract import WordsEmbedder
from retrieval.qdrant_server import QdrantServer

pytestmark = pytest.mark.anyio

NEW = passage("/new", "New", "A zeppelin flies.")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[QdrantServer]:
    async with QdrantServer(tmp_path / "qdrant").running() as running:
        yield running


@pytest.fixture
async def index(server: QdrantServer) -> AsyncIterator[QdrantIndex]:
    """An index of the small course."""
    async with QdrantIndex(server.url, options=QdrantOptions(timeout=20)) as opened:
        await opened.publish(*course())
        yield opened


def writes(request: Any) -> bool:
    return request.path.endswith("/points") and request.method == "PUT"


async def test_points_are_made_for_many_courses(server: QdrantServer):
    async with QdrantIndex(server.url, embedder=WordsEmbedder(), options=QdrantOptions(timeout=20)) as index:
        await index.publish(*course())

    info = server.shards["courses-gen-1"].info()
    assert {"site", "path", "flags", "metadata.week", 'metadata."a b"'} <= info.payload_schema.keys()
    assert info.payload_schema["site"].params.is_tenant
    assert server.aliases == {"courses": "courses-gen-1"}


async def test_a_search_takes_one_flight_once_its_passages_are_known(index: QdrantIndex, server: QdrantServer):
    await index.search("node")
    server.requests.clear()

    await index.search("node")

    assert server.requests == ["POST /collections/courses-gen-1/points/query/batch"]


async def test_the_edition_that_was_searched_is_known_without_a_flight(index: QdrantIndex, server: QdrantServer):
    await index.search("node")
    server.requests.clear()

    assert await index.edition() == "gen-1"
    assert server.requests == []


async def test_another_host_takes_over_what_is_published(index: QdrantIndex, server: QdrantServer):
    async with QdrantIndex(server.url, options=QdrantOptions(refresh=0.0, timeout=20)) as reader:
        assert paths((await reader.search("process")).hits) == ["/nodes"]

        await index.publish([record(NEW)], [NEW])

        assert paths((await reader.search("zeppelin process")).hits) == ["/new"]


async def test_a_host_that_knows_an_old_generation_finds_the_new_when_the_old_is_removed(
    index: QdrantIndex, server: QdrantServer
):
    async with QdrantIndex(server.url, options=QdrantOptions(refresh=3600.0, timeout=20)) as reader:
        await reader.search("process")
        for _ in range(2):
            await index.publish([record(NEW)], [NEW])
        assert sorted(server.shards) == [f"courses-gen-{n}{about}" for n in (2, 3) for about in ("", "-about")]

        assert paths((await reader.search("zeppelin process")).hits) == ["/new"]


@pytest.mark.parametrize("full", ["points", "about", "aliases"])
async def test_a_full_server_leaves_the_current_generation_and_nothing_half_built(
    index: QdrantIndex, server: QdrantServer, full: str
):
    before = sorted(server.shards)

    def fault(request: Any) -> int | None:
        about = "-about/" in request.path
        stops = {"points": writes(request) and not about, "about": writes(request) and about}
        return 500 if stops.get(full, request.path.endswith("/collections/aliases")) else None

    server.fault = fault
    with pytest.raises(IndexUnavailable, match="No space left on device"):
        await index.publish([record(NEW)], [NEW])
    server.fault = None

    assert sorted(server.shards) == before
    assert paths((await index.search("process")).hits) == ["/nodes"]
    assert await index.publish([record(NEW)], [NEW]) == "gen-2"


async def test_a_write_that_fails_once_is_sent_again(index: QdrantIndex, server: QdrantServer):
    failures = [503]
    server.fault = lambda request: failures.pop() if writes(request) and failures else None

    assert await index.publish([record(NEW)], [NEW]) == "gen-2"
    assert failures == []


async def test_a_server_that_asks_to_come_again_later_is_one_that_does_not_answer_now(
    index: QdrantIndex, server: QdrantServer
):
    failures = [429]
    server.fault = lambda request: failures.pop() if writes(request) and failures else None
    assert await index.publish([record(NEW)], [NEW]) == "gen-2"
    assert failures == []

    server.fault = lambda _request: 429
    with pytest.raises(IndexUnavailable, match="asks to come again later"):
        await index.search("zeppelin")
    server.fault = None


async def test_what_is_published_is_told_also_where_the_server_goes_away_right_after(
    index: QdrantIndex, server: QdrantServer
):
    def fault(request: Any) -> int | None:
        is_published = server.aliases["courses"] == "courses-gen-2"
        return 503 if request.method == "GET" and is_published else None

    server.fault = fault
    assert await index.publish([record(NEW)], [NEW]) == "gen-2"
    server.fault = None

    assert await index.generation() == "gen-2"


async def test_of_two_indexers_at_once_one_is_told_to_try_again(index: QdrantIndex, server: QdrantServer):
    async with QdrantIndex(server.url, options=QdrantOptions(timeout=20)) as other:
        outcomes = await asyncio.gather(
            index.publish([record(NEW)], [NEW]), other.publish(*course("a", "b")), return_exceptions=True
        )

        [refusal] = [outcome for outcome in outcomes if isinstance(outcome, IndexError_)]
        [name] = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert "somebody else has published" in str(refusal)
        assert server.aliases["courses"] == f"courses-{name}"
        assert await other.generation() == name


async def test_a_slow_server_is_given_up(index: QdrantIndex, server: QdrantServer):
    async with QdrantIndex(server.url, options=QdrantOptions(timeout=1, refresh=3600.0)) as impatient:
        await impatient.search("process")
        server.delay = 30.0
        for _ in range(3):
            with pytest.raises(IndexUnavailable, match="did not answer within 1 s"):
                await impatient.search("process")
        asked = len(server.requests)
        with pytest.raises(IndexUnavailable, match="not answered for a while"):
            await impatient.search("process")
        assert len(server.requests) == asked
        server.delay = 0.0


async def test_a_server_that_is_away_is_named():
    index = QdrantIndex("http://127.0.0.1:9")

    with pytest.raises(IndexUnavailable, match=r"Qdrant at 127\.0\.0\.1 cannot be reached"):
        await index.open()
    await index.close()


async def test_a_refused_key_is_named(index: QdrantIndex, server: QdrantServer):
    server.fault = lambda _request: 403

    with pytest.raises(IndexError_, match="check the API key"):
        await index.generation()


@pytest.mark.usefixtures("index")
async def test_a_generation_of_which_nothing_is_known_is_named_and_publishing_mends_it(server: QdrantServer):
    server.shards.pop("courses-gen-1-about").close()
    index = QdrantIndex(server.url, embedder=WordsEmbedder(), options=QdrantOptions(timeout=20))
    with pytest.raises(IndexUnreadable, match="is missing: index the pages again"):
        await index.open()

    await index.publish([record(NEW)], [NEW])

    assert paths((await index.search("zeppelin")).hits) == ["/new"]
    await index.close()


@pytest.mark.usefixtures("index")
async def test_so_is_a_collection_of_somebody_elses(server: QdrantServer):
    server.shards["foreign"] = server.shards.pop("courses-gen-1-about")
    server.shards["courses-gen-1-about"] = server.shards["courses-gen-1"]
    index = QdrantIndex(server.url, options=QdrantOptions(timeout=20))
    with pytest.raises(IndexUnreadable, match="damaged, or not of this library"):
        await index.open()
    server.shards.pop("courses-gen-1-about")
    await index.close()
