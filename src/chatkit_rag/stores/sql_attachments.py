"""Which thread each attachment belongs to, in the file of a `SQLiteStore`."""

import json
import sqlite3
from collections.abc import Sequence

from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.stores import sql_statements as sql
from chatkit_rag.stores.rows import attachment_from_json, read_row
from chatkit_rag.stores.sql_file import SQLiteFile


class SQLiteAttachments:
    """`ClaimsAttachments` and `ListsAttachments`, for a store over `_file`."""

    _file: SQLiteFile

    async def claim_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> bool:
        """See `ClaimsAttachments.claim_attachments`."""
        ids = sorted(set(attachment_ids))
        wanted = json.dumps(ids)

        def claim(connection: sqlite3.Connection) -> bool:
            free = connection.execute(sql.CLAIMABLE_ATTACHMENTS, (*context.owner, wanted, thread_id, thread_id))
            if len(free.fetchall()) < len(ids):
                return False
            connection.executemany(sql.CLAIM_ATTACHMENT, [(thread_id, *context.owner, id_) for id_ in ids])
            return True

        return await self._file.write(claim)

    async def release_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> None:
        """See `ClaimsAttachments.release_attachments`."""
        wanted = json.dumps(list(attachment_ids))
        await self._file.change(sql.RELEASE_ATTACHMENT, *context.owner, wanted, thread_id)

    async def load_attachments(self, context: RequestContext) -> Sequence[Attachment]:
        """See `ListsAttachments.load_attachments`."""
        rows = await self._file.read(sql.LOAD_ATTACHMENTS, *context.owner)
        found = (read_row(id_, payload, "attachment", attachment_from_json) for id_, payload in rows)
        return [attachment for attachment in found if attachment is not None]
