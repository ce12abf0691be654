"""Leases and remembered requests in the file of a `SQLiteStore`, by the clock that all processes over it share."""

import sqlite3
import time
from dataclasses import astuple

from chatkit_rag.context import RequestContext
from chatkit_rag.stores import sql_statements as sql
from chatkit_rag.stores.base import NotFound, RememberedRequest
from chatkit_rag.stores.sql_file import SQLiteFile
from chatkit_rag.stores.storable import check_storable


class SQLiteCoordination:
    """`KeepsLeases` and `RemembersRequests`, for a store over `_file`."""

    _file: SQLiteFile

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`."""
        now = time.time()
        try:
            rows = await self._file.change(sql.TAKE_LEASE, *context.owner, thread_id, holder, now + seconds, now)
        except sqlite3.IntegrityError as exc:  # the only constraint left to break is the thread's existence
            raise NotFound("thread", thread_id) from exc
        return bool(rows)

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """See `KeepsLeases.release_lease`."""
        await self._file.change(sql.RELEASE_LEASE, *context.owner, thread_id, holder)

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """See `RemembersRequests.claim_request`."""
        check_storable({"key": key})
        now = time.time()
        values = (*context.owner, key, *astuple(request), now + seconds, now, now)

        def claim(connection: sqlite3.Connection) -> tuple[str, float, str, str] | None:
            if connection.execute(sql.CLAIM_REQUEST, values).fetchall():
                connection.execute(sql.FORGET_EXPIRED_REQUESTS, (now,))
                return None
            return connection.execute(sql.KNOWN_REQUEST, (*context.owner, key)).fetchone()

        known = await self._file.write(claim)
        if known is None:
            return None
        fingerprint, busy_until, thread_id, item_id = known
        return RememberedRequest(fingerprint=fingerprint, busy_until=busy_until, thread_id=thread_id, item_id=item_id)

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """See `RemembersRequests.note_request`."""
        await self._file.change(sql.NOTE_REQUEST, *astuple(request), *context.owner, key)

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """See `RemembersRequests.forget_request`."""
        await self._file.change(sql.FORGET_REQUEST, *context.owner, key)
