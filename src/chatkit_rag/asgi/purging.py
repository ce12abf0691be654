"""The daily purge: what retention says must go, and what nobody can use any more, while the app runs.

Of several processes over one store, one does it: the day's work is claimed as a request is that is carried out once.
Where the store cannot remember requests, each process does it, and finds little to do behind the first.
"""

import asyncio
import logging
import random
import time
from datetime import timedelta

from chatkit.store import AttachmentStore

from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import ChatKitRagError
from chatkit_rag.stores.base import RememberedRequest, RemembersRequests, Store
from chatkit_rag.stores.privacy import Purged, purge

_log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
FIRST_SECONDS = (60.0, 600.0)
"""Between these after its start a process purges first: it may not run for a day, and in its first minute its readers
have come back all at once."""
_CLAIM = "daily purge"
_CLAIMED = 0.8
"""Of the time to the next: shorter than that can be by chance."""
_NOBODY = Principal("daily purge", tenant="chatkit-rag")
"""Whom the claim belongs to; nothing else is ever stored for it."""


class DailyPurge:
    """Purges a store every day; see the function `purge` for what goes.

    Args:
        store: the threads.
        files: the bytes of attachments, where there are any.
        retention: how long after its newest item a thread is kept; None for ever.
        first: seconds between which the first purge comes, at some moment.
        every: seconds from one to the next, more or less.
    """

    def __init__(
        self,
        store: Store,
        files: AttachmentStore[RequestContext] | None,
        *,
        retention: timedelta | None,
        first: tuple[float, float],
        every: float = DAY_SECONDS,
    ) -> None:
        self._store = store
        self._files = files
        self._retention = retention
        self._first = first
        self._every = every

    async def run(self) -> None:
        """Purges until it is cancelled; a purge that fails is logged, and tried again the next time."""
        await asyncio.sleep(random.uniform(*self._first))  # noqa: S311 - so that hosts do not come at once
        while True:
            try:
                await self.once()
            except ChatKitRagError as exc:
                _log.warning("what is too old could not be removed: %s", type(exc).__name__)
            except Exception as exc:  # noqa: BLE001 - a store of somebody else's; the app goes on, and so does this
                _log.exception("what is too old could not be removed: %s", type(exc).__name__)
            await asyncio.sleep(self._every * random.uniform(0.95, 1.05))  # noqa: S311 - likewise

    async def once(self) -> Purged | None:
        """Purges, unless another process has done it today; None then."""
        if not await self._is_ours():
            return None
        purged = await purge(self._store, self._files, now=utc_now(), retention=self._retention)
        if purged != Purged():
            _log.info(
                "removed what was too old: %d threads, %d files, %d leases and remembered requests",
                purged.threads,
                purged.attachments,
                purged.expired,
            )
        return purged

    async def _is_ours(self) -> bool:
        if not isinstance(self._store, RemembersRequests):
            return True
        seconds = _CLAIMED * self._every
        request = RememberedRequest(fingerprint="", busy_until=time.time() + seconds)
        context = RequestContext(principal=_NOBODY)
        return await self._store.claim_request(_CLAIM, request, seconds, context) is None
