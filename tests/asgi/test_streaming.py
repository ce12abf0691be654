"""Streams to real clients: ones that read, ones that leave, and ones that stop reading."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from agent.openai_server import model_at
from asgi.serving import Site, eventually, serving
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.streaming import StreamOptions
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.testing import FakeModelServer
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, ask, items_of, question, read_frames, texts

pytestmark = pytest.mark.anyio

ANSWER = "".join(f"{number:04} " for number in range(200))
READER = RequestContext(principal=Principal("local"))

Serve = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    """A model that takes its time: a word every now and then, 200 of them."""
    with FakeModelServer(answer=ANSWER, piece=5, pause=0.1) as model:
        yield model


@pytest.fixture(params=[0.0, 0.01], ids=["instant store", "awaiting store"])
def store(request: pytest.FixtureRequest) -> AwkwardStore:
    return AwkwardStore(request.param)


@pytest.fixture
def make_chat(course_index_path: Path, model: FakeModelServer, store: AwkwardStore) -> Callable[..., ChatApp]:
    def make(*, drain_seconds: float = 5.0, **streaming: Any) -> ChatApp:
        server = RagChatServer(store, sources=[CourseSource(EdgeIndex(course_index_path))], model=model_at(model))
        options = AppOptions(local_reader=True, drain_seconds=drain_seconds, streaming=StreamOptions(**streaming))
        return ChatApp(server, authenticate=nobody, options=options)

    return make


@pytest.fixture
def serve(make_chat: Callable[..., ChatApp]) -> Serve:
    @asynccontextmanager
    async def serve(*, send_buffer: int | None = None, **options: Any) -> AsyncIterator[Site]:
        async with serving(make_chat(**options), send_buffer=send_buffer) as site:
            yield site

    return serve


def words(text: str) -> int:
    return len(text.split())


class TestReading:
    async def test_the_first_words_arrive_while_the_model_still_speaks(self, serve: Serve, model: FakeModelServer):
        async with serve() as site:
            reader = await site.ask(COVERED)

            await reader.until(lambda seen: seen.text)

            assert 0 < model.sent < 100
            reader.leave()

    async def test_the_headers_keep_proxies_from_holding_the_answer_back(self, serve: Serve, model: FakeModelServer):
        model.answer = "Short."
        async with serve() as site:
            reader = await site.ask(COVERED)

            await reader.until(lambda seen: seen.ended)

            assert reader.head["content-type"].startswith("text/event-stream")
            assert reader.head["cache-control"] == "no-cache, no-transform"
            assert reader.head["x-accel-buffering"] == "no"
            assert reader.head["x-content-type-options"] == "nosniff"
            assert reader.head["x-request-id"]
            assert "content-length" not in reader.head
            reader.leave()

    async def test_silence_is_filled_with_comments(self, serve: Serve, model: FakeModelServer):
        model.pause = 0.5
        async with serve(ping_seconds=0.05) as site:
            reader = await site.ask(COVERED)

            await reader.until(lambda seen: seen.text)

            before, _, _ = reader.received.partition(b"text_delta")
            assert before.count(b": ping\n\n") >= 2
            reader.leave()


class TestLeaving:
    async def test_a_reader_who_leaves_stops_the_model_and_the_partial_text_stays(
        self, serve: Serve, model: FakeModelServer
    ):
        async with serve() as site:
            resting = site.tasks()
            reader = await site.ask(COVERED)
            await reader.until(lambda seen: words(seen.text) >= 3)

            sent = model.sent
            reader.leave()

            await eventually(lambda: model.disconnects == 1)
            assert model.sent <= sent + 2
            await eventually(lambda: len(site.chat._owner) == 0 and site.tasks() == resting)
            asked, kept = texts(await items_of(site.http, reader.thread_id))
            assert asked == COVERED
            assert kept.startswith(reader.text)
            assert words(kept) <= model.sent

    async def test_the_answer_is_written_to_its_end_where_the_site_wants_that(
        self, serve: Serve, model: FakeModelServer
    ):
        model.pause = 0.01
        async with serve(on_disconnect="finish") as site:
            reader = await site.ask(COVERED)
            await reader.until(lambda seen: seen.text)
            assert model.sent < 200

            reader.leave()

            await eventually(lambda: len(site.chat._owner) == 0)
            assert (model.sent, model.disconnects) == (200, 0)
            assert texts(await items_of(site.http, reader.thread_id)) == [COVERED, ANSWER]

    async def test_a_reader_who_does_not_read_any_more_is_given_up(
        self, serve: Serve, model: FakeModelServer, store: AwkwardStore
    ):
        model.answer, model.piece, model.pause = "x" * 200_000, 50, 0.001
        async with serve(stall_seconds=0.3, buffer_bytes=4096, send_buffer=4096) as site:
            resting = site.tasks()
            reader = await site.ask(COVERED, receive_buffer=4096)

            await eventually(lambda: model.disconnects == 1)

            assert model.sent < 4000
            await eventually(lambda: len(site.chat._owner) == 0 and site.tasks() == resting)
            [asked, kept] = texts(await items_of(site.http, (await only_thread(store))))
            assert asked == COVERED
            assert 0 < len(kept) < 200_000
            reader.leave()

    async def test_a_slow_reader_gets_everything(self, serve: Serve, model: FakeModelServer):
        model.answer, model.piece, model.pause = "y" * 20_000, 50, 0.0
        async with serve(buffer_bytes=1024, send_buffer=4096) as site:
            reader = await site.ask(COVERED, receive_buffer=4096)

            await reader.until(lambda seen: seen.ended)

            assert reader.text == model.answer
            assert reader.events[-1]["type"] == "thread.item.done"
            reader.leave()


class TestSendThatFails:
    """Servers of ASGI 2.4 say by an OSError from `send` that the client is gone."""

    @pytest.mark.parametrize("pieces", [-1, 0, 1, 4])
    async def test_it_stops_the_answer_and_keeps_what_was_written(
        self, make_chat: Callable[..., ChatApp], model: FakeModelServer, store: AwkwardStore, pieces: int
    ):
        chat = make_chat()
        sent: list[dict[str, Any]] = []

        async def send(event: dict[str, Any]) -> None:
            if len(sent) > pieces:
                raise OSError("the client is gone")
            sent.append(event)

        async with chat.lifespan():
            await chat(post(COVERED), receive_once(COVERED), send)

            assert len(sent) == pieces + 1
            async with asyncio.timeout(5):
                while len(chat._owner):
                    await asyncio.sleep(0)
            assert model.sent < 20
            [asked, *kept] = await stored_texts(store)
            assert asked == COVERED
            assert words("".join(kept)) <= model.sent

    async def test_one_that_fails_at_once_finds_a_turn_that_tidies_up(
        self, course_index_path: Path, model: FakeModelServer, store: AwkwardStore
    ):
        cancelled: list[str] = []

        class Telling(RagChatServer):
            async def handle_stream_cancelled(self, thread: Any, pending_items: Any, context: Any) -> None:
                cancelled.append(thread.id)

        async def gone(_event: dict[str, Any]) -> None:
            raise OSError("the client is gone")

        server = Telling(store, sources=[CourseSource(EdgeIndex(course_index_path))], model=model_at(model))
        chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
        async with chat.lifespan():
            await chat(post(COVERED), receive_once(COVERED, then={"type": "http.disconnect"}), gone)

            async with asyncio.timeout(5):
                while len(chat._owner):
                    await asyncio.sleep(0)
            assert cancelled == [await only_thread(store)]
            model.answer = "Again."
            async with httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://localhost") as http:
                again = await ask(http, COVERED, cancelled[0])
            assert again.text == "Again."


class TestStopping:
    async def test_a_stopping_server_lets_the_answer_end(self, serve: Serve, model: FakeModelServer):
        model.answer = ANSWER[:50]
        async with serve() as site:
            reader = await site.ask(COVERED)
            await reader.until(lambda seen: seen.text)

            stopping = asyncio.ensure_future(site.stop())
            await reader.until(lambda seen: seen.ended)

            await stopping
            assert reader.text == ANSWER[:50]
            assert reader.events[-1]["type"] == "thread.item.done"
            reader.leave()

    async def test_an_answer_that_takes_too_long_is_cut_its_text_stays_and_its_reader_is_told(
        self, make_chat: Callable[..., ChatApp], model: FakeModelServer, store: AwkwardStore
    ):
        chat = make_chat(drain_seconds=0.2)
        begun, bodies = asyncio.Event(), []

        async def send(event: dict[str, Any]) -> None:
            bodies.append(event)
            if b"text_delta" in event.get("body", b""):
                begun.set()

        async with asyncio.timeout(10):
            async with chat.lifespan():
                answering = asyncio.ensure_future(chat(post(COVERED), receive_once(COVERED), send))
                await begun.wait()
            await answering

        assert len(chat._owner) == 0
        assert 0 < model.sent < 200
        assert bodies[-1]["more_body"] is False
        events = read_frames(b"".join(body.get("body", b"") for body in bodies).decode())
        assert [event for event in events if event["type"] == "error"] == events[-1:]
        assert events[-1]["allow_retry"] is True
        [asked, kept] = await stored_texts(store)
        assert asked == COVERED
        assert ANSWER.startswith(kept)


def post(text: str) -> dict[str, Any]:
    body = orjson.dumps(question(text))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}


def receive_once(text: str, then: dict[str, Any] | None = None) -> Callable[[], Any]:
    """The body, and then nothing more: the client stays; or what comes `then`."""
    messages = [{"type": "http.request", "body": orjson.dumps(question(text)), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        if then is None:
            await asyncio.Event().wait()
        return then

    return receive


async def only_thread(store: AwkwardStore) -> str:
    [thread] = (await store.load_threads(10, None, "asc", READER)).data
    return thread.id


async def stored_texts(store: AwkwardStore) -> list[str]:
    page = await store.load_thread_items(await only_thread(store), None, 10, "asc", READER)
    return texts([item.model_dump() for item in page.data if item.type != "sdk_hidden_context"])
