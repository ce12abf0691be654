"""The streaming turn: from a stored question to a stored answer, whatever happens on the way.

    hook ──event──► TurnItems (our ids, stored) ──event──► client

An item is stored before its `done` leaves. A turn that is cut short, because the reader left, pressed stop, or the
model failed, keeps what was written so far, marked as interrupted. Every failure ends in one `error` event, and its
exception in the log.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace
from typing import TypeGuard

from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ErrorEvent,
    SDKHiddenContextItem,
    StreamOptionsEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import ChatKitRagError, ThreadBusy
from chatkit_rag.protocol.beginning import Beginning
from chatkit_rag.protocol.engine import Engine, overrides
from chatkit_rag.protocol.events import is_hidden, public_thread
from chatkit_rag.protocol.failures import TookTooLong, error_event, log_failure
from chatkit_rag.protocol.hook_store import for_hooks
from chatkit_rag.protocol.idempotency import Claim
from chatkit_rag.protocol.items import TurnItems
from chatkit_rag.protocol.lease import ThreadLease
from chatkit_rag.protocol.leftovers import mark, stop_leftovers
from chatkit_rag.protocol.updates import is_worth_keeping
from chatkit_rag.stores.interrupted import interrupted
from chatkit_rag.stores.shielding import run_to_end

_log = logging.getLogger(__name__)

_INTERRUPTED = "The previous answer was interrupted before it was complete."
_STOPPING_SECONDS = 5.0
_HOOK_SECONDS = 4.0


class Turn:
    """One answer in one thread."""

    def __init__(
        self,
        engine: Engine,
        beginning: Beginning,
        context: RequestContext,
        *,
        claim: Claim,
        lease: ThreadLease | None = None,
    ) -> None:
        """A turn whose beginning is stored; it settles the claim and gives the lease back when it is over.

        One without a lease is not an answer: it may run beside one.
        """
        self._engine = engine
        self._beginning = beginning
        self._claim = claim
        self._lease = lease
        self._thread = for_hooks(beginning.thread)
        self._items = TurnItems(
            engine.store,
            _snapshot(self._thread),
            context,
            history=beginning.history,
            save_last=self._end if lease is not None and engine.answers_alone() else None,
            bound=self._may_run,
        )
        self._context = replace(context, turn=self._items)
        self._replaced = list(beginning.replaced)
        self._owes_answer = lease is not None
        self._step: _Step | None = None
        self._told = False
        self._ended = False

    async def stream(self) -> AsyncGenerator[ThreadStreamEvent, None]:
        """The events of the answer, for the client.

        Closing or cancelling the iterator stops the answer, and returns when what was written is stored.
        """
        growing = self._items.unfinished
        try:
            for event in self._beginning.known:
                yield event
            options = self._engine.server.get_stream_options(self._thread, self._context)
            yield StreamOptionsEvent(stream_options=options)
            async with aclosing(self._events()) as events:
                async for event in events:
                    # Nearly every event: a piece of the text of a message that has begun.
                    if _is_text(event) and (begun := growing.get(event.item_id)):
                        begun.update(event.update)
                        yield event
                        continue
                    for shown in await self._receive(event):
                        yield shown
            for event in await self._complete():
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            await run_to_end(self._cut_short(cancelled=True), within=_STOPPING_SECONDS)
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a hook raises ends this turn, and only this turn
            # Logged first: the client may be gone, and then the line after the `yield` is never reached.
            log_failure(exc)
            await run_to_end(self._cut_short(cancelled=False))
            if not self._told:
                yield error_event(exc)
        finally:
            await run_to_end(self._settle())

    async def _events(self) -> AsyncGenerator[ThreadStreamEvent, None]:
        """The hook's events; it is stopped for good when this is closed, cancelled, or takes too long."""
        step = self._step = _Step(self._items, self._engine.turns.run_seconds)
        events: AsyncIterator[ThreadStreamEvent] | None = None
        try:
            step.begin()
            events = aiter(self._beginning.respond(self._thread, self._context))
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    events = None
                    return
                except asyncio.CancelledError as exc:
                    step.check()
                    if not _is_cancelled():  # what the hook waited for was, and nobody else: that is a failure of it
                        raise RuntimeError("a hook was cancelled from within") from exc
                    raise
                finally:
                    step.end()
                yield event
                step.begin()
        finally:
            step.cancel()
            if events is not None:
                await run_to_end(self._stop(events), within=_STOPPING_SECONDS)

    async def _may_run(self, seconds: float) -> None:
        if self._step is not None:
            self._step.bound(seconds)
        if seconds > self._engine.turns.run_seconds:
            await self._claim.prolong(seconds)

    async def _receive(self, event: ThreadStreamEvent) -> list[ThreadStreamEvent]:
        """What the client is sent for a hook's event; the store agrees with it when this returns."""
        if self._lease is not None and self._lease.lost:
            raise ThreadBusy("another answer is being written in this conversation")
        received = await self._items.receive(event)
        if received is None:
            return []
        shown = [received]
        match received:
            case ThreadItemUpdatedEvent():
                # The thread is not looked at with every piece of text: comparing costs as much as sending one.
                return shown
            case ThreadItemAddedEvent() | ThreadItemDoneEvent():
                shown = [*await self._remove_replaced(), received]
                if isinstance(received, ThreadItemDoneEvent) and isinstance(received.item, AssistantMessageItem):
                    self._owes_answer = False
            case ErrorEvent():
                self._told = True
            case _:
                pass
        return [*shown, *await self._save_thread()]

    async def _remove_replaced(self) -> list[ThreadStreamEvent]:
        """Takes away what the answer replaces: it begins to exist now."""
        removed: list[ThreadStreamEvent] = []
        while self._replaced:
            item = self._replaced.pop(0)
            await run_to_end(self._engine.store.delete_thread_item(self._thread.id, item.id, self._context))
            if not is_hidden(item):
                removed.append(ThreadItemRemovedEvent(item_id=item.id))
        return removed

    async def _save_thread(self) -> list[ThreadStreamEvent]:
        """Stores what the hook has changed of the thread, and only that: a title that another tab gave stays."""
        thread = self._thread
        if thread == self._items.thread:
            return []
        await self._items.patch_thread(thread)
        self._items.thread = _snapshot(thread)
        return [ThreadUpdatedEvent(thread=public_thread(thread))]

    async def _complete(self) -> list[ThreadStreamEvent]:
        """Stores what the hook has announced and never completed, as it stands, and the thread as it left it."""
        return [*await self._items.complete(), *await self._save_thread()]

    async def _end(self, item: ThreadItem) -> None:
        """Stores the last item, and gives back the thread and the key with it."""
        if self._lease is not None:
            await self._lease.end(item, self._claim)
            self._ended = True

    async def _settle(self) -> None:
        if self._ended:
            return
        try:
            await self._claim.settle()
        except ChatKitRagError as exc:  # the client was told how the turn ended; its key is in flight for a while yet
            _log.warning("the outcome of a request could not be noted: %s", type(exc).__name__)
        if self._lease is not None:
            await self._lease.release()

    async def _stop(self, events: AsyncIterator[ThreadStreamEvent]) -> None:
        """Ends the hook, and what it leaves running; an iterator that cannot be closed is left to end by itself."""
        try:
            async with asyncio.timeout(_HOOK_SECONDS):
                if isinstance(events, AsyncGenerator):
                    await events.aclose()
        except Exception as exc:  # noqa: BLE001 - what a hook raises on its way out must not keep the turn from ending
            _log.exception("a hook failed while it was stopped: %s", type(exc).__name__)
        await stop_leftovers(self._items)

    async def _cut_short(self, *, cancelled: bool) -> None:
        """Stores what was written of unfinished items, and a note for the model that the answer is not whole."""
        items, store, thread = self._items, self._engine.store, self._thread
        partial = [growing.item for growing in items.unfinished.values()]
        try:
            for item in filter(is_worth_keeping, partial):
                await items.put(interrupted(item))
            if partial or self._owes_answer:
                note = SDKHiddenContextItem(
                    id=store.generate_item_id("sdk_hidden_context", thread, self._context),
                    thread_id=thread.id,
                    created_at=utc_now(),
                    content=_INTERRUPTED,
                )
                await store.add_thread_item(thread.id, note, self._context)
            items.cut_short = True
            if cancelled and overrides(self._engine.server, "handle_stream_cancelled"):
                await self._engine.server.handle_stream_cancelled(thread, partial, self._context)
        except NotFoundError:
            _log.info("the thread of an interrupted answer is gone; nothing is kept of it")
        except Exception as exc:  # noqa: BLE001 - see below
            # The turn is over either way: what remains is to say so to the client, or to let the cancellation go on.
            _log.exception("an interrupted answer could not be stored: %s", type(exc).__name__)


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _snapshot(thread: ThreadMetadata) -> ThreadMetadata:
    """A copy that what a hook does with the thread leaves alone; copying in depth takes ten times as long."""
    kept = {
        "status": thread.status.model_copy(),
        "metadata": deepcopy(thread.metadata) if thread.metadata else {},
        "allowed_image_domains": thread.allowed_image_domains and list(thread.allowed_image_domains),
    }
    return thread.model_copy(update=kept)


