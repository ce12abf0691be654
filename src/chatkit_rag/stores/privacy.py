"""What is held of a reader: how long it stays, how it is handed out, and how it goes.

    retention  threads that nobody has used for long ─► files of threads that are gone ─► what has expired
    export     every row, as it is kept
    deletion   bytes ─► rows, and a mark ─► bytes once more, of an upload that was under way

Each can be cut off anywhere, and done again. The mark outlives its reader by a day: what a request that came before it
would store is NotFound, so an answer or an upload that is under way brings nothing back; the same reader may come back.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from chatkit.store import AttachmentStore, NotFoundError
from chatkit.types import Attachment

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ChatKitRagError, Unsupported
from chatkit_rag.stores.attachments import KeepsFiles
from chatkit_rag.stores.base import NotFound, Store
from chatkit_rag.stores.ids import time_of
from chatkit_rag.stores.shielding import run_to_end

Owner = tuple[str, str]
"""`(tenant, id)` of a reader."""

Kind = Literal["threads", "items", "feedback", "attachments", "requests", "leases"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is held of a reader, in the order in which `holdings` tells it."""

MARK_LIFETIME = timedelta(days=1)
"""How long a deleted reader's mark stays: longer than any answer or upload takes."""
UNUSED_FILE_LIFETIME = timedelta(days=1)
"""How long a file may be in no message: somebody is writing it, or has given up."""
SENDING = timedelta(hours=1)
"""Within this time of its making, a file may be on its way into a thread."""
NEWEST_ITEMS = 20
"""Of a thread, the items that tell when it was last used: hooks give items times of their own, some of them odd."""
AT_ONCE = 50
"""Threads that go in one step: few enough that nobody waits for it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What went with a reader."""

    threads: int
    attachments: int


@runtime_checkable
class DeletesUsers(Protocol):
    """A store that can forget a reader."""

    async def delete_user(self, context: RequestContext) -> Deleted:
        """Removes every row of `context.owner`; a second call finds nothing.

        From now on `save_thread` and `save_attachment` are NotFound in contexts that began before (`began`): those of
        answers and uploads that are under way. What else such a request would store needs a thread that is there.
        The files' bytes are the attachment store's: see the function `delete_user`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One row that is held of a reader."""

    kind: Kind
    record: dict[str, Any]
    """What the row says; a record that cannot be read as `{"unreadable": text}`."""


@runtime_checkable
class ListsHoldings(Protocol):
    """A store that can say all that it holds of a reader."""

    def holdings(self, context: RequestContext) -> AsyncGenerator[Holding]:
        """Every row of `context.owner`, kind by kind in the order of `KINDS`; threads and items in their own order.

        Rows are read page by page: one that comes or goes meanwhile may be among them, or not.
        """
        ...


@runtime_checkable
class Purges(Protocol):
    """A store that can tell what has been there for too long."""

    async def purge_threads(self, before: datetime, limit: int) -> Sequence[tuple[Owner, str]]:
        """Removes up to `limit` threads whose newest item, and they themselves, were made `before`; says which.

        Times count to the second, of items the newest twenty. A thread stays that an item comes to at this moment, that
        somebody holds a lease of, or whose own time cannot be read.
        """
        ...

    def unused_attachments(self) -> AsyncGenerator[tuple[Owner, Attachment]]:
        """The attachments that name no thread, or one that is not there; some of them may be in use all the same."""
        ...

    async def purge_expired(self) -> int:
        """Removes leases, remembered requests and marks of deleted readers whose time is over; says how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge has removed."""

    threads: int = 0
    attachments: int = 0
    expired: int = 0
    """Leases, remembered requests and marks of deleted readers."""

    def to_json(self) -> dict[str, int]:
        """For printing."""
        return asdict(self)


