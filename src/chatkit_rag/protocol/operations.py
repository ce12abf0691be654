"""ChatKit's operations, one function each.

A streaming operation checks everything that can be checked before it returns its events: what is raised there can
still become an HTTP status. What fails later is told in the stream.
"""

from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from chatkit.server import ChatKitServer
from chatkit.store import AttachmentStore
from chatkit.types import (
    AssistantMessageItem,
    Attachment,
    AttachmentsCreateReq,
    AttachmentsDeleteReq,
    AudioInput,
    ClientToolCallItem,
    InputTranscribeReq,
    ItemsFeedbackReq,
    ItemsListReq,
    Page,
    StructuredInputItem,
    SyncCustomActionResponse,
    Thread,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsDeleteReq,
    ThreadsGetByIdReq,
    ThreadsListReq,
    ThreadsRetryAfterItemReq,
    ThreadsSyncCustomActionReq,
    ThreadStreamEvent,
    ThreadsUpdateReq,
    TranscriptionResult,
    UserMessageInput,
    UserMessageItem,
    WidgetItem,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import Conflict, InvalidRequest, Unsupported
from chatkit_rag.protocol.events import is_hidden, public_thread, visible_items
from chatkit_rag.protocol.structured import offers_action, with_answers
from chatkit_rag.protocol.turn import Turn
from chatkit_rag.stores.base import patch_thread
from chatkit_rag.stores.paging import MAX_LIMIT, clamped
from chatkit_rag.stores.shielding import run_to_end

Server = ChatKitServer[RequestContext]
Events = AsyncGenerator[ThreadStreamEvent, None]

DEFAULT_PAGE = 20
_AUDIO_TYPES = {"audio/webm", "audio/ogg", "audio/mp4"}


async def create_thread(server: Server, request: ThreadsCreateReq, context: RequestContext) -> Events:
    """`threads.create`: a new thread with its first question, and the answer."""
    files = await _own_files(server, request.params.input, context)
    thread = ThreadMetadata(id=server.store.generate_thread_id(context), created_at=utc_now())
    await run_to_end(server.store.save_thread(thread, context))
    question = await _store_question(server, thread, request.params.input, files, context)
    known = [ThreadCreatedEvent(thread=public_thread(thread)), ThreadItemDoneEvent(item=question)]
    return _answer(server, thread, question, context, known)


async def add_user_message(server: Server, request: ThreadsAddUserMessageReq, context: RequestContext) -> Events:
    """`threads.add_user_message`: the next question of a thread, and the answer."""
    thread = await _open_thread(server, request.params.thread_id, context)
    files = await _own_files(server, request.params.input, context)
    question = await _store_question(server, thread, request.params.input, files, context)
    return _answer(server, thread, question, context, [ThreadItemDoneEvent(item=question)])


async def retry_after_item(server: Server, request: ThreadsRetryAfterItemReq, context: RequestContext) -> Events:
    """`threads.retry_after_item`: another answer to a question; what followed it goes when the new answer begins."""
    thread = await _open_thread(server, request.params.thread_id, context)
    question = await server.store.load_item(thread.id, request.params.item_id, context)
    if not isinstance(question, UserMessageItem):
        raise InvalidRequest("only a reader's message can be answered again", details={"item_id": question.id})
    followed = [item async for item in _items_after(server, thread, question, context)]
    return _replace(server, thread, question, followed, context)


async def add_client_tool_output(
    server: Server, request: ThreadsAddClientToolOutputReq, context: RequestContext
) -> Events:
    """`threads.add_client_tool_output`: what the client's tool returned, and how the answer goes on.

    The result belongs to the newest call that waits for one: the request names none.
    """
    thread = await _open_thread(server, request.params.thread_id, context)
    newest = await server.store.load_thread_items(thread.id, None, DEFAULT_PAGE, "desc", context)
    call = next((item for item in newest.data if isinstance(item, ClientToolCallItem)), None)
    if call is None or call.status != "pending":
        raise Conflict("no tool call waits for a result", details={"thread_id": thread.id})
    completed = call.model_copy(update={"status": "completed", "output": request.params.result})
    await run_to_end(server.store.save_item(thread.id, completed, context))
    return _answer(server, thread, None, context)


async def add_structured_input(
    server: Server, request: ThreadsAddStructuredInputReq, context: RequestContext
) -> Events:
    """`threads.add_structured_input`: the reader's answers to questions, and how the answer goes on."""
    thread = await _open_thread(server, request.params.thread_id, context)
    item = await server.store.load_item(thread.id, request.params.item_id, context)
    if not isinstance(item, StructuredInputItem) or item.status != "pending":
        raise Conflict("these questions are not waiting for answers", details={"item_id": request.params.item_id})
    answered = with_answers(item, request.params.input)
    await run_to_end(server.store.save_item(thread.id, answered, context))
    return _answer(server, thread, None, context, [ThreadItemReplacedEvent(item=answered)])


async def custom_action(server: Server, request: ThreadsCustomActionReq, context: RequestContext) -> Events:
    """`threads.custom_action`: what a widget's button does, streamed."""
    thread = await _open_thread(server, request.params.thread_id, context)
    sender = await _sender(server, thread, request, context)
    action = request.params.action
    if type(server).action is ChatKitServer.action:
        raise Unsupported("this server has no actions")
    return Turn(server, thread, context).stream(lambda: server.action(thread, action, sender, context))


async def sync_custom_action(
    server: Server, request: ThreadsSyncCustomActionReq, context: RequestContext
) -> SyncCustomActionResponse:
    """`threads.sync_custom_action`: what a widget's button does, as one changed item, which is stored."""
    thread = await _open_thread(server, request.params.thread_id, context)
    sender = await _sender(server, thread, request, context)
    try:
        response = await server.sync_action(thread, request.params.action, sender, context)
    except NotImplementedError as exc:
        raise Unsupported("this server has no actions") from exc
    if response.updated_item is not None:
        await run_to_end(server.store.save_item(thread.id, response.updated_item, context))
    return response


async def update_thread(server: Server, request: ThreadsUpdateReq, context: RequestContext) -> Thread:
    """`threads.update`: another title; nothing else of the thread is touched."""
    title = request.params.title.strip()
    await run_to_end(patch_thread(server.store, request.params.thread_id, {"title": title}, context))
    return public_thread(await server.store.load_thread(request.params.thread_id, context))


async def delete_thread(server: Server, request: ThreadsDeleteReq, context: RequestContext) -> None:
    """`threads.delete`: the thread and all that is in it; one that is not there is NotFound."""
    thread = await server.store.load_thread(request.params.thread_id, context)
    await run_to_end(server.store.delete_thread(thread.id, context))


async def give_feedback(server: Server, request: ItemsFeedbackReq, context: RequestContext) -> None:
    """`items.feedback`: thumbs for the assistant's messages of a thread of one's own."""
    params = request.params
    thread = await server.store.load_thread(params.thread_id, context)
    item_ids = list(dict.fromkeys(params.item_ids))
    for item_id in item_ids:
        item = await server.store.load_item(thread.id, item_id, context)
        if not isinstance(item, AssistantMessageItem):
            raise InvalidRequest("feedback is for the assistant's messages", details={"item_id": item_id})
    await server.add_feedback(thread.id, item_ids, params.kind, context)


async def create_attachment(server: Server, request: AttachmentsCreateReq, context: RequestContext) -> Attachment:
    """`attachments.create`: a record of a file that is going to be uploaded."""
    attachment = await _attachment_store(server).create_attachment(request.params, context)
    await run_to_end(server.store.save_attachment(attachment, context))
    return attachment


async def delete_attachment(server: Server, request: AttachmentsDeleteReq, context: RequestContext) -> None:
    """`attachments.delete`: a file of one's own that is in no message yet, its bytes first."""
    store = _attachment_store(server)
    attachment = await server.store.load_attachment(request.params.attachment_id, context)
    if attachment.thread_id is not None:
        raise Conflict("the file belongs to a message: delete the thread", details={"attachment_id": attachment.id})
    await store.delete_attachment(attachment.id, context)
    await run_to_end(server.store.delete_attachment(attachment.id, context))


async def transcribe(server: Server, request: InputTranscribeReq, context: RequestContext) -> TranscriptionResult:
    """`input.transcribe`: speech to text, by the server's hook."""
    params = request.params
    audio_type = params.mime_type.partition(";")[0].strip().lower()
    if audio_type not in _AUDIO_TYPES:
        raise InvalidRequest("this audio cannot be read", details={"mime_types": sorted(_AUDIO_TYPES)})
    try:
        audio = b64decode(params.audio_base64, validate=True)
    except ValueError as exc:
        raise InvalidRequest("the audio is not Base64", details={"field": "params.audio_base64"}) from exc
    try:
        return await server.transcribe(AudioInput(data=audio, mime_type=params.mime_type), context)
    except NotImplementedError as exc:
        raise Unsupported("this server does not transcribe speech") from exc


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


async def _open_thread(server: Server, thread_id: str, context: RequestContext) -> ThreadMetadata:
    """The thread, if it still takes messages."""
    thread = await server.store.load_thread(thread_id, context)
    if thread.status.type != "active":
        raise Conflict(f"the conversation is {thread.status.type}", details={"status": thread.status.type})
    return thread


async def _sender(
    server: Server,
    thread: ThreadMetadata,
    request: ThreadsCustomActionReq | ThreadsSyncCustomActionReq,
    context: RequestContext,
) -> WidgetItem | None:
    """The widget that an action comes from; an action that names one must be among those that it offers."""
    if request.params.item_id is None:
        return None
    item = await server.store.load_item(thread.id, request.params.item_id, context)
    if not isinstance(item, WidgetItem) or not offers_action(item, request.params.action.type):
        raise InvalidRequest("the widget offers no such action", details={"item_id": request.params.item_id})
    return item


def _attachment_store(server: Server) -> AttachmentStore[RequestContext]:
    if server.attachment_store is None:
        raise Unsupported("this server takes no files")
    return server.attachment_store


async def _store_question(
    server: Server,
    thread: ThreadMetadata,
    message: UserMessageInput,
    files: Sequence[Attachment],
    context: RequestContext,
) -> UserMessageItem:
    """The message as an item: stored before anything of it is acknowledged, or any model is asked."""
    attachments = [file.model_copy(update={"thread_id": thread.id}) for file in files]
    for file in attachments:
        await run_to_end(server.store.save_attachment(file, context))
    question = UserMessageItem(
        id=server.store.generate_item_id("message", thread, context),
        thread_id=thread.id,
        created_at=utc_now(),
        content=message.content,
        attachments=attachments,
        quoted_text=message.quoted_text,
        inference_options=message.inference_options,
    )
    await run_to_end(server.store.add_thread_item(thread.id, question, context))
    return question


async def _own_files(server: Server, message: UserMessageInput, context: RequestContext) -> list[Attachment]:
    """The message's files: the reader's own, and in no message yet. Checked before anything is stored."""
    files = [await server.store.load_attachment(id_, context) for id_ in dict.fromkeys(message.attachments)]
    for file in files:
        if file.thread_id is not None:
            raise Conflict("the file belongs to another message", details={"attachment_id": file.id})
    return files


async def _answer(
    server: Server,
    thread: ThreadMetadata,
    question: UserMessageItem | None,
    context: RequestContext,
    before: Sequence[ThreadStreamEvent] = (),
) -> Events:
    """What is known already, then the answer; without a question, how the answer goes on."""
    for event in before:
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
