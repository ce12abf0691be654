"""`LocalAttachmentStore`: the files that readers attach, in a folder of this machine.

    attachments.create ─► a record with a signed address ─► the client uploads there, once ─► the record is complete
    POST /attachments  ─► the bytes first, then a complete record

The record is kept by the `Store`; only bytes are kept here. What a client says of a file never becomes a path: a file
is named by its attachment's id, below a folder that is named by a hash of its owner.
"""

import json
import re
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

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
    UnsupportedMediaType,
)
from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.files import NewFile, on_disk, unfinished
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.links import Link, Purpose, SignedLinks
from chatkit_rag.stores.media import HEAD_BYTES, MEDIA_TYPES, RASTER_IMAGES, display_name, looks_like, media_type_of

LARGEST_FILE = 10 * 1024 * 1024
UPLOAD_LIFETIME = timedelta(minutes=10)
PREVIEW_LIFETIME = timedelta(hours=1)
"""How long an image's preview can be opened: for as long as a page stays open, not by whom the address leaks to."""

_ID = re.compile(r"[a-z]+_[0-9a-z]{8,64}")
"""Ours and ChatKit's own: no id of this form is a path, nor a device's name."""


@runtime_checkable
class KeepsFiles(Protocol):
    """What an attachment store may have besides ChatKit's methods; without it, a record says all that is known."""

    async def holds(self, attachment_id: str, context: RequestContext) -> bool:
        """Whether the owner's file is there, wholly."""
        ...

    async def delete_attachments(self, attachment_ids: Iterable[str], context: RequestContext) -> None:
        """Removes several files of one owner; those that are not there are passed over."""
        ...

    def renewed(self, attachment: Attachment, context: RequestContext) -> Attachment:
        """The record with an address of its preview that works again; to be asked whenever a record is sent out."""
        ...


