"""An embedding run that is interrupted, however it ends, and the one after it: nothing is asked for twice."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from chatkit_rag.errors import EmbeddingFailed
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.embedders.openai_interface import OpenAIEmbedder
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.json_server import RequestOptions
from chatkit_rag.retrieval.qdrant import QdrantIndex
from chatkit_rag.retrieval.vector_journal import VectorJournal
from chatkit_rag.testing import FakeModelServer
from retrieval.qdrant_server import QdrantServer
from stumbling import asked_for, stumbling

pytestmark = pytest.mark.anyio

PASSAGES = 300
ONCE = RequestOptions(attempts=1, total_seconds=20.0)

Opened = Callable[..., PassageIndex]
"""An index over what was published before, embedded by a model."""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    parts = "".join(f"## Part {number}\n\nAbout the number {number}.\n\n" for number in range(PASSAGES))
    (tmp_path / "docs" / "numbers.md").write_text(f"# Numbers\n\n{parts}")
    return tmp_path / "docs"


@pytest.fixture
def server() -> Iterator[FakeModelServer]:
    with FakeModelServer(dimensions=64) as running:
        yield running


@pytest.fixture(params=["edge", "qdrant"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path, server: FakeModelServer) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:
        if request.param == "edge":
            make: Callable[..., PassageIndex] = partial(EdgeIndex, tmp_path / "index")
        else:
            qdrant = await stack.enter_async_context(QdrantServer(tmp_path / "qdrant").running())
            make = partial(QdrantIndex, qdrant.url, journal=tmp_path / "index" / "vectors.db")

        def open_(model: str = "some-model") -> PassageIndex:
            embedder = OpenAIEmbedder(model, base_url=server.base_url, options=ONCE)
            index = make(embedder=embedder)
            stack.push_async_callback(index.close)
            return index

        yield open_


async def interrupted(docs: Path, index: PassageIndex, server: FakeModelServer) -> list[str]:
    """A run that is cancelled while the embedder has the third of its requests; what it was given vectors of."""
    asked = stumbling(server, at=3, fault="silent")
    run = asyncio.ensure_future(ingest(docs, index))
    async with asyncio.timeout(20):
        while not server.fired["silent"]:
            await asyncio.sleep(0.001)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    server.fault = None
    await index.close()
    return asked_for(asked[:-1])


async def test_a_run_that_was_cancelled_goes_on_where_it_was(docs: Path, opened: Opened, server: FakeModelServer):
    given = await interrupted(docs, opened(), server)
    asked = stumbling(server)

    index = opened()
    report = await ingest(docs, index)

    assert 0 < len(given) < PASSAGES == report.passages
    assert len(asked_for(asked)) == PASSAGES - len(given)
    assert not set(asked_for(asked)) & set(given)
    for text in (given[0], given[-1]):
        near = (await index.search("zeppelin", vector=await index.embedder.embed_query(text), limit=PASSAGES)).near
        [score] = [hit.score for hit in near if text.endswith(f"\n{hit.passage.text}")]
        assert score == pytest.approx(1.0, abs=1e-5)


async def test_a_run_that_failed_goes_on_where_it_was(docs: Path, opened: Opened, server: FakeModelServer):
    stumbling(server, at=2, fault="quota")
    with pytest.raises(EmbeddingFailed):
        await ingest(docs, opened())
    server.fault = None
    asked = stumbling(server)

    await ingest(docs, opened())

    assert 0 < len(asked_for(asked)) < PASSAGES


@pytest.mark.parametrize("opened", ["edge"], indirect=True)
async def test_another_embedder_begins_at_the_beginning(docs: Path, opened: Opened, server: FakeModelServer):
    await interrupted(docs, opened(), server)
    asked = stumbling(server)

    await ingest(docs, opened("another-model"))

    assert len(asked_for(asked)) == PASSAGES


async def test_what_is_published_is_kept_nowhere_else(
    docs: Path, opened: Opened, server: FakeModelServer, tmp_path: Path
):
    await interrupted(docs, opened(), server)
    file = tmp_path / "index" / "vectors.db"
    large = file.stat().st_size

    await ingest(docs, opened())

    assert file.stat().st_size < large / 2


@pytest.mark.parametrize("opened", ["edge"], indirect=True)
async def test_other_vectors_by_the_same_name_are_believed_at_the_second_try(
    docs: Path, opened: Opened, server: FakeModelServer
):
    await interrupted(docs, opened(), server)
    server.dimensions = 32

    with pytest.raises(EmbeddingFailed, match="32 dimensions where 64"):
        await ingest(docs, opened())
    report = await ingest(docs, opened())

    assert report.added == 1


@pytest.mark.parametrize("opened", ["edge"], indirect=True)
async def test_a_file_that_was_cut_off_costs_what_it_held_and_no_more(
    docs: Path, opened: Opened, server: FakeModelServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    await interrupted(docs, opened(), server)
    file = tmp_path / "index" / "vectors.db"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    caplog.set_level(logging.WARNING, logger="chatkit_rag")

    first = await ingest(docs, opened())
    (docs / "letters.md").write_text("# Letters\n\nAbout letters.")
    second = await ingest(docs, opened())

    assert (first.added, second.added) == (1, 1)
    assert "vectors.db is damaged and is begun anew" in caplog.text


@pytest.mark.parametrize("opened", ["edge"], indirect=True)
async def test_a_disk_that_takes_nothing_stops_no_run(
    docs: Path, opened: Opened, server: FakeModelServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "index" / "vectors.db").mkdir(parents=True)
    caplog.set_level(logging.WARNING, logger="chatkit_rag")

    report = await ingest(docs, opened())

    assert report.added == 1
    assert "an interrupted run would embed everything again" in caplog.text


async def test_runs_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path):
    texts = {run: {f"{run}-{number}": [float(run), float(number)] for number in range(200)} for run in range(1, 5)}

    async def run(number: int) -> None:
        journal = VectorJournal(tmp_path / "vectors.db")
        batches = list(texts[number].items())
        for start in range(0, len(batches), 20):
            await journal.add(f"embedder {number % 2}", dict(batches[start : start + 20]))

    async with asyncio.timeout(40):
        await asyncio.gather(*map(run, texts))
    for number, wanted in texts.items():
        found = await VectorJournal(tmp_path / "vectors.db").find(f"embedder {number % 2}", list(wanted))
        assert {text: list(vector) for text, vector in found.items()} == wanted
