"""The tasks that an app owns: what runs longer than the request that began it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)

_TIDYING_SECONDS = 10.0
"""How long stopped tasks may take to end: twice of what a write may."""


class TaskOwner:
    """Keeps its tasks until they end, and ends them when the app does."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], Callable[[], object]] = {}
        self._stopped = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Coroutine[Any, Any, None], *, name: str, stop: Callable[[], object] | None = None
    ) -> asyncio.Task[None]:
        """Runs `work` in a task of the app's, not of the request's.

        Args:
            work: what is to be done.
            name: what the task is called where tasks are listed.
            stop: called when the app stops its tasks; has to see to it that this one ends. Cancels it unless given.
        """
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the owner that the rule asks for
        self._tasks[task] = stop = stop or partial(cancel, task)
        task.add_done_callback(self._tasks.pop)
        if self._stopped:
            asyncio.get_running_loop().call_soon(stop)
        return task

    def stop(self) -> None:
        """Stops the tasks, and from now on each that is started, after its first step."""
        self._stopped = True
        for stop in list(self._tasks.values()):
            stop()

    async def drain(self, *, within: float) -> None:
        """Waits `within` seconds for the tasks to end by themselves, then stops the rest and waits for those.

        Afterwards tasks can be started again.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        self.stop()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=_TIDYING_SECONDS)
            for task in left:
                _log.error("the task %r does not end; it is left behind", task.get_name())
        self._stopped = False


def cancel(task: asyncio.Task[None]) -> None:
    """Cancels a task, but not before its first step: until then it has no `finally` that could run."""
    # The loop calls in order of registration, and the first step was registered when the task was made.
    asyncio.get_running_loop().call_soon(task.cancel)
