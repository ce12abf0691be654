"""The first systems' databases, read in bounded pages, while their servers go on writing.

A page is one read-only statement of its own: nobody waits for the reader, and nothing is kept from being cleaned up.
It goes on behind the last row of the page before, so that it does not matter what came meanwhile.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatkit_rag.errors import ConfigurationError, StoreUnavailable
from chatkit_rag.stores.imports import Kind, Record, Unreadable
from chatkit_rag.stores.imports_rows import Layout, SourceRow
from chatkit_rag.stores.imports_s1 import S1
from chatkit_rag.stores.imports_s2 import S2
from chatkit_rag.stores.postgres_engines import migrating_engine_for
from chatkit_rag.stores.postgres_faults import Fault, fault_of, reason_of
from chatkit_rag.stores.postgres_first_statements import Column, Found, Walk, walk_of
from chatkit_rag.stores.postgres_urls import read_url

LAYOUTS = {layout.name: layout for layout in (S1, S2)}

_ROWS = 1000
_BYTES = 8 * 2**20
"""What a page may hold before its last row; a row is read whole, however long it is."""

# What is a layout's and nobody else's: later versions of it have more.
_COLUMNS = {
    "s1": {
        "chatkit_threads": {"id", "user_id", "metadata", "created_at"},
        "chatkit_thread_items": {"id", "thread_id", "item_type", "role", "content", "created_at", "sequence_number"},
    },
    "s2": {
        "threads": {"id", "user_id", "created_at", "data"},
        "items": {"id", "thread_id", "user_id", "created_at", "data"},
    },
}
_MORE = {"s1": set[str](), "s2": {"attachments"}}
_ALL_COLUMNS = sa.text("""
    SELECT space.nspname AS schema, class.relname AS relation, attribute.attname AS name,
        format_type(attribute.atttypid, attribute.atttypmod) AS type, attribute.attnotnull AS required,
        array_position(current_schemas(false), space.nspname) AS nearness
    FROM pg_attribute AS attribute
    JOIN pg_class AS class ON class.oid = attribute.attrelid
    JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE class.relname = ANY (CAST(:relations AS text[])) AND class.relkind IN ('r', 'p', 'v')
        AND attribute.attnum > 0 AND NOT attribute.attisdropped
    ORDER BY nearness NULLS LAST, space.nspname
""")


class FirstSystem:
    """The database of one of the first systems: an `ImportSource`, made by `first_system`."""

    def __init__(self, connection: AsyncConnection, found: Found, layout: Layout, *, tenant: str, label: str) -> None:
        self._connection = connection
        self._found = found
        self._layout = layout
        self._tenant = tenant
        self._label = label

    @property
    def label(self) -> str:
        """Which tables of which database are read, for people."""
        return f"{self._layout.name} in the schema {self._found.schema} of {self._label}"

    async def pages(self, kind: Kind) -> AsyncGenerator[Sequence[Record | Unreadable]]:
        """See `ImportSource.pages`."""
        walk = walk_of(self._found, kind, self._tenant)
        behind: Sequence[str] = ()
        while walk is not None and (rows := await self._page(walk, behind)):
            behind = rows[-1].keys
            yield [self._layout.record(kind, _row_of(row)) for row in rows]

    async def _page(self, walk: Walk, behind: Sequence[str]) -> Sequence[Any]:
        limits = {"rows": _ROWS, "bytes": _BYTES}
        keys = {f"behind_{number}": key for number, key in enumerate(behind)}
        with _told(self._label):
            async with self._connection.begin():
                found = await self._connection.execute(sa.text(walk.further if keys else walk.first), limits | keys)
                return found.all()


@asynccontextmanager
async def first_system(url: str, *, layout: str | None = None, tenant: str = "") -> AsyncGenerator[FirstSystem]:
    """The first system whose database is at `url`, for reading.

    Args:
        url: of a Postgres database.
        layout: `s1` or `s2`; None for the one that is there.
        tenant: the column that says which tenant a thread belongs to; empty where there is one tenant.

    Raises:
        ConfigurationError: there is no such database, none of the layouts in it, or both; or no such column.
        StoreUnavailable: it cannot be reached, or refuses us.
    """
    address = read_url(url, setting="--import-from")
    engine = migrating_engine_for(address)
    try:
        with _told(address.label):
            connection = await engine.connect()
        try:
            await connection.execution_options(postgresql_readonly=True)
            with _told(address.label):
                async with connection.begin():
                    columns = await _all_columns(connection)
            found = _chosen(columns, layout, label=address.label)
            if tenant and tenant not in found.tables[found.threads]:
                known = ", ".join(sorted(found.tables[found.threads]))
                raise ConfigurationError(f"{found.threads} has no column {tenant!r} to take tenants from, but {known}")
            yield FirstSystem(connection, found, LAYOUTS[found.layout], tenant=tenant, label=address.label)
        finally:
            await connection.close()
    finally:
        await engine.dispose()


async def _all_columns(connection: AsyncConnection) -> dict[str, dict[str, dict[str, Column]]]:
    """By schema, table and name, nearest schema first."""
    relations = sorted({name for tables in _COLUMNS.values() for name in tables} | _MORE["s2"])
    schemas: dict[str, dict[str, dict[str, Column]]] = {}
    for row in (await connection.execute(_ALL_COLUMNS, {"relations": relations})).all():
        table = schemas.setdefault(row.schema, {}).setdefault(row.relation, {})
        table[row.name] = Column(row.name, row.type, row.required)
    return schemas


def _chosen(schemas: dict[str, dict[str, dict[str, Column]]], layout: str | None, *, label: str) -> Found:
    """The tables to read. Raises ConfigurationError."""
    found = [
        Found(name, schema, {table: tables[table] for table in (*needed, *_MORE[name]) if table in tables})
        for name, needed in _COLUMNS.items()
        for schema, tables in schemas.items()
        if layout in (None, name) and all(columns <= tables.get(table, {}).keys() for table, columns in needed.items())
    ]
    if not found:
        wanted = " or ".join(
            f"{name} ({' and '.join(tables)})" for name, tables in _COLUMNS.items() if layout in (None, name)
        )
        raise ConfigurationError(f"there are no tables of {wanted} in {label}, or this user may not see them")
    if len({one.layout for one in found}) > 1:
        places = ", ".join(f"{one.layout} in the schema {one.schema}" for one in found)
        raise ConfigurationError(f"both layouts are in {label} ({places}): say which one by --layout, then the other")
    return found[0]


@contextmanager
def _told(label: str) -> Generator[None]:
    """What the driver raises, told for whoever imports. Raises StoreUnavailable."""
    try:
        yield
    except (ConfigurationError, StoreUnavailable):
        raise
    except Exception as exc:
        what = "cannot be reached" if fault_of(exc) is Fault.AWAY else "cannot be read"
        raise StoreUnavailable(f"the database to import from, {label}, {what}: {reason_of(exc)}") from exc


def _row_of(row: Any) -> SourceRow:
    return SourceRow(row.id, row.thread_id, row.user_id, row.tenant, row.created_at, row.payload, row.lost)
