"""Work that must end although its caller is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")


async def run_to_end(work: Coroutine[Any, Any, Result] | asyncio.Future[Result], *, within: float = 5.0) -> Result:
    """The result of `work`, which is not cancelled when the caller is.

    A cancelled caller stays until the work is done, `within` seconds at most, and is cancelled then. Both kinds of
    cancellation are met: asyncio's, which comes once, and anyio's, which comes again at every await.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        deadline = asyncio.get_running_loop().time() + within
        while not task.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({task}, timeout=left)
            except asyncio.CancelledError:
                continue  # cancelled once more while waiting: the work still has its time
        task.cancel()
        raise
