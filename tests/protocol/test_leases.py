"""One answer at a time in a thread, and how long one may take."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import pytest
from chatkit.types import ProgressUpdateEvent, ThreadStreamEvent

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ThreadBusy
from chatkit_rag.protocol.engine import TurnOptions
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, ask, items_of, question, read_frames, refusal, request, texts

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))


class Waits:
    """A hook that begins to answer, and goes on when it is told to."""

    def __init__(self, server: RagChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._answer = server.answer
        monkeypatch.setattr(server, "respond", self._respond)

    async def _respond(self, *arguments: Any) -> AsyncIterator[ThreadStreamEvent]:
        yield ProgressUpdateEvent(text="begun")
        self.begun.set()
        await self.go_on.wait()
        async with aclosing(self._answer(*arguments)) as events:
            async for event in events:
                yield event


@pytest.fixture
def build(store: AwkwardStore, course_index: EdgeIndex) -> Callable[..., RagChatServer]:
    """A server over `store`, with options for its turns."""
    source = CourseSource(course_index)
    return lambda **options: RagChatServer(
        store, sources=[source], model=ExtractiveModel(), turns=TurnOptions(**options)
    )


async def events_of(server: RagChatServer, body: dict[str, Any]) -> list[dict[str, Any]]:
    result = await server.process(orjson.dumps(body), LOCAL)
    return read_frames("".join([frame.decode() async for frame in result]))


class TestBusyThreads:
    async def test_a_second_message_is_refused_while_an_answer_is_written(
        self, client: httpx.AsyncClient, server: RagChatServer, monkeypatch: pytest.MonkeyPatch
    ):
        thread_id = (await ask(client, COVERED)).thread_id
        hook = Waits(server, monkeypatch)
        first = asyncio.ensure_future(ask(client, "What is a topic?", thread_id))
        await hook.begun.wait()

        refused = await client.post("/", json=question("And a service?", thread_id))

        hook.go_on.set()
        answer = await first
        assert refusal(refused, 409)["code"] == "thread_busy"
        assert texts(await items_of(client, thread_id))[2:] == ["What is a topic?", answer.text]

    async def test_another_thread_and_reading_are_not_held_up(
        self, client: httpx.AsyncClient, server: RagChatServer, monkeypatch: pytest.MonkeyPatch
    ):
        thread_id = (await ask(client, COVERED)).thread_id
        hook = Waits(server, monkeypatch)
        first = asyncio.ensure_future(ask(client, "What is a topic?", thread_id))
        await hook.begun.wait()

        listed = await items_of(client, thread_id)
        hook.go_on.set()
        elsewhere = await ask(client, COVERED)
        await first

        assert texts(listed)[2:] == ["What is a topic?"]
        assert elsewhere.errors == []

    async def test_a_message_waits_for_the_answer_before_it_where_the_site_wants_that(
        self, build: Callable[..., RagChatServer], monkeypatch: pytest.MonkeyPatch
    ):
        server = build(busy_seconds=30)
        [created, *_] = await events_of(server, question(COVERED))
        thread_id = created["thread"]["id"]
        hook = Waits(server, monkeypatch)
        first = asyncio.ensure_future(events_of(server, question("What is a topic?", thread_id)))
        await hook.begun.wait()
        second = asyncio.ensure_future(events_of(server, question("What is a service?", thread_id)))
        await asyncio.sleep(0)

        hook.go_on.set()
        await asyncio.gather(first, second)

        page = await server.store.load_thread_items(thread_id, None, 10, "asc", LOCAL)
        assert [item.type for item in page.data] == ["user_message", "assistant_message"] * 3

    async def test_a_stopped_answer_frees_its_thread(
        self, build: Callable[..., RagChatServer], monkeypatch: pytest.MonkeyPatch
    ):
        server = build(busy_seconds=0)
        hook = Waits(server, monkeypatch)
        result = await server.process(orjson.dumps(question(COVERED)), LOCAL)
        async with aclosing(result.json_events) as frames:
            created = await anext(frames)
            async for frame in frames:
                if b"begun" in frame:
                    break
        hook.go_on.set()

        thread_id = read_frames(created.decode())[0]["thread"]["id"]
        events = await events_of(server, question("What is a topic?", thread_id))

        assert events[-1]["type"] == "thread.item.done"

    async def test_a_refused_message_leaves_the_thread_free(self, client: httpx.AsyncClient):
        thread_id = (await ask(client, COVERED)).thread_id

        refused = await client.post(
            "/", json=request("threads.retry_after_item", thread_id=thread_id, item_id="msg_unknown")
        )
        answer = await ask(client, "What is a topic?", thread_id)

        refusal(refused, 404)
        assert answer.errors == []

    async def test_the_lease_of_a_killed_process_runs_out(
        self, build: Callable[..., RagChatServer], store: AwkwardStore
    ):
        server = build(busy_seconds=5, lease_seconds=0.2)
        [created, *_] = await events_of(server, question(COVERED))
        thread_id = created["thread"]["id"]
        assert await store.take_lease(thread_id, "a process that is gone", 0.2, LOCAL)

        events = await events_of(server, question("What is a topic?", thread_id))

        assert events[-1]["type"] == "thread.item.done"

    async def test_a_long_answer_keeps_its_lease(
        self, build: Callable[..., RagChatServer], store: AwkwardStore, monkeypatch: pytest.MonkeyPatch
    ):
        taken: list[float] = []
        renewed = asyncio.Event()
        take = store.take_lease

        async def counted(thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
            taken.append(seconds)
            if len(taken) == 3:
                renewed.set()
            return await take(thread_id, holder, seconds, context)

        monkeypatch.setattr(store, "take_lease", counted)
        server = build(busy_seconds=0, lease_seconds=1.5)
        hook = Waits(server, monkeypatch)
        first = asyncio.ensure_future(events_of(server, question(COVERED)))

        await renewed.wait()
        page = await store.load_threads(1, None, "asc", LOCAL)
        with pytest.raises(ThreadBusy):
            await server.process(orjson.dumps(question("Again?", page.data[0].id)), LOCAL)

        hook.go_on.set()
        assert (await first)[-1]["type"] == "thread.item.done"

    async def test_an_answer_whose_thread_was_taken_over_stops(
        self, build: Callable[..., RagChatServer], store: AwkwardStore, monkeypatch: pytest.MonkeyPatch
    ):
        server = build(lease_seconds=0.3)
        hook = Waits(server, monkeypatch)
        first = asyncio.ensure_future(events_of(server, question(COVERED)))
        await hook.begun.wait()
        page = await store.load_threads(1, None, "asc", LOCAL)
        lost = asyncio.Event()

        async def refuses(*_arguments: Any) -> bool:
            lost.set()
            return False

        monkeypatch.setattr(store, "take_lease", refuses)
        await lost.wait()
        hook.go_on.set()

        events = await first

        assert events[-1]["type"] == "error"
        kept = await store.load_thread_items(page.data[0].id, None, 10, "asc", LOCAL)
        assert "assistant_message" not in [item.type for item in kept.data]


class TestTime:
    async def test_an_answer_that_takes_too_long_is_stopped_and_its_text_stays(
        self, build: Callable[..., RagChatServer], monkeypatch: pytest.MonkeyPatch
    ):
        server = build(run_seconds=0.2)
        Waits(server, monkeypatch)

        events = await events_of(server, question(COVERED))

        assert events[-1] == {
            "type": "error",
            "code": "custom",
            "message": "The answer took too long and was stopped. Please try again.",
            "allow_retry": True,
        }

    async def test_a_reader_who_takes_long_does_not_stop_an_answer_in_the_middle_of_a_step(
        self, build: Callable[..., RagChatServer]
    ):
        server = build(run_seconds=0.1)
        result = await server.process(orjson.dumps(question(COVERED)), LOCAL)

        frames: list[bytes] = []
        async for frame in result:
            frames.append(frame)
            if b"text_delta" in frame and len(frames) < 8:
                await asyncio.sleep(0.15)

        events = read_frames(b"".join(frames).decode())
        assert [event["type"] for event in events[-1:]] == ["error"]
        assert sum(event["type"] == "error" for event in events) == 1
