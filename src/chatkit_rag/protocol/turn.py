"""The streaming turn: from a stored question to a stored answer, whatever happens on the way.

An item is stored before its `done` leaves. A turn that is cut short, because the reader left, pressed stop, or the
model failed, keeps what was written so far. Every failure ends in one `error` event, and its exception in the log.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageItem,
    ErrorEvent,
    SDKHiddenContextItem,
    StreamOptionsEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
)

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import ModelFailed, StoreUnavailable
from chatkit_rag.protocol.events import apply_update, has_text, is_visible, public_thread
from chatkit_rag.stores.base import patch_thread
from chatkit_rag.stores.shielding import run_to_end

_log = logging.getLogger(__name__)

_INTERRUPTED = "The previous answer was interrupted before it was complete."

_NO_ANSWER = "The language model gave no answer. Please try again."
_OWNER = "The assistant cannot answer at the moment. Please tell the owner of this site."
_TOLD = {
    FailureReason.AUTH: _OWNER,
    FailureReason.QUOTA: _OWNER,
    FailureReason.RATE_LIMITED: "There are too many questions just now. Please try again in a moment.",
    FailureReason.TOO_LONG: "This conversation has grown too long for the language model. Please begin a new one.",
    FailureReason.TIMEOUT: "The language model took too long. Please try again.",
    FailureReason.INCOMPLETE: "The language model stopped before its answer was complete. Please try again.",
    FailureReason.REFUSED: "The language model does not answer this.",
}
"""What a reader is told; what the operator is told stands in the log."""
_NOT_AGAIN = {FailureReason.AUTH, FailureReason.QUOTA, FailureReason.TOO_LONG, FailureReason.REFUSED}
"""Where asking the same again brings the same."""


class Turn:
    """One answer in one thread."""

    def __init__(self, server: ChatKitServer[RequestContext], thread: ThreadMetadata, context: RequestContext) -> None:
        self._server = server
        self._thread = thread
        self._context = context
        self._unfinished: dict[str, ThreadItem] = {}
        self._saved_thread = thread.model_copy(deep=True)

    async def stream(
        self, respond: Callable[[], AsyncIterator[ThreadStreamEvent]]
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """The events of the answer, for the client.

        Closing or cancelling the iterator stops the answer, and returns when what was written is stored.
        """
        yield StreamOptionsEvent(stream_options=self._server.get_stream_options(self._thread, self._context))
        try:
            async with aclosing(_as_generator(respond())) as events:
                async for event in events:
                    await self._record(event)
                    if is_visible(event):
                        yield event
                    # Compared when something else than text comes along: comparing costs as much as sending a word.
                    if not isinstance(event, ThreadItemUpdatedEvent) and (update := await self._save_thread()):
                        yield update
        except (asyncio.CancelledError, GeneratorExit):
            await run_to_end(self._keep_partial(cancelled=True))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a hook raises ends this turn, and only this turn
            # Logged first: the client may be gone, and then the line after the `yield` is never reached.
            _log_failure(exc)
            await run_to_end(self._keep_partial(cancelled=False))
            yield _error_event(exc)

    async def _record(self, event: ThreadStreamEvent) -> None:
        """Makes the store agree with the event before the client sees it."""
        store, thread_id = self._server.store, self._thread.id
        match event:
            case ThreadItemAddedEvent():
                self._unfinished[event.item.id] = event.item.model_copy(deep=True)
            case ThreadItemUpdatedEvent():
                if unfinished := self._unfinished.get(event.item_id):
                    apply_update(unfinished, event.update)
            case ThreadItemDoneEvent():
                # Whole from now on: a turn that is cut short during the write keeps this, not what led to it.
                self._unfinished[event.item.id] = event.item
                await run_to_end(store.add_thread_item(thread_id, event.item, self._context))
                self._unfinished.pop(event.item.id, None)
            case ThreadItemReplacedEvent():
                await run_to_end(store.save_item(thread_id, event.item, self._context))
                self._unfinished.pop(event.item.id, None)
            case ThreadItemRemovedEvent():
                await run_to_end(store.delete_thread_item(thread_id, event.item_id, self._context))
                self._unfinished.pop(event.item_id, None)
            case _:
                pass

    async def _save_thread(self) -> ThreadUpdatedEvent | None:
        """Stores the thread when `respond` has changed it."""
        if self._thread == self._saved_thread:
            return None
        changes = {
            name: value
            for name in ThreadMetadata.model_fields
            if (value := getattr(self._thread, name)) != getattr(self._saved_thread, name)
        }
        self._saved_thread = self._thread.model_copy(deep=True)
        # Only what this turn changed: a title that was given in another tab meanwhile stays.
        await run_to_end(patch_thread(self._server.store, self._thread.id, changes, self._context))
        return ThreadUpdatedEvent(thread=public_thread(self._thread))

    async def _keep_partial(self, *, cancelled: bool) -> None:
        """Stores what was written of unfinished messages, and a note for the model that they are not whole."""
        store, thread = self._server.store, self._thread
        partial = [item for item in self._unfinished.values() if isinstance(item, AssistantMessageItem)]
        note = SDKHiddenContextItem(
            id=store.generate_item_id("sdk_hidden_context", thread, self._context),
            thread_id=thread.id,
            created_at=utc_now(),
            content=_INTERRUPTED,
        )
        try:
            for item in [*filter(has_text, partial), note]:
                await store.add_thread_item(thread.id, item, self._context)
            if cancelled:
                await self._server.handle_stream_cancelled(thread, list(self._unfinished.values()), self._context)
        except NotFoundError:
            _log.info("the thread of an interrupted answer is gone; nothing is kept of it")
        except Exception as exc:  # noqa: BLE001 - see below
            # The turn is over either way: what remains is to say so to the client, or to let the cancellation go on.
            _log.exception("an interrupted answer could not be stored: %s", type(exc).__name__)


async def _as_generator(events: AsyncIterator[ThreadStreamEvent]) -> AsyncGenerator[ThreadStreamEvent, None]:
    """`events` with an `aclose` that reaches them; an iterator that cannot be closed is left to end by itself."""
    try:
        async for event in events:
            yield event
    except GeneratorExit:
        if isinstance(events, AsyncGenerator):
            try:
                await events.aclose()
            except Exception as exc:  # noqa: BLE001 - what a hook raises on its way out must not keep the turn from ending
                _log.exception("a hook failed while it was stopped: %s", type(exc).__name__)
        raise


def _log_failure(exc: Exception) -> None:
    """What was foreseen is a line; what was not comes with its traceback."""
    if isinstance(exc, ModelFailed | StoreUnavailable):
        _log.error("a turn failed: %s", exc)
    else:
        _log.exception("a turn failed: %s", type(exc).__name__, exc_info=exc)


def _error_event(exc: Exception) -> ErrorEvent:
    """What the client is told: never an exception's own text, unless it was written for people."""
    match exc:
        case CustomStreamError():
            return ErrorEvent(code="custom", message=exc.message, allow_retry=exc.allow_retry)
        case StreamError():
            return ErrorEvent(code=exc.code, allow_retry=exc.allow_retry)
        case ResponseFailed():
            message = _TOLD.get(exc.reason, _NO_ANSWER)
            return ErrorEvent(code="custom", message=message, allow_retry=exc.reason not in _NOT_AGAIN)
        case ModelFailed():
            message = _NO_ANSWER
        case StoreUnavailable():
            message = "The conversation cannot be stored right now. Please try again."
        case _:
            return ErrorEvent(code=ErrorCode.STREAM_ERROR, allow_retry=True)
    return ErrorEvent(code="custom", message=message, allow_retry=True)