async def purge(
    store: Store, files: AttachmentStore[RequestContext] | None, *, now: datetime, retention: timedelta | None
) -> Purged:
    """Removes what retention says must go, and what nobody can use any more.

    Args:
        store: the threads.
        files: the bytes of attachments, where there are any.
        now: the present moment.
        retention: how long after its newest item a thread is kept; None for ever.

    Raises:
        Unsupported: the store cannot tell what is old.
        StoreUnavailable: it does not answer; what was removed before stays removed.
    """
    if not isinstance(store, Purges):
        raise Unsupported("this store cannot tell how old its threads are")
    threads = 0
    while retention is not None:
        gone = await run_to_end(store.purge_threads(now - retention, AT_ONCE))
        threads += len(gone)
        if len(gone) < AT_ONCE:
            break
    attachments = 0
    async with aclosing(store.unused_attachments()) as found:
        async for owner, attachment in found:
            attachments += await _drop_if_useless(store, files, owner, attachment, now)
    return Purged(threads=threads, attachments=attachments, expired=await store.purge_expired())


async def delete_user(store: Store, files: AttachmentStore[RequestContext] | None, principal: Principal) -> Deleted:
    """Removes everything that is held of a reader, and keeps what is under way from bringing any of it back.

    Raises:
        Unsupported: the store cannot forget a reader.
        StoreUnavailable: store or files do not answer; what was removed stays removed, and it can be done again.
    """
    if not isinstance(store, DeletesUsers):
        raise Unsupported("this store cannot delete a reader")
    context = RequestContext(principal=principal)
    # The bytes first: as long as their records are there, what a crash leaves behind is found again.
    await _drop_files_of(store, files, context)
    deleted = await run_to_end(store.delete_user(context))
    # An upload that was under way finds no record any more; its bytes may have come in between.
    if isinstance(files, KeepsFiles):
        await files.delete_owner(principal.owner)
    return deleted


async def export_user(store: Store, principal: Principal) -> AsyncGenerator[Holding]:
    """Everything that is held of a reader, kind by kind in the order of `KINDS`.

    Raises Unsupported where the store cannot say what it holds, and StoreUnavailable.
    """
    if not isinstance(store, ListsHoldings):
        raise Unsupported("this store cannot say all that it holds of a reader")
    async with aclosing(store.holdings(RequestContext(principal=principal))) as held:
        async for holding in held:
            yield holding


def refuse_if_deleted(began: datetime, deleted: datetime | None, what: str, id_: str) -> None:
    """Raises NotFound where the reader was deleted after the request came."""
    if deleted is not None and began <= deleted:
        raise NotFound(what, id_)


async def _drop_files_of(
    store: DeletesUsers, files: AttachmentStore[RequestContext] | None, context: RequestContext
) -> None:
    if isinstance(files, KeepsFiles):
        await files.delete_owner(context.owner)
    elif files is not None and isinstance(store, ListsHoldings):
        async with aclosing(store.holdings(context)) as held:
            async for holding in held:
                if holding.kind == "attachments" and isinstance(id_ := holding.record.get("id"), str):
                    await files.delete_attachment(id_, context)


async def _drop_if_useless(
    store: Store, files: AttachmentStore[RequestContext] | None, owner: Owner, attachment: Attachment, now: datetime
) -> bool:
    context = RequestContext(principal=Principal(owner[1], tenant=owner[0]))
    if not await _is_useless(store, attachment, now, context):
        return False
    try:
        if files is not None:
            await run_to_end(files.delete_attachment(attachment.id, context))
    except NotFoundError:
        pass  # an id that is none of its own: it keeps no such file
    except ChatKitRagError as exc:
        _log.warning("a file that nobody can use could not be removed: %s", type(exc).__name__)
        return False
    await run_to_end(store.delete_attachment(attachment.id, context))
    return True


async def _is_useless(store: Store, attachment: Attachment, now: datetime, context: RequestContext) -> bool:
    made = time_of(attachment.id)
    if attachment.thread_id is None:
        return made is not None and made < now - UNUSED_FILE_LIFETIME
    if made is not None and abs(now - made) < SENDING:
        return False  # a new thread's file names it before it is there
    try:
        await store.load_thread(attachment.thread_id, context)
    except NotFoundError:
        return True
    return False
