"""A proxy in front of Postgres that counts flights, adds a round trip's time to each, stands still, breaks or cuts
connections, or pools transactions.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_HEADER = 5


@dataclass
class Proxy:
    """What a proxy saw, and what it shall do."""

    url: str
    upstream: str
    flights: int = 0
    """What clients sent while nothing of theirs was pending."""
    connections: int = 0
    delay: float = 0.0
    """How many seconds later answers come."""
    still: bool = False
    """Whether everything that comes is held back for ever."""
    answers_to_lose: int = 0
    """So many connections break just when an answer comes back: the statement was carried out, and nobody heard."""
    lost: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def break_connections(self) -> None:
        """Resets every connection that there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        self.connections += 1
        self._writers.add(writer)
        try:
            up_reader, up_writer = await connect(self.upstream)
            self._writers.add(up_writer)
            waiting = False

            async def forward() -> None:
                nonlocal waiting
                while data := await reader.read(65536):
                    await self._hold()
                    if not waiting:
                        self.flights += 1
                    waiting = True
                    up_writer.write(data)
                    await up_writer.drain()

            async def answer() -> None:
                nonlocal waiting
                while data := await up_reader.read(65536):
                    await self._hold()
                    if self.answers_to_lose:
                        self.answers_to_lose -= 1
                        self.lost += 1
                        return
                    await asyncio.sleep(self.delay)
                    waiting = False
                    writer.write(data)
                    await writer.drain()

            await _first_of(forward(), answer())
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            with suppress(UnboundLocalError):
                self._writers.discard(up_writer)
                up_writer.transport.abort()

    async def _hold(self) -> None:
        if self.still:
            await asyncio.Event().wait()


@dataclass
class Cutter(Proxy):
    """Breaks a connection at one message of Postgres' protocol, whichever way it goes; nobody gets that message."""

    messages_until_cut: int = -1
    """How many more pass; below nought all of them."""
    cuts: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        self.connections += 1
        up_reader, up_writer = await connect(self.upstream)
        try:
            await _first_of(self._pass_on(reader, up_writer, starts=True), self._pass_on(up_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            up_writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, starts: bool = False
    ) -> None:
        """Message by message; a client's first has no type."""
        message = await _startup(reader) if starts else await _message(reader)
        while True:
            if self.messages_until_cut == 0:
                self.messages_until_cut = -1
                self.cuts += 1
                return
            self.messages_until_cut = max(-1, self.messages_until_cut - 1)
            writer.write(message)
            message = await _message(reader)


class TransactionPooler(Proxy):
    """As PgBouncer in transaction mode: each transaction of a client runs on another connection than the one before."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: C901 - one flow
        """One client's connection, over two of the server's."""
        self.connections += 1
        backends = [await connect(self.upstream), await connect(self.upstream)]
        self._writers |= {writer, *(backend[1] for backend in backends)}
        try:
            startup = await _startup(reader)
            for number, (up_reader, up_writer) in enumerate(backends):
                up_writer.write(startup)
                while (message := await _message(up_reader))[:1] != b"Z":
                    if number == 0:
                        writer.write(message)
            writer.write(message)
            turn, pending = 0, 0

            async def forward() -> None:
                nonlocal pending
                while (message := await _message(reader))[:1] != b"X":
                    pending += message[:1] in (b"Q", b"S")  # those that the server answers by being ready again
                    backends[turn % 2][1].write(message)

            async def answer(number: int) -> None:
                nonlocal turn, pending
                while True:
                    message = await _message(backends[number][0])
                    writer.write(message)
                    if message[:1] == b"Z":
                        self.flights += 1
                        pending -= 1
                        if message[_HEADER:] == b"I" and not pending:
                            turn += 1

            await _first_of(forward(), answer(0), answer(1))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in (writer, *(backend[1] for backend in backends)):
                self._writers.discard(one)
                one.transport.abort()


@asynccontextmanager
async def proxy_before(url: str, kind: type[Proxy] = Proxy) -> AsyncIterator[Proxy]:
    """A proxy on a port of its own in front of the database of `url`."""
    parts = urlsplit(url)
    proxy = kind("", url)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await proxy.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user = parts.netloc.rpartition("@")[0] or "postgres"
    proxy.url = f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable&gssencmode=disable"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the server of `url`, by its socket or its port."""
    parts = urlsplit(url)
    if folder := parse_qs(parts.query).get("host"):
        return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{parts.port or 5432}")
    return await asyncio.open_connection(parts.hostname, parts.port or 5432)


async def _startup(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER)
    return header + await reader.readexactly(int.from_bytes(header[1:]) - 4)


async def _first_of(*work) -> None:
    """Runs all until one ends, and takes the others down with it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
