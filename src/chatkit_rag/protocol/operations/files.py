"""The files of messages: which may be sent, how they are shown, and that they go with their thread."""

from collections.abc import AsyncIterator, Sequence

from chatkit.types import Attachment, Page, ThreadItem, UserMessageInput, UserMessageItem

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import Conflict
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.threads import items_after
from chatkit_rag.stores.attachments import KeepsFiles
from chatkit_rag.stores.base import ListsAttachments
from chatkit_rag.stores.shielding import run_to_end

_TAKEN = "the file belongs to another conversation"


async def files_to_send(
    engine: Engine, message: UserMessageInput, context: RequestContext, *, within: str | None = None
) -> list[Attachment]:
    """The message's files: the reader's own, uploaded, and in no other thread than `within`.

    Raises:
        NotFound: one is not there, or is somebody else's.
        Conflict: one is not uploaded yet, or belongs to another thread.
    """
    files = [await engine.store.load_attachment(id_, context) for id_ in dict.fromkeys(message.attachments)]
    kept = engine.server.attachment_store
    for file in files:
        if file.thread_id not in (None, within):
            raise Conflict(_TAKEN, details={"attachment_id": file.id})
        is_here = not isinstance(kept, KeepsFiles) or await kept.holds(file.id, context)
        if file.upload_descriptor is not None or not is_here:
            raise Conflict("the file is not uploaded yet", details={"attachment_id": file.id})
    return files


async def claim_files(engine: Engine, files: Sequence[Attachment], thread_id: str, context: RequestContext) -> None:
    """Makes the files the thread's, all of them or none.

    Raises Conflict where one has become another thread's meanwhile, or is being deleted: their message is taken back.
    """
    ids = [file.id for file in files]
    if ids and not await run_to_end(engine.claims.claim_attachments(ids, thread_id, context)):
        raise Conflict(_TAKEN, details={"attachment_ids": ids})


def with_previews(engine: Engine, page: Page[ThreadItem], context: RequestContext) -> Page[ThreadItem]:
    """The page with previews that can be opened now: the addresses that were stored are good for a while only."""
    kept = engine.server.attachment_store
    if not isinstance(kept, KeepsFiles):
        return page

    def renewed(item: ThreadItem) -> ThreadItem:
        if not isinstance(item, UserMessageItem) or not item.attachments:
            return item
        files = [kept.renewed(file, context) for file in item.attachments]
        return item.model_copy(update={"attachments": files})

    return page.model_copy(update={"data": [renewed(item) for item in page.data]})


async def delete_files(engine: Engine, thread_id: str, context: RequestContext) -> None:
    """Deletes the bytes and records of a thread's files, before the thread: what fails can be done again."""
    if isinstance(engine.store, ListsAttachments):
        held = await engine.store.load_attachments(context)
        ids = [file.id for file in held if file.thread_id == thread_id]
    else:
        ids = [file.id async for file in _files_in(engine, thread_id, context)]
    kept = engine.server.attachment_store
    if isinstance(kept, KeepsFiles):
        await run_to_end(kept.delete_attachments(ids, context))
    elif kept is not None:
        for id_ in ids:
            await run_to_end(kept.delete_attachment(id_, context))
    for id_ in ids:
        await run_to_end(engine.store.delete_attachment(id_, context))


async def _files_in(engine: Engine, thread_id: str, context: RequestContext) -> AsyncIterator[Attachment]:
    async for item in items_after(engine, thread_id, None, context):
        if isinstance(item, UserMessageItem):
            for file in item.attachments:
                yield file
