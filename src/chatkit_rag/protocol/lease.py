"""Whose turn it is in a thread: one answer at a time, also with several processes over one store."""

import asyncio
import logging
from typing import Self

from chatkit.store import NotFoundError

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ChatKitRagError, ThreadBusy
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.shielding import run_to_end

_log = logging.getLogger(__name__)

_BETWEEN_TRIES = 0.03
_RENEWALS = 3
"""In the time that a lease holds, so that one that fails loses nothing."""


class ThreadLease:
    """A thread that is ours until `release`, prolonged while that takes its time."""

    def __init__(self, engine: Engine, thread_id: str, context: RequestContext) -> None:
        self._engine = engine
        self._thread_id = thread_id
        self._context = context
        self._holder = new_id("lse")
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.lost = False
        """Whether somebody else has the thread: the store was away for longer than the lease holds."""

    @classmethod
    async def take(cls, engine: Engine, thread_id: str, context: RequestContext) -> Self:
        """The lease of the thread, as soon as it is free.

        Raises:
            ThreadBusy: it is not, in the time that a message may wait.
            NotFound: there is no such thread.
        """
        lease = cls(engine, thread_id, context)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + engine.turns.busy_seconds
        while not await lease._take():
            if loop.time() >= deadline:
                raise ThreadBusy("an answer is being written in this conversation", details={"thread_id": thread_id})
            await asyncio.sleep(_BETWEEN_TRIES)
        lease._renew_later()
        return lease

    async def release(self) -> None:
        """Gives the thread back; where the store cannot, it is free when the lease has run out."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewal is not None:
            # Waited for, not cancelled: one that is under way would take the thread again, behind this.
            await asyncio.wait({self._renewal})
            if self._timer is not None:
                self._timer.cancel()
        try:
            await self._engine.leases.release_lease(self._thread_id, self._holder, self._context)
        except ChatKitRagError as exc:
            _log.warning("a thread could not be freed and stays taken for a while: %s", type(exc).__name__)

    async def _take(self) -> bool:
        seconds = self._engine.turns.lease_seconds
        # Not cut off: a lease that is taken and never known of would keep the thread for its whole time.
        return await run_to_end(self._engine.leases.take_lease(self._thread_id, self._holder, seconds, self._context))

    def _renew_later(self) -> None:
        # A timer, and a task only when it is time: most answers are over before.
        seconds = self._engine.turns.lease_seconds / _RENEWALS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start_renewal)

    def _start_renewal(self) -> None:
        self._renewal = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        try:
            self.lost = not await self._take()
        except NotFoundError:
            return  # deleted meanwhile: the turn finds that out by itself
        except ChatKitRagError as exc:
            _log.warning("a thread's lease could not be prolonged: %s", type(exc).__name__)
        if not self.lost:
            self._renew_later()
