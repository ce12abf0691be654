"""A stored file as an answer: whole, to be saved, and harmless wherever it is opened."""

import asyncio
from contextlib import aclosing
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatkit_rag.stores.attachments import StoredFile

# Nothing in a file may run on the site's origin, whatever a browser takes it for; and no proxy keeps it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
    "Accept-Ranges": "none",
}

_STALL_SECONDS = 30.0
"""How long a write may wait for a reader who does not read."""


class FileAnswer(Response):
    """A file, never a part of it: files are small here. Not Starlette's own, which needs a path on this machine."""

    def __init__(self, file: StoredFile, *, name: str, media_type: str, inline: bool) -> None:
        super().__init__(headers=_HEADERS, media_type=media_type)
        self.headers["Content-Length"] = str(file.size)
        self.headers["Content-Disposition"] = _disposition("inline" if inline else "attachment", name)
        self._chunks = file.chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Sends the file. What cannot be read at all is told; where it breaks off, so does the connection."""
        async with aclosing(self._chunks) as chunks:
            piece = b"" if scope["method"] == "HEAD" else await anext(chunks, b"")
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece:
                await _write(send, piece)
                piece = await anext(chunks, b"")
            await send({"type": "http.response.body", "body": b""})


async def _write(send: Send, piece: bytes) -> None:
    async with asyncio.timeout(_STALL_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


def _disposition(kind: str, name: str) -> str:
    plain = quote(name)
    return f'{kind}; filename="{name}"' if plain == name else f"{kind}; filename*=utf-8''{plain}"
