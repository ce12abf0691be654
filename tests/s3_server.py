"""A real S3 server over HTTP, a bucket of it, and what can go wrong on the way there."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree as ET

import httpx
from moto.server import ThreadedMotoServer

KEYS = {"access_key": "ada", "secret_key": "secret"}
# The server looks whether a request is signed, and not at the signature.
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=ada/20260101/us-east-1/s3/aws4_request"}
_XML = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server, which is moto's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@dataclass(frozen=True)
class Bucket:
    """A bucket, seen without the client that is tested."""

    endpoint: str
    name: str = field(default_factory=lambda: f"readers-{uuid4().hex}")

    def make(self) -> None:
        httpx.put(f"{self.endpoint}/{self.name}").raise_for_status()

    async def objects(self) -> dict[str, bytes]:
        """All that is in it, by key."""
        async with self._http() as http:
            listed = ET.fromstring((await http.get(f"/{self.name}?list-type=2")).content)
            keys = [unquote(key.text or "") for key in listed.iterfind(".//s3:Key", _XML)]
            answers = {key: await http.get(f"/{self.name}/{key}") for key in keys}
            return {key: answer.raise_for_status().content for key, answer in answers.items()}

    async def drop(self, key: str) -> None:
        async with self._http() as http:
            (await http.delete(f"/{self.name}/{key}")).raise_for_status()

    async def uploads(self) -> int:
        """How many uploads in parts were begun and not ended; no list of objects shows them."""
        async with self._http() as http:
            listed = ET.fromstring((await http.get(f"/{self.name}?uploads")).content)
            return len(listed.findall(".//s3:Upload", _XML))

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.endpoint, headers=_SIGNED)


@dataclass
class AwkwardService:
    """A server in front of an S3 server that does, for as many requests as it is told, what services do at times."""

    upstream: str
    endpoint: str = ""
    failing: int = 0
    """So many requests are answered with 500."""
    losing: int = 0
    """So many are carried out, and the connection breaks before anything comes back."""
    cutting: int = 0
    """So many are answered in half: the connection breaks in the middle of the answer's body."""
    still: bool = False
    """Whether nothing is answered at all."""
    seen: list[str] = field(default_factory=list)
    """The methods of all requests."""
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.seen.append(head.split(b" ", 1)[0].decode())
        if self.still:
            await reader.read()
            return
        if self.failing:
            self.failing -= 1
            answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        else:
            answer = await self._pass_on(head, body)
        if self.losing:
            self.losing -= 1
            return
        if self.cutting:
            self.cutting -= 1
            start = answer.index(b"\r\n\r\n") + 4
            answer = answer[: start + (len(answer) - start) // 2]
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async def _pass_on(self, head: bytes, body: bytes) -> bytes:
        address = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


@asynccontextmanager
async def awkward_service(upstream: str) -> AsyncIterator[AwkwardService]:
    """Such a service, well behaved until it is told otherwise."""
    service = AwkwardService(upstream)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    service.endpoint = f"http://{host}:{port}"
    async with server:
        yield service
        for task in service.connections:
            task.cancel()
        await asyncio.gather(*service.connections, return_exceptions=True)
