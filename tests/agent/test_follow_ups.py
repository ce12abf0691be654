"""What readers are offered to ask next, over the wire."""

from collections.abc import AsyncIterator

import httpx
import pytest

from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import RequestContext
from chatkit_rag.errors import IndexUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, UNCOVERED, ask

pytestmark = pytest.mark.anyio


class Server(RagChatServer):
    """One that says what was searched, and can fail to search after the first time."""

    fails = False

    async def retrieve(self, question: str, context: RequestContext) -> Retrieved:
        self.searched.append(question)
        if self.fails and len(self.searched) > 1:
            raise IndexUnavailable("away")
        return await super().retrieve(question, context)


@pytest.fixture
def server(course_index: EdgeIndex) -> Server:
    server = Server(MemoryStore(), sources=[CourseSource(course_index)], model="extractive", follow_ups=True)
    server.searched = []
    return server


@pytest.fixture
async def reader(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


async def test_they_come_behind_the_answer_and_each_is_answered_by_the_course(reader: httpx.AsyncClient):
    answer = await ask(reader, COVERED)

    [effect] = answer.of("client_effect")
    questions = effect["data"]["questions"]
    assert effect["name"] == "suggest"
    assert 2 <= len(set(questions)) == len(questions) <= 3
    assert answer.kinds.index("client_effect") > max(
        at for at, kind in enumerate(answer.kinds) if kind == "thread.item.done"
    )
    for question in questions:
        again = await ask(reader, question, answer.thread_id)
        assert again.annotations
        assert again.errors == []


async def test_a_thread_goes_on_from_one(reader: httpx.AsyncClient):
    first = await ask(reader, COVERED)
    [effect] = first.of("client_effect")

    second = await ask(reader, effect["data"]["questions"][0], first.thread_id)

    assert effect["data"]["questions"][0] not in str([one["data"] for one in second.of("client_effect")])


async def test_behind_what_is_declined_nothing_is_suggested(reader: httpx.AsyncClient, server: Server):
    answer = await ask(reader, UNCOVERED)

    assert answer.of("client_effect") == []
    assert server.searched == [UNCOVERED]


async def test_a_search_that_fails_spoils_no_answer(reader: httpx.AsyncClient, server: Server):
    server.fails = True

    answer = await ask(reader, COVERED)

    assert len(server.searched) == 2
    assert answer.annotations
    assert answer.errors == answer.of("client_effect") == []


async def test_without_the_option_nothing_is_searched_for_it(reader: httpx.AsyncClient, server: Server):
    server.follow_ups = False

    answer = await ask(reader, COVERED)

    assert answer.of("client_effect") == []
    assert server.searched == [COVERED]
