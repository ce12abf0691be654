"""`MemoryStore`: threads in this process, gone with it. For tests, and for trying things out."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.stores.base import BaseStore, NotFound, in_utc
from chatkit_rag.stores.claims import claimed_for
from chatkit_rag.stores.coordination import InProcessCoordination
from chatkit_rag.stores.copies import copied
from chatkit_rag.stores.memory_records import OrderedRecords, OwnedRecords
from chatkit_rag.stores.privacy import (
    MARK_LIFETIME,
    Deleted,
    Holding,
    Owner,
    refuse_if_deleted,
)
from chatkit_rag.stores.storable import check_item, check_storable
from chatkit_rag.stores.turns import Asked, Begun, Ending, Refusal


class MemoryStore(InProcessCoordination, BaseStore):
    """A `Store` in memory. Owners are kept apart; records are copied in and out."""

    def __init__(self, *, max_readers: int = 10_000) -> None:
        """An empty store.

        Args:
            max_readers: how many readers it keeps threads and files of. When another comes, who has neither read nor
                written for longest is forgotten, with all that is theirs; nobody loses a part. Who only looks takes no
                place. What one reader may keep is bounded by the server.
        """
        super().__init__()
        self._max_readers = max_readers
        self._owners: OrderedDict[Owner, OwnedRecords] = OrderedDict()
        self._deleted: dict[Owner, datetime] = {}

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        thread = self._of(context).threads.records.get(thread_id)
        if thread is None:
            raise NotFound("thread", thread_id)
        return _copy_thread(thread)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        check_storable(thread)
        refuse_if_deleted(context.began, self._deleted.get(context.owner), "thread", thread.id)
        self._kept(context).threads.put(thread.id, in_utc(_metadata_of(thread)))

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """See `PatchesThreads.patch_thread`."""
        thread = await self.load_thread(thread_id, context)
        await self.save_thread(thread.model_copy(update=dict(changes)), context)

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """See `KeepsFeedback.save_feedback`."""
        check_storable(feedback)
        there = self._of(context).items.get(thread_id, OrderedRecords()).records
        if missing := [item_id for item_id in item_ids if item_id not in there]:
            raise NotFound("item", missing[0])
        kept = self._of(context).feedback.setdefault(thread_id, {})
        kept.update({item_id: dict(feedback) for item_id in item_ids})

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`."""
        if thread_id not in self._of(context).threads.records:
            raise NotFound("thread", thread_id)
        return await super().take_lease(thread_id, holder, seconds, context)

    async def begin_turn(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_turn`; nothing else runs meanwhile, for nothing here is waited for."""
        owned, message = self._of(context), asked.message
        check_item(message, message.thread_id)
        thread = await self.load_thread(message.thread_id, context)
        items = owned.items.get(thread.id, OrderedRecords())
        if thread.status.type != "active":
            return Refusal(thread.status.type)
        if 0 < asked.quota <= len(items.ids) and message.id not in items.records:
            return Refusal.FULL
        if not await self.take_lease(thread.id, asked.holder, asked.seconds, context):
            return Refusal.BUSY
        history = items.page(None, asked.history, "desc", "item", _copy_item).data if asked.history else []
        await self.add_thread_item(thread.id, message, context)
        await self._note(asked, context)
        return Begun(thread=thread, history=[item for item in history if item.id != message.id])

    async def begin_thread(self, thread: ThreadMetadata, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_thread`; as `begin_turn`."""
        check_item(asked.message, thread.id)
        threads = self._of(context).threads
        if 0 < asked.quota <= len(threads.ids) and thread.id not in threads.records:
            return Refusal.FULL
        await self.save_thread(thread, context)
        await self.take_lease(thread.id, asked.holder, asked.seconds, context)
        await self.add_thread_item(thread.id, asked.message, context)
        await self._note(asked, context)
        return Begun(thread=thread)

    async def end_turn(self, ending: Ending, context: RequestContext) -> None:
        """See `BeginsTurns.end_turn`; as `begin_turn`."""
        await self.add_thread_item(ending.item.thread_id, ending.item, context)
        await self._note(ending, context)
        await self.release_lease(ending.item.thread_id, ending.holder, context)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        return self._of(context).threads.page(after, limit, order, "thread", _copy_thread)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        self._of(context).drop_thread(thread_id)
        self.drop_lease(thread_id, context)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        items = self._of(context).items.get(thread_id, OrderedRecords())
        return items.page(after, limit, order, "item", _copy_item)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        check_item(item, thread_id)
        owned = self._of(context)
        if thread_id not in owned.threads.records:
            raise NotFound("thread", thread_id)
        owned.items.setdefault(thread_id, OrderedRecords()).put(item.id, in_utc(item))

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        item = self._of(context).items.get(thread_id, OrderedRecords()).records.get(item_id)
        if item is None:
            raise NotFound("item", item_id)
        return _copy_item(item)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        owned = self._of(context)
        owned.items.get(thread_id, OrderedRecords()).drop(item_id)
        owned.feedback.get(thread_id, {}).pop(item_id, None)

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        check_storable(attachment)
        refuse_if_deleted(context.began, self._deleted.get(context.owner), "attachment", attachment.id)
        self._kept(context).attachments[attachment.id] = copied(attachment)

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        attachment = self._of(context).attachments.get(attachment_id)
        if attachment is None:
            raise NotFound("attachment", attachment_id)
        return copied(attachment)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        self._of(context).attachments.pop(attachment_id, None)

    async def claim_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> bool:
        """See `ClaimsAttachments.claim_attachments`."""
        kept = self._of(context).attachments
        known = [kept[id_] for id_ in dict.fromkeys(attachment_ids) if id_ in kept]
        claimed = [claimed for each in known if (claimed := claimed_for(thread_id, each)) is not None]
        if len(claimed) < len(set(attachment_ids)):
            return False
        kept.update({each.id: each for each in claimed})
        return True

    async def release_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> None:
        """See `ClaimsAttachments.release_attachments`."""
        kept = self._of(context).attachments
        for id_ in attachment_ids:
            if id_ in kept and kept[id_].thread_id == thread_id:
                kept[id_] = kept[id_].model_copy(update={"thread_id": None})

    async def load_attachments(self, context: RequestContext) -> Sequence[Attachment]:
        """See `ListsAttachments.load_attachments`."""
        return [copied(attachment) for attachment in self._of(context).attachments.values()]

    async def delete_user(self, context: RequestContext) -> Deleted:
        """See `DeletesUsers.delete_user`."""
        self._deleted[context.owner] = utc_now()
        owned = self._owners.pop(context.owner, OwnedRecords())
        self.forget_owner(context.owner)
        return Deleted(len(owned.threads.ids), len(owned.attachments))

    async def holdings(self, context: RequestContext) -> AsyncGenerator[Holding]:
        """See `ListsHoldings.holdings`."""
        owned = self._owners.get(context.owner, OwnedRecords())
        for thread in list(owned.threads.records.values()):
            yield Holding(kind="threads", record=thread.model_dump(mode="json"))
        for kept in list(owned.items.values()):
            for item in list(kept.records.values()):
                yield Holding(kind="items", record=item.model_dump(mode="json"))
        for thread_id, said in list(owned.feedback.items()):
            for item_id, feedback in list(said.items()):
                yield Holding(kind="feedback", record={"thread_id": thread_id, "item_id": item_id, **feedback})
        for attachment in list(owned.attachments.values()):
            yield Holding(kind="attachments", record=attachment.model_dump(mode="json"))
        for holding in self.coordination_of(context.owner):
            yield holding

    async def purge_threads(self, before: datetime, limit: int) -> Sequence[tuple[Owner, str]]:
        """See `Purges.purge_threads`."""
        old = (
            (owner, id_)
            for owner, owned in self._owners.items()
            for id_ in owned.threads.ids
            if owned.last_activity(id_) < before.replace(microsecond=0) and not self.is_leased(owner, id_)
        )
        gone = list(islice(old, limit))
        for owner, id_ in gone:
            self._owners[owner].drop_thread(id_)
        return gone

    async def unused_attachments(self) -> AsyncGenerator[tuple[Owner, Attachment]]:
        """See `Purges.unused_attachments`."""
        unused = [
            (owner, copied(attachment))
            for owner, owned in self._owners.items()
            for attachment in owned.attachments.values()
            if attachment.thread_id not in owned.threads.records
        ]
        for owner, attachment in unused:
            yield owner, attachment

    async def purge_expired(self) -> int:
        """See `Purges.purge_expired`."""
        expired = [owner for owner, deleted in self._deleted.items() if deleted < utc_now() - MARK_LIFETIME]
        for owner in expired:
            del self._deleted[owner]
        for owner in [owner for owner, owned in self._owners.items() if owned.is_empty]:
            del self._owners[owner]
        return len(expired) + self.drop_all_expired()

    async def _note(self, said: Asked | Ending, context: RequestContext) -> None:
        if said.key and said.request is not None:
            await self.note_request(said.key, said.request, context)

    def _of(self, context: RequestContext) -> OwnedRecords:
        """What is the reader's; nothing, that is not kept, where there is nothing."""
        owned = self._owners.get(context.owner)
        if owned is None:
            return OwnedRecords()
        self._owners.move_to_end(context.owner)  # behind those who were there longer ago
        return owned

    def _kept(self, context: RequestContext) -> OwnedRecords:
        """What is the reader's, kept from now on."""
        owned = self._owners[context.owner] = self._of(context)
        while len(self._owners) > self._max_readers:
            self._owners.popitem(last=False)
        return owned


def _metadata_of(record: BaseModel) -> ThreadMetadata:
    # A `Thread` carries items, which have their own place: only the metadata is kept.
    return ThreadMetadata.model_construct(**{name: getattr(record, name) for name in ThreadMetadata.model_fields})


def _copy_thread(record: BaseModel) -> ThreadMetadata:
    copy: ThreadMetadata = copied(record)  # type: ignore[assignment] - only threads are put in
    return copy


def _copy_item(record: BaseModel) -> ThreadItem:
    copy: ThreadItem = copied(record)  # type: ignore[assignment] - only items are put in
    return copy