class LocalAttachmentStore(AttachmentStore[RequestContext]):
    """Files below `folder`, each there wholly or not at all.

    A file's upload is complete when its record has no `upload_descriptor` any more and `holds` says that it is there.
    Several processes may share the folder. The disk is never waited for on the event loop.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        secret: str,
        base_url: str = "",
        media_types: Collection[str] = MEDIA_TYPES,
        largest: int = LARGEST_FILE,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """A store of files; the folder is made at the first one.

        Args:
            folder: where the files go.
            secret: signs the addresses, 32 bytes or more; may be that of the session tokens.
            base_url: where browsers reach the chat's routes; empty for the address that a request came to.
            media_types: the kinds that are taken, of those in `media.MEDIA_TYPES`.
            largest: the size of the largest file, in bytes.
            clock: the present moment.

        Raises:
            ConfigurationError: the secret is too short, or the bytes of a media type cannot be checked.
        """
        if unknown := sorted(set(media_types) - MEDIA_TYPES):
            raise ConfigurationError(f"files of these kinds cannot be checked: {', '.join(unknown)}")
        self.largest = largest
        self._folder = Path(folder).absolute()
        self._base_url = base_url.rstrip("/")
        self._media_types = frozenset(media_types)
        self._links = SignedLinks(secret, clock=clock)

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
        attachment = self.describe(input.name, input.mime_type, context)
        # By POST, ChatKit's client sends a form; it sets the content type, with the boundary, itself.
        address = AnyUrl(self._address("upload", attachment.id, UPLOAD_LIFETIME, context))
        descriptor = AttachmentUploadDescriptor(url=address, method="POST")
        return attachment.model_copy(update={"upload_descriptor": descriptor, "metadata": {"size": input.size}})

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """Removes the file; nothing happens where there is none.

        Its record goes afterwards: until then, what a crash leaves behind can be deleted again, and used for nothing.
        """
        await self.delete_attachments([attachment_id], context)

    async def delete_attachments(self, attachment_ids: Iterable[str], context: RequestContext) -> None:
        """See `KeepsFiles.delete_attachments`."""
        for attachment_id in attachment_ids:
            place = self._place(attachment_id, context)
            await on_disk(partial(place.unlink, missing_ok=True))
            await on_disk(partial(unfinished(place).unlink, missing_ok=True))

    def describe(self, name: str, media_type: str, context: RequestContext) -> Attachment:
        """A new record, of an image for kinds that browsers draw, without an address for uploading.

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
        if kind not in RASTER_IMAGES:
            return FileAttachment(id=id_, name=name, mime_type=kind)
        preview_url = AnyUrl(self._address("preview", id_, PREVIEW_LIFETIME, context))
        return ImageAttachment(id=id_, name=name, mime_type=kind, preview_url=preview_url)

    def renewed(self, attachment: Attachment, context: RequestContext) -> Attachment:
        """See `KeepsFiles.renewed`."""
        if not isinstance(attachment, ImageAttachment):
            return attachment
        preview_url = AnyUrl(self._address("preview", attachment.id, PREVIEW_LIFETIME, context))
        return attachment.model_copy(update={"preview_url": preview_url})

    def read_link(self, purpose: Purpose, signature: str) -> Link:
        """What the signature in an address stands for. Raises Forbidden."""
        return self._links.read(purpose, signature)

    async def write(self, attachment: Attachment, chunks: AsyncIterable[bytes], context: RequestContext) -> None:
        """Stores the file: all of it, or nothing where this raises or is cancelled.

        Raises:
            PayloadTooLarge: it is larger than declared, or than `largest`.
            InvalidRequest: it is smaller than declared, or empty.
            UnsupportedMediaType: its first bytes are not those of the record's media type.
            Conflict: it is there already, or being written.
            NotFound: it was deleted meanwhile.
            StoreUnavailable: the disk does not take it.
        """
        declared: int | None = (attachment.metadata or {}).get("size")
        file = NewFile(self._place(attachment.id, context))
        size, head = 0, b""
        try:
            await on_disk(file.open)
            async for chunk in chunks:
                size += len(chunk)
                self._check_limit(size, declared)
                head += chunk[: HEAD_BYTES - len(head)]
                await on_disk(partial(file.write, chunk))
            if size < (declared or 1):
                raise InvalidRequest("the file is empty, or smaller than declared", details={"size": size})
            if not looks_like(attachment.mime_type, head):
                raise UnsupportedMediaType(
                    "the file is not what it is said to be", details={"media_type": attachment.mime_type}
                )
            await on_disk(file.publish)
        except FileExistsError as exc:
            raise Conflict("the file was uploaded already", details={"attachment": attachment.id}) from exc
        except FileNotFoundError as exc:
            raise NotFound("attachment", attachment.id) from exc
        finally:
            await on_disk(file.discard)

    async def holds(self, attachment_id: str, context: RequestContext) -> bool:
        """See `KeepsFiles.holds`."""
        return await on_disk(self._place(attachment_id, context).is_file)

    async def find(self, attachment_id: str, context: RequestContext) -> Path:
        """Where the owner's file is. Raises NotFound."""
        if not await self.holds(attachment_id, context):
            raise NotFound("attachment", attachment_id)
        return self._place(attachment_id, context)

    def _check_limit(self, size: int, declared: int | None = None) -> None:
        limit = self.largest if declared is None else min(declared, self.largest)
        if size > limit:
            raise PayloadTooLarge("the file is too large", details={"limit_bytes": limit})

    def _place(self, attachment_id: str, context: RequestContext) -> Path:
        if not _ID.fullmatch(attachment_id):
            raise NotFound("attachment", attachment_id)
        owner = sha256(json.dumps(context.owner).encode()).hexdigest()
        return self._folder / owner / attachment_id

    def _address(self, purpose: Purpose, attachment_id: str, lifetime: timedelta, context: RequestContext) -> str:
        base_url = self._base_url or context.base_url
        if not base_url:
            raise AddressUnknown("it is not known where the chat is reached: name the host, or give `base_url`")
        signature = self._links.sign(purpose, Link(attachment_id, context.principal), lifetime=lifetime)
        return f"{base_url}/attachments/{attachment_id}?signature={signature}"
