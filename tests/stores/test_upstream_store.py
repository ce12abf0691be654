"""Stores and servers in every pairing: another's store under our server, and our stores under ChatKit's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from chatkit import types as ck
from chatkit.server import StreamingResult
from chatkit.store import NotFoundError, StoreItemType
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.protocol.engine import TurnOptions
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.base import KeepsFeedback, KeepsLeases, PatchesThreads, RemembersRequests
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.testing import ChatServerContract, ProtocolClient, Refused, StreamedAnswer
from protocol.frames import COVERED, question
from testing.stock_server import (
    ITEMS,
    MORE,
    STRUCTURED_QUESTION,
    TOOL_QUESTION,
    WIDGET_QUESTION,
    Files,
    SmallStore,
    StockServer,
)

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))


class CourseServer(RagChatServer):
    """Our server; some questions make an item of another kind, and a test may have it wait before it answers."""

    waits: Callable[[ck.ThreadMetadata], Awaitable[None]] | None = None

    async def respond(
        self, thread: ck.ThreadMetadata, input_user_message: ck.UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ck.ThreadStreamEvent]:
        asked = input_user_message.content[0].text if input_user_message else ""
        if self.waits:
            await self.waits(thread)
        if asked in ITEMS:
            yield ck.ThreadItemDoneEvent(item=ITEMS[asked](thread))
            return
        async for event in self.answer(thread, input_user_message, context):
            yield event

    action = StockServer.action
    sync_action = StockServer.sync_action
    transcribe = StockServer.transcribe


@pytest.fixture
def small() -> SmallStore:
    """A store as others write it: the twelve methods of ChatKit's, over dictionaries, and nothing besides."""
    return SmallStore()


@pytest.fixture
def course(small: SmallStore, course_index: EdgeIndex) -> CourseServer:
    """Our server over that store."""
    return CourseServer(
        small,
        sources=[CourseSource(course_index)],
        model=ExtractiveModel(),
        attachment_store=Files(),
        turns=TurnOptions(busy_seconds=0.0),
    )


@pytest.fixture
async def over_small(course: CourseServer) -> AsyncIterator[ProtocolClient]:
    chat = ChatApp(course, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), ProtocolClient("/", app=chat) as client:
        yield client


class TestOurServerOverAnothersStore(ChatServerContract):
    """All but what such a store alone can do: keep readers apart, and their feedback."""

    question = COVERED
    client_tool_question = TOOL_QUESTION
    structured_question = STRUCTURED_QUESTION
    widget_question = WIDGET_QUESTION
    widget_action = MORE
    capabilities = frozenset(
        {
            "retry",
            "aware_times",
            "clamped_limits",
            "clean_errors",
            "locked_threads",
            "attachments",
            "transcription",
            "client_tools",
            "structured_input",
            "actions",
            "sync_actions",
            "idempotency",
        }
    )

    @pytest.fixture
    def client(self, over_small: ProtocolClient) -> ProtocolClient:
        return over_small

    @pytest.fixture
    def lock_thread(self, small: SmallStore) -> Callable[[str], Awaitable[None]]:
        async def lock(thread_id: str) -> None:
            small.threads[thread_id].status = ck.LockedStatus()

        return lock

    @pytest.fixture
    def upload_file(self) -> Callable[..., Awaitable[None]]:
        async def upload(*_arguments: Any) -> None:
            """Nothing: what is kept of a file is its record."""

        return upload


class TestFallBacks:
    """What our stores do for all processes over them is done in this one where the store cannot."""

    def test_the_small_store_can_nothing_of_it(self, small: SmallStore):
        kinds = (KeepsFeedback, KeepsLeases, PatchesThreads, RemembersRequests)

        assert [kind for kind in kinds if isinstance(small, kind)] == []
        assert all(isinstance(MemoryStore(), kind) for kind in kinds)

    async def test_one_answer_at_a_time_is_written_in_a_thread(self, course: CourseServer, over_small: ProtocolClient):
        thread_id = (await over_small.create_thread(COVERED)).thread.id
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def waits(_thread: ck.ThreadMetadata) -> None:
            begun.set()
            await go_on.wait()

        course.waits = waits
        first = asyncio.ensure_future(read(over_small.add_user_message(thread_id, COVERED)))
        await begun.wait()

        with pytest.raises(Refused) as refused:
            await over_small.add_user_message(thread_id, "And then?")
        go_on.set()
        await first

        assert (refused.value.status, refused.value.code) == (409, "thread_busy")
        third = await over_small.add_user_message(thread_id, COVERED)
        assert third.errors == []
        assert len((await over_small.list_items(thread_id)).data) == 6

    async def test_a_key_stands_for_one_request_also_when_many_come_at_once(
        self, course: CourseServer, small: SmallStore
    ):
        keyed = RequestContext(principal=Principal("local"), idempotency_key="k")

        async def ask() -> None:
            result: Any = await course.process(orjson.dumps(question(COVERED)), keyed)
            async for _frame in result:
                pass

        outcomes = await asyncio.gather(*(ask() for _ in range(10)), return_exceptions=True)

        assert outcomes.count(None) == 1
        assert {type(outcome).__name__ for outcome in outcomes if outcome} == {"RequestInFlight"}
        assert len(small.threads) == 1

    async def test_a_change_of_one_field_leaves_the_others(
        self, course: CourseServer, over_small: ProtocolClient, small: SmallStore
    ):
        async def note(thread: ck.ThreadMetadata) -> None:
            await over_small.update_thread(thread.id, "The reader's")
            thread.metadata["seen"] = True

        course.waits = note

        answer = await over_small.create_thread(COVERED)

        kept = small.threads[answer.thread.id]
        assert (kept.title, kept.metadata) == ("The reader's", {"seen": True})

    async def test_feedback_that_no_store_keeps_is_taken_all_the_same(self, over_small: ProtocolClient):
        answer = await over_small.create_thread(COVERED)

        await over_small.give_feedback(answer.thread.id, [answer.reply.id], "positive")


