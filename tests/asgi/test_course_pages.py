"""The course's pages at their own paths: those that are published, and no others."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from chatkit_rag.asgi.pages import ChatPage, CoursePages
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing.index.part import passage, record

pytestmark = pytest.mark.anyio


@pytest.fixture
async def reader() -> AsyncIterator[httpx.AsyncClient]:
    async with MemoryIndex() as index:
        pages = [
            replace(passage(f"/{name}", name, f"It is {name}.", metadata), heading_path=(name, f"What is {name}?"))
            for name, metadata in (("open", {}), ("closed", {"published": False}), ("drafted", {"draft": True}))
        ]
        pages.append(passage("/why #1?", "Why", "An odd name."))
        await index.publish([record(page) for page in pages], pages)
        chat = ChatPage(RagChatServer(MemoryStore(), sources=[CourseSource(index)], model="extractive"))
        shown = CoursePages(index, chat, endpoint="/api/chatkit/")
        app = Starlette(routes=[Route("/{path:path}", shown.show)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://course.test") as client:
            yield client


async def test_a_page_that_is_not_published_is_not_shown(reader: httpx.AsyncClient):
    assert "It is open." in (await reader.get("/open")).text
    for path in ("/closed", "/drafted"):
        response = await reader.get(path)
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"


async def test_a_page_is_shown_at_its_address_whatever_it_is_called(reader: httpx.AsyncClient):
    assert "An odd name." in (await reader.get("/why%20%231%3F")).text


async def test_the_chat_offers_no_question_of_a_page_that_is_not_published(reader: httpx.AsyncClient):
    home = (await reader.get("/")).text

    assert "What is open?" in home
    assert "What is closed?" not in home
    assert "What is drafted?" not in home
