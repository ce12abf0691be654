"""The file of a `SQLiteStore`: opened at its first use, with one connection that writes and one that reads."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from chatkit_rag.errors import ConfigurationError, InvalidRequest, StoreUnavailable
from chatkit_rag.stores.shielding import run_to_end
from chatkit_rag.stores.sql_connection import SQLiteConnection
from chatkit_rag.stores.sql_tables import TABLES, VERSION

Row = Sequence[Any]
Result = TypeVar("Result")

_BUSY_SECONDS = 5.0
"""How long another process may keep the file locked."""
_AGAIN_SECONDS = 0.02


class SQLiteFile:
    """Runs statements on one file, which other processes may read and write meanwhile.

    SQLite has one writer at a time, and waiting here is cheaper than fighting for its lock. Who reads waits for nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: SQLiteConnection | None = None
        self._reader: SQLiteConnection | None = None
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    async def open(self) -> None:
        """Opens the file, and makes it and its tables where they are missing.

        Raises:
            StoreUnavailable: the folder or the file cannot be written, or the file is no database.
            ConfigurationError: the file is of a newer version.
        """
        await self._connections()

    async def close(self) -> None:
        """Carries out what waits, and closes the file; a second call does nothing."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            async with self._opening:
                reader, writer, self._reader, self._writer = self._reader, self._writer, None, None
                for connection in (reader, writer):
                    if connection is not None:
                        await connection.close()

    async def read(self, statement: str, *values: Any) -> Sequence[Row]:
        """The rows; none where a value is no text that anything could be stored under. Raises StoreUnavailable."""
        try:
            return await self.look(lambda connection: connection.execute(statement, values).fetchall())
        except UnicodeEncodeError:
            return []

    async def change(self, statement: str, *values: Any) -> Sequence[Row]:
        """As `read`, for a statement that changes what is there: carried out whatever becomes of its caller.

        Raises:
            sqlite3.IntegrityError: it would break a constraint.
            StoreUnavailable: the file cannot be used.
        """
        try:
            return await self.write(lambda connection: connection.execute(statement, values).fetchall())
        except UnicodeEncodeError:
            return []

    async def store(self, statement: str, *values: Any) -> Sequence[Row]:
        """As `change`, for a statement that stores. Raises InvalidRequest for what is no text besides."""
        try:
            return await self.write(lambda connection: connection.execute(statement, values).fetchall())
        except UnicodeEncodeError as exc:
            raise InvalidRequest("an id or the owner's name is no text that can be stored") from exc

    async def look(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """What `work` reads, in a thread. Raises what it raises; StoreUnavailable where the file cannot be used."""
        reader, _ = await self._connections()
        try:
            return await reader.put(work)
        except sqlite3.Error as exc:
            raise self._unavailable(exc) from exc

    async def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """What comes of `work`, which is carried out in a thread, wholly or not at all, whatever becomes of its caller.

        Raises what `work` raises; StoreUnavailable where the file cannot be used.
        """
        _, writer = await self._connections()
        try:
            return await run_to_end(writer.put(work))
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as exc:
            raise self._unavailable(exc) from exc

    async def _connections(self) -> tuple[SQLiteConnection, SQLiteConnection]:
        """The one that reads, and the one that writes."""
        if self._reader is not None and self._writer is not None:
            return self._reader, self._writer
        async with self._opening:
            if self._reader is None or self._writer is None:
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    async with AsyncExitStack() as opened:
                        writer = await SQLiteConnection.open(partial(self._connect, self._make_tables), writes=True)
                        opened.push_async_callback(writer.close)
                        reader = await SQLiteConnection.open(partial(self._connect, _only_read), writes=False)
                        opened.pop_all()
                except (OSError, sqlite3.Error) as exc:
                    raise StoreUnavailable(
                        f"cannot open {self._path} for the readers' threads: {exc}; "
                        "make its folder writable, or choose another with --data-dir"
                    ) from exc
                self._reader, self._writer = reader, writer
            return self._reader, self._writer

    def _connect(self, prepare: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            # What was acknowledged survives the machine losing power, not only this process dying.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """The tables in WAL mode, also where another process makes them at this moment."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._check_version(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                with connection:
                    for statement in ("BEGIN IMMEDIATE", *TABLES, f"PRAGMA user_version = {VERSION}"):
                        connection.execute(statement)
            except sqlite3.OperationalError as exc:
                # SQLite waits for every lock but the one that it needs to turn WAL mode on.
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(_AGAIN_SECONDS)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        [(version,)] = connection.execute("PRAGMA user_version")
        if version > VERSION:
            raise ConfigurationError(
                f"{self._path} is of version {version}, and this chatkit-rag knows {VERSION} at most: "
                "install the newer chatkit-rag that made it, or choose another folder with --data-dir"
            )

    def _unavailable(self, exc: sqlite3.Error) -> StoreUnavailable:
        return StoreUnavailable(f"the readers' threads in {self._path} cannot be used: {exc}")


def _only_read(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")
