"""Beginning and ending a turn, each in one step; and the same in several, over a store with ChatKit's methods alone.

    begin_turn ─► the thread's lease, the thread, its quota, the reader's message, the history before it
    end_turn ───► the last item, the lease given back, the request's outcome

Over a network each step is a flight, so that a turn whose answer is one item takes two.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Protocol, runtime_checkable

from chatkit.types import Page, ThreadItem, ThreadMetadata, UserMessageItem

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import KeepsLeases, RememberedRequest, RemembersRequests, Store
from chatkit_rag.stores.paging import MAX_LIMIT


class Refusal(Enum):
    """Why a turn did not begin, and nothing was stored."""

    BUSY = "busy"
    """Somebody else holds the thread."""
    LOCKED = "locked"
    """The thread takes no messages."""
    CLOSED = "closed"
    """Likewise, for good."""
    FULL = "full"
    """The quota is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A reader's message, and the turn that begins with it."""

    message: UserMessageItem
    holder: str
    """Who is to hold the thread's lease."""
    seconds: float
    """How long the lease holds."""
    quota: int
    """So many items, and a thread takes no message more; so many threads, and a reader begins no other; 0: no quota."""
    history: int = 0
    """How many items before the message are wanted, up to 100."""
    key: str = ""
    """The request's idempotency key, if it has one."""
    request: RememberedRequest | None = None
    """What is remembered under `key` once the message is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A turn that has begun."""

    thread: ThreadMetadata
    history: Sequence[ThreadItem] = ()
    """The newest items before the message, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ends: with its last item, which is stored."""

    item: ThreadItem
    holder: str
    key: str = ""
    request: RememberedRequest | None = None
    """What is remembered under `key` from now on."""


@runtime_checkable
class BeginsTurns(Protocol):
    """A store that begins and ends turns in one step: wholly or not at all, and a second time is as once."""

    async def begin_turn(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """Takes the thread's lease for `holder`, and stores the message behind the thread's other items.

        The quota holds also for several who begin at once. Raises NotFound where the thread is not there.
        """
        ...

    async def begin_thread(self, thread: ThreadMetadata, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """Stores a new thread with its first message, and takes its lease.

        The quota is the reader's, and holds also for several threads that begin at once. Raises NotFound where the
        reader was deleted since the request came.
        """
        ...

    async def end_turn(self, ending: Ending, context: RequestContext) -> None:
        """Stores the item, and gives back the thread, if it is `holder`'s. Raises NotFound where it is not there."""
        ...


class StepwiseTurns:
    """`BeginsTurns` over any store, made of its methods: what a store does that has no such steps of its own.

    A reader who begins several threads at once may have some more than the quota.
    """

    def __init__(self, store: Store, leases: KeepsLeases, requests: RemembersRequests) -> None:
        self._store = store
        self._leases = leases
        self._requests = requests

    async def begin_turn(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_turn`."""
        thread_id = asked.message.thread_id
        if not await self._leases.take_lease(thread_id, asked.holder, asked.seconds, context):
            return Refusal.BUSY
        try:
            begun = await self._begin(asked, context)
        except BaseException:
            await self._leases.release_lease(thread_id, asked.holder, context)
            raise
        if isinstance(begun, Refusal):
            await self._leases.release_lease(thread_id, asked.holder, context)
        return begun

    async def begin_thread(self, thread: ThreadMetadata, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_thread`."""
        threads = partial(self._store.load_threads, context=context)
        if asked.quota and await _holds(asked.quota, lambda limit, after: threads(limit, after, "desc")):
            return Refusal.FULL
        await self._store.save_thread(thread, context)
        await self._leases.take_lease(thread.id, asked.holder, asked.seconds, context)
        await self._store.add_thread_item(thread.id, asked.message, context)
        await self._note(asked, context)
        return Begun(thread=thread)

    async def end_turn(self, ending: Ending, context: RequestContext) -> None:
        """See `BeginsTurns.end_turn`."""
        await self._store.add_thread_item(ending.item.thread_id, ending.item, context)
        await self._note(ending, context)
        await self._leases.release_lease(ending.item.thread_id, ending.holder, context)

    async def _begin(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        thread = await self._store.load_thread(asked.message.thread_id, context)
        if thread.status.type != "active":
            return Refusal(thread.status.type)
        items = partial(self._store.load_thread_items, thread.id, order="desc", context=context)
        # The first page, which is nearly always all that there is, is the history too.
        newest = await items(after=None, limit=MAX_LIMIT if asked.quota else asked.history or 1)
        if asked.quota and await _holds(asked.quota, lambda limit, after: items(after=after, limit=limit), newest):
            return Refusal.FULL
        await self._store.add_thread_item(thread.id, asked.message, context)
        await self._note(asked, context)
        return Begun(thread=thread, history=newest.data[: asked.history])

    async def _note(self, said: Asked | Ending, context: RequestContext) -> None:
        if said.key and said.request is not None:
            await self._requests.note_request(said.key, said.request, context)


async def _holds(
    count: int, load: Callable[[int, str | None], Awaitable[Page[Any]]], page: Page[Any] | None = None
) -> bool:
    """Whether a list has so many rows, from its first `page` on; nobody but its pages knows."""
    page = page or await load(min(count, MAX_LIMIT), None)
    while (count := count - len(page.data)) > 0 and page.has_more and page.after is not None:
        page = await load(min(count, MAX_LIMIT), page.after)
    return count <= 0