class TestChatKitsServerOverOurStores:
    """ChatKit's own `process` over each of our stores, as others mount it; the contract has the conversation."""

    @pytest.fixture
    async def client(self, store: Any) -> AsyncIterator[ProtocolClient]:
        stock = StockServer(store)

        async def chatkit(request: Request) -> Response:
            context = RequestContext(principal=Principal(request.headers["authorization"]))
            result = await stock.process(await request.body(), context)
            if isinstance(result, StreamingResult):
                return StreamingResponse(result, media_type="text/event-stream")
            return Response(result.json, media_type="application/json")

        app = Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"])])
        async with ProtocolClient("/chatkit", app=app, token="ada") as client:
            yield client

    async def test_another_try_takes_the_place_of_the_answer(self, client: ProtocolClient):
        first = await client.create_thread("Why?")
        await client.add_user_message(first.thread.id, "And then?")

        again = await client.retry_after_item(first.thread.id, first.question.id)

        kept = (await client.list_items(first.thread.id, order="asc")).data
        assert [item.id for item in kept] == [first.question.id, again.reply.id]

    async def test_a_tool_s_result_and_a_reader_s_answers_are_kept_and_the_answer_goes_on(self, client: ProtocolClient):
        called = await client.create_thread(TOOL_QUESTION)
        asked = await client.create_thread(STRUCTURED_QUESTION)
        values = {"which": ck.StructuredInputAnswerSubmission(values=["a"])}

        returned = await client.add_client_tool_output(called.thread.id, {"metres": 3})
        answered = await client.add_structured_input(
            asked.thread.id, asked.items[1].id, ck.StructuredInputSubmission(answers=values)
        )

        _, call, reply = (await client.list_items(called.thread.id, order="asc")).data
        assert isinstance(call, ck.ClientToolCallItem)
        assert (call.status, call.output, reply.id) == ("completed", {"metres": 3}, returned.reply.id)
        _, questions, reply = (await client.list_items(asked.thread.id, order="asc")).data
        assert isinstance(questions, ck.StructuredInputItem)
        assert [one.answer and one.answer.values for one in questions.inputs] == [["a"], []]
        assert reply.id == answered.reply.id

    async def test_a_file_belongs_to_the_thread_that_it_was_sent_in_and_goes_when_it_is_taken_back(
        self, client: ProtocolClient, store: Any
    ):
        context = RequestContext(principal=Principal("Bearer ada"))
        sent = await client.create_attachment("notes.txt", size=5, mime_type="text/plain")
        other = await client.create_attachment("other.txt", size=5, mime_type="text/plain")
        message = ck.UserMessageInput(
            content=[ck.UserMessageTextContent(text="Read this")],
            attachments=[sent.id],
            inference_options=ck.InferenceOptions(),
        )

        answer = await client.create_thread(message)
        await client.delete_attachment(other.id)

        assert (await store.load_attachment(sent.id, context)).thread_id == answer.thread.id
        with pytest.raises(NotFoundError):
            await store.load_attachment(other.id, context)

    async def test_another_reader_finds_nothing(self, client: ProtocolClient):
        mine = await client.create_thread("Why?")
        grace = client.with_options(token="grace")

        assert (await grace.list_threads()).data == []
        with pytest.raises(Refused):
            await grace.get_thread(mine.thread.id)
        assert (await grace.list_items(mine.thread.id)).data == []


class TestIdsOfASitesOwn:
    @pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
    @pytest.mark.parametrize("ours", [True, False], ids=["our server", "ChatKit's server"])
    async def test_a_store_that_makes_its_own_is_asked_for_them(
        self, kind: Any, tmp_path: Any, course_index: EdgeIndex, *, ours: bool
    ):
        class Numbered(kind):
            made = 0

            def generate_thread_id(self, context: RequestContext) -> str:
                self.made += 1
                return f"thread-{self.made}"

            def generate_item_id(
                self, item_type: StoreItemType, thread: ck.ThreadMetadata, context: RequestContext
            ) -> str:
                self.made += 1
                return f"{thread.id}-{item_type}-{self.made}"

        store = Numbered(*([tmp_path / "threads.db"] if kind is SQLiteStore else []))
        server: Any = (
            CourseServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel())
            if ours
            else StockServer(store)
        )

        result = await server.process(orjson.dumps(question("how do i center a div")), LOCAL)
        events = [orjson.loads(frame.removeprefix(b"data: ")) async for frame in result]
        if kind is SQLiteStore:
            await store.close()

        done = [event["item"]["id"] for event in events if event["type"] == "thread.item.done"]
        assert events[0]["thread"]["id"] == "thread-1"
        assert done[0] == "thread-1-message-2"
        assert done[1].startswith("thread-1-message-")


async def read(answer: StreamedAnswer) -> None:
    await answer
