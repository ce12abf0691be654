"""A stream of events to one client.

The answer is made by a task that the app owns and put into a mailbox; the request only delivers what is in it. So the
answer is not in the request's cancel scope: a client that goes away, or stops reading, ends the delivery, and the
producer is then cancelled in the ordinary way and has its time to store what it has.

    producer (app's task)  frames ──► Mailbox ──► deliver (the request's) ──► send
                              ▲                      │
                              └────── cancel ◄───────┴─ http.disconnect · send fails · reader stalls

Where the app stops, the producer is cancelled while the reader is still there: an error event is then the last frame.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from chatkit_rag.asgi.deadline import Deadline
from chatkit_rag.asgi.mailbox import Mailbox
from chatkit_rag.asgi.tasks import TaskOwner, cancel

_log = logging.getLogger(__name__)

_PING = b": ping\n\n"
_FAILED = b'data: {"type":"error","code":"stream.error","allow_retry":true}\n\n'
_STOPPED = (
    b'data: {"type":"error","code":"custom",'
    b'"message":"The server is being restarted. Please try again in a moment.","allow_retry":true}\n\n'
)

_STORING_SECONDS = 8.0
"""How long a reader of a stopped answer waits for it to be stored, before being told all the same."""
_GOODBYE_SECONDS = 2.0
"""How long a write may wait for a reader when the app stops."""


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


class EventStream(Response):
    """A server-sent event stream as a Starlette response, for any route of any host.

    The answer begins to be made at once. A response that nobody asks for is given up like a reader who does not read.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        owner: TaskOwner,
        options: StreamOptions | None = None,
        *,
        ended: Callable[[], object] | None = None,
    ) -> None:
        """A stream of `frames`; needs a running event loop.

        Args:
            frames: whole frames; closed in any case.
            owner: of the task that makes them.
            options: how the stream is kept up.
            ended: called once when no more frames are made, whatever happened, and before the reader sees the end.
        """
        super().__init__(
            headers={
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",  # nginx would hold the answer back until it is complete
                "X-Content-Type-Options": "nosniff",
            }
        )
        del self.headers["content-length"]
        self._owner = owner
        self._options = options or StreamOptions()
        self._mailbox = Mailbox(self._options.buffer_bytes)
        self._patience = self._options.stall_seconds
        self._writing = True
        self._delivery: asyncio.Timeout | None = None
        self._deadline = Deadline(self._overdue)
        self._deadline.move(self._patience)
        self._producer = owner.start(self._produce(frames, ended), name="chatkit-rag answer", stop=self._stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Delivers the stream; returns when it is complete, or the reader is gone."""
        watcher = self._owner.start(_watch(receive, self._mailbox), name="chatkit-rag disconnect")
        delivered = False
        try:
            async with asyncio.timeout(None) as self._delivery:
                delivered = await self._deliver(send)
        except (OSError, TimeoutError):
            pass  # gone, or not reading any more: what a server of ASGI 2.4 says by failing
        finally:
            watcher.cancel()
            self._writing = False
            self._deadline.cancel()
            if not delivered:
                self._give_up()

    async def _deliver(self, send: Send) -> bool:
        """Sends what comes; True when all of it was sent."""
        await self._write(
            send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        while (piece := await self._mailbox.take()) is not None:
            await self._write(send, {"type": "http.response.body", "body": piece, "more_body": True})
        if not self._mailbox.complete:
            return False
        await self._write(send, {"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _write(self, send: Send, message: Message) -> None:
        self._writing = True
        self._deadline.move(self._patience)
        await send(message)
        self._writing = False
        self._deadline.move(self._options.ping_seconds)

    def _overdue(self) -> None:
        """The one timer of a stream: there was silence for too long, or a write has waited for too long."""
        if not self._writing:
            self._mailbox.add(_PING)
        elif self._delivery is not None:
            self._delivery.reschedule(0.0)  # the loop's clock is past it: TimeoutError where the write waits
        else:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody will read what is still to come."""
        self._mailbox.abandon()
        if self._options.on_disconnect == "cancel":
            cancel(self._producer)

    def _stop(self) -> None:
        """The app stops: the answer is cut, and a reader who is still there is told when it is stored."""
        self._patience = min(self._patience, _GOODBYE_SECONDS)
        if self._writing:
            self._deadline.move(self._patience)
        at_last = asyncio.get_running_loop().call_later(_STORING_SECONDS, self._mailbox.end, _STOPPED)
        self._producer.add_done_callback(lambda _: at_last.cancel())
        cancel(self._producer)

    async def _produce(self, frames: AsyncGenerator[bytes, None], ended: Callable[[], object] | None) -> None:
        mailbox = self._mailbox
        last = b""
        try:
            # Closed also when the cancellation came while this task waited for room: the turn is then suspended at a
            # `yield`, and only closing it makes it store what it has.
            async with aclosing(frames):
                async for frame in frames:
                    if mailbox.is_full:
                        await mailbox.put(frame)
                    else:  # without a coroutine: this is done for every piece of text
                        mailbox.add(frame)
        except asyncio.CancelledError:
            last = _STOPPED  # dropped where the reader has left: that is the other cause
            raise
        except Exception as exc:  # noqa: BLE001 - the header is sent: what is left is to say so, and to end well
            _log.exception("a stream failed: %s", type(exc).__name__)
            last = _FAILED
        finally:
            if ended is not None:
                ended()
            self._mailbox.end(last)


async def _watch(receive: Receive, mailbox: Mailbox) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    mailbox.abandon()
