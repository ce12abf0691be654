from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from chatkit.store import NotFoundError, Store
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter

from chatkit_rag.testing import StoreContract

THREAD: TypeAdapter[ThreadMetadata] = TypeAdapter(ThreadMetadata)
ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)

Record = TypeVar("Record", bound=BaseModel)
Key = tuple[str, ...]


class JsonStore(Store[str]):
    """Records as JSON, in the order of their arrival; the context is the reader's name."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[Key, bytes]] = {"threads": {}, "items": {}, "attachments": {}}

    async def load_thread(self, thread_id: str, context: str) -> ThreadMetadata:
        return THREAD.validate_json(self._one("threads", (context, thread_id)))

    async def save_thread(self, thread: ThreadMetadata, context: str) -> None:
        self.collections["threads"][context, thread.id] = THREAD.dump_json(thread)

    async def load_threads(self, limit: int, after: str | None, order: str, context: str) -> Page[ThreadMetadata]:
        return self._page("threads", (context,), after, limit, order, THREAD.validate_json)

    async def delete_thread(self, thread_id: str, context: str) -> None:
        self.collections["threads"].pop((context, thread_id), None)
        for key in self._keys("items", (context, thread_id)):
            del self.collections["items"][key]

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: str
    ) -> Page[ThreadItem]:
        return self._page("items", (context, thread_id), after, limit, order, ITEM.validate_json)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: str) -> None:
        self._one("threads", (context, thread_id))  # or NotFoundError
        self.collections["items"][context, thread_id, item.id] = ITEM.dump_json(item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: str) -> None:
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: str) -> ThreadItem:
        return ITEM.validate_json(self._one("items", (context, thread_id, item_id)))

    async def delete_thread_item(self, thread_id: str, item_id: str, context: str) -> None:
        self.collections["items"].pop((context, thread_id, item_id), None)

    async def save_attachment(self, attachment: Attachment, context: str) -> None:
        self.collections["attachments"][context, attachment.id] = ATTACHMENT.dump_json(attachment)

    async def load_attachment(self, attachment_id: str, context: str) -> Attachment:
        return ATTACHMENT.validate_json(self._one("attachments", (context, attachment_id)))

    async def delete_attachment(self, attachment_id: str, context: str) -> None:
        self.collections["attachments"].pop((context, attachment_id), None)

    def _one(self, collection: str, key: Key) -> bytes:
        found = self.collections[collection].get(key)
        if found is None:
            raise NotFoundError(f"{collection}: no {key[-1]}")
        return found

    def _keys(self, collection: str, within: Key) -> list[Key]:
        return [key for key in self.collections[collection] if key[:-1] == within]

    def _page(
        self, collection: str, within: Key, after: str | None, limit: int, order: str, read: Callable[[bytes], Record]
    ) -> Page[Record]:
        keys: Sequence[Key] = self._keys(collection, within)[:: 1 if order == "asc" else -1]
        if after is not None:
            self._one(collection, (*within, after))
            keys = keys[keys.index((*within, after)) + 1 :]
        size = max(1, min(limit, 100))
        data = [read(self.collections[collection][key]) for key in keys[:size]]
        more = len(keys) > size
        return Page(data=data, has_more=more, after=keys[size - 1][-1] if more else None)


class TestJsonStore(StoreContract):
    examples = 20
    capabilities = frozenset(
        {
            "arrival_order",
            "strict_cursors",
            "clamped_limits",
            "copies",
            "metadata_only",
            "no_orphans",
            "big_integers",
            "prefixes",
            "concurrent",
            "whole_writes",
        }
    )

    def context_of(self, user: str, tenant: str = "") -> str:
        return f"{tenant}/{user}"

    @pytest.fixture
    def store(self) -> JsonStore:
        return JsonStore()