def _is_text(event: ThreadStreamEvent) -> TypeGuard[ThreadItemUpdatedEvent]:
    return type(event) is ThreadItemUpdatedEvent and type(event.update) is AssistantMessageContentPartTextDelta


class _Step:
    """The time in which a hook works towards its next event: bounded in sum, and what is begun in it is the turn's.

    Not `asyncio.timeout`, which may not be open while a generator has handed out an event: this one cancels its task
    only between `begin` and `end`, and otherwise says so at the next beginning.
    """

    def __init__(self, turn: object, seconds: float) -> None:
        self._turn = turn
        self._task: asyncio.Task[object] | None = None
        self._cancelled: asyncio.Task[object] | None = None
        self._waits = False
        self._passed = False
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_at(self._began + seconds, self._pass)

    def bound(self, seconds: float) -> None:
        """The steps may take so long in sum, from the first one's beginning, whatever was said before."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self._began + seconds, self._pass)

    def begin(self) -> None:
        """The hook is asked for its next event. Raises TookTooLong when its time is over."""
        if self._passed:
            raise TookTooLong
        if self._task is None:  # one task reads a stream; one that does not is told at its next step
            self._task = asyncio.current_task()
            mark(self._turn)
        self._waits = True

    def end(self) -> None:
        """It has given one, or never will."""
        self._waits = False

    def check(self) -> None:
        """The hook was cancelled. Raises TookTooLong where that is this step's doing, and nobody else's."""
        if self._cancelled is not None and not self._cancelled.uncancel():
            raise TookTooLong from None

    def cancel(self) -> None:
        """The time is not counted any more."""
        self._timer.cancel()

    def _pass(self) -> None:
        self._passed = True
        if self._waits and self._task is not None:
            self._cancelled = self._task
            self._task.cancel()
