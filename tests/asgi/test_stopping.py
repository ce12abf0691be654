"""What an app that has been told to stop still does, and what it does not."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chatkit.types import ThreadStreamEvent

from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.draining import Draining
from chatkit_rag.asgi.tasks import TaskOwner
from chatkit_rag.auth import nobody
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, Answer, ask, call, question, read_frames, refusal, request

pytestmark = pytest.mark.anyio


class Hesitating(RagChatServer):
    """Begins an answer, and does not go on before it is told to."""

    def __init__(self, index: Path) -> None:
        super().__init__(MemoryStore(), sources=[CourseSource(EdgeIndex(index))], model="extractive")
        self.answering = asyncio.Event()
        self.going_on = asyncio.Event()

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        self.answering.set()
        await self.going_on.wait()
        async for event in self.answer(thread, input_user_message, context):
            yield event


@pytest.fixture
def server(course_index_path: Path) -> Hesitating:
    return Hesitating(course_index_path)


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    """What the server around the app hears; its handlers are there before the app starts."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@asynccontextmanager
async def client(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://localhost") as http:
        yield http


def app(server: RagChatServer, **options: Any) -> ChatApp:
    return ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True, **options))


async def told(number: int) -> None:
    signal.raise_signal(number)
    await asyncio.sleep(0)


async def begun(http: httpx.AsyncClient, server: Hesitating) -> "asyncio.Task[httpx.Response]":
    """A question whose answer is under way."""
    asking = asyncio.ensure_future(http.post("/", json=question(COVERED)))
    await asyncio.wait_for(server.answering.wait(), 5)
    return asking


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_begins_no_answer_and_says_when_to_ask_again(server: Hesitating, heard: list[int], number: int):
    server.going_on.set()
    chat = app(server)
    async with client(chat) as http, chat.lifespan():
        thread = (await ask(http, COVERED)).thread_id

        await told(number)

        for body in (question(COVERED), question(COVERED, thread)):
            refused = await http.post("/", json=body)
            assert refusal(refused, 503)["code"] == "server_stopping"
            assert int(refused.headers["retry-after"]) > 0
        assert heard == [number]
        assert len((await call(http, "threads.get_by_id", thread_id=thread))["items"]["data"]) == 2


async def test_it_is_not_ready_but_lives(server: Hesitating):
    chat = app(server)
    async with client(chat) as http, chat.lifespan():
        assert (await http.get("/health/ready")).status_code == 200

        await told(signal.SIGTERM)

        assert (await http.get("/health/ready")).status_code == 503
        assert (await http.get("/health/live")).status_code == 200


async def test_it_lets_an_answer_end(server: Hesitating):
    chat = app(server)
    async with client(chat) as http:
        async with chat.lifespan():
            asking = await begun(http, server)
            await told(signal.SIGTERM)

            server.going_on.set()

            events = Answer(read_frames((await asking).text))
        assert events.errors == []
        assert events.kinds[-1] == "thread.item.done"


async def test_it_cuts_what_takes_longer_before_the_lifespan_ends(server: Hesitating):
    chat = app(server, drain_seconds=0.05)
    async with client(chat) as http, chat.lifespan():
        asking = await begun(http, server)

        await told(signal.SIGTERM)

        events = read_frames((await asyncio.wait_for(asking, 5)).text)
        assert events[-1]["type"] == "error"


async def test_ctrl_c_a_second_time_cuts_at_once(server: Hesitating, heard: list[int]):
    chat = app(server, drain_seconds=600)
    async with client(chat) as http, chat.lifespan():
        asking = await begun(http, server)

        await told(signal.SIGINT)
        await told(signal.SIGTERM)
        await asyncio.wait({asking}, timeout=0.2)
        assert not asking.done(), "a supervisor's SIGTERM after the terminal's SIGINT is not somebody's impatience"
        await told(signal.SIGINT)

        events = read_frames((await asyncio.wait_for(asking, 5)).text)
        assert events[-1]["type"] == "error"
    assert heard == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]


async def test_the_time_to_drain_is_given_once_and_not_again_by_the_lifespan():
    class Recording(TaskOwner):
        within = 0.0

        async def drain(self, *, within: float) -> None:
            self.within = within

    owner = Recording()
    draining = Draining(owner, within=600)
    draining.begin_on_signal()
    loop = asyncio.get_running_loop()
    before = loop.time()
    await told(signal.SIGTERM)
    while loop.time() < before + 0.05:
        await asyncio.sleep(0)

    await draining.finish()

    assert 590 < owner.within < 599.96


async def test_it_can_be_started_again(server: Hesitating):
    server.going_on.set()
    chat = app(server)
    async with client(chat) as http:
        async with chat.lifespan():
            await told(signal.SIGTERM)
        async with chat.lifespan():
            assert (await ask(http, COVERED)).errors == []

            await told(signal.SIGTERM)

            refusal(await http.post("/", json=question(COVERED)), 503)


async def test_an_app_whose_host_runs_no_lifespan_hears_after_its_first_request(server: Hesitating, heard: list[int]):
    chat = app(server, drain_seconds=0.05)
    async with client(chat) as http:
        asking = await begun(http, server)

        await told(signal.SIGTERM)

        assert heard == [signal.SIGTERM]
        refusal(await http.post("/", json=question(COVERED)), 503)
        assert read_frames((await asyncio.wait_for(asking, 5)).text)[-1]["type"] == "error"
        await chat.shutdown()


async def test_it_does_not_listen_where_the_site_does_not_want_that(server: Hesitating, heard: list[int]):
    server.going_on.set()
    chat = app(server, drain_on_signal=False)
    before = signal.getsignal(signal.SIGTERM)
    async with client(chat) as http, chat.lifespan():
        await told(signal.SIGTERM)

        assert (await ask(http, COVERED)).errors == []
        assert heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == before


async def test_the_handlers_are_put_back(server: Hesitating):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    chat = app(server)

    async with chat.lifespan():
        during = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert during[0] != before[0]
    assert during[1] != before[1]


async def test_what_does_not_stream_goes_on(server: Hesitating):
    chat = app(server)
    async with client(chat) as http, chat.lifespan():
        await told(signal.SIGTERM)

        assert (await http.post("/", json=request("threads.list"))).status_code == 200
