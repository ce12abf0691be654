"""What a reading has read so far, on disk, so that one that was interrupted goes on where it stopped.

Beside it lies the lock that whoever publishes holds, so that of two readings at once none undoes the other.
"""

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import orjson
from filelock import FileLock, Timeout

from chatkit_rag.errors import IngestionError
from chatkit_rag.retrieval.manifest import PageRecord, dump_records, load_records

_log = logging.getLogger(__name__)

_PATIENCE = 600.0
"""Seconds that a reading waits for another one to publish, embedding included; what it has read is kept meanwhile."""
_LOOK_AGAIN_SECONDS = 0.2
_FRESH_SECONDS = 3600.0
"""A reading that was interrupted longer ago asks again for what it has."""


class Journal:
    """The pages of one site's reading, as they come; without a file, it keeps nothing.

    A journal stays behind when the reading ends in an error, and goes when `finish` is called. Entering raises
    IngestionError where its folder cannot be written.
    """

    def __init__(self, file: Path | None) -> None:
        self._path = file
        self._file: BinaryIO | None = None
        self.known: Mapping[str, PageRecord] = {}
        """What an interrupted reading has read, by `source`."""
        self.is_fresh = False
        """Whether it was interrupted so lately that its pages need not be asked for again."""

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._open(self._path)
            except OSError as exc:
                raise IngestionError(
                    f"cannot write to {self._path.parent}: {exc.strerror}; choose another place with --data-dir"
                ) from exc
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self, path: Path) -> None:
        self.known = {record.document.source: record for record in _whole_records(path)}
        self.is_fresh = bool(self.known) and time.time() - path.stat().st_mtime < _FRESH_SECONDS
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._file.write(b"\n")  # behind a line that was cut off

    def add(self, record: PageRecord) -> None:
        """Keeps a page that was just read; where there is no room for it, an interrupted reading reads it again."""
        if self._file is not None:
            try:
                self._file.write(dump_records([record]))
            except OSError as exc:
                _log.warning("%s cannot be written, so an interrupted run would read pages again: %s", self._path, exc)
                self._file.close()
                self._file = None

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncGenerator[None]:
        """Holds the lock of all who publish from journals in this folder; without a file, nobody is waited for.

        Raises:
            IngestionError: another one has held it for ten minutes.
        """
        if self._path is None:
            yield
            return
        lock = FileLock(self._path.with_name("publishing.lock"))
        waits_until = anyio.current_time() + _PATIENCE
        told = False
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout as exc:
                if anyio.current_time() > waits_until:
                    raise IngestionError(
                        f"another process has been publishing to {self._path.parent} for ten minutes; try again later"
                    ) from exc
            except OSError as exc:
                raise IngestionError(f"cannot write to {self._path.parent}: {exc.strerror or exc}") from exc
            if not told:
                _log.warning("another process publishes to %s: waiting until it is done", self._path.parent)
                told = True
            await anyio.sleep(_LOOK_AGAIN_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def finish(self) -> None:
        """Forgets the reading, which is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _whole_records(file: Path) -> list[PageRecord]:
    """What the file holds, but for a last line that was cut off, or lines of another version."""
    records: list[PageRecord] = []
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            records += load_records(line)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
    return records
