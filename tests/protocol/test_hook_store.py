"""The store that hooks see: what was written for ChatKit's own server works on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import httpx
import orjson
import pytest
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.base import patch_thread
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, ask, items_of, question, texts

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))

Hook = Callable[..., AsyncIterator[ThreadStreamEvent]]


@pytest.fixture
def respond(server: RagChatServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Puts a site's own `respond` in place."""
    return lambda hook: monkeypatch.setattr(server, "respond", hook)


def said(thread_id: str, text: str, id_: str = "own") -> AssistantMessageItem:
    content = [AssistantMessageContent(text=text)]
    return AssistantMessageItem(id=id_, thread_id=thread_id, created_at=datetime.now(), content=content)  # noqa: DTZ005


async def test_chatkits_arithmetic_with_times_works_in_a_hook(
    client: httpx.AsyncClient, server: RagChatServer, respond
):
    ages: list[float] = []

    async def own(thread: Any, message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        page = await server.store.load_thread_items(thread.id, None, 10, "asc", context)
        loaded = await server.store.load_item(thread.id, message.id, context)
        again = await server.store.load_thread(thread.id, context)
        listed = await server.store.load_threads(10, None, "asc", context)
        records = (thread, message, loaded, again, *page.data, *listed.data)
        ages.extend((datetime.now() - record.created_at).total_seconds() for record in records)  # noqa: DTZ005
        yield ThreadItemDoneEvent(item=said(thread.id, "Hello."))

    respond(own)

    answer = await ask(client, COVERED)

    assert answer.errors == []
    assert len(ages) == 6
    assert all(-1 < age < 60 for age in ages)


async def test_what_a_hook_stores_besides_is_not_there_twice(client: httpx.AsyncClient, server: RagChatServer, respond):
    async def own(thread: Any, _message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        item = said(thread.id, "Hello.")
        await server.store.add_thread_item(thread.id, item, context)
        yield ThreadItemDoneEvent(item=item)
        await server.store.save_item(thread.id, said(thread.id, "Hello again."), context)

    respond(own)

    answer = await ask(client, COVERED)

    kept = await items_of(client, answer.thread_id)
    assert texts(kept) == [COVERED, "Hello again."]
    assert kept[1]["id"] == answer.reply["id"]


async def test_a_hook_that_saves_its_thread_keeps_a_rename_from_another_tab(
    client: httpx.AsyncClient, store: AwkwardStore, server: RagChatServer, respond
):
    async def own(thread: Any, _message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        await patch_thread(store, thread.id, {"title": "Renamed"}, context)
        thread.metadata["visits"] = 1
        await server.store.save_thread(thread, context)
        yield ThreadItemDoneEvent(item=said(thread.id, "Hello."))

    respond(own)

    answer = await ask(client, COVERED)

    kept = await store.load_thread(answer.thread_id, LOCAL)
    assert (kept.title, kept.metadata) == ("Renamed", {"visits": 1})


async def test_an_item_is_found_listed_after_and_deleted_by_the_hooks_name(
    client: httpx.AsyncClient, server: RagChatServer, respond
):
    found: list[list[str]] = []

    async def own(thread: Any, _message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
        yield ThreadItemDoneEvent(item=said(thread.id, "One.", "a"))
        yield ThreadItemDoneEvent(item=said(thread.id, "Two.", "b"))
        later = await server.store.load_thread_items(thread.id, "a", 10, "asc", context)
        found.append([part.text for item in later.data for part in item.content])
        await server.store.delete_thread_item(thread.id, "a", context)

    respond(own)

    answer = await ask(client, COVERED)

    assert found == [["Two."]]
    assert texts(await items_of(client, answer.thread_id)) == [COVERED, "Two."]
    assert (await server.store.load_item(answer.thread_id, "b", LOCAL)).content[0].text == "Two."


async def test_chatkits_own_way_to_end_a_cancelled_turn_adds_no_second_copy(
    server: RagChatServer, store: AwkwardStore, respond, monkeypatch: pytest.MonkeyPatch
):
    called: list[int] = []

    async def own(thread: Any, _message: Any, _context: Any) -> AsyncIterator[ThreadStreamEvent]:
        yield ThreadItemAddedEvent(item=said(thread.id, ""))
        update = AssistantMessageContentPartTextDelta(content_index=0, delta="half")
        yield ThreadItemUpdatedEvent(item_id="own", update=update)
        await asyncio.Event().wait()

    async def as_chatkit_does(*arguments: Any) -> None:
        called.append(len(arguments[1]))
        await ChatKitServer.handle_stream_cancelled(server, *arguments)

    respond(own)
    monkeypatch.setattr(server, "handle_stream_cancelled", as_chatkit_does)
    result = await server.process(orjson.dumps(question(COVERED)), LOCAL)

    async with aclosing(result.json_events) as frames:
        async for frame in frames:
            if b"half" in frame:
                break

    [thread] = (await store.load_threads(1, None, "asc", LOCAL)).data
    kept = (await store.load_thread_items(thread.id, None, 10, "asc", LOCAL)).data
    assert called == [1]
    assert [item.type for item in kept] == ["user_message", "assistant_message", "sdk_hidden_context"]
    assert kept[1].model_dump()["status"] == "interrupted"


async def test_what_a_store_can_do_besides_is_within_reach():
    store = AwkwardStore()

    view = HookStore(store)

    assert view.unwrapped is store
    assert view.failing is store.failing
    with pytest.raises(AttributeError):
        _ = view.no_such_thing
