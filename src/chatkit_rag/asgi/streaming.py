"""A stream of events to one client.

The answer is made by a task that the app owns and put into a mailbox; the request only delivers what is in it. So the
answer is not in the request's cancel scope: a client that goes away, or stops reading, ends the delivery, and the
producer is then cancelled in the ordinary way and has its time to store what it has.

    producer (app's task)  frames ──► Mailbox ──► deliver (the request's) ──► send
                              ▲                      │
                              └────── cancel ◄───────┴─ http.disconnect · send fails · reader stalls · shutdown
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatkit_rag.asgi.tasks import TaskOwner

_log = logging.getLogger(__name__)

_PING = b": ping\n\n"
_FAILED = b'data: {"type":"error","code":"stream.error","allow_retry":true}\n\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is kept up, and given up."""

    on_disconnect: Literal["cancel", "finish"] = "cancel"
    """What becomes of an answer whose reader left: stopped, its text kept so far, or written to its end."""
    ping_seconds: float = 15.0
    """Silence after which a comment is sent, so that proxies keep the connection."""
    stall_seconds: float = 30.0
    """How long a write may wait for a reader who does not read."""
    buffer_bytes: int = 256 * 1024
    """What may wait for a slow reader before the producer does."""


class Mailbox:
    """Frames on their way from one producer to one reader; a full one makes the producer wait."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: list[bytes] = []
        self._size = 0
        self._ended = False
        self._abandoned = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def complete(self) -> bool:
        """Whether the last frame was taken."""
        return self._ended and not self._abandoned and not self._frames

    async def put(self, frame: bytes) -> None:
        """Adds a frame; waits while the mailbox is full, and drops the frame when nobody will read it."""
        await self._room.wait()
        if self._abandoned:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= self._capacity:
            self._room.clear()
        self._changed.set()

    def end(self) -> None:
        """No frame will follow."""
        self._ended = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody reads any more."""
        self._abandoned = True
        self._frames.clear()
        self._room.set()
        self._changed.set()

    async def take(self, *, within: float) -> bytes | None:
        """All frames that wait, as one piece; None after the last, or when the mailbox was abandoned.

        Raises:
            TimeoutError: nothing came within `within` seconds.
        """
        if not (self._frames or self._ended or self._abandoned):
            self._changed.clear()
            async with asyncio.timeout(within):
                await self._changed.wait()
        if not self._frames:
            return None
        piece = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        self._room.set()
        return piece


class EventStream(Response):
    """A server-sent event stream as a Starlette response, for any route of any host."""

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes, None], owner: TaskOwner, options: StreamOptions | None = None
    ) -> None:
        super().__init__(
            headers={
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",  # nginx would hold the answer back until it is complete
                "X-Content-Type-Options": "nosniff",
            }
        )
        del self.headers["content-length"]
        self._frames = frames
        self._owner = owner
        self._options = options or StreamOptions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Delivers the stream; returns when it is complete, or the reader is gone."""
        mailbox = Mailbox(self._options.buffer_bytes)
        producer = self._owner.start(_produce(self._frames, mailbox), name="chatkit-rag answer")
        watcher = self._owner.start(_watch(receive, mailbox), name="chatkit-rag disconnect")
        delivered = False
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            delivered = await self._deliver(mailbox, send)
        except (OSError, TimeoutError):
            pass  # gone, or not reading any more: what a server of ASGI 2.4 says by failing
        finally:
            watcher.cancel()
            mailbox.abandon()
            if not delivered and self._options.on_disconnect == "cancel":
                producer.cancel()

    async def _deliver(self, mailbox: Mailbox, send: Send) -> bool:
        """Sends what comes; True when all of it was sent."""
        while True:
            try:
                piece = await mailbox.take(within=self._options.ping_seconds)
            except TimeoutError:
                piece = _PING
            if piece is None:
                break
            async with asyncio.timeout(self._options.stall_seconds):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not mailbox.complete:
            return False
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True


async def _produce(frames: AsyncGenerator[bytes, None], mailbox: Mailbox) -> None:
    try:
        # Closed also when the cancellation came while this task waited for room: the turn is then suspended at a
        # `yield`, and only closing it makes it store what it has.
        async with aclosing(frames):
            async for frame in frames:
                await mailbox.put(frame)
    except Exception as exc:  # noqa: BLE001 - the header is sent: what is left is to say so, and to end well
        _log.exception("a stream failed: %s", type(exc).__name__)
        await mailbox.put(_FAILED)
    finally:
        mailbox.end()


async def _watch(receive: Receive, mailbox: Mailbox) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    mailbox.abandon()
