"""What is held of a reader: handed out whole, gone without a trace, and not kept for longer than is wanted."""

import asyncio
import json
import time
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio
import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import (
    KeepsFeedback,
    KeepsLeases,
    PatchesThreads,
    RememberedRequest,
    RemembersRequests,
    Store,
)
from chatkit_rag.stores.privacy import KINDS, DeletesUsers, ListsHoldings, Purges
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.owners import STRANGERS
from chatkit_rag.testing.store.part import (
    Part,
    assert_refused,
    file,
    fill,
    items_of,
    message,
    moment,
    thread,
    threads_of,
)
from chatkit_rag.testing.store.records import ITEMS

LONG = 3600.0
PATIENCE = 10.0
"""Seconds in which a reader who was deleted may begin anew."""


class ListingStore(Store, ListsHoldings, Protocol):
    """A store that can say what it holds."""


class ForgettingStore(ListingStore, DeletesUsers, Protocol):
    """A store that can forget a reader."""


class PurgingStore(Store, Purges, Protocol):
    """A store that can tell what is old."""


async def held(store: ListsHoldings, context: Any) -> dict[str, list[Any]]:
    """All that is held of a reader, by kind."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    kinds: list[str] = []
    async with aclosing(store.holdings(context)) as holdings:
        async for holding in holdings:
            found[holding.kind].append(json.loads(json.dumps(holding.record)))  # it is JSON, wholly
            kinds.append(holding.kind)
    assert kinds == sorted(kinds, key=KINDS.index)
    return found


async def everything(store: Store, context: Any) -> None:
    """Stores one of each kind that the store keeps, and two of most."""
    await fill(store, context, items=2)
    await fill(store, context, items=1, id_="thr_2")
    await store.save_attachment(file(), context)
    if isinstance(store, KeepsFeedback):
        await store.save_feedback("thr_1", ["msg_0000"], {"kind": "negative", "text": "Ada's own words"}, context)
    if isinstance(store, KeepsLeases):
        assert await store.take_lease("thr_1", "somebody", LONG, context)
    if isinstance(store, RemembersRequests):
        request = RememberedRequest(fingerprint="f", busy_until=time.time() + LONG, thread_id="thr_1")
        assert await store.claim_request("k", request, LONG, context) is None


class Exports(Part):
    """Everything that is held of a reader is handed out."""

    @requires("export")
    async def test_what_is_held_of_a_reader_is_handed_out_whole(self, store: ListingStore) -> None:
        ada = self.ada
        await everything(store, ada)
        for item in ITEMS:
            await store.add_thread_item("thr_1", item, ada)

        found = await held(store, ada)

        whole = [await store.load_thread(id_, ada) for id_ in ("thr_1", "thr_2")]
        assert [_moments(row) for row in found["threads"]] == [_moments(as_json(each)) for each in whole]
        items = {id_: await items_of(store, ada, id_) for id_ in ("thr_1", "thr_2")}
        for id_, expected in items.items():
            kept = [row for row in found["items"] if row["thread_id"] == id_]
            assert [row["id"] for row in kept] == expected
            for row in kept:
                assert _moments(row) == _moments(as_json(await store.load_item(id_, row["id"], ada)))
        assert [row["name"] for row in found["attachments"]] == ["a.pdf"]
        if isinstance(store, KeepsFeedback):
            said = {"thread_id": "thr_1", "item_id": "msg_0000", "kind": "negative", "text": "Ada's own words"}
            assert found["feedback"] == [said]
        if isinstance(store, KeepsLeases):
            assert [row["thread_id"] for row in found["leases"]] == ["thr_1"]
        if isinstance(store, RemembersRequests):
            assert [(row["key"], row["thread_id"]) for row in found["requests"]] == [("k", "thr_1")]

    @requires("export")
    async def test_a_reader_with_more_than_a_page_of_everything_gets_all(self, store: ListingStore) -> None:
        ada = self.ada
        for number in range(150):
            await store.save_thread(thread(f"thr_{number:03}", number), ada)
            await store.save_attachment(file(f"atc_{number:03}"), ada)
        for number in range(250):
            place = f"thr_{number % 3:03}"
            await store.add_thread_item(place, message(f"msg_{number:03}", number=number, thread_id=place), ada)

        found = await held(store, ada)

        assert [row["id"] for row in found["threads"]] == [f"thr_{number:03}" for number in range(150)]
        assert sorted(row["id"] for row in found["items"]) == [f"msg_{number:03}" for number in range(250)]
        assert sorted(row["id"] for row in found["attachments"]) == [f"atc_{number:03}" for number in range(150)]

    @requires("export", "owners")
    @STRANGERS
    async def test_nothing_of_hers_is_handed_out_to_a_stranger(
        self, store: ListingStore, stranger: tuple[str, str]
    ) -> None:
        await everything(store, self.ada)

        found = await held(store, self.context_of(*stranger))

        assert found == {kind: [] for kind in KINDS}


class Deletions(Part):
    """A reader is forgotten, with all that was theirs."""

    @requires("deletion", "export")
    async def test_of_a_deleted_reader_nothing_is_held(self, store: ForgettingStore) -> None:
        await everything(store, self.ada)

        first = await store.delete_user(self.ada)
        again = await store.delete_user(self.ada)

        assert (first.threads, first.attachments) == (2, 1)
        assert (again.threads, again.attachments) == (0, 0)
        assert await held(store, self.ada) == {kind: [] for kind in KINDS}
        assert await threads_of(store, self.ada) == []
        assert await items_of(store, self.ada) == []

    @requires("deletion", "export", "owners")
    @STRANGERS
    async def test_who_is_not_deleted_keeps_everything(self, store: ForgettingStore, stranger: tuple[str, str]) -> None:
        they = self.context_of(*stranger)
        await everything(store, they)
        await everything(store, self.ada)
        before = await held(store, they)

        await store.delete_user(self.ada)

        assert await held(store, they) == before

    @requires("deletion", "export")
    async def test_what_began_before_brings_nothing_back(self, store: ForgettingStore) -> None:
        under_way = self.ada
        await everything(store, under_way)
        found = await store.load_thread("thr_1", under_way)
        sent = await store.load_attachment("atc_1", under_way)

        await store.delete_user(self.ada)

        writes = [
            store.save_thread(found, under_way),
            store.save_thread(thread("thr_new"), under_way),
            store.save_attachment(sent, under_way),
            store.save_attachment(file("atc_new"), under_way),
            store.add_thread_item("thr_1", message(), under_way),
            store.save_item("thr_1", message("msg_0000"), under_way),
        ]
        if isinstance(store, PatchesThreads):
            writes.append(store.patch_thread("thr_1", {"title": "Back"}, under_way))
        if isinstance(store, KeepsFeedback):
            writes.append(store.save_feedback("thr_1", ["msg_0000"], {"kind": "positive"}, under_way))
        await assert_refused(NotFoundError, *writes)
        assert await held(store, self.ada) == {kind: [] for kind in KINDS}

    @requires("deletion")
    async def test_a_reader_who_was_deleted_may_begin_anew(self, store: ForgettingStore) -> None:
        await everything(store, self.ada)
        await store.delete_user(self.ada)

        with anyio.fail_after(PATIENCE):
            while not await self._begins(store):  # noqa: ASYNC110 - no event says when the store is sure, see below
                await anyio.sleep(0.05)  # one that does not know every host's clock may refuse for a moment

        assert await threads_of(store, self.ada) == ["thr_1"]
        assert await items_of(store, self.ada) == ["msg_1"]

    @requires("deletion", "export", "concurrent")
    async def test_what_is_written_at_the_same_moment_is_gone_too(self, store: ForgettingStore) -> None:
        under_way = self.ada
        await fill(store, under_way, items=1)

        async def write(number: int) -> None:
            with suppress(NotFoundError):
                await store.save_thread(thread(f"thr_{number}", number), under_way)
                sent = message(f"msg_{number}", thread_id=f"thr_{number}")
                await store.add_thread_item(f"thr_{number}", sent, under_way)
            with suppress(NotFoundError):
                await store.save_attachment(file(f"atc_{number}"), under_way)

        writing = [write(number) for number in range(2, 22)]
        await asyncio.gather(*writing[:10], store.delete_user(self.ada), *writing[10:])

        assert await held(store, self.ada) == {kind: [] for kind in KINDS}

    async def _begins(self, store: Store) -> bool:
        try:
            await store.save_thread(thread(), self.ada)
        except NotFoundError:
            return False
        await store.add_thread_item("thr_1", message(), self.ada)
        await store.save_attachment(file(), self.ada)
        return True


class Retention(Part):
    """What is older than it may be goes, and nothing else."""

    @requires("retention")
    async def test_a_thread_goes_when_its_newest_item_is_too_old(self, store: PurgingStore) -> None:
        await self._threads(store, {"thr_old": 9, "thr_edge": 10, "thr_new": 11})
        await store.save_thread(thread("thr_empty", 9), self.ada)
        await store.save_thread(thread("thr_begun", 10), self.ada)

        gone = await store.purge_threads(moment(10), 100)

        assert sorted(id_ for _, id_ in gone) == ["thr_empty", "thr_old"]
        assert await threads_of(store, self.ada) == ["thr_edge", "thr_new", "thr_begun"]
        assert await items_of(store, self.ada, "thr_old") == []
        assert await items_of(store, self.ada, "thr_edge") == ["msg_old", "msg_new"]

    @requires("retention")
    async def test_a_fraction_of_a_second_does_not_count(self, store: PurgingStore) -> None:
        await store.save_thread(thread("thr_1", created_at=moment(10) + timedelta(milliseconds=1)), self.ada)
        await store.save_thread(thread("thr_2", 9, created_at=moment(10) - timedelta(milliseconds=1)), self.ada)

        gone = await store.purge_threads(moment(10) + timedelta(milliseconds=500), 100)

        assert [id_ for _, id_ in gone] == ["thr_2"]

    @requires("retention")
    async def test_an_item_with_an_odd_time_does_not_take_its_thread_along(self, store: PurgingStore) -> None:
        await self._threads(store, {"thr_1": 20})
        await store.add_thread_item("thr_1", message("odd", number=-(10**9), thread_id="thr_1"), self.ada)

        assert await store.purge_threads(moment(10), 100) == []

    @requires("retention", "owners")
    async def test_the_old_threads_of_all_readers_go_a_few_at_a_time(self, store: PurgingStore) -> None:
        readers = [("ada", "morning"), ("ada", "evening"), ("eve", "")]
        for reader in readers:
            await store.save_thread(thread(), self.context_of(*reader))
            await store.save_thread(thread("thr_2", 100), self.context_of(*reader))

        steps = [await store.purge_threads(moment(10), 2) for _ in range(3)]

        assert [len(step) for step in steps] == [2, 1, 0]
        gone = {(owner[1], owner[0], id_) for step in steps for owner, id_ in step}
        assert gone == {(*reader, "thr_1") for reader in readers}
        for reader in readers:
            assert await threads_of(store, self.context_of(*reader)) == ["thr_2"]

    @requires("retention", "patches")
    async def test_a_thread_that_was_renamed_is_as_old_as_before(self, store: PurgingStore) -> None:
        await self._threads(store, {"thr_1": 9, "thr_2": 11})
        assert isinstance(store, PatchesThreads)
        for id_ in ("thr_1", "thr_2"):
            changes = {"title": '"created_at":"2999-01-01T00:00:00"', "metadata": {"created_at": "2999-01-01T00:00:00"}}
            await store.patch_thread(id_, changes, self.ada)

        gone = await store.purge_threads(moment(10), 100)

        assert [id_ for _, id_ in gone] == ["thr_1"]

    @requires("retention", "leases")
    async def test_a_thread_that_is_being_answered_in_stays(self, store: PurgingStore) -> None:
        await self._threads(store, {"thr_1": 9})
        assert isinstance(store, KeepsLeases)
        await store.take_lease("thr_1", "a", LONG, self.ada)

        first = await store.purge_threads(moment(10), 100)
        await store.release_lease("thr_1", "a", self.ada)
        second = await store.purge_threads(moment(10), 100)

        assert (list(first), [id_ for _, id_ in second]) == ([], ["thr_1"])

    @requires("retention", "concurrent")
    async def test_a_message_that_comes_at_the_same_moment_is_kept_or_refused(self, store: PurgingStore) -> None:
        await self._threads(store, {f"thr_{number}": 9 for number in range(20)})

        async def send(id_: str) -> bool:
            try:
                await store.add_thread_item(id_, message("late", number=99, thread_id=id_), self.ada)
            except NotFoundError:
                return False
            return True

        ids = [f"thr_{number}" for number in range(20)]
        purging = asyncio.ensure_future(store.purge_threads(moment(10), 100))
        kept = await asyncio.gather(*map(send, ids))
        gone = {id_ for _, id_ in await purging}

        for id_, sent in zip(ids, kept, strict=True):
            assert ("late" in await items_of(store, self.ada, id_)) == sent
            assert (id_ in gone) != sent

    @requires("retention")
    async def test_files_that_are_in_no_thread_are_found(self, store: PurgingStore) -> None:
        await store.save_thread(thread(), self.ada)
        sent = {"atc_used": "thr_1", "atc_left": "thr_gone", "atc_new": None}
        for id_, place in sent.items():
            named = file(id_, 'a "thread_id":"thr_1" name').model_copy(update={"thread_id": place})
            await store.save_attachment(named, self.ada)

        async with aclosing(store.unused_attachments()) as unused:
            found = {attachment.id: owner async for owner, attachment in unused}

        assert found.keys() >= {"atc_left", "atc_new"}
        assert "atc_used" not in found
        assert found["atc_left"] == self.ada.owner

    @requires("retention", "idempotency", "export")
    async def test_what_has_expired_goes_and_what_has_not_stays(self, store: PurgingStore) -> None:
        assert isinstance(store, RemembersRequests)
        assert isinstance(store, ListsHoldings)
        request = RememberedRequest(fingerprint="f", busy_until=time.time() + LONG, thread_id="thr_1")
        await store.claim_request("lasting", request, LONG, self.ada)
        await store.claim_request("expired", request, 0.0, self.ada)

        await store.purge_expired()
        again = await store.purge_expired()

        assert again == 0
        assert [row["key"] for row in (await held(store, self.ada))["requests"]] == ["lasting"]
        assert await store.claim_request("lasting", request, LONG, self.ada) == request

    @requires("retention", "deletion")
    async def test_a_purge_does_not_let_a_deleted_reader_s_answer_back_in(self, store: PurgingStore) -> None:
        under_way = self.ada
        await store.save_thread(thread(), under_way)
        assert isinstance(store, DeletesUsers)
        await store.delete_user(self.ada)

        await store.purge_expired()

        with pytest.raises(NotFoundError):
            await store.save_thread(thread(), under_way)

    async def _threads(self, store: Store, newest: dict[str, int]) -> None:
        """Threads with two messages each, the newer one of this moment."""
        for id_, number in newest.items():
            await store.save_thread(thread(id_), self.ada)
            await store.add_thread_item(id_, message("msg_old", number=0, thread_id=id_), self.ada)
            await store.add_thread_item(id_, message("msg_new", number=number, thread_id=id_), self.ada)


def as_json(record: Any) -> dict[str, Any]:
    """A record as JSON has it."""
    return json.loads(record.model_dump_json())


def _moments(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with its time as a moment: it may be told in many ways."""
    return document | {"created_at": datetime.fromisoformat(document["created_at"]).timestamp()}
