"""The passages of a generation in one file: the engine finds rows, and what stands there is read here.

A line is a passage: its id, a space, and its JSON. The file is written once, and read where a passage is asked for.
"""

import mmap
from array import array
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexUnreadable

_WRITTEN = 64
"""Passages that are written at once."""


def write_passages(file: Path, passages: Iterable[Passage]) -> None:
    """Writes the passages in their order.

    Raises:
        ValueError: a passage's id is no UUID.
    """
    left = iter(passages)
    with file.open("wb") as writer:
        while lines := b"".join(map(_line, islice(left, _WRITTEN))):
            writer.write(lines)
            writer.flush()  # meanwhile the other threads go on


def _line(passage: Passage) -> bytes:
    UUID(passage.id)
    return b"%b %b\n" % (passage.id.encode(), orjson.dumps(passage))


class PassageFile:
    """What `write_passages` wrote, by row, which counts from 0. Holds the file open, also when it is removed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with file.open("rb") as opened:
            is_empty = file.stat().st_size == 0
            self._lines = b"" if is_empty else mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._starts = array("Q", [0])
        self.rows: dict[str, int] = {}
        """Id -> row."""
        while (end := self._lines.find(b"\n", start := self._starts[-1])) >= 0:
            self.rows[self._lines[start : self._lines.find(b" ", start)].decode()] = len(self.rows)
            self._starts.append(end + 1)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, row: int) -> Passage:
        """The passage of a row.

        Raises:
            IndexUnreadable: it is not as it was written.
        """
        line = self._lines[self._starts[row] : self._starts[row + 1]]
        try:
            fields: dict[str, Any] = orjson.loads(line[line.index(b" ") :])
            fields["heading_path"] = tuple(fields["heading_path"])
            return Passage(**fields)
        except (KeyError, TypeError, ValueError) as exc:
            raise IndexUnreadable(f"{self._file} is damaged; remove the index and index the pages again") from exc

    def close(self) -> None:
        """Closes the file; it can be read no more."""
        if isinstance(self._lines, mmap.mmap):
            self._lines.close()
