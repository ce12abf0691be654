"""Whose turn it is in a thread: one answer at a time, also with several processes over one store."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chatkit.store import NotFoundError
from chatkit.types import ThreadItem

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ChatKitRagError, ThreadBusy
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.idempotency import Claim
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.shielding import run_to_end
from chatkit_rag.stores.turns import Ending, Refusal

_log = logging.getLogger(__name__)

_BETWEEN_TRIES = 0.03
_RENEWALS = 3
"""In the time that a lease holds, so that one that fails loses nothing."""


Begins = TypeVar("Begins")


class ThreadLease:
    """A thread that is ours from `take` or `begin` to `release` or `end`, prolonged while that takes its time."""

    def __init__(self, engine: Engine, thread_id: str, context: RequestContext) -> None:
        self._engine = engine
        self._thread_id = thread_id
        self._context = context
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.holder = new_id("lse")
        self.may_be_ours = False
        """Whether the store may have given us the thread: also where its answer never came."""
        self.lost = False
        """Whether somebody else has the thread: the store was away for longer than the lease holds."""

    async def take(self) -> None:
        """Takes the thread as soon as it is free. Raises as `begin`."""

        async def take() -> bool | Refusal:
            return await self._take() or Refusal.BUSY

        await self.begin(take)

    async def begin(self, step: Callable[[], Coroutine[Any, Any, Begins | Refusal]]) -> Begins | Refusal:
        """What comes of a step that takes the thread for `holder`, as soon as it is free; none other than `BUSY`.

        Raises:
            ThreadBusy: it is not, in the time that a message may wait.
            NotFound: there is no such thread.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._engine.turns.busy_seconds
        self.may_be_ours = True
        try:
            # Not cut off: a lease that is taken and never known of would keep the thread for its whole time.
            begun = await run_to_end(step())
            while begun is Refusal.BUSY and loop.time() < deadline:
                await asyncio.sleep(_BETWEEN_TRIES)
                begun = await run_to_end(step())
        except NotFoundError:
            self.may_be_ours = False
            raise
        if isinstance(begun, Refusal):
            self.may_be_ours = False
            if begun is Refusal.BUSY:
                details = {"thread_id": self._thread_id}
                raise ThreadBusy("an answer is being written in this conversation", details=details)
        else:
            self._renew_later()
        return begun

    async def end(self, item: ThreadItem, claim: Claim) -> None:
        """Stores the last item, gives the thread back, and settles the claim: all in one step. Raises as the store."""
        await self._stop_renewing()
        ending = Ending(item=item, holder=self.holder, key=claim.key, request=claim.settled())
        await run_to_end(self._engine.steps.end_turn(ending, self._context))
        self.may_be_ours = False

    async def release(self) -> None:
        """Gives the thread back; where the store cannot, it is free when the lease has run out."""
        await self._stop_renewing()
        if not self.may_be_ours:
            return
        try:
            await self._engine.leases.release_lease(self._thread_id, self.holder, self._context)
        except ChatKitRagError as exc:
            _log.warning("a thread could not be freed and stays taken for a while: %s", type(exc).__name__)

    async def _take(self) -> bool:
        seconds = self._engine.turns.lease_seconds
        return await run_to_end(self._engine.leases.take_lease(self._thread_id, self.holder, seconds, self._context))

    def _renew_later(self) -> None:
        # A timer, and a task only when it is time: most answers are over before.
        seconds = self._engine.turns.lease_seconds / _RENEWALS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start_renewal)

    def _start_renewal(self) -> None:
        self._renewal = asyncio.ensure_future(self._renew())

    async def _stop_renewing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._renewal is not None:
            # Waited for, not cancelled: one that is under way would take the thread again, behind this.
            await asyncio.wait({self._renewal})
            if self._timer is not None:
                self._timer.cancel()

    async def _renew(self) -> None:
        try:
            self.lost = not await self._take()
        except NotFoundError:
            return  # deleted meanwhile: the turn finds that out by itself
        except ChatKitRagError as exc:
            _log.warning("a thread's lease could not be prolonged: %s", type(exc).__name__)
        if not self.lost:
            self._renew_later()
