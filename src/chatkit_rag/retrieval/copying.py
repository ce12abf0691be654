"""Copies of the engine's files, most of which are holes."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20
_LOOKED_THROUGH = 4 << 20
"""Bytes of a file that the engine reads to the end when it opens it; the larger ones are its reserves."""


def copy_sparse(source: str, target: str) -> str:
    """Copies a file, leaving holes where it holds zeros; what is written is on the disk when it returns.

    The engine reserves 32 MB and more for what takes a few hundred KB; `shutil` would write them all out.
    """
    zeros = bytes(_BLOCK)
    with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
        for start, end in _written(reader.fileno()):
            reader.seek(start)
            writer.seek(start)
            while (left := end - reader.tell()) > 0 and (block := reader.read(min(_BLOCK, left))):
                if block == zeros[: len(block)]:
                    writer.seek(len(block), os.SEEK_CUR)
                else:
                    writer.write(block)
        writer.truncate(reader.seek(0, os.SEEK_END))
        os.fsync(writer.fileno())
    return target


def copy_ready(source: str, target: str) -> str:
    """Copies a file so that the engine waits for nothing when it opens it, and everybody for the engine.

    It looks through all of the smaller files: their holes become pages here, which takes it half of its time otherwise.
    """
    copy_sparse(source, target)
    with Path(target).open("rb", buffering=0) as copy:
        if copy.seek(0, os.SEEK_END) <= _LOOKED_THROUGH:
            copy.seek(0)
            copy.read()
    return target


def check_room(folder: Path) -> None:
    """Raises OSError where the engine could find no room when it opens the copy in the folder, and be killed.

    To look at a hole fills it where files are kept in memory, and the engine looks through all of the smaller files.
    """
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    small = [stat for stat in stats if stat.st_size <= _LOOKED_THROUGH]
    missing = sum(stat.st_size - 512 * getattr(stat, "st_blocks", 0) for stat in small)
    if shutil.disk_usage(folder).free < missing:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _written(file: int) -> Iterator[tuple[int, int]]:
    """The parts of a file between its holes, as far as the system knows of any."""
    size, end = os.fstat(file).st_size, 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
        except (AttributeError, OSError) as exc:
            if getattr(exc, "errno", None) == errno.ENXIO:  # nothing behind
                return
            start, end = end, size
        yield start, end
