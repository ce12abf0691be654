"""Leases and remembered requests in the database of a `PostgresStore`, by its clock, which all processes share."""

from dataclasses import asdict
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import NotFound, RememberedRequest
from chatkit_rag.stores.postgres_database import PostgresDatabase

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_REQUEST = TypeAdapter(RememberedRequest)


class PostgresCoordination:
    """`KeepsLeases` and `RemembersRequests`, for a store over `_database`."""

    _database: PostgresDatabase

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`."""
        database = self._database
        rows = await database.refer(database.sql.take_lease, *context.owner, thread_id, holder, float(seconds))
        if rows is None:
            raise NotFound("thread", thread_id)
        return bool(rows)

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """See `KeepsLeases.release_lease`."""
        database = self._database
        await database.change(database.sql.release_lease, *context.owner, thread_id, holder)

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """See `RemembersRequests.claim_request`."""
        database, claim = self._database, uuid4().hex
        payload, given_up = remembered(request)
        values = (key, claim, payload, given_up, float(seconds))
        [(holder, known)] = await database.store(database.sql.claim_request, *context.owner, *values)
        return None if holder == claim else _REQUEST.validate_json(known)

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """See `RemembersRequests.note_request`."""
        database = self._database
        await database.change(database.sql.note_request, *context.owner, key, *remembered(request))

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """See `RemembersRequests.forget_request`."""
        database = self._database
        await database.change(database.sql.forget_request, *context.owner, key)


def remembered(request: RememberedRequest) -> tuple[str, float | None]:
    """What is kept of a request, and from when on it counts as given up; None for never."""
    return _ANY.dump_json(asdict(request)).decode(), None if request.thread_id else request.busy_until
