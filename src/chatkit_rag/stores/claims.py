"""Which thread an attachment belongs to, in this process: the fall-back for stores that cannot say it for all."""

from collections.abc import Sequence

import anyio
from chatkit.store import NotFoundError
from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import Store


class InProcessClaims:
    """`ClaimsAttachments` over the twelve methods of a store, one claim at a time.

    With several processes over the store, two of them can send one file to two threads at the same moment.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = anyio.Lock(fast_acquire=True)

    async def claim_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> bool:
        """See `ClaimsAttachments.claim_attachments`; a crash between two of them leaves the first ones claimed."""
        async with self._turn:
            attachments = [await self._load(id_, context) for id_ in attachment_ids]
            claimed = [claimed_for(thread_id, attachment) for attachment in attachments if attachment is not None]
            changed = [attachment for attachment in claimed if attachment is not None]
            if len(changed) < len(attachments):
                return False
            for attachment in changed:
                await self._store.save_attachment(attachment, context)
            return True

    async def release_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> None:
        """See `ClaimsAttachments.release_attachments`."""
        async with self._turn:
            for id_ in attachment_ids:
                attachment = await self._load(id_, context)
                if attachment is not None and attachment.thread_id == thread_id:
                    await self._store.save_attachment(attachment.model_copy(update={"thread_id": None}), context)

    async def _load(self, attachment_id: str, context: RequestContext) -> Attachment | None:
        try:
            return await self._store.load_attachment(attachment_id, context)
        except NotFoundError:
            return None


def claimed_for(thread_id: str, attachment: Attachment) -> Attachment | None:
    """The record when it belongs to the thread; None where it belongs to another one."""
    if attachment.thread_id not in (None, thread_id):
        return None
    return attachment.model_copy(update={"thread_id": thread_id})
