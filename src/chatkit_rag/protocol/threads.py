"""What several operations ask of a thread before they do anything with it."""

from collections.abc import AsyncIterator

from chatkit.types import ThreadItem, ThreadMetadata, ThreadsCustomActionReq, ThreadsSyncCustomActionReq, WidgetItem

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import Conflict, InvalidRequest
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.hook_store import for_hooks
from chatkit_rag.protocol.items import find_item
from chatkit_rag.protocol.structured import offers_action
from chatkit_rag.stores.paging import MAX_LIMIT


async def open_thread(engine: Engine, thread_id: str, context: RequestContext) -> ThreadMetadata:
    """The thread, if it still takes messages.

    Raises:
        NotFound: it is not there.
        Conflict: it is locked or closed.
    """
    thread = await engine.store.load_thread(thread_id, context)
    if thread.status.type != "active":
        raise Conflict(f"the conversation is {thread.status.type}", details={"status": thread.status.type})
    return thread


async def sender_of(
    engine: Engine,
    thread: ThreadMetadata,
    request: ThreadsCustomActionReq | ThreadsSyncCustomActionReq,
    context: RequestContext,
) -> WidgetItem | None:
    """The widget that an action comes from, as hooks see it; None where the request names none.

    Raises:
        NotFound: the thread has no such item.
        InvalidRequest: it is no widget, or offers no such action.
    """
    if request.params.item_id is None:
        return None
    item = await find_item(engine.store, thread.id, request.params.item_id, context)
    if not isinstance(item, WidgetItem) or not offers_action(item, request.params.action.type):
        raise InvalidRequest("the widget offers no such action", details={"item_id": request.params.item_id})
    return for_hooks(item)


async def items_after(
    engine: Engine, thread_id: str, after: str | None, context: RequestContext
) -> AsyncIterator[ThreadItem]:
    """The items of a thread behind one of them, or all, oldest first."""
    while True:
        page = await engine.store.load_thread_items(thread_id, after, MAX_LIMIT, "asc", context)
        for item in page.data:
            yield item
        if not page.has_more or page.after is None:
            return
        after = page.after
