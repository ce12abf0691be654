"""What a reader is told while the search that an answer begins with takes long."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest
from chatkit.server import StreamingResult

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import IndexUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, Answer, question, read_frames, request

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"), languages=("fr-CA",))


class SlowSource(CourseSource):
    """Finds something when it may."""

    def __init__(self, index: EdgeIndex) -> None:
        super().__init__(index)
        self.may = asyncio.Event()
        self.fails = False
        self.searches = 0
        self.stopped = False

    async def search(self, question: str, context: RequestContext, **options: int | None) -> Retrieved:
        self.searches += 1
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        if self.fails:
            raise IndexUnavailable("the server does not answer")
        return await super().search(question, context)


@pytest.fixture
def source(course_index: EdgeIndex) -> SlowSource:
    return SlowSource(course_index)


@pytest.fixture
def server(source: SlowSource) -> RagChatServer:
    return RagChatServer(MemoryStore(), sources=[source], model=ExtractiveModel())


async def asked(server: RagChatServer, context: RequestContext = ADA) -> AsyncIterator[bytes]:
    result = await server.process(orjson.dumps(question(COVERED)), context)
    assert isinstance(result, StreamingResult)
    async with aclosing(result.json_events) as frames:
        async for frame in frames:
            yield frame


async def answered(server: RagChatServer, source: SlowSource, context: RequestContext = ADA) -> Answer:
    """The whole answer, whose search may end as soon as the reader is told of it."""
    frames: list[bytes] = []
    async for frame in asked(server, context):
        frames.append(frame)
        if b"progress_update" in frame:
            source.may.set()
    return Answer(read_frames(b"".join(frames).decode()))


def told(answer: Answer) -> list[tuple[str, str]]:
    return [(event["icon"], event["text"]) for event in answer.of("progress_update")]


async def test_a_search_that_takes_long_is_told_in_the_reader_s_language_before_the_answer(
    server: RagChatServer, source: SlowSource
):
    answer = await answered(server, source)

    assert told(answer) == [("search", "Recherche dans le cours …")]
    assert answer.kinds.index("progress_update") < answer.kinds.index("thread.item.added")
    assert answer.annotations
    assert not answer.errors


async def test_one_that_does_not_is_not_told(server: RagChatServer, source: SlowSource):
    source.may.set()

    answer = await answered(server, source)

    assert answer.annotations
    assert told(answer) == []


async def test_what_is_told_is_neither_stored_nor_told_to_the_same_request_again(
    server: RagChatServer, source: SlowSource
):
    keyed = replace(ADA, idempotency_key="k1")
    first = await answered(server, source, keyed)

    again = await answered(server, source, keyed)

    assert (len(told(first)), len(told(again))) == (1, 0)
    assert (again.thread_id, again.reply) == (first.thread_id, first.reply)
    assert source.searches == 1
    listing = orjson.dumps(request("items.list", thread_id=first.thread_id, order="asc", limit=100))
    items = orjson.loads((await server.process(listing, ADA)).json)["data"]
    assert [item["type"] for item in items] == ["user_message", "assistant_message"]


async def test_one_that_fails_in_the_end_is_one_error_behind_what_was_told(server: RagChatServer, source: SlowSource):
    source.fails = True

    answer = await answered(server, source)

    assert len(told(answer)) == len(answer.errors) == 1
    assert answer.kinds[-1] == "error"


async def test_one_whose_reader_leaves_is_stopped(server: RagChatServer, source: SlowSource):
    async with aclosing(asked(server)) as frames:
        async for frame in frames:
            if b"progress_update" in frame:
                break

    assert source.stopped


async def test_one_that_has_failed_when_its_reader_leaves_is_not_reported_as_forgotten(
    server: RagChatServer, source: SlowSource
):
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: reported.append(about))
    source.fails = True

    async with aclosing(asked(server)) as frames:
        async for frame in frames:
            if b"progress_update" in frame:
                source.may.set()
                await asyncio.sleep(0)
                break
    gc.collect()

    assert not source.stopped
    assert reported == []
