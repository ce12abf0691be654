"""`CachedStore`: another store, whose most frequent reads are answered from Redis."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chatkit import store as sdk
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import MissingExtra
from chatkit_rag.stores.base import Lifecycle, Store
from chatkit_rag.stores.cached_records import ITEMS, THREAD, THREADS, Written
from chatkit_rag.stores.shielding import run_to_end

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from chatkit_rag.stores.cached_entries import Place

_CHANGE_NOTHING_KEPT = frozenset(
    {
        "take_lease",
        "release_lease",
        "claim_request",
        "note_request",
        "forget_request",
        "save_feedback",
        "claim_attachments",
        "release_attachments",
        "load_attachments",
        "purge_expired",
        "holdings",
        "unused_attachments",
    }
)
"""What a store may do besides that leaves threads and their items as they are."""

_CHANGE_ONE_READERS = frozenset({"patch_thread", "begin_turn", "begin_thread", "end_turn", "delete_user"})
"""What it may do besides that changes what the reader of its context has, and nobody else."""

Record = TypeVar("Record")
Result = TypeVar("Result")


class CachedStore(sdk.Store[RequestContext]):
    """A `Store` that asks Redis for a thread, the first page of its items, and the first page of a reader's threads.

    These are what a widget asks for on every page of a site that it is on. Everything else is the wrapped store's, with
    whatever it can do besides; a method that is not known here is taken for one that changes what everybody has.

    What was acknowledged is seen by every read that begins afterwards, in every process over the same Redis. A reader
    who finds nothing in Redis gets a token, and what they then read from the store is kept only while the token holds.
    A writer takes all of its owner's entries and tokens away before it writes and again before it acknowledges, and
    none are given in between; for a minute, when it is killed there, or when nobody knows whether its write was carried
    out. Entries are of one run of the Redis server: one that comes back with an older memory has none.

    Redis is never waited for longer than `patience`, and once a second by a write. One that is away, slow, full, or
    refuses to be written to costs its answers: reads go to the store, and writes try to reach it all the same. A
    process whose write did not reach it asks it for nothing more until it has been told. Meanwhile another process that
    does reach it may read what is older than that write, by `ttl` seconds at most; so may everybody what was
    changed in the database by other means than this class.
    """

    def __init__(
        self,
        store: Store,
        redis: "str | Redis",
        *,
        prefix: str = "chatkit-rag",
        ttl: float = 60.0,
        entry_bytes: int = 128 * 1024,
        patience: float = 0.05,
    ) -> None:
        """Connects to nothing yet.

        Args:
            store: what keeps the threads. All processes over one database use one Redis, with one prefix.
            redis: a URL (`redis://…`, `rediss://…`, `unix://…`), or a client of the host's own, which stays the host's
                to close.
            prefix: what all keys begin with; another one for every database.
            ttl: seconds after which an entry is gone.
            entry_bytes: what is larger is not kept.
            patience: seconds that a read waits for Redis, and a write for one that did not answer before.

        Raises:
            ConfigurationError: the URL cannot be used.
            MissingExtra: redis is not installed.
        """
        if find_spec("redis") is None:
            raise MissingExtra("CachedStore", "redis")
        from chatkit_rag.stores.cached_entries import Entries

        self._store = store
        self._entries = Entries(redis, prefix=prefix, ttl=ttl, entry_bytes=entry_bytes, patience=patience)
        for name in _besides(store, type(self)):
            # On the instance: whether a store can do something is asked by looking for the method, without calling
            # `__getattr__` from Python 3.12 on.
            setattr(self, name, self._telling(name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # `_store` is not set yet, as while it is copied: looking for it would never end
            raise AttributeError(name)
        return self._telling(name)

    async def open(self) -> None:
        """See `Lifecycle.open`; without Redis, too."""
        if isinstance(self._store, Lifecycle):
            await self._store.open()
        await self._entries.open()

    async def close(self) -> None:
        """See `Lifecycle.close`."""
        await run_to_end(self._entries.close())
        if isinstance(self._store, Lifecycle):
            await self._store.close()

    async def ping(self) -> None:
        """See `Lifecycle.ping`: whether the wrapped store can be read."""
        if isinstance(self._store, Lifecycle):
            await self._store.ping()

    async def ping_cache(self) -> None:
        """See `UsesCache.ping_cache`."""
        await self._entries.ping()

    def generate_thread_id(self, context: RequestContext) -> str:
        """See `Store.generate_thread_id`."""
        return self._store.generate_thread_id(context)

    def generate_item_id(self, item_type: sdk.StoreItemType, thread: ThreadMetadata, context: RequestContext) -> str:
        """See `Store.generate_item_id`."""
        return self._store.generate_item_id(item_type, thread, context)

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""

        async def load() -> ThreadMetadata:
            return await self._store.load_thread(thread_id, context)

        return await self._read(("thread", thread_id), THREAD, load, context)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        await self._write(context, self._store.save_thread, thread, context)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""

        async def load() -> Page[ThreadMetadata]:
            return await self._store.load_threads(limit, after, order, context)

        if after is not None:
            return await load()
        return await self._read(("threads", limit, order), THREADS, load, context)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await self._write(context, self._store.delete_thread, thread_id, context)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""

        async def load() -> Page[ThreadItem]:
            return await self._store.load_thread_items(thread_id, after, limit, order, context)

        if after is not None:
            return await load()
        return await self._read(("items", thread_id, limit, order), ITEMS, load, context)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        await self._write(context, self._store.add_thread_item, thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self._write(context, self._store.save_item, thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        return await self._store.load_item(thread_id, item_id, context)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        await self._write(context, self._store.delete_thread_item, thread_id, item_id, context)

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        await self._store.save_attachment(attachment, context)

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        return await self._store.load_attachment(attachment_id, context)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        await self._store.delete_attachment(attachment_id, context)

    async def _read(
        self,
        name: tuple[str | int, ...],
        written: Written[Record],
        load: Callable[[], Awaitable[Record]],
        context: RequestContext,
    ) -> Record:
        """The record that is kept under `name`, or else is loaded, and kept."""
        place = self._entries.of(context.owner)
        kept, token = await self._entries.look(place, name)
        if kept:
            with suppress(ValueError, TypeError):  # of another version of this code, or damaged
                return written.read(kept)
        record = await load()
        if token:
            with suppress(ValueError, TypeError):  # what is no JSON is the store's alone
                await self._entries.keep(place, name, token, written.write(record))
        return record

    async def _write(self, context: RequestContext, method: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Carries a method out whose effect on what a reader has is seen by everybody then."""
        place = self._entries.of(context.owner)
        await run_to_end(self._change(place, method(*arguments)))

    async def _change(self, place: "Place", work: Awaitable[Result]) -> Result:
        async with self._entries.changing(place):
            return await work

    def _telling(self, name: str) -> Any:
        """A method, or whatever it is, of the wrapped store, after which nothing older is read."""
        member = getattr(self._store, name)
        if not callable(member) or name in _CHANGE_NOTHING_KEPT:
            return member

        def call(*arguments: Any, **named: Any) -> Any:
            result = member(*arguments, **named)
            place = self._place_of(name, (*arguments, *named.values()))
            if inspect.isawaitable(result):
                return run_to_end(self._change(place, result))
            if isinstance(result, AsyncIterator):
                return self._iterate(cast("AsyncIterator[Any]", result), place)
            return result

        return call

    def _place_of(self, name: str, arguments: Iterable[Any]) -> "Place":
        if name in _CHANGE_ONE_READERS:
            for context in arguments:
                if isinstance(context, RequestContext):
                    return self._entries.of(context.owner)
        return self._entries.everything

    async def _iterate(self, rows: AsyncIterator[Any], place: "Place") -> AsyncIterator[Any]:
        async with self._entries.changing(place):
            try:
                async for row in rows:
                    yield row
            finally:
                if isinstance(rows, AsyncGenerator):
                    await rows.aclose()


def _besides(store: Store, ours: type) -> list[str]:
    """The public methods of a store that we have none of."""
    names = [name for name in dir(store) if not name.startswith("_") and not hasattr(ours, name)]
    return [name for name in names if _is_method(inspect.getattr_static(store, name))]


def _is_method(member: object) -> bool:
    return callable(member) or isinstance(member, classmethod)
