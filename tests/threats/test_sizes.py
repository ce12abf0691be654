"""Bodies that are too much: refused early, and never held in memory."""

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from asgi.serving import Site, serving
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.limits import BODY_BYTES
from chatkit_rag.auth import nobody
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import call, question, refusal, request
from threats.site import OnePassage

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024
LARGE = 128 * MIB


@pytest.fixture
def chat() -> ChatApp:
    server = RagChatServer(MemoryStore(), sources=[OnePassage()], model="extractive")
    return ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))


@pytest.fixture
async def site(chat: ChatApp) -> AsyncIterator[Site]:
    async with serving(chat) as site:
        yield site


@pytest.fixture
async def client(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


async def push(site: Site, head: str, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Sends a request piece by piece until the server has enough; how much it took, and what it said."""
    sock = socket.socket()
    sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
    loop, taken, said = asyncio.get_running_loop(), 0, b""
    async with asyncio.timeout(15):
        await loop.sock_connect(sock, ("127.0.0.1", site.port))
        await loop.sock_sendall(sock, f"POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        try:
            for piece in pieces:
                await loop.sock_sendall(sock, piece)
                taken += len(piece)
        except OSError:
            pass  # it has closed its end
        try:
            while more := await loop.sock_recv(sock, 65536):
                said += more
                if b"\r\n\r\n" in said and b"}" in said:
                    break
        except OSError:
            pass  # reset, since it closed with our bytes unread
    sock.close()
    return taken, said


def chunks(total: int, size: int = 64 * 1024) -> Iterator[bytes]:
    for _ in range(total // size):
        yield b"%x\r\n" % size + b" " * size + b"\r\n"


class TestHugeBodies:
    async def test_what_never_says_how_long_it_is_is_never_held(self, site: Site):
        head = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
        tracemalloc.start()
        try:
            taken, said = await push(site, head, chunks(LARGE))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        # What a server does with the rest is its own affair: uvicorn reads it and throws it away.
        assert taken > BODY_BYTES
        assert said.startswith(b"HTTP/1.1 413")
        assert peak < 8 * MIB
        assert (await call(site.http, "threads.list"))["data"] == [], "the server lives"

    @pytest.mark.parametrize("length", [BODY_BYTES + 1, 50 * MIB, 2**40, 10**30])
    async def test_a_length_that_is_too_large_is_refused_before_the_body_comes(self, site: Site, length: int):
        taken, said = await push(site, f"Content-Type: application/json\r\nContent-Length: {length}", iter(()))

        assert taken == 0
        assert said.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))

    async def test_a_body_longer_than_it_says_is_read_as_far_as_it_says(self, site: Site):
        body = json.dumps(request("threads.list")).encode()
        head = f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}"

        _, said = await push(site, head, iter([body + b" " * MIB]))

        assert said.startswith(b"HTTP/1.1 200")
        assert (await call(site.http, "threads.list"))["data"] == []

    async def test_a_body_shorter_than_it_says_leaves_nothing_behind(self, site: Site):
        resting = site.tasks()
        sock = socket.create_connection(("127.0.0.1", site.port))
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        sock.sendall(b"Content-Length: 1000\r\n\r\n" + json.dumps(question("Half")).encode()[:20])

        assert (await call(site.http, "threads.list"))["data"] == []
        sock.close()

        assert (await call(site.http, "threads.list"))["data"] == []
        async with asyncio.timeout(10):
            while site.tasks() > resting:
                await asyncio.sleep(0.01)


def deep(depth: int, bracket: str = "[]") -> str:
    return bracket[0] * depth + bracket[1] * depth


class TestDeepBodies:
    @pytest.mark.parametrize("place", ["metadata", "params", "type", "more"])
    @pytest.mark.parametrize("depth", [33, 150, 1_000, 100_000])
    async def test_what_is_nested_too_deeply_is_refused_wherever_it_stands(
        self, client: httpx.AsyncClient, place: str, depth: int
    ):
        body = json.dumps({**request("threads.list"), place: "DEEP"}).replace('"DEEP"', deep(depth))

        refused = await client.post("/", content=body, headers=JSON)

        assert refusal(refused, 400, 422)["code"] in {"not_json", "invalid_request"}

    @pytest.mark.parametrize("operation", ["threads.add_client_tool_output", "threads.custom_action"])
    async def test_what_takes_any_json_takes_none_too_deep(self, client: httpx.AsyncClient, operation: str):
        nested: Any = json.loads(deep(40))
        action = {"type": "more", "payload": nested}
        params = {"result": nested} if operation.endswith("output") else {"action": action}

        refused = await client.post("/", json=request(operation, thread_id="thr_x", **params))

        assert "too deeply" in refusal(refused, 422)["message"]

    @pytest.mark.parametrize("filler", ["[],", "{},", '{"a":[]},', "1,", '"",', "1e999,", '"\\u0000",'])
    async def test_what_is_wide_and_within_the_limit_is_refused_by_the_limit_of_its_place(
        self, client: httpx.AsyncClient, filler: str
    ):
        wide = f"[{filler * ((BODY_BYTES - 200) // len(filler))}0]"
        body = f'{{"type": "threads.list", "params": {{}}, "metadata": {{"a": {wide}}}}}'

        refused = await client.post("/", content=body, headers=JSON)

        assert refusal(refused, 400, 422)
