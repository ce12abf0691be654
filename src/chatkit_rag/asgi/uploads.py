"""A file out of a request: a form's, or the whole body. Never more of it in memory than a piece."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from chatkit_rag.errors import InvalidRequest, PayloadTooLarge
from chatkit_rag.stores.shielding import run_to_end

UPLOAD_SECONDS = 120.0
_FORM_BYTES = 64 * 1024
"""What a form may hold besides its file."""
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """What a client says of the file that it sends, and the bytes."""

    name: str
    media_type: str
    """Empty where the client says none."""
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def incoming_file(
    request: Request, *, largest: int, within: float = UPLOAD_SECONDS
) -> AsyncGenerator[IncomingFile]:
    """The file that a request carries; whoever reads it counts its bytes, this only bounds the whole request.

    A form (`multipart/form-data`) has one file, whatever its field is called: ChatKit's client calls it `file`. Any
    other body is the file, named by `?name=` or by the header `X-File-Name` with percent signs for what is not ASCII.

    Raises:
        PayloadTooLarge: the request is longer than any that could carry a file of `largest` bytes.
        InvalidRequest: it is no proper form, did not arrive within `within` seconds, or the client left before.
    """
    capped = _capped(request, largest + _FORM_BYTES)
    try:
        async with asyncio.timeout(within):
            if _media_type(request) == "multipart/form-data":
                form = await capped.form(max_files=1, max_fields=8, max_part_size=_FORM_BYTES)
                try:
                    yield _file_of(form)
                finally:
                    await run_to_end(form.close())
            else:
                name = request.query_params.get("name") or unquote(request.headers.get("x-file-name", ""))
                async with aclosing(capped.stream()) as chunks:
                    yield IncomingFile(name, request.headers.get("content-type", ""), chunks)
    except MultiPartException as exc:
        raise InvalidRequest(f"the form cannot be read: {exc.message}") from exc
    except TimeoutError as exc:
        raise InvalidRequest("the file did not arrive in time", details={"seconds": within}) from exc
    except ClientDisconnect as exc:
        raise InvalidRequest("the client left before its file was complete") from exc


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _capped(request: Request, limit: int) -> Request:
    """The request, whose body ends with an error behind `limit` bytes."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise PayloadTooLarge("the request is too large", details={"limit_bytes": limit})
        return message

    # Without its host, a form that cannot be read raises its own error, and not an answer of Starlette's.
    return Request({key: value for key, value in request.scope.items() if key != "app"}, receive)


def _file_of(form: FormData) -> IncomingFile:
    file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
    if file is None:
        raise InvalidRequest("the form holds no file", details={"field": "file"})
    return IncomingFile(file.filename or "", file.content_type or "", _pieces(file))


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE_BYTES):
        yield piece
