"""The same request again: a key stands for one request, and sending that again gives its outcome instead of another.

The outcome is rebuilt from what is stored, so it is the same on every host, and after a restart.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256

import orjson
from chatkit.store import NotFoundError
from chatkit.types import (
    ErrorEvent,
    StreamingReq,
    StreamOptionsEvent,
    StructuredInputItem,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import KeyReused, RequestInFlight
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.events import is_hidden, public_thread
from chatkit_rag.protocol.threads import items_after
from chatkit_rag.stores.base import RememberedRequest
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.interrupted import Interrupted
from chatkit_rag.stores.shielding import run_to_end

_NOT_WHOLE = "The answer was interrupted before it was complete. Please try again."


@dataclass
class Claim:
    """A key that stands for the request that is being carried out; without a key it does nothing."""

    engine: Engine
    context: RequestContext
    request: RememberedRequest

    @classmethod
    async def make(cls, engine: Engine, request: StreamingReq, context: RequestContext) -> "Claim | RememberedRequest":
        """The claim, where the request's key is new; else the request that was carried out under it.

        Raises:
            KeyReused: the key stands for another request.
            RequestInFlight: the same request is being carried out.
        """
        busy_until = time.time() + engine.turns.lease_seconds
        fingerprint = _fingerprint(request) if context.idempotency_key else ""
        claim = cls(engine, context, RememberedRequest(fingerprint=fingerprint, busy_until=busy_until))
        if not context.idempotency_key:
            return claim
        seconds = engine.turns.remember_seconds
        known = await engine.requests.claim_request(context.idempotency_key, claim.request, seconds, context)
        if known is None:
            return claim
        if known.fingerprint != claim.request.fingerprint:
            raise KeyReused("this idempotency key was used for another request: take a new one for a new request")
        if known.busy_until > time.time() and not await _was_given_up(engine, request, known, context):
            raise RequestInFlight("this request is being carried out")
        return known

    @property
    def key(self) -> str:
        """The key; empty where the request has none."""
        return self.context.idempotency_key

    def noted(self, thread_id: str, item_id: str) -> RememberedRequest:
        """What is to be remembered: the outcome will stand behind this item."""
        until = self._busy_until(self.engine.turns.run_seconds)
        self.request = replace(self.request, thread_id=thread_id, item_id=item_id, busy_until=until)
        return self.request

    def settled(self) -> RememberedRequest:
        """What is to be remembered of a request that was carried out, well or not: from now on its outcome is given."""
        self.request = replace(self.request, busy_until=0.0)
        return self.request

    async def note(self, thread_id: str, item_id: str) -> None:
        """Remembers where the outcome will stand: behind this item."""
        await self._remember(self.noted(thread_id, item_id))

    async def prolong(self, seconds: float) -> None:
        """The request takes up to `seconds` from now, instead of the time that answers usually may."""
        self.request = replace(self.request, busy_until=self._busy_until(seconds))
        await self._remember(self.request)

    async def settle(self) -> None:
        """The request was carried out, well or not: from now on its outcome is given."""
        await self._remember(self.settled())

    async def forget(self) -> None:
        """The request was refused: nothing came of it, and it may be made again."""
        if self.key:
            await run_to_end(self.engine.requests.forget_request(self.key, self.context))

    def _busy_until(self, seconds: float) -> float:
        return time.time() + seconds + self.engine.turns.lease_seconds

    async def _remember(self, request: RememberedRequest) -> None:
        if self.key:
            await run_to_end(self.engine.requests.note_request(self.key, request, self.context))


async def replay(
    engine: Engine, request: StreamingReq, known: RememberedRequest, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """The outcome of a request that was carried out: its items as they are stored now.

    Where the answer broke off, that is said as it was then: in an `error` event, behind what there is.

    Raises:
        NotFound: the thread was deleted since.
    """
    thread = await engine.store.load_thread(known.thread_id, context)
    items = [item async for item in _outcome(engine, thread, known.item_id, context)]
    return _replayed(engine, request, thread, items, context)


async def _replayed(
    engine: Engine,
    request: StreamingReq,
    thread: ThreadMetadata,
    items: list[ThreadItem],
    context: RequestContext,
) -> AsyncIterator[ThreadStreamEvent]:
    if isinstance(request, ThreadsCreateReq):
        yield ThreadCreatedEvent(thread=public_thread(thread))
    if items and isinstance(items[0], UserMessageItem):
        yield ThreadItemDoneEvent(item=items[0])
    yield StreamOptionsEvent(stream_options=engine.server.get_stream_options(thread, context))
    if items and isinstance(items[0], StructuredInputItem):
        yield ThreadItemReplacedEvent(item=items[0])
    answer = [item for item in items[1:] if not is_hidden(item)]
    for item in answer:
        yield ThreadItemDoneEvent(item=item)
    if not answer or any(isinstance(item, Interrupted) for item in answer):
        yield ErrorEvent(code="custom", message=_NOT_WHOLE, allow_retry=True)


async def _outcome(
    engine: Engine, thread: ThreadMetadata, item_id: str, context: RequestContext
) -> AsyncIterator[ThreadItem]:
    """The item that the request stored or changed, and what follows it up to the reader's next message."""
    try:
        yield await engine.store.load_item(thread.id, item_id, context)
    except NotFoundError:
        return
    async for item in items_after(engine, thread.id, item_id, context):
        if isinstance(item, UserMessageItem):
            return
        yield item


async def _was_given_up(
    engine: Engine, request: StreamingReq, known: RememberedRequest, context: RequestContext
) -> bool:
    """Whether the process that carried it out is gone: then nobody holds the lease of its thread any more."""
    if not known.thread_id or isinstance(request, ThreadsCustomActionReq):
        return False
    holder = new_id("lse")
    if not await engine.leases.take_lease(known.thread_id, holder, 1.0, context):
        return False
    await run_to_end(engine.leases.release_lease(known.thread_id, holder, context))
    return True


def _fingerprint(request: StreamingReq) -> str:
    return sha256(orjson.dumps(request.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)).hexdigest()
