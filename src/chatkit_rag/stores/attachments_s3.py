"""`S3AttachmentStore`: readers' files in a bucket of AWS S3, or of any service that speaks its protocol.

Bytes come and go through this process, never by addresses of the service. So a file is checked before it is stored
rather than after, and the bucket needs no rules for browsers and may be out of their reach.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Unpack

from chatkit_rag.errors import MissingExtra
from chatkit_rag.stores.attachments import BaseAttachmentStore, FileOptions, StoredFile
from chatkit_rag.stores.files import on_disk
from chatkit_rag.stores.shielding import run_to_end

if TYPE_CHECKING:
    from chatkit_rag.stores.s3_bucket import Bucket

PATIENCE_SECONDS = 20.0


class S3AttachmentStore(BaseAttachmentStore):
    """Files as objects below `prefix` in `bucket`, each there wholly or not at all.

    A service that is away is waited for `patience` seconds by each operation, which raises FilesUnavailable then; when
    it comes back, the next operation finds it. The service must know conditional writes (`If-None-Match`), as AWS,
    MinIO, R2 and Ceph do.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        prefix: str = "",
        path_style: bool = True,
        access_key: str = "",
        secret_key: str = "",
        patience: float = PATIENCE_SECONDS,
        **options: Unpack[FileOptions],
    ) -> None:
        """Connects to nothing yet.

        Args:
            bucket: the bucket, which is there already.
            endpoint: the address of the service; empty for AWS.
            region: the bucket's region; `auto` for R2.
            prefix: a folder within the bucket; empty for the bucket itself.
            path_style: whether the bucket is named in the path (`endpoint/bucket/…`); else in the host
                (`bucket.endpoint/…`).
            access_key: the key's id; empty for what the AWS client finds by itself: its own environment variables, the
                role of a container or machine, a web identity.
            secret_key: the key, where `access_key` is given.
            patience: the seconds that an operation may take, with all that it tries.
            options: the `secret` that signs addresses, and what else `BaseAttachmentStore` takes.

        Raises:
            ConfigurationError: the secret is too short, the bytes of a media type cannot be checked, or the client is
                not installed.
        """
        super().__init__(**options)
        try:
            from chatkit_rag.stores.s3_bucket import Bucket
        except ImportError as exc:
            raise MissingExtra("keeping readers' files on S3", "s3") from exc
        self._bucket: Bucket = Bucket(
            bucket,
            prefix=prefix.strip("/"),
            endpoint=(endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/"),
            region=region,
            path_style=path_style,
            keys=(access_key, secret_key) if access_key else None,
            patience=patience,
        )
        self._patience = patience

    @asynccontextmanager
    async def _new_file(self, key: str) -> AsyncGenerator["_Upload"]:
        file = await on_disk(partial(TemporaryFile, "w+b"))
        try:
            yield _Upload(self._bucket, key, file)
        finally:
            await on_disk(file.close)

    async def _open(self, key: str) -> StoredFile:
        return StoredFile(*await self._bucket.get(key))

    async def _holds(self, key: str) -> bool:
        return await self._bucket.holds(key)

    async def _remove(self, keys: Sequence[str]) -> None:
        if keys:
            await run_to_end(self._bucket.delete(keys), within=self._patience)

    async def _remove_folder(self, folder: str) -> None:
        while keys := await self._bucket.some_below(folder):
            await self._remove(keys)


class _Upload:
    """A `NewFile` that waits in a temporary file until it was checked."""

    def __init__(self, bucket: "Bucket", key: str, file: IO[bytes]) -> None:
        self._bucket = bucket
        self._key = key
        self._file = file

    async def write(self, chunk: bytes) -> None:
        """See `NewFile.write`."""
        await on_disk(partial(self._file.write, chunk))

    async def publish(self) -> None:
        """See `NewFile.publish`."""
        await on_disk(partial(self._file.seek, 0))
        await self._bucket.put(self._key, self._file)
