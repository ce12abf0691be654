"""From a streaming operation to its events: once per key, one at a time per thread, stored before it is told.

claim the key ─► take the thread ─► check ─► store ─► events … ─► settle the key, give the thread back
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from chatkit.types import (
    StreamingReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ChatKitRagError
from chatkit_rag.protocol.beginning import Beginning
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.idempotency import Claim, replay
from chatkit_rag.protocol.lease import ThreadLease
from chatkit_rag.protocol.operations.files import claim_files
from chatkit_rag.protocol.turn import Turn
from chatkit_rag.stores.shielding import run_to_end

_log = logging.getLogger(__name__)

Prepare = Callable[[Engine, Any, RequestContext], Awaitable[Beginning]]
"""A streaming operation's checks."""


async def begin(
    engine: Engine, prepare: Prepare, request: StreamingReq, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """The events of the operation; what it stores of the request is stored when this returns.

    Raises:
        RequestError: it was refused; nothing was stored, and the key may be used again.
        StoreUnavailable: the store does not answer.
    """
    claim = await Claim.make(engine, request, context)
    if not isinstance(claim, Claim):
        return await replay(engine, request, claim, context)
    lease: ThreadLease | None = None
    beginning: Beginning | None = None
    try:
        # A button may be pressed while an answer is written; everything else waits for it.
        if not isinstance(request, ThreadsCreateReq | ThreadsCustomActionReq):
            lease = await ThreadLease.take(engine, request.params.thread_id, context)
        beginning = await prepare(engine, request, context)
        await claim_files(engine, beginning.files, beginning.thread.id, context)
        behind = beginning.behind or await _newest(engine, beginning, context)
        await claim.note(beginning.thread.id, behind)
        if beginning.is_new:
            await run_to_end(engine.store.save_thread(beginning.thread, context))
            lease = await ThreadLease.take(engine, beginning.thread.id, context)
        await _store(engine, beginning, context)
    except BaseException:
        await run_to_end(_give_up(engine, claim, lease, beginning, context))
        raise
    return Turn(engine, beginning, context, claim=claim, lease=lease).stream()


async def _store(engine: Engine, beginning: Beginning, context: RequestContext) -> None:
    if beginning.item is not None:
        is_new = isinstance(beginning.item, UserMessageItem)
        write = engine.store.add_thread_item if is_new else engine.store.save_item
        await run_to_end(write(beginning.thread.id, beginning.item, context))


async def _newest(engine: Engine, beginning: Beginning, context: RequestContext) -> str:
    if not context.idempotency_key:
        return ""
    page = await engine.store.load_thread_items(beginning.thread.id, None, 1, "desc", context)
    return page.data[0].id if page.data else ""


async def _give_up(
    engine: Engine, claim: Claim, lease: ThreadLease | None, beginning: Beginning | None, context: RequestContext
) -> None:
    """Undoes what was done so far; what cannot be undone is logged, and its cause is what the client is told of."""
    try:
        if beginning is not None and beginning.is_new:
            # An older thread keeps what it has claimed, to be sent again: another of its messages may have claimed it.
            if beginning.files:
                ids = [file.id for file in beginning.files]
                await engine.claims.release_attachments(ids, beginning.thread.id, context)
            await engine.store.delete_thread(beginning.thread.id, context)
        await claim.forget()
    except ChatKitRagError as exc:
        _log.warning("a refused request could not be undone: %s", type(exc).__name__)
    if lease is not None:
        await lease.release()
