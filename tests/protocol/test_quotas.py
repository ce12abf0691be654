"""How much a reader may keep: what is beyond is refused before anything is stored, and says what to do."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.protocol.engine import Quotas
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, ask, call, items_of, question, refusal
from testing.stock_server import SmallStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[MemoryStore, SmallStore], ids=["one step", "twelve methods"])
async def client(request: pytest.FixtureRequest, course_index: EdgeIndex) -> AsyncIterator[httpx.AsyncClient]:
    """A site whose readers may keep two threads, with two answers each."""
    make: Callable[[], Any] = request.param
    quotas = Quotas(threads_per_reader=2, messages_per_thread=4)
    server = RagChatServer(make(), sources=[CourseSource(course_index)], model=ExtractiveModel(), quotas=quotas)
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def test_a_thread_takes_as_many_messages_as_it_may(client: httpx.AsyncClient):
    thread_id = (await ask(client, COVERED)).thread_id
    await ask(client, COVERED, thread_id)

    problem = refusal(await client.post("/", json=question(COVERED, thread_id)), 409)

    assert (problem["code"], problem["details"]["limit"]) == ("thread_full", 4)
    assert "begin a new one" in problem["message"]
    assert len(await items_of(client, thread_id)) == 4


async def test_a_reader_has_as_many_threads_as_they_may(client: httpx.AsyncClient):
    threads = [(await ask(client, COVERED)).thread_id for _ in range(2)]

    problem = refusal(await client.post("/", json=question(COVERED)), 409)
    await call(client, "threads.delete", thread_id=threads[0])
    answer = await ask(client, COVERED)

    assert (problem["code"], problem["details"]["limit"]) == ("too_many_threads", 2)
    assert "delete one" in problem["message"]
    assert answer.thread_id not in threads
