"""What an embedder has given and no generation holds yet, on disk: a run that is interrupted has paid for it once.

It is a file of SQLite's. A batch is in it wholly or not at all, whenever its run is killed, and runs at the same time
wait for each other.
"""

import json
import logging
import sqlite3
from array import array
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from chatkit_rag.retrieval.embedding import Vector

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

JOURNAL = "vectors.db"
"""What its file is called, beside the generations of an index."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS vectors "
    "(embedder TEXT, text TEXT, vector BLOB, PRIMARY KEY (embedder, text)) WITHOUT ROWID"
)
_FIND = "SELECT text, vector FROM vectors WHERE embedder = ? AND text IN (SELECT value FROM json_each(?))"


class VectorJournal:
    """Vectors by their embedder's signature and the digest of what was embedded, until a generation has them.

    It spares work, and never stops any: where its file cannot be read or written, the log says so, and what it would
    have held is embedded anew.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    async def find(self, embedder: str, digests: Collection[str]) -> dict[str, Vector]:
        """The vectors that this embedder has given for some of the texts, in 32 bits each."""

        def read(connection: sqlite3.Connection) -> dict[str, Vector]:
            found = connection.execute(_FIND, (embedder, json.dumps([*digests])))
            return {text: array("f", vector) for text, vector in found}

        nothing: dict[str, Vector] = {}
        return await self._do(read, nothing) if digests and self._file.exists() else nothing

    async def add(self, embedder: str, vectors: Mapping[str, Vector]) -> None:
        """Keeps vectors by the digests of their texts; they are on the disk when it returns."""

        def write(connection: sqlite3.Connection) -> None:
            # Else the file would stay as large as it ever was. It must be said before there is a table.
            connection.execute("PRAGMA auto_vacuum = FULL")
            connection.execute(_TABLE)
            rows = [(embedder, text, array("f", vector).tobytes()) for text, vector in vectors.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

        await self._do(write, None)

    async def clear(self) -> None:
        """Forgets everything. What a run at the same time has added is embedded again, should that one end early."""

        def forget(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("DELETE FROM vectors")

        # The file stays: to remove one that another run is writing to would damage the next.
        if self._file.exists():
            await self._do(forget, None)

    async def _do(self, work: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        return await anyio.to_thread.run_sync(self._try, work, otherwise)

    def _try(self, work: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file)) as connection:
                return work(connection)
        except (OSError, sqlite3.OperationalError) as exc:
            _log.warning("%s cannot be used, so an interrupted run would embed everything again: %s", self._file, exc)
        except (sqlite3.DatabaseError, ValueError) as exc:
            _log.warning("%s is damaged and is begun anew: %s", self._file, exc)
            self._file.unlink(missing_ok=True)
        return otherwise
