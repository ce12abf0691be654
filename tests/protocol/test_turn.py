"""The streaming turn: what is stored and what is sent, whatever a site's own hooks and the store do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import pytest
from chatkit.errors import CustomStreamError
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    HiddenContextItem,
    ProgressUpdateEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import ModelFailed
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.server import RagChatServer
from protocol.awkward_store import SECRET, AwkwardStore
from protocol.frames import COVERED, ask, call, items_of, question, refusal, request, stream, texts

pytestmark = pytest.mark.anyio

Hook = Callable[[ThreadMetadata, UserMessageItem | None, RequestContext], AsyncIterator[ThreadStreamEvent]]


@pytest.fixture
def respond(server: RagChatServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Puts a site's own `respond` in place."""
    return lambda hook: monkeypatch.setattr(server, "respond", hook)


def hidden(thread: ThreadMetadata) -> HiddenContextItem:
    return HiddenContextItem(id="hidden", thread_id=thread.id, created_at=utc_now(), content="the reader is a pirate")


def said(thread: ThreadMetadata, *words: str, id_: str = "own") -> AssistantMessageItem:
    content = [AssistantMessageContent(text=text) for text in words]
    return AssistantMessageItem(id=id_, thread_id=thread.id, created_at=utc_now(), content=content)


def begins(thread: ThreadMetadata, *words: str) -> list[ThreadStreamEvent]:
    """A message that begins, and gets some words."""
    deltas = [AssistantMessageContentPartTextDelta(content_index=0, delta=word) for word in words]
    return [
        ThreadItemAddedEvent(item=said(thread)),
        *(ThreadItemUpdatedEvent(item_id="own", update=delta) for delta in deltas),
    ]


class TestHooks:
    async def test_a_site_adds_to_the_answer(self, client: httpx.AsyncClient, server: RagChatServer, respond):
        async def own(thread, message, context):
            yield ProgressUpdateEvent(text="Looking")
            async for event in server.answer(thread, message, context):
                yield event
            yield ThreadItemDoneEvent(item=said(thread, "By the way."))

        respond(own)

        answer = await ask(client, COVERED)

        assert answer.of("progress_update") == [{"type": "progress_update", "text": "Looking"}]
        assert texts(await items_of(client, answer.thread_id)) == [COVERED, answer.text, "By the way."]

    async def test_a_title_is_stored_and_told_without_private_metadata(self, client: httpx.AsyncClient, respond):
        async def own(thread, _message, _context):
            thread.title = "Nodes"
            thread.metadata["private"] = SECRET
            yield ThreadItemDoneEvent(item=said(thread, "Hi."))

        respond(own)

        answer = await ask(client, COVERED)

        [told] = answer.of("thread.updated")
        kept = await call(client, "threads.get_by_id", thread_id=answer.thread_id)
        assert told["thread"]["title"] == kept["title"] == "Nodes"
        assert SECRET not in orjson.dumps([answer.events, kept]).decode()

    async def test_hidden_items_are_stored_and_never_leave(
        self, client: httpx.AsyncClient, store: AwkwardStore, respond
    ):
        async def own(thread, _message, _context):
            yield ThreadItemAddedEvent(item=hidden(thread))
            yield ThreadItemDoneEvent(item=hidden(thread))
            yield ThreadItemReplacedEvent(item=hidden(thread))
            yield ThreadItemDoneEvent(item=said(thread, "Arr."))

        respond(own)
        answer = await ask(client, COVERED)
        context = RequestContext(principal=Principal("local"))
        kept = await HookStore(store).load_item(answer.thread_id, "hidden", context)
        listed = await call(client, "items.list", thread_id=answer.thread_id)
        loaded = await call(client, "threads.get_by_id", thread_id=answer.thread_id)

        again = await stream(
            client, request("threads.retry_after_item", thread_id=answer.thread_id, item_id=answer.question["id"])
        )

        assert kept.content == "the reader is a pirate"
        assert "pirate" not in orjson.dumps([answer.events, listed, loaded, again.events]).decode()
        assert [event["item_id"] for event in again.of("thread.item.removed")] == [answer.reply["id"]]

    async def test_items_can_be_replaced_and_removed(self, client: httpx.AsyncClient, respond):
        async def own(thread, _message, _context):
            yield ThreadItemDoneEvent(item=said(thread, "one", id_="a"))
            yield ThreadItemDoneEvent(item=said(thread, "two", id_="b"))
            yield ThreadItemReplacedEvent(item=said(thread, "uno", id_="a"))
            yield ThreadItemRemovedEvent(item_id="b")

        respond(own)

        answer = await ask(client, COVERED)

        assert answer.kinds[-4:] == ["thread.item.done"] * 2 + ["thread.item.replaced", "thread.item.removed"]
        assert texts(await items_of(client, answer.thread_id)) == [COVERED, "uno"]


