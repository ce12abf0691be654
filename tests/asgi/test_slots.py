"""How many answers one reader may have under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from chatkit.types import ThreadStreamEvent
from starlette.requests import HTTPConnection

from asgi.serving import PATIENCE, Connection, Site, serving
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.slots import StreamSlots
from chatkit_rag.asgi.streaming import StreamOptions
from chatkit_rag.context import Principal
from chatkit_rag.errors import TooManyStreams
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, call, question, refusal

pytestmark = pytest.mark.anyio

Serve = Callable[..., AbstractAsyncContextManager[Site]]


class Hesitating(RagChatServer):
    """Begins an answer, and does not end it before it is told to."""

    def __init__(self, index: Path) -> None:
        super().__init__(MemoryStore(), sources=[CourseSource(EdgeIndex(index))], model="extractive")
        self.going_on = asyncio.Event()

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        await self.going_on.wait()
        async for event in self.answer(thread, input_user_message, context):
            yield event


def reader(connection: HTTPConnection) -> Principal:
    return Principal(connection.headers.get("x-reader", "ada"), tenant=connection.headers.get("x-tenant", ""))


@pytest.fixture
def server(course_index_path: Path) -> Hesitating:
    return Hesitating(course_index_path)


@pytest.fixture
def serve(server: Hesitating) -> Serve:
    @asynccontextmanager
    async def serve(limit: int | None = None, **streaming: Any) -> AsyncIterator[Site]:
        chosen = {} if limit is None else {"streams_per_reader": limit}
        options = AppOptions(streaming=StreamOptions(**streaming), drain_seconds=0, **chosen)
        async with serving(ChatApp(server, authenticate=reader, options=options)) as site:
            yield site

    return serve


async def begun(site: Site, number: int = 1) -> list[Connection]:
    """Answers under way."""
    connections = [await site.ask(COVERED) for _ in range(number)]
    for connection in connections:
        await connection.until(lambda seen: seen.events)
    return connections


async def one_more(site: Site, **headers: str) -> int:
    """The status of one more question; its answer is not read."""
    async with site.http.stream("POST", "/", json=question(COVERED), headers=headers) as response:
        return response.status_code


async def accepted(site: Site) -> None:
    """Returns when a question is taken; what was refused is asked again at once."""
    async with asyncio.timeout(PATIENCE):
        while await one_more(site) != 200:
            pass


async def test_three_answers_at_a_time_are_given_and_the_next_question_is_told_to_wait(serve: Serve):
    async with serve() as site:
        readers = await begun(site, 3)

        refused = await site.http.post("/", json=question(COVERED))

        assert refusal(refused, 429)["code"] == "too_many_streams"
        assert refusal(refused, 429)["details"] == {"limit": 3}
        assert int(refused.headers["retry-after"]) > 0
        assert len((await call(site.http, "threads.list"))["data"]) == 3, "nothing of a refused question is stored"
        for connection in readers:
            connection.leave()


async def test_other_readers_have_their_own(serve: Serve):
    async with serve(1) as site:
        [connection] = await begun(site)

        assert await one_more(site) == 429
        assert await one_more(site, **{"X-Reader": "bob"}) == 200
        assert await one_more(site, **{"X-Tenant": "elsewhere"}) == 200
        connection.leave()


async def test_there_may_be_no_limit(serve: Serve):
    async with serve(0) as site:
        readers = await begun(site, 10)

        assert await one_more(site) == 200
        for connection in readers:
            connection.leave()


async def test_a_reader_who_has_left_may_ask_again(serve: Serve, server: Hesitating):
    async with serve(1) as site:
        [connection] = await begun(site)
        assert await one_more(site) == 429

        connection.leave()

        await accepted(site)


async def test_an_answer_that_is_finished_without_its_reader_counts_until_it_is(serve: Serve, server: Hesitating):
    async with serve(1, on_disconnect="finish") as site:
        [connection] = await begun(site)
        connection.leave()
        for _ in range(20):
            assert await one_more(site) == 429

        site.loop.call_soon_threadsafe(server.going_on.set)

        await accepted(site)


async def test_a_question_that_fails_gives_its_slot_back(serve: Serve, server: Hesitating):
    async with serve(1) as site:
        server.going_on.set()
        for body in (question(COVERED, "thr_none"), question(""), {"type": "threads.create"}):
            refusal(await site.http.post("/", json=body), 404, 422)

        for _ in range(3):
            answered = await site.http.post("/", json=question(COVERED))
            assert "thread.item.done" in answered.text


async def test_what_does_not_stream_is_not_counted(serve: Serve):
    async with serve(1) as site:
        [connection] = await begun(site)

        assert len((await call(site.http, "threads.list"))["data"]) == 1
        connection.leave()


async def test_a_client_that_leaves_before_anything_is_sent_keeps_no_slot(server: Hesitating):
    chat = ChatApp(server, authenticate=reader, options=AppOptions(streams_per_reader=1, drain_seconds=0))
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

    async def gone(_message: Any) -> None:
        raise OSError("the client is gone")

    async with chat.lifespan():
        for _ in range(3):
            messages = [{"type": "http.request", "body": orjson.dumps(question(COVERED)), "more_body": False}]

            async def receive(messages: list[Any] = messages) -> Any:
                return messages.pop() if messages else {"type": "http.disconnect"}

            await chat(scope, receive, gone)
            async with asyncio.timeout(PATIENCE):
                while len(chat._owner):
                    await asyncio.sleep(0.001)

        server.going_on.set()
        transport = httpx.ASGITransport(chat)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answered = await http.post("/", json=question(COVERED))
    assert "thread.item.done" in answered.text


def test_slots_are_given_back_and_nothing_is_kept_of_who_had_them():
    slots = StreamSlots(1)

    for _ in range(3):
        with (
            slots.taken(("", "ada")),
            slots.taken(("", "bob")),
            pytest.raises(TooManyStreams),
            slots.taken(("", "ada")),
        ):
            pass

    assert not slots._taken
