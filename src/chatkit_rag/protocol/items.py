"""The items of one turn: what they are called, what is unfinished, and what is stored of them.

Models and hooks bring ids of their own. Some models call every message by one name, and other people's threads may
hold the same id; so an item goes by an id of ours from its first event to its last, and in the store:

    id of the store, made in this turn ─► stays
    id of an item of this thread ───────► stays
    any other id ───────────────────────► what is derived of it and the thread; a new one, where that is taken
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from chatkit.store import NotFoundError
from chatkit.types import (
    SDKHiddenContextItem,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdate,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
)

from chatkit_rag.agent.message import AnswerDone
from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.events import is_hidden, public_thread
from chatkit_rag.protocol.links import update_with_web_links, with_web_links
from chatkit_rag.protocol.updates import Growing, apply_update, is_worth_keeping
from chatkit_rag.stores.base import Store, patch_thread
from chatkit_rag.stores.ids import derived_id
from chatkit_rag.stores.shielding import run_to_end

_SHARED_NAMES = {"__fake_id__"}
"""What the Agents SDK calls every item of a Chat Completions model."""
PATCHED = ("title", "status", "metadata", "allowed_image_domains")
"""What a hook may change of a thread."""

Timed = TypeVar("Timed", bound=ThreadItem)


class TurnItems:
    """What one turn knows of its items. Events go through `receive`, what hooks store through `put`."""

    def __init__(
        self,
        store: Store,
        thread: ThreadMetadata,
        context: RequestContext,
        *,
        history: Sequence[ThreadItem] | None = None,
        save_last: Callable[[ThreadItem], Awaitable[None]] | None = None,
        bound: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """A turn in `thread`.

        Args:
            store: where its items go.
            thread: the thread as it is stored.
            context: the request's.
            history: the newest items up to the reader's message, newest first, where they are known.
            save_last: stores the item behind which nothing comes.
            bound: sets how many seconds the turn may take.
        """
        self.history = history
        self._save_last = save_last
        self._bound = bound
        self.thread_id = thread.id
        self.unfinished: dict[str, Growing] = {}
        """Items that were announced and are not complete, as far as they came."""
        self.cut_short = False
        """Whether the turn was stopped, and has stored what there was."""
        self.seen_threads: set[str] = set()
        """The other threads that the hook has loaded or stored."""
        self._store = store
        self.thread = thread
        """The thread as it was last stored."""
        self._title = thread.title
        self._context = context
        self._own: set[str] = set()
        self._names: dict[str, str] = {}
        self._stored: set[str] = set()
        self._hidden: set[str] = set()

    def made(self, id_: str) -> str:
        """`id_`, which the store has made in this turn."""
        self._own.add(id_)
        return id_

    async def may_run(self, seconds: float) -> None:
        """The turn may take so long, from its beginning, instead of as long as the engine's options say."""
        if self._bound is not None:
            await self._bound(seconds)

    async def receive(self, event: ThreadStreamEvent) -> ThreadStreamEvent | None:
        """What the client is sent for a hook's event; None where that is for the model only.

        The store agrees with the event when this returns.
        """
        match event:
            case ThreadItemUpdatedEvent():
                return await self._update(event)
            case ThreadItemAddedEvent():
                return await self._announce(event)
            case ThreadItemDoneEvent() | ThreadItemReplacedEvent():
                return await self._finish(event)
            case ThreadItemRemovedEvent():
                return await self._remove(event)
            case ThreadCreatedEvent() | ThreadUpdatedEvent():
                return type(event)(thread=public_thread(event.thread, event.thread.items))
            case _:
                return event

    async def put(self, item: ThreadItem) -> None:
        """Stores an item that a hook stores by itself; a second time is as the first.

        A turn that was cut short has stored what there was: what hooks do about it besides adds nothing to that.
        """
        if self.cut_short and isinstance(item, SDKHiddenContextItem):
            return
        ours = await self._ours(item)
        if not (self.cut_short and ours.id in self._stored):
            await self._save(ours)

    async def complete(self) -> list[ThreadStreamEvent]:
        """Stores what was announced and never completed, as it stands; what the client is sent for it.

        An item that the hook has stored by itself is left open for a later turn, as ChatKit's workflows are.
        """
        left = [growing.item for growing in self.unfinished.values() if is_worth_keeping(growing.item)]
        open_ = [item for item in left if item.id in self._stored]
        for item in open_:
            await self._save(item)
        completed = [await self.receive(ThreadItemDoneEvent(item=item)) for item in left if item not in open_]
        return list(filter(None, completed))

    async def patch_thread(self, thread: ThreadMetadata) -> None:
        """Stores what a hook has changed of the turn's thread, and nothing else.

        A title that another tab has given since stays, and is `thread`'s from now on.
        """
        changes = {
            name: getattr(thread, name) for name in PATCHED if getattr(thread, name) != getattr(self.thread, name)
        }
        if "title" in changes:
            stored = await self._store.load_thread(self.thread_id, self._context)
            if stored.title != self._title:
                thread.title = stored.title
                del changes["title"]
            else:
                self._title = thread.title
        if changes:
            await run_to_end(patch_thread(self._store, self.thread_id, changes, self._context))

    async def id_of(self, id_: str, *, begins: bool = False) -> str:
        """Our id of what a hook calls `id_`; for one that `begins` with this event, not that of another item."""
        if id_ in self._own:
            return id_
        known = self._names.get(id_)
        if known is not None and not (begins and known not in self.unfinished):
            return known
        if known is None and id_ not in _SHARED_NAMES:
            if await self._is_stored(id_):
                return self.made(id_)
            name = named_by_hook(self.thread_id, id_)
            if not (begins and await self._is_stored(name)):
                return self._called(id_, name)
        return self._called(id_, self._store.generate_item_id("message", self.thread, self._context))

    def _called(self, id_: str, name: str) -> str:
        self._names[id_] = name
        return self.made(name)

    async def _ours(self, item: Timed, *, begins: bool = False) -> Timed:
        """The item as it is stored and sent: our id, this thread, an aware time, which stays from its first event.

        Links in it are such that a page may show them.
        """
        item = with_web_links(item)
        id_ = item.id if item.id in self._own else await self.id_of(item.id, begins=begins)
        begun = self.unfinished.get(id_)
        created_at = begun.created_at if begun else in_utc(item.created_at)
        if item.id == id_ and item.thread_id == self.thread_id and item.created_at is created_at:
            return item
        return item.model_copy(update={"id": id_, "thread_id": self.thread_id, "created_at": created_at})

    async def _announce(self, event: ThreadItemAddedEvent) -> ThreadStreamEvent | None:
        item = await self._ours(event.item, begins=True)
        self.unfinished[item.id] = Growing(item)
        return None if self._hides(item) else ThreadItemAddedEvent(item=item)

    async def _finish(self, event: ThreadItemDoneEvent | ThreadItemReplacedEvent) -> ThreadStreamEvent | None:
        is_done = isinstance(event, ThreadItemDoneEvent)
        item = await self._ours(event.item, begins=is_done and event.item.id in _SHARED_NAMES)
        # Whole from now on: a turn that is cut short during the write keeps this, not what led to it.
        if growing := self.unfinished.get(item.id):
            growing.item = item
        if isinstance(event, AnswerDone) and self._save_last is not None:
            await self._save_last(item)
        else:
            await self._save(item)
        self.unfinished.pop(item.id, None)
        was_hidden = item.id in self._hidden
        if self._hides(item):
            return None if is_done or was_hidden else ThreadItemRemovedEvent(item_id=item.id)
        return type(event)(item=item)

    async def _remove(self, event: ThreadItemRemovedEvent) -> ThreadStreamEvent | None:
        id_ = await self.id_of(event.item_id)
        await run_to_end(self._store.delete_thread_item(self.thread_id, id_, self._context))
        self.unfinished.pop(id_, None)
        return None if id_ in self._hidden else ThreadItemRemovedEvent(item_id=id_)

    async def _update(self, sent: ThreadItemUpdatedEvent) -> ThreadStreamEvent | None:
        event = update_with_web_links(sent)
        if event is None:
            return None
        id_ = await self.id_of(event.item_id)
        if growing := self.unfinished.get(id_):
            growing.update(event.update)
        else:
            await self._update_stored(id_, event.update)
        if id_ in self._hidden:
            return None
        return event if id_ == event.item_id else event.model_copy(update={"item_id": id_})

    async def _update_stored(self, id_: str, update: ThreadItemUpdate) -> None:
        """What changes on the reader's screen changes in the store: a widget, say, that a button has redrawn."""
        try:
            item = await self._store.load_item(self.thread_id, id_, self._context)
        except NotFoundError:
            return
        if is_hidden(item):
            self._hidden.add(id_)
        before = item.model_copy(deep=True)
        apply_update(item, update)
        if item != before:
            await self._save(item)

    async def _save(self, item: ThreadItem) -> None:
        save = self._store.save_item if item.id in self._stored else self._store.add_thread_item
        await run_to_end(save(self.thread_id, item, self._context))
        self._stored.add(item.id)

    async def _is_stored(self, id_: str) -> bool:
        try:
            item = await self._store.load_item(self.thread_id, id_, self._context)
        except NotFoundError:
            return False
        self._stored.add(id_)
        self._hides(item)
        return True

    def _hides(self, item: ThreadItem) -> bool:
        """Whether clients see nothing of the item; remembered, for events that only name it."""
        if is_hidden(item):
            self._hidden.add(item.id)
        return is_hidden(item)


async def find_item(store: Store, thread_id: str, id_: str, context: RequestContext) -> ThreadItem:
    """The item, also by the name that a hook gave it in any turn: a site's own client may know it by that.

    Raises:
        NotFound: the thread has no such item.
    """
    try:
        return await store.load_item(thread_id, id_, context)
    except NotFoundError as missing:
        try:
            return await store.load_item(thread_id, named_by_hook(thread_id, id_), context)
        except NotFoundError:
            raise missing from None


def named_by_hook(thread_id: str, id_: str) -> str:
    """Our id of the item that a hook calls `id_`, in this turn and in later ones."""
    return derived_id("itm", thread_id, id_)


def in_utc(moment: datetime) -> datetime:
    """The moment, aware, in UTC; a naive one is local time, as ChatKit's own hooks make it."""
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
