"""ChatKit's own server over the store: whoever has a store for that, has one that works."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.server import ChatKitServer, NonStreamingResult
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part

QUESTION: dict[str, Any] = {
    "content": [{"type": "input_text", "text": "Why?"}],
    "attachments": [],
    "inference_options": {},
}


class _Server(ChatKitServer[Any]):
    """A server of ChatKit's own, which says how many items it has seen, and names each thread."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        assert input_user_message is not None
        thread.title = "A title"
        history = await self.store.load_thread_items(thread.id, None, 100, "asc", context)
        said = f"{len(history.data)}: {input_user_message.content[0].text}"
        item = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),  # noqa: DTZ005, TID251 - as ChatKit's own hooks make it
            content=[AssistantMessageContent(text=said)],
        )
        yield ThreadItemDoneEvent(item=item)


class Conversations(Part):
    """ChatKit's own server over the store."""

    async def test_a_conversation_with_chatkit_s_own_server_is_kept_listed_and_deleted(self, store: Store) -> None:
        id_ = await self._converse(store)

        listed = await self._ask(store, "threads.list", limit=10, order="desc", after=None)
        first = await self._ask(store, "items.list", thread_id=id_, limit=3, order="asc", after=None)
        rest = await self._ask(store, "items.list", thread_id=id_, limit=3, order="asc", after=first["after"])
        await self._ask(store, "threads.delete", thread_id=id_)
        left = await self._ask(store, "threads.list", limit=10, order="desc", after=None)

        assert [(row["id"], row["title"]) for row in listed["data"]] == [(id_, "A title")]
        assert [item["type"] for item in first["data"]] == ["user_message", "assistant_message", "user_message"]
        assert [item["content"][0]["text"] for item in rest["data"]] == ["3: Why?"]
        assert left["data"] == []

    @requires("metadata_only")  # it saves a title with the thread's items
    async def test_chatkit_s_own_server_renames_a_thread(self, store: Store) -> None:
        id_ = await self._converse(store)

        await self._ask(store, "threads.update", thread_id=id_, title="Renamed")

        whole = await self._ask(store, "threads.get_by_id", thread_id=id_)
        assert (whole.get("title"), len(whole["items"]["data"])) == ("Renamed", 4)

    async def _converse(self, store: Store) -> str:
        """A thread of two questions and their answers."""
        events = await self._ask(store, "threads.create", input=QUESTION)
        id_ = next(event["thread"]["id"] for event in events if event["type"] == "thread.created")
        await self._ask(store, "threads.add_user_message", thread_id=id_, input=QUESTION)
        return id_

    async def _ask(self, store: Store, operation: str, **params: Any) -> Any:
        server: Any = _Server(store)  # type: ignore[arg-type] - any object with the methods will do
        result = await server.process(json.dumps({"type": operation, "params": params, "metadata": {}}), self.ada)
        if isinstance(result, NonStreamingResult):
            return json.loads(result.json)
        return [json.loads(line.removeprefix(b"data: ")) async for line in result]
