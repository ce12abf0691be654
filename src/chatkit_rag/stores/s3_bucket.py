"""A bucket of an S3 service: objects that are there wholly or not at all, bounded waits, and errors in our own words.

The only module that imports obstore, whose client is that of Rust's object_store: one wheel without dependencies, and
the same code that large data projects go to AWS, MinIO, R2 and Ceph with.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from chatkit_rag.errors import FilesUnavailable

if TYPE_CHECKING:
    # Not there at run time.
    from obstore import GetResult
    from obstore.store import S3Config

_CONNECT_SECONDS = 3.0
_RETRIES = 2
_PIECE_BYTES = 256 * 1024
_UPLOAD = "upload"
"""The metadata of an object that names the upload which wrote it."""


class Bucket:
    """What is below a prefix in a bucket, by key. Connects to nothing until it is asked for something.

    An operation is tried three times in `patience` seconds at most, and raises FilesUnavailable then. The service must
    know conditional writes (`If-None-Match`).
    """

    def __init__(
        self,
        name: str,
        *,
        prefix: str,
        endpoint: str,
        region: str,
        path_style: bool,
        keys: tuple[str, str] | None,
        patience: float,
    ) -> None:
        """Without `keys`, the client looks for some by itself; everything else is said here, and taken from nowhere."""
        self._label = f"the bucket {name} at {endpoint}"
        self._patience = patience
        address = _address_of(name, endpoint, path_style=path_style)
        config: S3Config = {"endpoint": address, "region": region, "virtual_hosted_style_request": not path_style}
        if keys:
            config["access_key_id"], config["secret_access_key"] = keys
        self._objects = S3Store(
            name,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": address.startswith("http://"),
                "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, patience)),
                "timeout": timedelta(seconds=patience),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=patience)},
        )

    async def put(self, key: str, file: IO[bytes]) -> None:
        """Writes an object where there is none. Raises FileExistsError."""
        upload = uuid4().hex
        try:
            async with self._asking():
                # In one request: what is begun in parts and not ended would stay in the bucket, seen by nobody.
                await obstore.put_async(
                    self._objects, key, file, mode="create", use_multipart=False, attributes={_UPLOAD: upload}
                )
        except AlreadyExistsError as exc:
            # It may be our own, written by a request whose answer was lost.
            if await self._written_by(key) != upload:
                raise FileExistsError(key) from exc
        except FileNotFoundError as exc:
            raise FilesUnavailable(f"{self._label} is not there: make it, or name another") from exc

    async def get(self, key: str) -> tuple[int, AsyncGenerator[bytes]]:
        """An object's size in bytes, and its pieces. Raises FileNotFoundError."""
        async with self._asking():
            found = await obstore.get_async(self._objects, key)
        return found.meta["size"], self._pieces(found)

    async def holds(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        try:
            async with self._asking():
                await obstore.head_async(self._objects, key)
        except FileNotFoundError:
            return False
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are passed over."""
        async with self._asking():
            await obstore.delete_async(self._objects, keys)

    async def some_below(self, folder: str) -> list[str]:
        """The keys below `folder`, or of very many a part."""
        async with self._asking():
            listing = obstore.list(self._objects, folder)  # pyright: ignore[reportUnknownMemberType] - of pyarrow's
            async for found in listing:
                return [each["path"] for each in found]
        return []

    async def _written_by(self, key: str) -> str | None:
        async with self._asking():
            found = await obstore.get_async(self._objects, key, options={"head": True})
        return found.attributes.get(_UPLOAD)

    async def _pieces(self, found: "GetResult") -> AsyncGenerator[bytes]:
        pieces = aiter(found.stream(min_chunk_size=_PIECE_BYTES))
        while True:
            async with self._asking():
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._patience):
                yield
        except (AlreadyExistsError, FileNotFoundError):
            raise
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise FilesUnavailable(
                f"{self._label} refuses us: the key needs the rights to get, put, delete and list objects"
            ) from exc
        except TimeoutError as exc:
            raise FilesUnavailable(f"{self._label} did not answer within {self._patience:g} seconds") from exc
        except (BaseError, OSError) as exc:
            raise FilesUnavailable(f"{self._label} cannot be used: {_reason(exc)}") from exc


def _address_of(bucket: str, endpoint: str, *, path_style: bool) -> str:
    """Where the client finds the bucket: an address to put the bucket's name behind, or one that has it in front."""
    if path_style:
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _reason(exc: Exception) -> str:
    """The first line; what follows is Rust's own view of the error."""
    return str(exc).partition("\n")[0]
