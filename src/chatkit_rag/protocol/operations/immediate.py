"""The operations that answer at once, one function each."""

from base64 import b64decode
from dataclasses import replace

from chatkit.store import AttachmentStore
from chatkit.types import (
    AssistantMessageItem,
    Attachment,
    AttachmentsCreateReq,
    AttachmentsDeleteReq,
    AudioInput,
    InputTranscribeReq,
    ItemsFeedbackReq,
    ItemsListReq,
    Page,
    SyncCustomActionResponse,
    Thread,
    ThreadItem,
    ThreadItemReplacedEvent,
    ThreadsDeleteReq,
    ThreadsGetByIdReq,
    ThreadsListReq,
    ThreadsSyncCustomActionReq,
    ThreadsUpdateReq,
    TranscriptionResult,
)

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import Conflict, InvalidRequest, Unsupported
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.events import public_thread, visible_items
from chatkit_rag.protocol.hook_store import for_hooks
from chatkit_rag.protocol.items import TurnItems, find_item
from chatkit_rag.protocol.operations.files import delete_files, with_previews
from chatkit_rag.protocol.threads import open_thread, sender_of
from chatkit_rag.stores.announcing import announce
from chatkit_rag.stores.base import NO_THREAD, patch_thread
from chatkit_rag.stores.paging import DEFAULT_PAGE, clamped
from chatkit_rag.stores.shielding import run_to_end

_AUDIO_TYPES = {"audio/webm", "audio/ogg", "audio/mp4"}


async def sync_custom_action(
    engine: Engine, request: ThreadsSyncCustomActionReq, context: RequestContext
) -> SyncCustomActionResponse:
    """`threads.sync_custom_action`: what a widget's button does, as one changed item, which is stored."""
    thread = await open_thread(engine, request.params.thread_id, context)
    sender = await sender_of(engine, thread, request, context)
    items = TurnItems(engine.store, thread, context)
    inside = replace(context, turn=items)
    try:
        response = await engine.server.sync_action(for_hooks(thread), request.params.action, sender, inside)
    except NotImplementedError as exc:
        raise Unsupported("this server has no actions") from exc
    if response.updated_item is None:
        return response
    shown = await items.receive(ThreadItemReplacedEvent(item=response.updated_item))
    return SyncCustomActionResponse(updated_item=shown.item if isinstance(shown, ThreadItemReplacedEvent) else None)


async def update_thread(engine: Engine, request: ThreadsUpdateReq, context: RequestContext) -> Thread:
    """`threads.update`: another title; nothing else of the thread is touched."""
    title = request.params.title.strip()
    await run_to_end(patch_thread(engine.store, request.params.thread_id, {"title": title}, context))
    return public_thread(await engine.store.load_thread(request.params.thread_id, context))


async def delete_thread(engine: Engine, request: ThreadsDeleteReq, context: RequestContext) -> None:
    """`threads.delete`: the thread and all that is in it, files included; one that is not there is NotFound."""
    thread = await engine.store.load_thread(request.params.thread_id, context)
    if engine.server.attachment_store is not None:
        await delete_files(engine, thread.id, context)
    await run_to_end(engine.store.delete_thread(thread.id, context))


async def give_feedback(engine: Engine, request: ItemsFeedbackReq, context: RequestContext) -> None:
    """`items.feedback`: thumbs for the assistant's messages of a thread of one's own."""
    params = request.params
    thread = await engine.store.load_thread(params.thread_id, context)
    item_ids = list(dict.fromkeys(params.item_ids))
    items = [await find_item(engine.store, thread.id, item_id, context) for item_id in item_ids]
    for item in items:
        if not isinstance(item, AssistantMessageItem):
            raise InvalidRequest("feedback is for the assistant's messages", details={"item_id": item.id})
    await engine.server.add_feedback(thread.id, [item.id for item in items], params.kind, context)


async def create_attachment(engine: Engine, request: AttachmentsCreateReq, context: RequestContext) -> Attachment:
    """`attachments.create`: a record of a file that is going to be uploaded."""
    files = _attachment_store(engine)
    attachment = await files.create_attachment(request.params, context)
    await announce(engine.store, files, attachment, context)
    return attachment


async def delete_attachment(engine: Engine, request: AttachmentsDeleteReq, context: RequestContext) -> None:
    """`attachments.delete`: a file of one's own that is in no message yet, its bytes first."""
    store = _attachment_store(engine)
    attachment = await engine.store.load_attachment(request.params.attachment_id, context)
    # From here on no message can have it; and what a crash leaves of it can be deleted again.
    if not await run_to_end(engine.claims.claim_attachments([attachment.id], NO_THREAD, context)):
        raise Conflict("the file belongs to a message: delete the thread", details={"attachment_id": attachment.id})
    await store.delete_attachment(attachment.id, context)
    await run_to_end(engine.store.delete_attachment(attachment.id, context))


async def transcribe(engine: Engine, request: InputTranscribeReq, context: RequestContext) -> TranscriptionResult:
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
        return await engine.server.transcribe(AudioInput(data=audio, mime_type=params.mime_type), context)
    except NotImplementedError as exc:
        raise Unsupported("this server does not transcribe speech") from exc


async def get_thread(engine: Engine, request: ThreadsGetByIdReq, context: RequestContext) -> Thread:
    """`threads.get_by_id`: the thread with its newest items, oldest of them first.

    Where there are more, `after` is the cursor for `items.list` in descending order.
    """
    thread = await engine.store.load_thread(request.params.thread_id, context)
    newest = await _visible_page(engine, thread.id, None, DEFAULT_PAGE, "desc", context)
    return public_thread(thread).model_copy(update={"items": newest.model_copy(update={"data": newest.data[::-1]})})


async def list_threads(engine: Engine, request: ThreadsListReq, context: RequestContext) -> Page[Thread]:
    """`threads.list`: a page of the reader's threads, without items."""
    params = request.params
    page = await engine.store.load_threads(_limit(params.limit), params.after, params.order, context)
    threads = [public_thread(thread) for thread in page.data]
    return Page[Thread](data=threads, has_more=page.has_more, after=page.after)


async def list_items(engine: Engine, request: ItemsListReq, context: RequestContext) -> Page[ThreadItem]:
    """`items.list`: a page of a thread's items."""
    params = request.params
    thread = await engine.store.load_thread(params.thread_id, context)
    return await _visible_page(engine, thread.id, params.after, _limit(params.limit), params.order, context)


async def _visible_page(
    engine: Engine, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
) -> Page[ThreadItem]:
    """A page with something to see on it, where there is something: its cursor is never a hidden item's id."""
    while True:
        page = visible_items(await engine.store.load_thread_items(thread_id, after, limit, order, context))
        if page.data or not page.has_more:
            return with_previews(engine, page, context)
        after = page.after


def _attachment_store(engine: Engine) -> AttachmentStore[RequestContext]:
    if engine.server.attachment_store is None:
        raise Unsupported("this server takes no files")
    return engine.server.attachment_store


def _limit(asked: int | None) -> int:
    return DEFAULT_PAGE if asked is None else clamped(asked)
