"""A proxy before Postgres that counts flights, and adds a round trip's time to each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit


@dataclass(slots=True)
class Proxy:
    """What a proxy saw."""

    url: str = ""
    flights: int = 0
    """What clients sent while nothing of theirs was pending."""


@asynccontextmanager
async def proxy_before(url: str, *, delay: float = 0.0) -> AsyncIterator[Proxy]:
    """A proxy before the database of `url`, whose answers come `delay` seconds later."""
    proxy = Proxy()
    parts = urlsplit(url)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        up_reader, up_writer = await _connect(url)
        waiting = False

        async def forward() -> None:
            nonlocal waiting
            while data := await reader.read(65536):
                proxy.flights += not waiting
                waiting = True
                up_writer.write(data)

        async def answer() -> None:
            nonlocal waiting
            while data := await up_reader.read(65536):
                if delay:
                    await asyncio.sleep(delay)
                waiting = False
                writer.write(data)

        ways = [asyncio.ensure_future(forward()), asyncio.ensure_future(answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            up_writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user = parts.netloc.rpartition("@")[0] or "postgres"
    proxy.url = f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    if folder := parse_qs(parts.query).get("host"):
        return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{parts.port or 5432}")
    return await asyncio.open_connection(parts.hostname, parts.port or 5432)
