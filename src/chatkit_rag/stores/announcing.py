"""A new record of a reader's file, unless they have as many as they may.

The record is stored first and everything counted then, in whatever process the others came: of several at once that go
over the limit together, none may be left, but never too many.
"""

from chatkit.store import AttachmentStore
from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import TooManyFiles
from chatkit_rag.stores.attachments import BaseAttachmentStore
from chatkit_rag.stores.base import ListsAttachments, Store
from chatkit_rag.stores.shielding import run_to_end


async def announce(
    store: Store, files: AttachmentStore[RequestContext], attachment: Attachment, context: RequestContext
) -> None:
    """Stores the record.

    Raises TooManyFiles, and stores nothing then.
    """
    await run_to_end(store.save_attachment(attachment, context))
    try:
        await check_room(store, files, context)
    except TooManyFiles:
        await run_to_end(store.delete_attachment(attachment.id, context))
        raise


async def check_room(store: Store, files: AttachmentStore[RequestContext], context: RequestContext) -> None:
    """Raises TooManyFiles where the reader has more than they may; nothing for stores that cannot tell."""
    if isinstance(store, ListsAttachments) and isinstance(files, BaseAttachmentStore) and files.quota.is_set:
        files.quota.check(await store.load_attachments(context))
