"""Leases and remembered requests in this process: what a store of one process needs, and the fall-back for others.

With several processes over one store that can keep neither, each process coordinates its own requests only.
"""

import time
from dataclasses import asdict, dataclass
from itertools import islice

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import RememberedRequest
from chatkit_rag.stores.privacy import Holding
from chatkit_rag.stores.storable import check_storable

_Key = tuple[str, str, str]

_DROPPED_AT_ONCE = 16
"""More than one for each that comes, so that they do not pile up; few, so that none waits for it."""


@dataclass(slots=True)
class _Lease:
    holder: str
    until: float


@dataclass(slots=True)
class _Remembered:
    request: RememberedRequest
    expires: float


class InProcessCoordination:
    """`KeepsLeases` and `RemembersRequests` in dictionaries; what has expired is dropped as new ones come."""

    def __init__(self) -> None:
        self._leases: dict[_Key, _Lease] = {}
        self._requests: dict[_Key, _Remembered] = {}

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`; whether the thread is there is not known here."""
        now, key = time.time(), (*context.owner, thread_id)
        lease = self._leases.get(key)
        if lease is not None and lease.holder != holder and lease.until > now:
            return False
        self._leases[key] = _Lease(holder, now + seconds)
        return True

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """See `KeepsLeases.release_lease`."""
        key = (*context.owner, thread_id)
        lease = self._leases.get(key)
        if lease is not None and lease.holder == holder:
            del self._leases[key]

    def drop_lease(self, thread_id: str, context: RequestContext) -> None:
        """Frees a thread that is gone, whoever holds it."""
        self._leases.pop((*context.owner, thread_id), None)

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """See `RemembersRequests.claim_request`."""
        check_storable({"key": key})
        now = time.time()
        self._drop_expired(now)
        place = (*context.owner, key)
        known = self._requests.get(place)
        if known is not None and known.expires > now and not is_given_up(known.request, now):
            return known.request
        self._requests.pop(place, None)  # so that it stands behind those that expire before it
        self._requests[place] = _Remembered(request, now + seconds)
        return None

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """See `RemembersRequests.note_request`."""
        if known := self._requests.get((*context.owner, key)):
            known.request = request

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """See `RemembersRequests.forget_request`."""
        self._requests.pop((*context.owner, key), None)

    def is_leased(self, owner: tuple[str, str], thread_id: str) -> bool:
        """Whether somebody has the thread now."""
        lease = self._leases.get((*owner, thread_id))
        return lease is not None and lease.until > time.time()

    def coordination_of(self, owner: tuple[str, str]) -> list[Holding]:
        """What is remembered of a reader."""
        requests = [
            Holding(kind="requests", record={"key": key[2], **asdict(known.request), "expires": known.expires})
            for key, known in self._requests.items()
            if key[:2] == owner
        ]
        leases = [
            Holding(kind="leases", record={"thread_id": key[2], "until": lease.until})
            for key, lease in self._leases.items()
            if key[:2] == owner
        ]
        return requests + leases

    def forget_owner(self, owner: tuple[str, str]) -> None:
        """Drops what is remembered of a reader."""
        for kept in (self._leases, self._requests):
            for key in [key for key in kept if key[:2] == owner]:
                del kept[key]

    def drop_all_expired(self) -> int:
        """Drops everything whose time is over; how much that was."""
        now = time.time()
        leases = [key for key, lease in self._leases.items() if lease.until <= now]
        requests = [key for key, known in self._requests.items() if known.expires <= now]
        for key in leases:
            del self._leases[key]
        for key in requests:
            del self._requests[key]
        return len(leases) + len(requests)

    def _drop_expired(self, now: float) -> None:
        # In the order of their claims, which is that of their expiry: one setting holds for all.
        for place, known in list(islice(self._requests.items(), _DROPPED_AT_ONCE)):
            if known.expires > now:
                return
            del self._requests[place]


def is_given_up(request: RememberedRequest, now: float) -> bool:
    """Whether the process that carried it out is gone without having written anything."""
    return not request.thread_id and request.busy_until <= now
