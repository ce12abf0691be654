"""`LocalAttachmentStore`: readers' files in a folder of this machine."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Unpack

from chatkit_rag.stores.attachments import BaseAttachmentStore, FileOptions, StoredFile
from chatkit_rag.stores.files import FileInPlace, on_disk, pieces_of, unfinished


class LocalAttachmentStore(BaseAttachmentStore):
    """Files below `folder`, each there wholly or not at all. The disk is never waited for on the event loop."""

    def __init__(self, folder: str | Path, **options: Unpack[FileOptions]) -> None:
        """A store of files; the folder is made at the first one.

        Args:
            folder: where the files go.
            options: the `secret` that signs addresses, and what else `BaseAttachmentStore` takes.

        Raises:
            ConfigurationError: the secret is too short, or the bytes of a media type cannot be checked.
        """
        super().__init__(**options)
        self._root = Path(folder).absolute()

    @asynccontextmanager
    async def _new_file(self, key: str) -> AsyncGenerator[FileInPlace]:
        file = FileInPlace(self._root / key)
        try:
            await on_disk(file.open)
            yield file
        finally:
            await on_disk(file.discard)

    async def _open(self, key: str) -> StoredFile:
        place = self._root / key
        status = await on_disk(place.stat)
        return StoredFile(status.st_size, pieces_of(place))

    async def _holds(self, key: str) -> bool:
        return await on_disk((self._root / key).is_file)

    async def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            place = self._root / key
            await on_disk(partial(place.unlink, missing_ok=True))
            await on_disk(partial(unfinished(place).unlink, missing_ok=True))

    async def _remove_folder(self, folder: str) -> None:
        place = self._root / folder
        if await on_disk(place.exists):
            await on_disk(partial(rmtree, place))
