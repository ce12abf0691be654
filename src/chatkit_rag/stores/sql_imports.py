"""What is taken over from other systems, written into the file of a `SQLiteStore`: a transaction a batch."""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

from anyio.to_thread import run_sync

from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.stores.imports import ImportBatch, ImportTarget, Kind, NothingYet, Place, Record, digest_of
from chatkit_rag.stores.sql import SQLiteStore

_TABLES: dict[Kind, str] = {"thread": "threads", "item": "items", "attachment": "attachments"}
_MEMORY = "CREATE TABLE IF NOT EXISTS imported (key BLOB NOT NULL PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID"
_BUSY_SECONDS = 30.0
"""How long a server that runs on the file may keep it locked."""

T = TypeVar("T")


class SQLiteImports:
    """An `ImportTarget` over a file, made by `sqlite_imports`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, dry_run: bool) -> None:
        self._connection = connection
        self._path = path
        # Before anything is read: who reads first and writes then is refused where another has written meanwhile.
        self._begin = "BEGIN" if dry_run else "BEGIN IMMEDIATE"

    async def in_batch(self, work: Callable[[ImportBatch], Awaitable[T]]) -> T:
        """See `ImportTarget.in_batch`."""
        try:
            await run_sync(self._connection.execute, self._begin)
            try:
                done = await work(_Batch(self._connection))
            except BaseException:
                self._connection.rollback()
                raise
            await run_sync(self._connection.commit)
        except sqlite3.Error as exc:
            raise StoreUnavailable(f"the readers' threads in {self._path} cannot be written: {exc}") from exc
        return done


@asynccontextmanager
async def sqlite_imports(path: Path, *, dry_run: bool) -> AsyncGenerator[ImportTarget]:
    """Where to import into; the file and its tables are made, but for a dry run.

    Raises:
        StoreUnavailable: the file cannot be opened, or is no database.
    """
    if not dry_run:
        store = SQLiteStore(path)
        await store.open()
        await store.close()
    elif not await run_sync(path.exists):
        yield NothingYet()
        return
    try:
        connection = await run_sync(_connect, path, dry_run)
    except sqlite3.Error as exc:
        raise StoreUnavailable(f"cannot open {path} for the readers' threads: {exc}") from exc
    with closing(connection):
        remembers = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'imported'").fetchall()
        yield SQLiteImports(connection, path, dry_run=dry_run) if remembers else NothingYet()


def _connect(path: Path, dry_run: bool) -> sqlite3.Connection:  # noqa: FBT001 - `run_sync` knows no names
    address = f"{path.absolute().as_uri()}?mode={'ro' if dry_run else 'rw'}"
    # Each statement runs in a thread, one after the other.
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not dry_run:
            connection.execute(_MEMORY)
    except BaseException:
        connection.close()
        raise
    return connection


class _Batch:
    """An `ImportBatch`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def known(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `ImportBatch.known`."""
        found = await self._each("SELECT digest FROM imported WHERE key = ?", ((key,) for key in keys))
        return {key: digest for key, digest in zip(keys, found, strict=True) if digest is not None}

    async def present(self, kind: Kind, places: Sequence[Place]) -> Mapping[Place, bytes]:
        """See `ImportBatch.present`."""
        statement = f"SELECT payload FROM {_TABLES[kind]} WHERE {_at(kind)}"
        found = await self._each(statement, (_values(kind, place) for place in places))
        return {place: digest_of(payload) for place, payload in zip(places, found, strict=True) if payload is not None}

    async def add(self, kind: Kind, records: Sequence[Record]) -> None:
        """See `ImportBatch.add`."""
        names = _names(kind)
        marks = ", ".join("?" for _ in (*names, "payload"))
        await self._all(
            f"INSERT INTO {_TABLES[kind]} ({', '.join(names)}, payload) VALUES ({marks}) ON CONFLICT DO NOTHING",
            ((*_values(kind, record.place), record.payload) for record in records),
        )

    async def replace(self, kind: Kind, records: Sequence[Record], before: Sequence[bytes]) -> None:  # noqa: ARG002 - nobody writes between `present` and this
        """See `ImportBatch.replace`."""
        await self._all(
            f"UPDATE {_TABLES[kind]} SET payload = ? WHERE {_at(kind)}",
            ((record.payload, *_values(kind, record.place)) for record in records),
        )

    async def remember(self, records: Sequence[Record]) -> None:
        """See `ImportBatch.remember`."""
        await self._all(
            "INSERT INTO imported VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET digest = excluded.digest",
            ((record.key, record.digest) for record in records),
        )

    async def _each(self, statement: str, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """For each row of values, what the statement finds; None for nothing."""

        def find() -> list[Any]:
            found = (self._connection.execute(statement, row).fetchone() for row in rows)
            return [row and row[0] for row in found]

        return await run_sync(find)

    async def _all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        await run_sync(self._connection.executemany, statement, rows)


def _names(kind: Kind) -> tuple[str, ...]:
    return ("tenant", "user", "thread_id", "id") if kind == "item" else ("tenant", "user", "id")


def _values(kind: Kind, place: Place) -> tuple[str, ...]:
    tenant, user, thread_id, id_ = place
    return (tenant, user, thread_id, id_) if kind == "item" else (tenant, user, id_)


def _at(kind: Kind) -> str:
    return " AND ".join(f"{name} = ?" for name in _names(kind))
