"""The tasks that an app owns: what runs longer than the request that began it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TaskOwner:
    """Keeps its tasks until they end, and ends them when the app does."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Runs `work` in a task of the app's, not of the request's."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the owner that the rule asks for
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, *, within: float) -> None:
        """Waits `within` seconds for the tasks to end by themselves, then cancels the rest and waits for those."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
