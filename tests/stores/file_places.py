"""Where attachment stores put their bytes, seen without them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chatkit_rag.stores.attachments import BaseAttachmentStore
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.attachments_s3 import S3AttachmentStore
from s3_server import KEYS, Bucket

SECRET = "a secret of more than thirty-two bytes"
PLACES = ["folder", "bucket"]


class Place(Protocol):
    """A place for files, empty at first."""

    def store(self, **options: Any) -> BaseAttachmentStore: ...

    async def stored(self) -> dict[str, bytes]:
        """All that is there, by the path within the place."""
        ...

    async def lose(self, path: str) -> None: ...


@dataclass(frozen=True)
class Folder:
    path: Path

    def store(self, **options: Any) -> BaseAttachmentStore:
        return LocalAttachmentStore(self.path, **{"secret": SECRET, **options})

    async def stored(self) -> dict[str, bytes]:
        files = [path for path in self.path.rglob("*") if not path.is_dir()]
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in files}

    async def lose(self, path: str) -> None:
        (self.path / path).unlink()


@dataclass(frozen=True)
class InBucket:
    bucket: Bucket

    def store(self, **options: Any) -> BaseAttachmentStore:
        given = {"endpoint": self.bucket.endpoint, "prefix": "chat/files/", "secret": SECRET, **KEYS, **options}
        return S3AttachmentStore(self.bucket.name, **given)

    async def stored(self) -> dict[str, bytes]:
        return {key.removeprefix("chat/files/"): content for key, content in (await self.bucket.objects()).items()}

    async def lose(self, path: str) -> None:
        await self.bucket.drop(f"chat/files/{path}")


MakePlace = Callable[[str], Place]
