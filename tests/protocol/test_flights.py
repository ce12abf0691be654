"""What a question costs in flights to the database: one before the model is asked, one when it has answered."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from agents import Model
from chatkit.types import ProgressUpdateEvent, ThreadStreamEvent

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.testing import FakeModelServer
from postgres_proxy import Proxy, proxy_before
from postgres_server import PostgresServer, postgres_server
from protocol.frames import COVERED, UNCOVERED, Answer, ask, items_of, message, request, stream, texts

pytestmark = pytest.mark.anyio

Site = Callable[..., Awaitable[httpx.AsyncClient]]


class GoesOn(RagChatServer):
    """A server that has something to say behind its answer."""

    async def respond(self, *arguments: Any) -> AsyncIterator[ThreadStreamEvent]:
        async for event in super().respond(*arguments):
            yield event
        yield ProgressUpdateEvent(text="and on")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    with postgres.database() as url:
        async with proxy_before(url) as proxy:
            yield proxy


@pytest.fixture
async def site(proxy: Proxy, course_index: EdgeIndex) -> AsyncIterator[Site]:
    """Makes a site over Postgres, behind a proxy that counts."""
    async with AsyncExitStack() as stack:

        async def make(model: Model | ChosenModel, kind: type[RagChatServer] = RagChatServer) -> httpx.AsyncClient:
            store = PostgresStore(proxy.url, auto_migrate=True, pool_size=1)
            server = kind(store, sources=[CourseSource(course_index)], model=model)
            chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
            await stack.enter_async_context(chat.lifespan())
            transport = httpx.ASGITransport(chat)
            return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://test"))

        yield make


def model_by(way: str, fake: FakeModelServer) -> Model | ChosenModel:
    if way == "extractive":
        return ExtractiveModel()
    kind = ResponsesModel if way == "direct" else ChatCompletionsModel
    model: Any = kind("fake", api_key="sk-test", base_url=fake.base_url)
    return ChosenModel(model=model, label="fake", costs_money=False, connection=model)


async def costs(proxy: Proxy, asking: Awaitable[Answer]) -> tuple[int, Answer]:
    before = proxy.flights
    answer = await asking
    assert answer.kinds[-1] == "thread.item.done"
    return proxy.flights - before, answer


@pytest.mark.parametrize("way", ["extractive", "direct", "chat completions"])
async def test_a_question_costs_two_flights_and_so_does_the_first_of_a_thread(proxy: Proxy, site: Site, way: str):
    with FakeModelServer() as fake:
        client = await site(model_by(way, fake))
        await ask(client, COVERED, (await ask(client, COVERED)).thread_id)  # statements are prepared once

        first, begun = await costs(proxy, ask(client, COVERED))
        second, _ = await costs(proxy, ask(client, COVERED, begun.thread_id))
        weak, _ = await costs(proxy, ask(client, UNCOVERED, begun.thread_id))

        assert (first, second, weak) == (2, 2, 2)
        kinds_of_items = [item["type"] for item in await items_of(client, begun.thread_id)]
        assert kinds_of_items == ["user_message", "assistant_message"] * 3


async def test_a_key_costs_one_flight_more(proxy: Proxy, site: Site):
    client = await site(ExtractiveModel())
    await stream(client, request("threads.create", input=message(COVERED)) | {"metadata": {"client_message_id": "m0"}})
    body = request("threads.create", input=message(COVERED)) | {"metadata": {"client_message_id": "m1"}}

    flights, answer = await costs(proxy, stream(client, body))
    again = await stream(client, body)

    assert flights == 3
    assert again.thread_id == answer.thread_id
    assert texts(await items_of(client, answer.thread_id))[0] == COVERED


async def test_a_server_that_may_go_on_gives_the_thread_back_behind_its_answer(proxy: Proxy, site: Site):
    client = await site(ExtractiveModel(), GoesOn)

    await ask(client, COVERED)

    before = proxy.flights
    answer = await ask(client, COVERED)

    assert proxy.flights - before == 3
    assert answer.kinds[-2:] == ["thread.item.done", "progress_update"]
    assert (await ask(client, COVERED, answer.thread_id)).of("thread.item.done")
