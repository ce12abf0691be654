"""What the chat promises of its answers, over the wire and both interfaces of a model: one class for each."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    InferenceOptions,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTextContent,
)

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.history import HistoryOptions
from chatkit_rag.agent.tokens import estimated_tokens
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer
from protocol.frames import COVERED, UNCOVERED, ask, call

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="A node is a process [1].") as model:
        yield model


@pytest.fixture(params=INTERFACES)
def server(request: pytest.FixtureRequest, model: FakeModelServer, course_index: EdgeIndex) -> RagChatServer:
    """A server that asks the model server by each of its interfaces; what fails is not tried again."""
    chosen = model_at(model, interface=request.param)
    return RagChatServer(MemoryStore(), sources=[CourseSource(course_index)], model=chosen, titles=True)


@pytest.fixture
async def reader(server: RagChatServer) -> AsyncIterator[httpx.AsyncClient]:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


def talk_in(sent: dict[str, Any]) -> list[str]:
    """What was said, in a request to the model by either interface, without rules and tools."""
    messages = [*sent.get("input", ()), *sent.get("messages", ())]
    said = [message["content"] for message in messages if message.get("role") in ("user", "assistant")]
    return [text if isinstance(text, str) else json.dumps(text) for text in said if text]


class TestLongThreads:
    """A thread of any length stays in its budget, and is remembered where it matters."""

    async def test_of_400_messages_the_first_question_and_the_last_ten_are_told_within_the_budget(
        self, reader: httpx.AsyncClient, server: RagChatServer, model: FakeModelServer
    ):
        thread = ThreadMetadata(id=server.store.generate_thread_id(LOCAL), created_at=NOW)
        await server.store.save_thread(thread, LOCAL)
        for item in (said for number in range(200) for said in exchange(thread.id, number)):
            await server.store.add_thread_item(thread.id, item, LOCAL)

        await ask(reader, "What is a topic?", thread.id)

        told = talk_in(model.requests[0])
        assert told[0].startswith("Question 0 ")
        assert [text.split(" of ")[0] for text in told[-11:-1]] == [
            f"{who} {number}" for number in range(195, 200) for who in ("Question", "Answer")
        ]
        assert told[-1] == "What is a topic?"
        assert sum(map(estimated_tokens, told)) <= HistoryOptions().tokens


def exchange(thread_id: str, number: int) -> list[ThreadItem]:
    """A long question, and a long answer."""
    words = "how a robot keeps its balance while it walks over ground that nobody has told it of " * 5
    asked = UserMessageTextContent(text=f"Question {number} of {words}")
    place = {"thread_id": thread_id, "created_at": NOW}
    return [
        UserMessageItem(id=f"u{number}", **place, content=[asked], inference_options=InferenceOptions()),
        AssistantMessageItem(
            id=f"a{number}", **place, content=[AssistantMessageContent(text=f"Answer {number} of {words}")]
        ),
    ]


class TestFollowUps:
    async def test_what_goes_on_is_searched_with_what_it_goes_on_from(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        first = await ask(reader, COVERED)

        answer = await ask(reader, "and in Python?", first.thread_id)

        assert answer.annotations[0]["source"]["url"] == first.annotations[0]["source"]["url"]
        assert talk_in(model.requests[1])[-1] == "and in Python?"

    async def test_what_the_course_does_not_cover_is_declined_behind_what_it_does(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        first = await ask(reader, COVERED)

        await ask(reader, UNCOVERED, first.thread_id)

        assert len(model.requests) == 1


class TestInventions:
    @pytest.mark.parametrize("piece", [1, 3, 1000])
    async def test_neither_a_number_nor_an_address_that_was_invented_gets_through(
        self, reader: httpx.AsyncClient, model: FakeModelServer, piece: int
    ):
        model.piece = piece
        model.answer = (
            "A node [9] is [here](https://evil.example/a) at https://evil.example/?q=1 [1]. ![](//evil.example/b)"
        )

        answer = await ask(reader, COVERED)

        assert answer.text == "".join(answer.deltas) == "A node is [here] at evil.example. ![]"
        assert len(answer.annotations) == 1

    async def test_an_address_that_a_passage_holds_stays(
        self, reader: httpx.AsyncClient, server: RagChatServer, model: FakeModelServer
    ):
        found = await server.retrieve(COVERED, LOCAL)
        model.answer = f"See [nodes]({found.hits[0].passage.url})."

        assert (await ask(reader, COVERED)).text == model.answer


class TestTitles:
    async def test_a_thread_is_named_by_its_first_question_behind_its_first_answer(self, reader: httpx.AsyncClient):
        answer = await ask(reader, f"Hi! {COVERED}")

        assert answer.kinds.index("thread.updated") > answer.kinds.index("thread.item.done", 3)
        [updated] = answer.of("thread.updated")
        assert updated["thread"]["title"] == COVERED
        kept = await call(reader, "threads.get_by_id", thread_id=answer.thread_id)
        assert kept["title"] == COVERED

    async def test_a_title_of_the_readers_own_stays(self, reader: httpx.AsyncClient):
        first = await ask(reader, COVERED)
        await call(reader, "threads.update", thread_id=first.thread_id, title="Mine")

        second = await ask(reader, "What is a topic?", first.thread_id)

        assert second.of("thread.updated") == []
        kept = await call(reader, "threads.get_by_id", thread_id=first.thread_id)
        assert kept["title"] == "Mine"
