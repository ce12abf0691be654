"""The files of a reader's message, read for the model: images as they are, text and documents as text.

Bytes come from the attachment store alone, by the attachment's id and the reader's own key; nothing that a client says
of a file is an address here. What a file holds is data. One that cannot be given to the model is told of, to the model
and to the reader, and the answer goes on without it.

Only the files of the message that is answered are read: in later turns the model knows their names (`history`).
"""

import logging
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio
import orjson
from agents import Agent, TResponseInputItem
from chatkit.store import AttachmentStore
from chatkit.types import Attachment, ThreadStreamEvent, UserMessageItem

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.direct import stream_shortest
from chatkit_rag.agent.file_text import CHARACTERS, READABLE, FileText
from chatkit_rag.agent.given_files import TROUBLES, GivenFile, GivenFiles
from chatkit_rag.agent.history import message_text
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.context import RequestContext
from chatkit_rag.stores.attachments import LARGEST_FILE, ReadsFiles
from chatkit_rag.stores.media import HEAD_BYTES, RASTER_IMAGES, TEXTS, looks_like

_log = logging.getLogger(__name__)

_IMAGE_BYTES = 20 * 1024 * 1024
"""Of all images of a message together; as Base64 they are a third more."""
_SECONDS = 10.0
"""For one document."""
_AT_ONCE = 2
"""Documents that are read at the same time: each takes a processor, and up to a GiB."""


class FileReader:
    """Reads the files of messages out of an attachment store."""

    def __init__(self, store: AttachmentStore[RequestContext] | None) -> None:
        self._store = store
        self._at_once = anyio.CapacityLimiter(_AT_ONCE)

    async def read(self, message: UserMessageItem | None, model: object, context: RequestContext) -> GivenFiles:
        """The message's files, for `model`; at no cost where there are none."""
        if message is None or not message.attachments:
            return GivenFiles()
        is_read = reads_files(model)
        images_left, characters_left = _IMAGE_BYTES, CHARACTERS
        read: list[GivenFile] = []
        for attachment in message.attachments:
            if attachment.mime_type in RASTER_IMAGES:
                file = await self._image(attachment, images_left, context) if is_read else _trouble(attachment, "blind")
                images_left -= len(file.image) * 3 // 4
            elif not is_read and message_text(message):
                file = _trouble(attachment, "unread")
            else:
                file = _within(await self._text(attachment, context), characters_left)
                characters_left -= len(file.text)
            read.append(file)
        return GivenFiles(files=tuple(read))

    async def _image(self, attachment: Attachment, left: int, context: RequestContext) -> GivenFile:
        data = await self._bytes(attachment, left, context)
        if isinstance(data, GivenFile):
            return data
        return GivenFile(name=attachment.name, image=f"data:{attachment.mime_type};base64,{b64encode(data).decode()}")

    async def _text(self, attachment: Attachment, context: RequestContext) -> GivenFile:
        kind = attachment.mime_type
        if kind not in TEXTS and kind not in READABLE:
            return _trouble(attachment, "kind")
        data = await self._bytes(attachment, LARGEST_FILE, context)
        if isinstance(data, GivenFile):
            return data
        found = _plain_text(data) if kind in TEXTS else await self._document(kind, data)
        if found.trouble:
            return _trouble(attachment, found.trouble)
        return GivenFile(name=attachment.name, text=found.text, is_cut=found.is_cut)

    async def _bytes(self, attachment: Attachment, most: int, context: RequestContext) -> bytes | GivenFile:
        """The file, or why it is not to be had."""
        store = self._store
        if not isinstance(store, ReadsFiles):
            return _trouble(attachment, "away")
        data = bytearray()
        try:
            file = await store.read(attachment.id, context)
            if file.size > most:
                return _trouble(attachment, "large")
            async with aclosing(file.chunks) as chunks:
                async for chunk in chunks:
                    data += chunk
                    if len(data) > most:
                        return _trouble(attachment, "large")
        except Exception as exc:  # noqa: BLE001 - also of stores that are not ours; the answer goes on without the file
            _log.warning("a reader's file could not be given to the model: %s", type(exc).__name__)
            return _trouble(attachment, "away")
        if not looks_like(attachment.mime_type, bytes(data[:HEAD_BYTES])):
            return _trouble(attachment, "false")
        return bytes(data)

    async def _document(self, media_type: str, data: bytes) -> FileText:
        """The text of a document, out of a process that is killed when its time is over."""
        command = [sys.executable, "-P", "-m", "chatkit_rag.agent.file_text", media_type]
        try:
            async with self._at_once:
                with anyio.fail_after(_SECONDS):
                    done = await anyio.run_process(command, input=data, check=False)
        except TimeoutError:
            return FileText(trouble="slow")
        except (OSError, NotImplementedError) as exc:
            _log.error("documents cannot be read: no process can be started: %s", exc)
            return FileText(trouble="missing")
        if done.returncode != 0:  # out of memory, as a rule
            return FileText(trouble="damaged")
        found = FileText(**orjson.loads(done.stdout))
        if found.trouble == "missing":
            _log.warning("PDF and Office files cannot be read: pip install 'chatkit-rag[documents]'")
        return found


def reads_files(model: object) -> bool:
    """Whether a model reads what it is given: the extractive one quotes the course, and nothing else."""
    return not isinstance(model, ExtractiveModel)


def stream_about_files(
    files: GivenFiles,
    agent: Agent[TurnContext],
    conversation: Sequence[TResponseInputItem],
    turn: TurnContext,
    *,
    wrote: bool,
    behind: Sequence[TResponseInputItem] = (),
) -> AsyncGenerator[ThreadStreamEvent, None]:
    """`stream_shortest` over the conversation with the files in it, and `behind` it what was found.

    A model that refuses the request is asked again without the images, where there are any and nothing was said yet.
    """

    def stream(given: GivenFiles) -> AsyncGenerator[ThreadStreamEvent, None]:
        return stream_shortest(agent, [*given.with_talk(conversation, wrote=wrote), *behind], turn)

    return _stream_with_images(files, stream) if files.have_images else stream(files)


async def _stream_with_images(
    files: GivenFiles, stream: Callable[[GivenFiles], AsyncGenerator[ThreadStreamEvent, None]]
) -> AsyncGenerator[ThreadStreamEvent, None]:
    has_begun = False
    try:
        async with aclosing(stream(files)) as events:
            async for event in events:
                has_begun = True
                yield event
    except ResponseFailed as exc:
        if exc.reason is not FailureReason.REFUSED or has_begun:
            raise
    else:
        return
    blind = files.without_images()
    for file in blind.files:
        if file not in files.files:
            yield file.notice()
    async with aclosing(stream(blind)) as events:
        async for event in events:
            yield event


def _plain_text(data: bytes) -> FileText:
    """A text file's text: UTF-8, UTF-16 where it says so, else as Windows writes it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    if not text.strip():
        return FileText(trouble="empty")
    return FileText(text=text[:CHARACTERS], is_cut=len(text) > CHARACTERS)


def _within(file: GivenFile, characters: int) -> GivenFile:
    if len(file.text) <= characters:
        return file
    if characters <= 0:
        return GivenFile(name=file.name, trouble=TROUBLES["large"])
    return replace(file, text=file.text[:characters], is_cut=True)


def _trouble(attachment: Attachment, what: str) -> GivenFile:
    return GivenFile(name=attachment.name, trouble=TROUBLES[what])
