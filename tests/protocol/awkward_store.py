"""A store that takes its time, and fails where it is told to: an instant one hides the worst bugs."""

import asyncio
from collections import Counter
from typing import Any

from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.stores.memory import MemoryStore

SECRET = "postgres://admin:hunter2@db.internal"
"""What its errors say, and no client may ever see."""


class AwkwardStore(MemoryStore):
    """Threads in memory; every call takes `delay` seconds, and those named in `failing` fail."""

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__()
        self.delay = delay
        self.failing: set[str] = set()
        self.failed: Counter[str] = Counter()

    async def _awaited(self, name: str, *arguments: Any) -> Any:
        await asyncio.sleep(self.delay)
        if name in self.failing:
            self.failed[name] += 1
            raise StoreUnavailable(SECRET)
        return await getattr(MemoryStore, name)(self, *arguments)

    async def load_thread(self, *arguments: Any) -> Any:
        return await self._awaited("load_thread", *arguments)

    async def save_thread(self, *arguments: Any) -> Any:
        return await self._awaited("save_thread", *arguments)

    async def load_threads(self, *arguments: Any) -> Any:
        return await self._awaited("load_threads", *arguments)

    async def load_thread_items(self, *arguments: Any) -> Any:
        return await self._awaited("load_thread_items", *arguments)

    async def add_thread_item(self, *arguments: Any) -> Any:
        return await self._awaited("add_thread_item", *arguments)

    async def save_item(self, *arguments: Any) -> Any:
        return await self._awaited("save_item", *arguments)

    async def load_item(self, *arguments: Any) -> Any:
        return await self._awaited("load_item", *arguments)

    async def delete_thread_item(self, *arguments: Any) -> Any:
        return await self._awaited("delete_thread_item", *arguments)
