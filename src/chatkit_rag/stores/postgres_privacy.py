"""What a `PostgresStore` holds of its readers: told, forgotten, and not kept for longer than is wanted.

Forgetting takes two flights: the first leaves the mark in the owner's row, which everything that is being stored for
them locks or waits for, and the second finds all that came before it.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.holdings import PAGE, Row, Table, rows_in, tables
from chatkit_rag.stores.postgres_database import PostgresDatabase
from chatkit_rag.stores.postgres_statements import deleted_at
from chatkit_rag.stores.privacy import MARK_LIFETIME, NEWEST_ITEMS, Deleted, Holding, Owner
from chatkit_rag.stores.rows import attachment_from_json, document_from_json, read_row, second_of

_LONG_SECONDS = 30.0
"""For what touches many rows."""
_OWNER = "tenant = $1 AND user_id = $2"


class PostgresPrivacy:
    """`ListsHoldings`, `DeletesUsers` and `Purges`, for a store over `_database`."""

    _database: PostgresDatabase

    async def holdings(self, context: RequestContext) -> AsyncGenerator[Holding]:
        """See `ListsHoldings.holdings`."""
        for table in _TABLES:
            read = partial(self._database.read, _page_of(table, self._database.schema), *context.owner)
            async for holding in rows_in(table, lambda last, read=read: read(*last)):
                yield holding

    async def delete_user(self, context: RequestContext) -> Deleted:
        """See `DeletesUsers.delete_user`."""
        sql = _statements(self._database.schema)
        marked = await self._database.change(sql.mark, *context.owner, patience=_LONG_SECONDS)
        [(last,)] = marked
        [(threads, attachments)] = await self._database.change(sql.delete, *context.owner, last, patience=_LONG_SECONDS)
        return Deleted(threads, attachments)

    async def purge_threads(self, before: datetime, limit: int) -> Sequence[tuple[Owner, str]]:
        """See `Purges.purge_threads`."""
        sql = _statements(self._database.schema)
        rows = await self._database.change(sql.purge_threads, second_of(before), limit, patience=_LONG_SECONDS)
        return [((tenant, user), id_) for tenant, user, id_ in rows]

    async def unused_attachments(self) -> AsyncGenerator[tuple[Owner, Attachment]]:
        """See `Purges.unused_attachments`."""
        statement = _statements(self._database.schema).unused_attachments
        last: Sequence[Any] | None = ("", "", "")
        while last is not None:
            page = await self._database.read(statement, *last)
            for tenant, user, id_, payload in page:
                if attachment := read_row(id_, payload, "attachment", attachment_from_json):
                    yield (tenant, user), attachment
            last = page[-1][:3] if len(page) == PAGE else None

    async def purge_expired(self) -> int:
        """See `Purges.purge_expired`."""
        sql = _statements(self._database.schema)
        [(expired,)] = await self._database.change(sql.purge_expired, patience=_LONG_SECONDS)
        return expired


def _request(row: Row) -> dict[str, Any]:
    key, payload, expires = row
    return {"key": key, **document_from_json(payload), "expires": expires}


_TABLES = tables(
    Table("requests", ("key",), ("",), ("payload", "extract(epoch FROM expires)::float8"), _request),
    until="extract(epoch FROM until)::float8",
)


def _page_of(table: Table, schema: str) -> str:
    key, types = ", ".join(table.key), {str: "text", int: "bigint"}
    places = ", ".join(f"${number}::{types[type(value)]}" for number, value in enumerate(table.first, 3))
    return f"""
        SELECT {", ".join((*table.key, *table.columns))} FROM "{schema}".{table.kind}
        WHERE {_OWNER} AND ({key}) > ({places}) ORDER BY {key} LIMIT {PAGE}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    mark: str
    """The number of the newest thread that there was."""
    delete: str
    """How many threads and attachments went."""
    purge_threads: str
    unused_attachments: str
    purge_expired: str
    """How much was removed."""


