"""What a reading has read so far, on disk, so that one that was interrupted goes on where it stopped."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from chatkit_rag.errors import IngestionError
from chatkit_rag.retrieval.manifest import PageRecord, dump_records, load_records

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
            self._file.close()

    def _open(self, path: Path) -> None:
        self.known = {record.document.source: record for record in _whole_records(path)}
        self.is_fresh = bool(self.known) and time.time() - path.stat().st_mtime < _FRESH_SECONDS
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.write(b"\n")  # behind a line that was cut off

    def add(self, record: PageRecord) -> None:
        """Keeps a page that was just read."""
        if self._file is not None:
            self._file.write(dump_records([record]))
            self._file.flush()

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
