"""The files that readers attach: their records, their signed addresses, and what is checked of their bytes.

    attachments.create ─► a record with a signed address ─► the client uploads there, once ─► the record is complete
    POST /attachments  ─► a record that waits in the same way ─► its bytes ─► the record is complete

The record is kept by the `Store`, and is there before any byte: what a crash leaves behind is found by it. Only bytes
are kept here, by `attachments_local` in a folder and by `attachments_s3` in a bucket. What a client says of a file
never becomes a path: a file is named by its attachment's id, below a hash of its owner.
"""

import json
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol, Required, TypedDict, runtime_checkable

from chatkit.store import AttachmentStore
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from pydantic import AnyUrl

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import (
    AddressUnknown,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    PayloadTooLarge,
    TooManyFiles,
    UnsupportedMediaType,
)
from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.links import Link, Purpose, SignedLinks
from chatkit_rag.stores.media import HEAD_BYTES, MEDIA_TYPES, RASTER_IMAGES, display_name, looks_like, media_type_of

LARGEST_FILE = 10 * 1024 * 1024
UPLOAD_LIFETIME = timedelta(minutes=10)
PREVIEW_LIFETIME = timedelta(hours=1)
"""How long an image's preview can be opened: for as long as a page stays open, not by whom the address leaks to."""

SIZE = "size"
"""In a record's metadata, the bytes of its file; as declared, until it is there. Clients never see metadata."""

_WITH_THE_RECORD = AnyUrl("about:blank")
"""The upload's address of a file whose bytes come with the request that makes its record: nobody is told one."""

_ID = re.compile(r"[a-z]+_[0-9a-z]{8,64}")
"""Ours and ChatKit's own: no id of this form is a path, nor a device's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuota:
    """How much a reader may have lying here; 0 for any number."""

    files: int = 200
    bytes: int = 500 * 1024 * 1024

    @property
    def is_set(self) -> bool:
        """Whether there is anything to check."""
        return self.files > 0 or self.bytes > 0

    def check(self, held: Sequence[Attachment]) -> None:
        """Raises TooManyFiles where these are more, or larger; what waits for its upload counts as it was declared."""
        size = sum((attachment.metadata or {}).get(SIZE, 0) for attachment in held)
        if 0 < self.files < len(held) or 0 < self.bytes < size:
            raise TooManyFiles(
                "you have as many files here as can be kept: delete conversations with files first",
                details={"limit_files": self.files, "limit_bytes": self.bytes},
            )


@runtime_checkable
class KeepsFiles(Protocol):
    """What an attachment store may have besides ChatKit's methods; without it, a record says all that is known."""

    async def holds(self, attachment_id: str, context: RequestContext) -> bool:
        """Whether the owner's file is there, wholly."""
        ...

    async def delete_attachments(self, attachment_ids: Iterable[str], context: RequestContext) -> None:
        """Removes several files of one owner; those that are not there are passed over."""
        ...

    async def delete_owner(self, owner: tuple[str, str]) -> None:
        """Removes every file of the owner (`(tenant, id)`), whether or not there is a record of it."""
        ...

    def renewed(self, attachment: Attachment, context: RequestContext) -> Attachment:
        """The record with an address of its preview that works again; to be asked whenever a record is sent out."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file to be read, once."""

    size: int
    """In bytes."""
    chunks: AsyncGenerator[bytes]
    """Raises FilesUnavailable where the rest cannot be read."""


@runtime_checkable
class ReadsFiles(Protocol):
    """What an attachment store has whose files can be read; of one without it, the model gets none."""

    async def read(self, attachment_id: str, context: RequestContext) -> StoredFile:
        """The owner's file. Raises NotFound and FilesUnavailable."""
        ...


class NewFile(Protocol):
    """A file on its way into place; without `publish`, it never was."""

    async def write(self, chunk: bytes) -> None:
        """Adds to the file. Raises FilesUnavailable."""
        ...

    async def publish(self) -> None:
        """Puts the file into place, wholly.

        Raises:
            FileExistsError: another one is there.
            FileNotFoundError: it was removed on its way.
            FilesUnavailable: it cannot be kept now.
        """
        ...


class FileOptions(TypedDict, total=False):
    """What every attachment store here takes by name, wherever its bytes are; see `BaseAttachmentStore`."""

    secret: Required[str]
    base_url: str
    media_types: Collection[str]
    largest: int
    quota: FileQuota | None
    clock: Callable[[], datetime]


