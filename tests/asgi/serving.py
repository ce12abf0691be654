"""The app in a real server on a loopback port, and a client that can do what httpx will not: leave, and not read."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import anyio
import httpx
import orjson
import uvicorn

from chatkit_rag.asgi.app import ChatApp
from protocol.frames import question

PATIENCE = 15.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; it is met in another thread, so that there is no event to wait for."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)


@dataclass
class Site:
    """A running server."""

    chat: ChatApp
    server: uvicorn.Server
    thread: threading.Thread
    port: int
    http: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop

    def tasks(self) -> int:
        """How many tasks run in the server's loop."""
        return len(asyncio.all_tasks(self.loop))

    async def ask(self, text: str, *, receive_buffer: int | None = None) -> "Connection":
        """A question over a socket of its own, whose answer the caller reads, or does not."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        body = orjson.dumps(question(text))
        head = ["POST / HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        await loop.sock_sendall(sock, "\r\n".join([*head, "", ""]).encode() + body)
        return Connection(sock)

    async def stop(self) -> None:
        """Asks the server to end, and waits until it has."""
        self.server.should_exit = True
        await asyncio.to_thread(self.thread.join, PATIENCE)
        assert not self.thread.is_alive()


@dataclass
class Connection:
    """The client's end of one answer."""

    sock: socket.socket
    received: bytes = b""
    ended: bool = False
    _events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def until(self, condition: Callable[[Self], object]) -> None:
        """Reads until the condition holds, or fails where the stream ends before."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                piece = await loop.sock_recv(self.sock, 65536)
                self.received += piece
                self.ended = not piece or self.received.endswith(b"0\r\n\r\n")
                assert not self.ended or condition(self), self.received

    @property
    def head(self) -> httpx.Headers:
        """The response's headers."""
        lines = self.received.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return httpx.Headers([tuple(line.split(b": ", 1)) for line in lines])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The whole frames that came so far; chunk sizes stand between them."""
        lines = self.received.split(b"\n")
        return [json.loads(line[6:]) for line in lines[:-1] if line.startswith(b"data: ")]

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(event["update"].get("delta", "") for event in self.events if "update" in event)

    @property
    def thread_id(self) -> str:
        return self.events[0]["thread"]["id"]

    def leave(self) -> None:
        """The reader closes the page."""
        self.sock.close()


@asynccontextmanager
async def serving(chat: ChatApp, *, send_buffer: int | None = None) -> AsyncIterator[Site]:
    """`chat` as the whole application of a uvicorn server in a thread."""
    listening = socket.socket()
    if send_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    loops: list[asyncio.AbstractEventLoop] = []
    server = uvicorn.Server(uvicorn.Config(chat, log_level="error", timeout_graceful_shutdown=5, lifespan="on"))

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve([listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    await eventually(lambda: server.started or not thread.is_alive())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
        site = Site(chat, server, thread, port, http, loops[0])
        try:
            yield site
        finally:
            await site.stop()
