"""Files that are there wholly or not at all, and waiting for the disk without holding up the event loop."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import anyio

from chatkit_rag.errors import FilesUnavailable
from chatkit_rag.stores.shielding import run_to_end

Result = TypeVar("Result")

_PIECE_BYTES = 256 * 1024


class FileInPlace:
    """A file on its way into its place: a `NewFile` on the disk. `open` and `discard` wait for the disk."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._workplace = unfinished(place)
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Raises FileExistsError where the file is there, or on its way already: one writer gets so far."""
        self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = open(self._workplace, "xb", opener=partial(os.open, mode=0o600))  # noqa: SIM115 - see discard
        if self._place.exists():
            raise FileExistsError(self._place)

    async def write(self, chunk: bytes) -> None:
        """See `NewFile.write`."""
        if self._file is not None:
            await on_disk(partial(self._file.write, chunk))

    async def publish(self) -> None:
        """See `NewFile.publish`; it is there after a power cut as well."""
        await on_disk(self._publish)

    def discard(self) -> None:
        """Removes what was written, unless it was published or never begun."""
        if self._file is not None:
            with suppress(OSError):  # a full disk refuses what is still in memory: it is not wanted any more
                self._file.close()
            self._file = None
            self._workplace.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._workplace.rename(self._place)
        self._file = None
        if os.name == "posix":  # a rename is on the disk when its folder is; Windows has no such call
            folder = os.open(self._place.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def unfinished(place: Path) -> Path:
    """Where the file of `place` is while it is being written."""
    return place.with_name(f"{place.name}.part")


async def pieces_of(place: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file. Raises FilesUnavailable where it cannot be read."""
    try:
        file = await on_disk(partial(open, place, "rb"))
    except FileNotFoundError as exc:
        raise FilesUnavailable(f"a reader's file was removed while it was sent: {place.name}") from exc
    try:
        while piece := await on_disk(partial(file.read, _PIECE_BYTES)):
            yield piece
    finally:
        await on_disk(file.close)


async def on_disk(work: Callable[[], Result]) -> Result:
    """What `work` returns, in a worker thread; it ends before its caller does, also when that is cancelled.

    Raises FilesUnavailable for what the disk refuses; that a file is there, or is not, goes through.
    """
    coroutine: Any = anyio.to_thread.run_sync(work)
    try:
        return await run_to_end(coroutine)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as exc:
        raise FilesUnavailable(f"the readers' files cannot be used: {exc.strerror or exc}") from exc
