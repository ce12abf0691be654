"""The store that hooks see: a `Store` on which code that was written for ChatKit's own server works.

Within a turn it knows the turn's items by the names that the hook gave them, and takes an item that the engine has
stored already. Its times are naive, in local time: ChatKit's own code subtracts them from `datetime.now()`.
"""

from typing import Any, TypeVar

from chatkit import store as sdk
from chatkit.store import NotFoundError
from chatkit.types import Attachment, Page, ThreadItem, ThreadItemBase, ThreadMetadata

from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.items import PATCHED, TurnItems, find_item, named_by_hook
from chatkit_rag.stores.base import Store, patch_thread
from chatkit_rag.stores.shielding import run_to_end

Timed = TypeVar("Timed", bound=ThreadMetadata | ThreadItemBase)


class HookStore(sdk.Store[RequestContext]):
    """A view of `unwrapped`. What a `Store` may have besides the methods here goes straight to it."""

    def __init__(self, store: Store) -> None:
        self.unwrapped = store

    def __getattr__(self, name: str) -> Any:
        if name == "unwrapped":  # not set yet, as while it is copied: looking for it there would never end
            raise AttributeError(name)
        return getattr(self.unwrapped, name)

    def generate_thread_id(self, context: RequestContext) -> str:
        """See `Store.generate_thread_id`."""
        return self.unwrapped.generate_thread_id(context)

    def generate_item_id(self, item_type: sdk.StoreItemType, thread: ThreadMetadata, context: RequestContext) -> str:
        """See `Store.generate_item_id`."""
        id_ = self.unwrapped.generate_item_id(item_type, thread, context)
        items = context.turn
        return items.made(id_) if isinstance(items, TurnItems) else id_

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        thread = await self.unwrapped.load_thread(thread_id, context)
        _saw(context, thread_id)
        return for_hooks(thread)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`; of the turn's own thread, what differs is changed, and nothing else.

        Raises NotFound for a thread that was there in this turn, and was deleted since: a hook brings none back.
        """
        if items := _turn_in(thread.id, context):
            await items.patch_thread(thread)
        elif _saw(context, thread.id):
            changes = {name: getattr(thread, name) for name in PATCHED}
            await run_to_end(patch_thread(self.unwrapped, thread.id, changes, context))
        else:
            await run_to_end(self.unwrapped.save_thread(thread, context))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        page = await self.unwrapped.load_threads(limit, after, order, context)
        for thread in page.data:
            _saw(context, thread.id)
        return page.model_copy(update={"data": [for_hooks(thread) for thread in page.data]})

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await run_to_end(self.unwrapped.delete_thread(thread_id, context))

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        cursor = after and await self._id_of(thread_id, after, context)
        page = await self.unwrapped.load_thread_items(thread_id, cursor, limit, order, context)
        return page.model_copy(update={"data": [for_hooks(item) for item in page.data]})

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        items = _turn_in(thread_id, context)
        await run_to_end(items.put(item) if items else self.unwrapped.add_thread_item(thread_id, item, context))

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        items = _turn_in(thread_id, context)
        await run_to_end(items.put(item) if items else self.unwrapped.save_item(thread_id, item, context))

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        if items := _turn_in(thread_id, context):
            return for_hooks(await self.unwrapped.load_item(thread_id, await items.id_of(item_id), context))
        return for_hooks(await find_item(self.unwrapped, thread_id, item_id, context))

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        id_ = await self._id_of(thread_id, item_id, context)
        await run_to_end(self.unwrapped.delete_thread_item(thread_id, id_, context))

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        await run_to_end(self.unwrapped.save_attachment(attachment, context))

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        return await self.unwrapped.load_attachment(attachment_id, context)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        await run_to_end(self.unwrapped.delete_attachment(attachment_id, context))

    async def _id_of(self, thread_id: str, item_id: str, context: RequestContext) -> str:
        """The id that the store has for what a hook calls `item_id`, also when that was in an earlier turn."""
        if items := _turn_in(thread_id, context):
            return await items.id_of(item_id)
        try:
            await self.unwrapped.load_item(thread_id, item_id, context)
        except NotFoundError:
            return named_by_hook(thread_id, item_id)
        return item_id


def for_hooks(record: Timed) -> Timed:
    """A thread or item as ChatKit's own code expects it: its time naive, in local time."""
    if record.created_at.tzinfo is None:
        return record
    return record.model_copy(update={"created_at": record.created_at.astimezone().replace(tzinfo=None)})


def _saw(context: RequestContext, thread_id: str) -> bool:
    """Whether the hook of this turn saw the thread before; from now on it has."""
    items = context.turn
    if not isinstance(items, TurnItems):
        return False
    known = thread_id in items.seen_threads
    items.seen_threads.add(thread_id)
    return known


def _turn_in(thread_id: str, context: RequestContext) -> TurnItems | None:
    """The items of the turn that `context` is in, if it is in this thread."""
    items = context.turn
    return items if isinstance(items, TurnItems) and items.thread_id == thread_id else None
