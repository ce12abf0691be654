"""ChatKit's operations, one function each.

A streaming operation checks everything that can be checked before it returns its events: what is raised there can
still become an HTTP status. What fails later is told in the stream.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from chatkit.server import ChatKitServer
from chatkit.types import (
    ItemsListReq,
    Page,
    Thread,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadMetadata,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsGetByIdReq,
    ThreadsListReq,
    ThreadsRetryAfterItemReq,
    ThreadStreamEvent,
    UserMessageInput,
    UserMessageItem,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.protocol.events import is_hidden, public_thread, visible_items
from chatkit_rag.protocol.turn import Turn
from chatkit_rag.stores.paging import MAX_LIMIT, clamped
from chatkit_rag.stores.shielding import run_to_end

Server = ChatKitServer[RequestContext]
Events = AsyncGenerator[ThreadStreamEvent, None]

DEFAULT_PAGE = 20


async def create_thread(server: Server, request: ThreadsCreateReq, context: RequestContext) -> Events:
    """`threads.create`: a new thread with its first question, and the answer."""
    thread = ThreadMetadata(id=server.store.generate_thread_id(context), created_at=utc_now())
    await run_to_end(server.store.save_thread(thread, context))
    question = await _store_question(server, thread, request.params.input, context)
    return _answer(server, thread, question, context, [ThreadCreatedEvent(thread=public_thread(thread))])


async def add_user_message(server: Server, request: ThreadsAddUserMessageReq, context: RequestContext) -> Events:
    """`threads.add_user_message`: the next question of a thread, and the answer."""
    thread = await server.store.load_thread(request.params.thread_id, context)
    question = await _store_question(server, thread, request.params.input, context)
    return _answer(server, thread, question, context, [])


async def retry_after_item(server: Server, request: ThreadsRetryAfterItemReq, context: RequestContext) -> Events:
    """`threads.retry_after_item`: another answer to a question; what followed it goes when the new answer begins."""
    thread = await server.store.load_thread(request.params.thread_id, context)
    question = await server.store.load_item(thread.id, request.params.item_id, context)
    if not isinstance(question, UserMessageItem):
        raise InvalidRequest("only a reader's message can be answered again", details={"item_id": question.id})
    followed = [item async for item in _items_after(server, thread, question, context)]
    return _replace(server, thread, question, followed, context)


async def get_thread(server: Server, request: ThreadsGetByIdReq, context: RequestContext) -> Thread:
    """`threads.get_by_id`: the thread with its newest items, oldest of them first.

    Where there are more, `after` is the cursor for `items.list` in descending order.
    """
    thread = await server.store.load_thread(request.params.thread_id, context)
    newest = await server.store.load_thread_items(thread.id, None, DEFAULT_PAGE, "desc", context)
    return public_thread(thread, newest.model_copy(update={"data": newest.data[::-1]}))


async def list_threads(server: Server, request: ThreadsListReq, context: RequestContext) -> Page[Thread]:
    """`threads.list`: a page of the reader's threads, without items."""
    params = request.params
    page = await server.store.load_threads(_limit(params.limit), params.after, params.order, context)
    threads = [public_thread(thread) for thread in page.data]
    return Page[Thread](data=threads, has_more=page.has_more, after=page.after)


async def list_items(server: Server, request: ItemsListReq, context: RequestContext) -> Page[ThreadItem]:
    """`items.list`: a page of a thread's items."""
    params = request.params
    thread = await server.store.load_thread(params.thread_id, context)
    page = await server.store.load_thread_items(thread.id, params.after, _limit(params.limit), params.order, context)
    return visible_items(page)


async def _store_question(
    server: Server, thread: ThreadMetadata, message: UserMessageInput, context: RequestContext
) -> UserMessageItem:
    """The message as an item: stored before anything of it is acknowledged, or any model is asked."""
    question = UserMessageItem(
        id=server.store.generate_item_id("message", thread, context),
        thread_id=thread.id,
        created_at=utc_now(),
        content=message.content,
        quoted_text=message.quoted_text,
        inference_options=message.inference_options,
    )
    await run_to_end(server.store.add_thread_item(thread.id, question, context))
    return question


async def _answer(
    server: Server,
    thread: ThreadMetadata,
    question: UserMessageItem,
    context: RequestContext,
    before: Sequence[ThreadStreamEvent],
) -> Events:
    for event in [*before, ThreadItemDoneEvent(item=question)]:
        yield event
    turn = Turn(server, thread, context)
    async with aclosing(turn.stream(lambda: server.respond(thread, question, context))) as events:
        async for event in events:
            yield event


async def _replace(
    server: Server,
    thread: ThreadMetadata,
    question: UserMessageItem,
    followed: Sequence[ThreadItem],
    context: RequestContext,
) -> Events:
    """A new answer in place of what followed the question: that stays until the new one begins to exist."""
    old = list(followed)
    turn = Turn(server, thread, context)
    async with aclosing(turn.stream(lambda: server.respond(thread, question, context))) as events:
        async for event in events:
            if isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent):
                while old:
                    item = old.pop(0)
                    await run_to_end(server.store.delete_thread_item(thread.id, item.id, context))
                    if not is_hidden(item):
                        yield ThreadItemRemovedEvent(item_id=item.id)
            yield event


async def _items_after(
    server: Server, thread: ThreadMetadata, item: ThreadItem, context: RequestContext
) -> AsyncIterator[ThreadItem]:
    after: str | None = item.id
    while after is not None:
        page = await server.store.load_thread_items(thread.id, after, MAX_LIMIT, "asc", context)
        for later in page.data:
            yield later
        after = page.after if page.has_more else None


def _limit(asked: int | None) -> int:
    return DEFAULT_PAGE if asked is None else clamped(asked)
