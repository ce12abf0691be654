"""The files' routes: upload in one step or two, and download. There where the server keeps files itself.

A signed address is the credential for what cannot send a header: ChatKit's client while it uploads, and an `<img>`.
Everything else asks who comes, and what is somebody else's is not there.
"""

from chatkit.server import ChatKitServer
from chatkit.types import Attachment, ImageAttachment
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatkit_rag.asgi.address import BASE_URL
from chatkit_rag.asgi.downloads import FileAnswer
from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.uploads import IncomingFile, incoming_file
from chatkit_rag.context import RequestContext
from chatkit_rag.errors import Conflict, Forbidden, UnsupportedMediaType
from chatkit_rag.protocol.events import to_json
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.stores.announcing import announce, check_room
from chatkit_rag.stores.attachments import BaseAttachmentStore
from chatkit_rag.stores.base import NotFound, Store
from chatkit_rag.stores.links import Purpose
from chatkit_rag.stores.media import RASTER_IMAGES, media_type_of
from chatkit_rag.stores.shielding import run_to_end


class AttachmentRoutes:
    """`POST /attachments`, and `POST`, `PUT` and `GET /attachments/{id}`."""

    def __init__(
        self, server: ChatKitServer[RequestContext], files: BaseAttachmentStore, identification: Identification
    ) -> None:
        self._store: Store = server.store.unwrapped if isinstance(server.store, HookStore) else server.store
        self._files = files
        self._identification = identification

    def routes(self) -> list[Route]:
        """The routes, below the mount."""
        return [
            Route("/attachments", self._upload_directly, methods=["POST"]),
            Route("/attachments/{id}", self._upload, methods=["POST", "PUT"]),
            Route("/attachments/{id}", self._download, methods=["GET"]),
        ]

    async def _upload_directly(self, request: Request) -> Response:
        """A file without a record before: ChatKit's upload strategy `direct`."""
        principal = await self._identification.reader(request)
        _refuse_foreign_page(request)
        context = RequestContext(principal=principal, base_url=request.scope.get(BASE_URL, ""))
        async with incoming_file(request, largest=self._files.largest) as file:
            attachment = self._files.describe(file.name, file.media_type, context)
            # The record before the bytes, as in two phases: what a crash leaves behind is found by it.
            await announce(self._store, self._files, attachment, context)
            try:
                complete = await self._receive(attachment, file, context)
                await check_room(self._store, self._files, context)  # only now is its size known
            except BaseException:
                await self._files.delete_attachment(attachment.id, context)
                await run_to_end(self._store.delete_attachment(attachment.id, context))
                raise
        return _answer(complete)

    async def _upload(self, request: Request) -> Response:
        """The file of a record that waits for it: ChatKit's upload strategy `two_phase`."""
        context = await self._signed("upload", request)
        attachment = await self._store.load_attachment(request.path_params["id"], context)
        if attachment.upload_descriptor is None:
            raise Conflict("the file was uploaded already", details={"attachment": attachment.id})
        async with incoming_file(request, largest=self._files.largest) as file:
            if (said := media_type_of(file.media_type, "")) and said != attachment.mime_type:
                raise UnsupportedMediaType(
                    "the file is of another kind than declared", details={"media_type": attachment.mime_type}
                )
            return _answer(await self._receive(attachment, file, context))

    async def _receive(self, waiting: Attachment, file: IncomingFile, context: RequestContext) -> Attachment:
        """The record of the file, complete; where this raises, the bytes are gone again."""
        size = await self._files.write(waiting, file.chunks, context)
        try:
            # As it is now: it may have been deleted while its bytes came, and is not brought back then.
            waiting = await self._waiting(waiting.id, context)
            complete = self._files.complete(waiting, size, context)
            await run_to_end(self._store.save_attachment(complete, context))
        except BaseException:
            await self._files.delete_attachment(waiting.id, context)
            raise
        return complete

    async def _waiting(self, attachment_id: str, context: RequestContext) -> Attachment:
        """The record of a file that is not complete. Raises NotFound, also while it is being deleted."""
        attachment = await self._store.load_attachment(attachment_id, context)
        if attachment.thread_id is not None:
            raise NotFound("attachment", attachment_id)
        return attachment

    async def _download(self, request: Request) -> Response:
        """The owner's file to be saved; with a signature, a raster image to be looked at."""
        if "signature" in request.query_params:
            context = await self._signed("preview", request)
        else:
            context = RequestContext(principal=await self._identification.reader(request))
        attachment = await self._store.load_attachment(request.path_params["id"], context)
        if attachment.upload_descriptor is not None:
            raise NotFound("attachment", attachment.id)
        file = await self._files.read(attachment.id, context)
        shown = "signature" in request.query_params and _can_be_shown(attachment)
        return FileAnswer(file, name=attachment.name, media_type=attachment.mime_type, inline=shown)

    async def _signed(self, purpose: Purpose, request: Request) -> RequestContext:
        """For whom the request's signature speaks. Raises Forbidden, and Unauthenticated for a bad header besides."""
        if "authorization" in request.headers:
            await self._identification.signed_in(request)
        link = self._files.read_link(purpose, request.query_params.get("signature", ""))
        if link.attachment_id != request.path_params["id"]:
            raise Forbidden("the link is not valid")
        return RequestContext(principal=link.owner, base_url=request.scope.get(BASE_URL, ""))


def _can_be_shown(attachment: Attachment) -> bool:
    """Whether it is an image that runs nothing; its first bytes were checked when it was written."""
    return isinstance(attachment, ImageAttachment) and attachment.mime_type in RASTER_IMAGES


def _refuse_foreign_page(request: Request) -> None:
    """A page of another site can make a browser send a form, with its cookies, without asking here first.

    Browsers say where a request comes from: in `Sec-Fetch-Site`, or to addresses without TLS in `Origin` only.
    """
    if "authorization" in request.headers:
        return
    site, origin = (request.headers.get(name) for name in ("sec-fetch-site", "origin"))
    if site is None:
        same = origin is None or origin.partition("://")[2] == request.headers.get("host")
    else:
        same = site in ("same-origin", "none")
    if not same:
        raise Forbidden("a page of another site needs a token to upload files")


def _answer(attachment: Attachment) -> Response:
    return Response(to_json(attachment), media_type="application/json")
