"""What the chat promises of its transport, inside real hosts on a real server, over a store that takes its time."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import function_tool
from chatkit.types import SDKHiddenContextItem
from fastapi import FastAPI
from litestar import Litestar, asgi

from agent.openai_server import model_at
from asgi.serving import eventually, serving
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.streaming import StreamOptions
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.testing import FakeModelServer, ProtocolClient, ToolCall
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))
PAUSE = 0.1
IN_HALF_A_SECOND = 5
"""Deltas, one after each pause."""


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    """A model that would speak for 20 seconds."""
    with FakeModelServer(answer="word " * 200, piece=5, pause=PAUSE) as model:
        yield model


@pytest.fixture
def store() -> AwkwardStore:
    return AwkwardStore(0.02)


@pytest.fixture
def make_chat(course_index_path: Path, model: FakeModelServer, store: AwkwardStore) -> Callable[..., ChatApp]:
    def make(*, tools: Any = (), **streaming: Any) -> ChatApp:
        sources = [CourseSource(EdgeIndex(course_index_path))]
        server = RagChatServer(store, sources=sources, model=model_at(model), tools=tools)
        options = AppOptions(local_reader=True, streaming=StreamOptions(**streaming))
        return ChatApp(server, authenticate=nobody, options=options)

    return make


def in_fastapi(chat: ChatApp) -> Any:
    host = FastAPI(lifespan=chat.lifespan)
    host.mount("/chat", chat)
    return host


def in_litestar(chat: ChatApp) -> Any:
    return Litestar([asgi("/chat", is_mount=True, copy_scope=True)(chat)], lifespan=[chat.lifespan])


def in_a_raw_app(chat: ChatApp) -> Any:
    """A host without a framework, which does nothing but take its own prefix off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inner = {**scope, "path": scope["path"].removeprefix("/chat")} if scope["type"] == "http" else scope
        await chat(inner, receive, send)

    return app


class TestLeaving:
    @pytest.mark.parametrize("host", [in_fastapi, in_litestar, in_a_raw_app])
    async def test_in_every_host_the_model_stops_within_half_a_second_and_partial_text_and_note_are_stored(
        self, make_chat: Callable[..., ChatApp], model: FakeModelServer, store: AwkwardStore, host: Callable[..., Any]
    ):
        chat = make_chat()
        async with serving(host(chat)) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/chat/") as client:
            async with client.create_thread(COVERED) as answer:
                async for _event in answer:
                    if len(answer.deltas) == 3:
                        break
                sent = model.sent

            await eventually(lambda: model.disconnects == 1)

            assert model.sent <= sent + IN_HALF_A_SECOND
            await eventually(lambda: len(chat._owner) == 0)
            page = await store.load_thread_items(answer.thread.id, None, 10, "asc", LOCAL)
            asked, partial, note = page.data
            assert asked == answer.question
            assert partial.type == "assistant_message"
            assert partial.content[0].text.startswith("".join(answer.deltas).rstrip())
            assert len(partial.content[0].text.split()) <= model.sent
            assert isinstance(note, SDKHiddenContextItem)


class TestSilence:
    @pytest.fixture
    async def released(self) -> AsyncIterator[threading.Event]:
        released = threading.Event()
        yield released
        released.set()

    async def test_comments_come_while_a_tool_is_silent_and_the_answer_ends_without_an_error(
        self, make_chat: Callable[..., ChatApp], model: FakeModelServer, released: threading.Event
    ):
        begun = threading.Event()

        @function_tool
        def measure() -> str:
            """Takes as long as the test wants."""
            begun.set()
            released.wait(30)
            return "42"

        model.script, model.pause = [ToolCall("measure", {}), "It is 42."], 0.0
        async with serving(make_chat(tools=[measure], ping_seconds=0.05)) as site:
            reader = await site.ask(COVERED)
            await eventually(begun.is_set)

            seen = len(reader.received)
            await reader.until(lambda read: read.received.count(b": ping\n\n", seen) >= 3)
            released.set()
            await reader.until(lambda read: read.ended)

            assert reader.text == "It is 42."
            assert [event["type"] for event in reader.events if event["type"] == "error"] == []
            assert reader.events[-1]["item"]["content"][0]["text"] == "It is 42."
            reader.leave()
