"""Leases and remembered requests: what holds for all processes over one store."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Protocol

import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import KeepsLeases, RememberedRequest, RemembersRequests, Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, thread

LONG = 3600.0


class LeasingStore(Store, KeepsLeases, Protocol):
    """A store that keeps leases."""


class RememberingStore(Store, RemembersRequests, Protocol):
    """A store that remembers requests."""


def asked(**fields: Any) -> RememberedRequest:
    """A request that is being carried out."""
    given: dict[str, Any] = {"fingerprint": "f", "busy_until": time.time() + LONG} | fields
    return RememberedRequest(**given)


class Leases(Part):
    """One holder at a time has a thread."""

    @requires("leases")
    async def test_a_thread_is_one_holder_s_until_it_is_given_back(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)

        first = await store.take_lease("thr_1", "a", LONG, self.ada)
        second = await store.take_lease("thr_1", "b", LONG, self.ada)
        await store.release_lease("thr_1", "a", self.ada)
        third = await store.take_lease("thr_1", "b", LONG, self.ada)

        assert (first, second, third) == (True, False, True)

    @requires("leases")
    async def test_its_holder_may_take_a_thread_again_which_prolongs_it(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)
        await store.take_lease("thr_1", "a", 0.0, self.ada)

        again = await store.take_lease("thr_1", "a", LONG, self.ada)

        assert (again, await store.take_lease("thr_1", "b", LONG, self.ada)) == (True, False)

    @requires("leases")
    async def test_a_lease_runs_out_and_its_old_holder_gives_nothing_back(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)
        await store.take_lease("thr_1", "a", 0.0, self.ada)

        taken = await store.take_lease("thr_1", "b", LONG, self.ada)
        await store.release_lease("thr_1", "a", self.ada)

        assert (taken, await store.take_lease("thr_1", "c", LONG, self.ada)) == (True, False)

    @requires("leases")
    async def test_of_fifty_at_once_one_gets_the_thread(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)

        taken = await asyncio.gather(*(store.take_lease("thr_1", f"holder {n}", LONG, self.ada) for n in range(50)))

        assert sum(taken) == 1

    @requires("leases")
    async def test_two_threads_are_held_by_themselves(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)
        await store.save_thread(thread("thr_2", 1), self.ada)

        taken = [await store.take_lease(name, name, LONG, self.ada) for name in ("thr_1", "thr_2")]

        assert taken == [True, True]

    @requires("leases", "owners")
    async def test_a_thread_that_is_not_there_or_not_one_s_own_is_not_to_be_held(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)

        for name, reader in (
            ("thr_9", self.ada),
            ("thr_1", self.context_of("mallory", "morning")),
            ("thr_1", self.context_of("ada", "other")),
        ):
            with pytest.raises(NotFoundError):
                await store.take_lease(name, "m", LONG, reader)
        assert await store.take_lease("thr_1", "a", LONG, self.ada)

    @requires("leases")
    async def test_a_deleted_thread_takes_its_lease_along(self, store: LeasingStore) -> None:
        await store.save_thread(thread(), self.ada)
        await store.take_lease("thr_1", "a", LONG, self.ada)

        await store.delete_thread("thr_1", self.ada)

        with pytest.raises(NotFoundError):
            await store.take_lease("thr_1", "a", LONG, self.ada)
        await store.release_lease("thr_1", "a", self.ada)


class RememberedRequests(Part):
    """A request is carried out once."""

    @requires("idempotency")
    async def test_a_key_is_new_once(self, store: RememberingStore) -> None:
        request = asked()

        claims = [await store.claim_request("k", request, LONG, self.ada) for _ in range(3)]

        assert claims == [None, request, request]

    @requires("idempotency")
    async def test_of_fifty_at_once_one_has_the_key_new(self, store: RememberingStore) -> None:
        claims = await asyncio.gather(*(self._claim(store) for _ in range(50)))

        assert claims.count(None) == 1

    @requires("idempotency")
    async def test_what_is_known_of_a_request_is_brought_up_to_date(self, store: RememberingStore) -> None:
        request = asked()
        await store.claim_request("k", request, LONG, self.ada)
        written = replace(request, thread_id="thr_1", item_id="msg_1", busy_until=0.0)

        await store.note_request("k", written, self.ada)

        assert await store.claim_request("k", request, LONG, self.ada) == written

    @requires("idempotency")
    async def test_a_request_that_was_given_up_before_it_wrote_is_new_again(self, store: RememberingStore) -> None:
        await store.claim_request("k", asked(busy_until=time.time() - 1), LONG, self.ada)

        again = await self._claim(store)

        assert again is None
        assert await self._claim(store) is not None

    @requires("idempotency")
    async def test_a_request_that_was_forgotten_is_new_again(self, store: RememberingStore) -> None:
        await self._claim(store)

        await store.forget_request("k", self.ada)

        assert await self._claim(store) is None

    @requires("idempotency")
    async def test_a_request_that_has_expired_is_new_again(self, store: RememberingStore) -> None:
        await store.claim_request("k", asked(thread_id="thr_1"), 0.0, self.ada)

        again = await self._claim(store)

        assert again is None
        assert await self._claim(store) is not None

    @requires("idempotency", "owners")
    async def test_a_key_is_its_reader_s_own(self, store: RememberingStore) -> None:
        await self._claim(store)
        mallory = self.context_of("mallory", "morning")

        theirs = await store.claim_request("k", asked(), LONG, mallory)
        await store.forget_request("k", mallory)

        assert theirs is None
        assert await self._claim(store) is not None

    @requires("idempotency")
    async def test_noting_what_is_not_there_does_nothing(self, store: RememberingStore) -> None:
        await store.note_request("k", asked(thread_id="thr_1"), self.ada)

        assert await self._claim(store) is None

    def _claim(self, store: RememberingStore) -> Awaitable[RememberedRequest | None]:
        return store.claim_request("k", asked(), LONG, self.ada)
