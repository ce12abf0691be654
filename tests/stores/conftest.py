"""Stores of every kind, empty, and the readers that use them."""

import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.base import Lifecycle, Store
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore

STORES = ["memory", "slow", "sqlite"]


class SlowStore:
    """A store that takes 10 ms before every step, as one behind a network does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def slowly(*args: Any, **named: Any) -> Any:
            await anyio.sleep(0.01)
            return await method(*args, **named)

        return slowly


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    """Makes an empty store of a kind; closes all that it made."""
    made: list[Any] = []

    def make(kind: str) -> Any:
        match kind:
            case "memory":
                store: Any = MemoryStore()
            case "slow":
                store = SlowStore(MemoryStore())
            case _:
                store = SQLiteStore(tmp_path / f"threads-{len(made)}.db")
        made.append(store)
        return store

    yield make
    for store in made:
        if isinstance(store, Lifecycle):
            await store.close()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, make_store: Callable[[str], Any]) -> Any:
    """An empty store of each kind."""
    return make_store(request.param)


@pytest.fixture
def ada() -> RequestContext:
    """The reader that everything here belongs to."""
    return RequestContext(principal=Principal("ada"))