@cache
def _statements(schema: str) -> _Statements:
    s = f'"{schema}"'
    expired = f"now() - make_interval(secs => {MARK_LIFETIME.total_seconds()})"
    same_owner = "{0}.tenant = {1}.tenant AND {0}.user_id = {1}.user_id"
    return _Statements(
        # The clock's own time, not the statement's, which may have waited for those who are storing something.
        mark=f"""
            INSERT INTO {s}.owners AS owner (tenant, user_id, thread_seq, deleted_at)
            VALUES ($1, $2, 0, clock_timestamp())
            ON CONFLICT (tenant, user_id) DO UPDATE SET deleted_at = clock_timestamp()
            RETURNING thread_seq""",
        # Threads that were begun since are another life's. Items, feedback and leases go by their foreign keys.
        delete=f"""
            WITH thread AS (DELETE FROM {s}.threads WHERE {_OWNER} AND seq <= $3 RETURNING 1),
            attachment AS (DELETE FROM {s}.attachments WHERE {_OWNER} RETURNING 1),
            request AS (DELETE FROM {s}.requests WHERE {_OWNER})
            SELECT (SELECT count(*) FROM thread), (SELECT count(*) FROM attachment)""",
        # A thread whose number has changed since it was looked at has got an item, and stays.
        purge_threads=f"""
            WITH old AS MATERIALIZED (
                SELECT tenant, user_id, id, item_seq FROM {s}.threads AS thread
                WHERE {_second("payload")} < $1
                AND NOT EXISTS (
                    SELECT FROM (
                        SELECT payload FROM {s}.items AS item
                        WHERE {same_owner.format("item", "thread")} AND thread_id = thread.id
                        ORDER BY seq DESC LIMIT {NEWEST_ITEMS}
                    ) AS newest WHERE {_second("newest.payload")} >= $1
                )
                AND NOT EXISTS (
                    SELECT FROM {s}.leases AS lease
                    WHERE {same_owner.format("lease", "thread")} AND thread_id = thread.id AND until > now()
                )
                LIMIT $2::int
            )
            DELETE FROM {s}.threads AS thread USING old
            WHERE {same_owner.format("thread", "old")} AND thread.id = old.id AND thread.item_seq = old.item_seq
            RETURNING thread.tenant, thread.user_id, thread.id""",
        unused_attachments=f"""
            SELECT tenant, user_id, id, payload FROM {s}.attachments AS file
            WHERE (tenant, user_id, id) > ($1, $2, $3) AND NOT EXISTS (
                SELECT FROM {s}.threads AS thread
                WHERE {same_owner.format("thread", "file")}
                AND thread.id = substring(file.payload FROM '"thread_id"\\s*:\\s*"([^"]*)"')
            )
            ORDER BY tenant, user_id, id LIMIT {PAGE}""",
        # An owner's row is their counter of threads; where it has counted since it was looked at, it stays.
        purge_expired=f"""
            WITH lease AS (DELETE FROM {s}.leases WHERE until <= now() RETURNING 1),
            request AS (DELETE FROM {s}.requests WHERE expires <= now() RETURNING 1),
            mark AS (
                DELETE FROM {s}.owners AS owner USING (
                    SELECT tenant, user_id, thread_seq FROM {s}.owners AS one
                    WHERE NOT EXISTS (SELECT FROM {s}.threads AS thread WHERE {same_owner.format("thread", "one")})
                ) AS idle
                WHERE {same_owner.format("owner", "idle")} AND owner.thread_seq = idle.thread_seq
                AND coalesce({deleted_at("owner")} < {expired}, true)
                RETURNING {deleted_at("owner")} AS at
            )
            SELECT (SELECT count(*) FROM lease) + (SELECT count(*) FROM request) + (SELECT count(at) FROM mark)""",
    )


def _second(payload: str) -> str:
    """The second of a record's time; nothing of one that cannot be read. Texts, since a cast fails for what is no time.

    A string within JSON has its quotes behind backslashes: the name can stand in no title.
    """
    return f"""substring({payload} FROM '"created_at"\\s*:\\s*"(.{{19}})') COLLATE "C\""""
