"""Stores of every kind, empty, and the readers that use them."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.base import Lifecycle, Store
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from postgres_server import PostgresServer, postgres_server
from redis_server import RedisServer, redis_server

STORES = ["memory", "slow", "sqlite", "postgres", "cached"]


class SlowStore:
    """A store that takes 10 ms before every step, as one behind a network does."""

    def __init__(self, store: Store) -> None:
        self._store = store  # `kept_feedback` looks into it
        # On the instance: from Python 3.12 on, `isinstance` looks for a protocol's methods without `__getattr__`.
        for name in dir(store):
            if not name.startswith("_"):
                setattr(self, name, _slowed(getattr(store, name)))


def _slowed(method: Any) -> Any:
    if not inspect.iscoroutinefunction(method):
        return method

    async def slowly(*args: Any, **named: Any) -> Any:
        await anyio.sleep(0.01)
        return await method(*args, **named)

    return slowly


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres; a test that needs it is skipped where there is none."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with our tables, to be copied: that is faster than making them."""

    async def migrate(url: str) -> None:
        store = PostgresStore(url)
        await store.migrate()
        await store.close()

    with postgres.database() as url, ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate(url)).result()  # a test's own loop may be running here
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with our tables, empty."""
    with postgres.database(postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A real Redis; a test that needs it is skipped where there is none."""
    with redis_server() as server:
        yield server


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A real Redis of the test's own, to be paused and killed."""
    with redis_server(own=True) as server:
        yield server


@pytest.fixture
async def make_store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], Any]]:
    """Makes an empty store of a kind; closes all that it made."""
    made: list[Any] = []
    databases = ExitStack()

    def make(kind: str) -> Any:
        match kind:
            case "memory":
                store: Any = MemoryStore()
            case "slow":
                store = SlowStore(MemoryStore())
            case "postgres":
                server, template = map(request.getfixturevalue, ("postgres", "postgres_template"))
                store = PostgresStore(databases.enter_context(server.emptied(template)))
            case "cached":
                server = request.getfixturevalue("redis")
                store = CachedStore(MemoryStore(), server.url, prefix=server.prefix())
            case _:
                store = SQLiteStore(tmp_path / f"threads-{len(made)}.db")
        made.append(store)
        return store

    yield make
    for store in made:
        if isinstance(store, Lifecycle):
            await store.close()
    databases.close()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, make_store: Callable[[str], Any]) -> Any:
    """An empty store of each kind."""
    return make_store(request.param)


@pytest.fixture
def ada() -> RequestContext:
    """The reader that everything here belongs to."""
    return RequestContext(principal=Principal("ada"))