class BaseAttachmentStore(AttachmentStore[RequestContext]):
    """Base of the attachment stores shipped here, each of which says in five methods where bytes are.

    A file's upload is complete when its record has no `upload_descriptor` any more and `holds` says that it is there.
    Any number of processes may share the place.
    """

    def __init__(
        self,
        *,
        secret: str,
        base_url: str = "",
        media_types: Collection[str] = MEDIA_TYPES,
        largest: int = LARGEST_FILE,
        quota: FileQuota | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Where files go is the subclass's to say.

        Args:
            secret: signs the addresses, 32 bytes or more; may be that of the session tokens.
            base_url: where browsers reach the chat's routes; empty for the address that a request came to.
            media_types: the kinds that are taken, of those in `media.MEDIA_TYPES`.
            largest: the size of the largest file, in bytes.
            quota: how much a reader may have lying here.
            clock: the present moment.

        Raises:
            ConfigurationError: the secret is too short, or the bytes of a media type cannot be checked.
        """
        if unknown := sorted(set(media_types) - MEDIA_TYPES):
            raise ConfigurationError(f"files of these kinds cannot be checked: {', '.join(unknown)}")
        self.largest = largest
        self.quota = quota or FileQuota()
        self._base_url = base_url.rstrip("/")
        self._media_types = frozenset(media_types)
        self._links = SignedLinks(secret, clock=clock)

    @abstractmethod
    def _new_file(self, key: str) -> AbstractAsyncContextManager[NewFile]:
        """A file that is going to be at `key`. Entering raises FileExistsError where one is, or is on its way."""

    @abstractmethod
    async def _open(self, key: str) -> StoredFile:
        """The file at `key`. Raises FileNotFoundError and FilesUnavailable."""

    @abstractmethod
    async def _holds(self, key: str) -> bool:
        """Whether there is a file at `key`. Raises FilesUnavailable."""

    @abstractmethod
    async def _remove(self, keys: Sequence[str]) -> None:
        """Removes what is there. Raises FilesUnavailable, and can be done again then."""

    @abstractmethod
    async def _remove_folder(self, folder: str) -> None:
        """Removes whatever has a key below `folder`. Raises FilesUnavailable, and can be done again then."""

    def generate_attachment_id(self, mime_type: str, context: RequestContext) -> str:  # noqa: ARG002 - ChatKit's signature
        """An id that sorts by time and carries 120 random bits."""
        return new_id("atc")

    async def create_attachment(self, input: AttachmentCreateParams, context: RequestContext) -> Attachment:  # noqa: A002 - ChatKit's signature
        """The record of a file that the client is going to upload to the address in `upload_descriptor`.

        The address takes one upload, of the size and kind that are declared here, within ten minutes.

        Raises:
            UnsupportedMediaType: files of this kind are not taken.
            PayloadTooLarge: it is larger than `largest`.
            InvalidRequest: it is empty.
        """
        self._check_limit(input.size)
        if input.size <= 0:
            raise InvalidRequest("the file is empty", details={"field": "size"})
        return self.describe(input.name, input.mime_type, context, size=input.size)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """Removes the file; nothing happens where there is none.

        Its record goes afterwards: until then, what a crash leaves behind can be deleted again, and used for nothing.
        """
        await self.delete_attachments([attachment_id], context)

    async def delete_attachments(self, attachment_ids: Iterable[str], context: RequestContext) -> None:
        """See `KeepsFiles.delete_attachments`."""
        await self._remove([_key(id_, context.owner) for id_ in attachment_ids])

    async def delete_owner(self, owner: tuple[str, str]) -> None:
        """See `KeepsFiles.delete_owner`."""
        await self._remove_folder(_folder(owner))

    def describe(self, name: str, media_type: str, context: RequestContext, *, size: int | None = None) -> Attachment:
        """A new record that waits for its upload, of an image for kinds that browsers draw.

        `size` is what the client declares, in bytes; None where the bytes come with this request.

        Raises:
            UnsupportedMediaType: files of this kind are not taken.
        """
        name = display_name(name)
        kind = media_type_of(media_type, name)
        if kind not in self._media_types:
            raise UnsupportedMediaType(
                "files of this kind are not taken",
                details={"media_type": media_type, "media_types": sorted(self._media_types)},
            )
        id_ = self.generate_attachment_id(kind, context)
        address = _WITH_THE_RECORD if size is None else self._address("upload", id_, UPLOAD_LIFETIME, context)
        # By POST, ChatKit's client sends a form; it sets the content type, with the boundary, itself.
        upload = AttachmentUploadDescriptor(url=address, method="POST")
        metadata = None if size is None else {SIZE: size}
        if kind not in RASTER_IMAGES:
            return FileAttachment(id=id_, name=name, mime_type=kind, upload_descriptor=upload, metadata=metadata)
        preview_url = self._address("preview", id_, PREVIEW_LIFETIME, context)
        return ImageAttachment(
            id=id_, name=name, mime_type=kind, upload_descriptor=upload, metadata=metadata, preview_url=preview_url
        )

    def complete(self, attachment: Attachment, size: int, context: RequestContext) -> Attachment:
        """The record of a file that is there, with `size` bytes."""
        metadata = {**(attachment.metadata or {}), SIZE: size}
        whole = attachment.model_copy(update={"upload_descriptor": None, "metadata": metadata})
        return self.renewed(whole, context)

    def renewed(self, attachment: Attachment, context: RequestContext) -> Attachment:
        """See `KeepsFiles.renewed`."""
        if not isinstance(attachment, ImageAttachment):
            return attachment
        preview_url = self._address("preview", attachment.id, PREVIEW_LIFETIME, context)
        return attachment.model_copy(update={"preview_url": preview_url})

    def read_link(self, purpose: Purpose, signature: str) -> Link:
        """What the signature in an address stands for. Raises Forbidden."""
        return self._links.read(purpose, signature)

    async def write(self, attachment: Attachment, chunks: AsyncIterable[bytes], context: RequestContext) -> int:
        """Stores the file, and says how many bytes it has: all of it, or nothing where this raises.

        Where the very last step is cancelled, or its outcome not heard, all of it may be there.

        Raises:
            PayloadTooLarge: it is larger than declared, or than `largest`.
            InvalidRequest: it is smaller than declared, or empty.
            UnsupportedMediaType: its first bytes are not those of the record's media type.
            Conflict: it is there already, or being written.
            NotFound: it was deleted meanwhile.
            FilesUnavailable: it cannot be kept now.
        """
        declared: int | None = (attachment.metadata or {}).get(SIZE)
        size, head = 0, b""
        try:
            async with self._new_file(_key(attachment.id, context.owner)) as file:
                async for chunk in chunks:
                    size += len(chunk)
                    self._check_limit(size, declared)
                    head += chunk[: HEAD_BYTES - len(head)]
                    await file.write(chunk)
                if size < (declared or 1):
                    raise InvalidRequest("the file is empty, or smaller than declared", details={"size": size})
                if not looks_like(attachment.mime_type, head):
                    raise UnsupportedMediaType(
                        "the file is not what it is said to be", details={"media_type": attachment.mime_type}
                    )
                await file.publish()
        except FileExistsError as exc:
            raise Conflict("the file was uploaded already", details={"attachment": attachment.id}) from exc
        except FileNotFoundError as exc:
            raise NotFound("attachment", attachment.id) from exc
        return size

    async def holds(self, attachment_id: str, context: RequestContext) -> bool:
        """See `KeepsFiles.holds`."""
        return await self._holds(_key(attachment_id, context.owner))

    async def read(self, attachment_id: str, context: RequestContext) -> StoredFile:
        """The owner's file. Raises NotFound and FilesUnavailable."""
        try:
            return await self._open(_key(attachment_id, context.owner))
        except FileNotFoundError as exc:
            raise NotFound("attachment", attachment_id) from exc

    def _check_limit(self, size: int, declared: int | None = None) -> None:
        limit = self.largest if declared is None else min(declared, self.largest)
        if size > limit:
            raise PayloadTooLarge("the file is too large", details={"limit_bytes": limit})

    def _address(self, purpose: Purpose, attachment_id: str, lifetime: timedelta, context: RequestContext) -> AnyUrl:
        base_url = self._base_url or context.base_url
        if not base_url:
            raise AddressUnknown("it is not known where the chat is reached: name the host, or give `base_url`")
        signature = self._links.sign(purpose, Link(attachment_id, context.principal), lifetime=lifetime)
        return AnyUrl(f"{base_url}/attachments/{attachment_id}?signature={signature}")


def _key(attachment_id: str, owner: tuple[str, str]) -> str:
    if not _ID.fullmatch(attachment_id):
        raise NotFound("attachment", attachment_id)
    return f"{_folder(owner)}/{attachment_id}"


def _folder(owner: tuple[str, str]) -> str:
    return sha256(json.dumps(owner).encode()).hexdigest()