class TestFailures:
    @pytest.mark.parametrize(
        ("failure", "told"),
        [
            (
                CustomStreamError("Come back tomorrow."),
                {"code": "custom", "message": "Come back tomorrow.", "allow_retry": False},
            ),
            (RuntimeError(SECRET), {"code": "stream.error", "allow_retry": True}),
            (AssertionError(SECRET), {"code": "stream.error", "allow_retry": True}),
            (
                ModelFailed(SECRET),
                {
                    "code": "custom",
                    "message": "The language model gave no answer. Please try again.",
                    "allow_retry": True,
                },
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_a_hook_that_fails_is_one_error_event_and_what_it_wrote_stays(
        self, client: httpx.AsyncClient, respond, failure: Exception, told: dict[str, Any]
    ):
        async def own(thread, _message, _context):
            for event in begins(thread, "half ", "of it"):
                yield event
            raise failure

        respond(own)

        answer = await ask(client, COVERED)

        assert answer.events[-1] == {"type": "error", **told}
        assert len(answer.errors) == 1
        assert texts(await items_of(client, answer.thread_id)) == [COVERED, "half of it"]

    async def test_a_hook_that_fails_before_its_first_word_leaves_only_the_question(
        self, client: httpx.AsyncClient, server: RagChatServer, monkeypatch: pytest.MonkeyPatch
    ):
        def refuses(*_arguments: Any) -> Any:
            raise RuntimeError(SECRET)

        monkeypatch.setattr(server, "get_stream_options", refuses)

        answer = await ask(client, COVERED)

        assert answer.kinds == ["thread.created", "thread.item.done", "error"]
        assert SECRET not in str(answer.events)

    async def test_a_failing_model_keeps_the_answer_that_was_to_be_replaced(self, client: httpx.AsyncClient, respond):
        first = await ask(client, COVERED)

        async def own(_thread, _message, _context):
            raise ModelFailed(SECRET)
            yield

        respond(own)
        retry = request("threads.retry_after_item", thread_id=first.thread_id, item_id=first.question["id"])

        again = await stream(client, retry)

        assert again.kinds == ["stream_options", "error"]
        assert await items_of(client, first.thread_id) == [first.question, first.reply]

    @pytest.mark.parametrize("failing", ["load_thread", "add_thread_item"])
    async def test_a_question_that_cannot_be_stored_is_refused_as_a_whole(
        self, client: httpx.AsyncClient, store: AwkwardStore, failing: str
    ):
        first = await ask(client, COVERED)
        store.failing = {failing}

        refused = await client.post("/", json=question("Again?", first.thread_id))

        assert store.failed[failing] == 1
        assert refusal(refused, 503)["code"] == "store_unavailable"
        assert SECRET not in refused.text
        assert refused.headers["retry-after"]

    async def test_an_answer_that_cannot_be_stored_is_never_acknowledged(
        self, client: httpx.AsyncClient, store: AwkwardStore, server: RagChatServer, respond
    ):
        async def own(thread, message, context):
            store.failing = {"add_thread_item"}
            async for event in server.answer(thread, message, context):
                yield event

        respond(own)

        answer = await ask(client, COVERED)
        store.failing = set()

        assert store.failed["add_thread_item"] >= 1
        assert [done["item"]["type"] for done in answer.of("thread.item.done")] == ["user_message"]
        assert answer.kinds[-1] == "error"
        assert answer.errors[0]["message"] == "The conversation cannot be stored right now. Please try again."
        assert texts(await items_of(client, answer.thread_id)) == [COVERED]


class TestOrder:
    async def test_an_item_is_stored_before_its_done_is_sent(self, server: RagChatServer, store: AwkwardStore):
        context = RequestContext(principal=Principal("reader"))

        result = await server.process(orjson.dumps(question(COVERED)), context)

        seen = 0
        async for frame in result:
            event = orjson.loads(frame.removeprefix(b"data: "))
            if event["type"] == "thread.item.done":
                item = await store.load_item(event["item"]["thread_id"], event["item"]["id"], context)
                assert item.id == event["item"]["id"]
                seen += 1
        assert seen == 2


class TestCancelling:
    """A turn is cancelled by closing its events; `asgi.streaming` does that when the reader is gone."""

    @pytest.fixture
    def context(self) -> RequestContext:
        return RequestContext(principal=Principal("reader"))

    @pytest.fixture
    def told(self, server: RagChatServer, monkeypatch: pytest.MonkeyPatch) -> list[list[ThreadItem]]:
        """What the hook for cancelled turns was told."""
        told: list[list[ThreadItem]] = []

        async def hook(_thread: ThreadMetadata, pending: list[ThreadItem], _context: RequestContext) -> None:
            told.append(pending)

        monkeypatch.setattr(server, "handle_stream_cancelled", hook)
        return told

    async def stored(self, store: AwkwardStore, context: RequestContext) -> list[ThreadItem]:
        [thread] = (await store.load_threads(10, None, "asc", context)).data
        return (await store.load_thread_items(thread.id, None, 10, "asc", context)).data

    async def test_what_was_written_is_stored_with_a_note_and_the_hook_is_told_once(
        self, server: RagChatServer, store: AwkwardStore, context: RequestContext, told, respond
    ):
        async def own(thread, _message, _context):
            for event in begins(thread, "half ", "of it", " and more"):
                yield event

        respond(own)
        result = await server.process(orjson.dumps(question(COVERED)), context)

        async with aclosing(result.json_events) as frames:
            async for frame in frames:
                if b"of it" in frame:
                    break

        asked, answer, note = await self.stored(store, context)
        assert (asked.type, answer.content[0].text) == ("user_message", "half of it")
        assert (note.type, "interrupted" in note.content) == ("sdk_hidden_context", True)
        assert [[item.id for item in pending] for pending in told] == [[answer.id]]

    async def test_a_write_that_is_under_way_is_not_undone(
        self, server: RagChatServer, store: AwkwardStore, context: RequestContext, told, respond
    ):
        async def own(thread, _message, _context):
            yield ThreadItemAddedEvent(item=said(thread, "Thinking"))
            writing.set()
            yield ThreadItemDoneEvent(item=said(thread, "The answer."))

        writing = asyncio.Event()
        respond(own)
        result = await server.process(orjson.dumps(question(COVERED)), context)

        async def read() -> None:
            async for _frame in result.json_events:
                pass

        reading = asyncio.ensure_future(read())
        await writing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await result.json_events.aclose()

        kept = [item.model_dump() for item in await self.stored(store, context)]
        assert texts(kept[:2]) == [COVERED, "The answer."]
        assert len(told) == 1

    async def test_a_second_cancellation_does_not_interrupt_the_storing(
        self, server: RagChatServer, store: AwkwardStore, context: RequestContext, respond, monkeypatch
    ):
        begun, writing, write = asyncio.Event(), asyncio.Event(), store.add_thread_item

        async def own(thread, _message, _context):
            for event in begins(thread, "half"):
                yield event
            begun.set()
            await asyncio.Event().wait()

        async def slowly(*arguments: Any) -> None:
            writing.set()
            await write(*arguments)

        async def read() -> None:
            async for _frame in result.json_events:
                pass

        respond(own)
        result = await server.process(orjson.dumps(question(COVERED)), context)
        reading = asyncio.ensure_future(read())
        await begun.wait()
        monkeypatch.setattr(store, "add_thread_item", slowly)

        reading.cancel()
        await writing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        kept = [item.model_dump() for item in await self.stored(store, context)]
        assert texts(kept[:2]) == [COVERED, "half"]
        assert len(kept) == 3

    async def test_a_hook_that_fails_while_it_is_closed_does_not_keep_the_turn_from_ending(
        self, server: RagChatServer, store: AwkwardStore, context: RequestContext, respond
    ):
        failed = []

        async def own(thread, _message, _context):
            try:
                for event in begins(thread, "half"):
                    yield event
                await asyncio.Event().wait()
            finally:
                failed.append(True)
                raise RuntimeError(SECRET)

        respond(own)
        result = await server.process(orjson.dumps(question(COVERED)), context)

        async with aclosing(result.json_events) as frames:
            async for frame in frames:
                if b"half" in frame:
                    break

        assert failed == [True]
        assert [item.type for item in await self.stored(store, context)][:2] == ["user_message", "assistant_message"]
