"""From a streaming operation to its events: once per key, one at a time per thread, stored before it is told.

claim the key ─► check ─► take the thread, store ─► events … ─► the last item, the thread given back, the key settled
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from chatkit.types import (
    StreamingReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ChatKitRagError, Conflict, ThreadFull, TooManyThreads
from chatkit_rag.protocol.beginning import Beginning
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.idempotency import Claim, replay
from chatkit_rag.protocol.lease import ThreadLease
from chatkit_rag.protocol.operations.files import claim_files
from chatkit_rag.protocol.turn import Turn
from chatkit_rag.stores.shielding import run_to_end
from chatkit_rag.stores.turns import Asked, Begun, Refusal

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
        if not isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq | ThreadsCustomActionReq):
            lease = ThreadLease(engine, request.params.thread_id, context)
            await lease.take()
        beginning = await prepare(engine, request, context)
        if isinstance(beginning.item, UserMessageItem):
            lease = ThreadLease(engine, beginning.thread.id, context)
            beginning = await _ask(engine, beginning, beginning.item, claim, lease, context)
        else:
            behind = beginning.behind or await _newest(engine, beginning, context)
            await claim.note(beginning.thread.id, behind)
            if beginning.item is not None:
                await run_to_end(engine.store.save_item(beginning.thread.id, beginning.item, context))
    except BaseException:
        await run_to_end(_give_up(engine, claim, lease, beginning, context))
        raise
    return Turn(engine, beginning, context, claim=claim, lease=lease).stream()


async def _ask(
    engine: Engine,
    beginning: Beginning,
    message: UserMessageItem,
    claim: Claim,
    lease: ThreadLease,
    context: RequestContext,
) -> Beginning:
    """The beginning with its thread and what stands in it; its message is stored, and its lease taken.

    Raises:
        ThreadBusy: an answer is being written in the thread.
        ThreadFull: it holds as many messages as it may.
        TooManyThreads: the reader has as many threads as they may.
        Conflict: the thread is locked or closed.
        NotFound: it is not there.
    """
    quotas, thread = engine.quotas, beginning.thread
    asked = Asked(
        message=message,
        holder=lease.holder,
        seconds=engine.turns.lease_seconds,
        quota=quotas.threads_per_reader if beginning.is_new else quotas.messages_per_thread,
        history=engine.history,
        key=claim.key,
        request=claim.noted(thread.id, message.id),
    )

    async def step() -> Begun | Refusal:
        if beginning.is_new:
            return await engine.steps.begin_thread(thread, asked, context)
        return await engine.steps.begin_turn(asked, context)

    begun = await lease.begin(step)
    if isinstance(begun, Refusal):
        raise _refused(begun, beginning, asked.quota)
    await claim_files(engine, beginning.files, thread.id, context)
    return replace(beginning, thread=begun.thread, history=[message, *begun.history])


def _refused(refusal: Refusal, beginning: Beginning, quota: int) -> Conflict:
    if refusal is not Refusal.FULL:
        return Conflict(f"the conversation is {refusal.value}", details={"status": refusal.value})
    if beginning.is_new:
        message = "you have as many conversations as can be kept: delete one, and begin another then"
        return TooManyThreads(message, details={"limit": quota})
    message = "this conversation holds as many messages as it may: begin a new one"
    return ThreadFull(message, details={"limit": quota, "thread_id": beginning.thread.id})


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
        if lease is not None and lease.may_be_ours and beginning is not None:
            if beginning.is_new:
                # An older thread keeps what it has claimed: another of its messages may have claimed it, too.
                if beginning.files:
                    ids = [file.id for file in beginning.files]
                    await engine.claims.release_attachments(ids, beginning.thread.id, context)
                await engine.store.delete_thread(beginning.thread.id, context)
            elif isinstance(beginning.item, UserMessageItem):
                await engine.store.delete_thread_item(beginning.thread.id, beginning.item.id, context)
        await claim.forget()
    except ChatKitRagError as exc:
        _log.warning("a refused request could not be undone: %s", type(exc).__name__)
    if lease is not None:
        await lease.release()
