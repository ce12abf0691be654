"""Which thread each attachment belongs to, in the database of a `PostgresStore`."""

from collections.abc import Sequence

from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.postgres_database import PostgresDatabase
from chatkit_rag.stores.rows import attachment_from_json, read_row


class PostgresAttachments:
    """`ClaimsAttachments` and `ListsAttachments`, for a store over `_database`."""

    _database: PostgresDatabase

    async def claim_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> bool:
        """See `ClaimsAttachments.claim_attachments`."""
        ids = sorted(set(attachment_ids))
        rows = await self._database.change(self._database.sql.claim_attachments, *context.owner, ids, thread_id)
        return len(rows) == len(ids)

    async def release_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> None:
        """See `ClaimsAttachments.release_attachments`."""
        ids = list(attachment_ids)
        await self._database.change(self._database.sql.release_attachments, *context.owner, ids, thread_id)

    async def load_attachments(self, context: RequestContext) -> Sequence[Attachment]:
        """See `ListsAttachments.load_attachments`."""
        rows = await self._database.read(self._database.sql.load_attachments, *context.owner)
        found = (read_row(id_, payload, "attachment", attachment_from_json) for id_, payload in rows)
        return [attachment for attachment in found if attachment is not None]
