"""Threads: kept, changed, listed and removed."""

from datetime import timedelta
from typing import Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ClosedStatus, LockedStatus, Page, Thread, ThreadMetadata

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import (
    Part,
    assert_refused,
    fill,
    items_of,
    message,
    same,
    shuffled,
    text_of,
    thread,
    threads_of,
)

FIELDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "title": {"title": "Nodes, and 'why' 👩‍🚀 \u05d0\u05d1\u05d2"},
    "empty title": {"title": ""},
    "locked": {"status": LockedStatus(reason="maintenance")},
    "closed": {"status": ClosedStatus()},
    "metadata": {"metadata": {"page": {"url": "/nodes", "n": [1, 2.5, None, True]}, "": ""}},
    "image domains": {"allowed_image_domains": ["x.test"]},
}


class Threads(Part):
    """Threads: kept, changed, listed and removed."""

    @pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
    async def test_a_thread_comes_back_as_it_was_saved(self, store: Store, fields: dict[str, Any]) -> None:
        await store.save_thread(thread(**fields), self.ada)

        [listed] = (await store.load_threads(10, None, "asc", self.ada)).data
        assert same(await store.load_thread("thr_1", self.ada), thread(**fields))
        assert same(listed, thread(**fields))

    async def test_saving_a_thread_again_changes_it_and_keeps_its_place_and_items(self, store: Store) -> None:
        for number in range(3):
            await store.save_thread(thread(f"thr_{number}", number), self.ada)
        await store.add_thread_item("thr_1", message(), self.ada)

        changed = thread("thr_1", 1, title="New", status=LockedStatus(), metadata={"a": 1})
        await store.save_thread(changed, self.ada)

        assert same(await store.load_thread("thr_1", self.ada), changed)
        assert await threads_of(store, self.ada) == ["thr_0", "thr_1", "thr_2"]
        assert await items_of(store, self.ada) == ["msg_1"]

    async def test_threads_come_from_the_oldest_to_the_newest_and_back(self, store: Store) -> None:
        names = shuffled(7, "thr")
        for number, name in enumerate(names):
            await store.save_thread(thread(name, number), self.ada)

        assert await threads_of(store, self.ada, "asc") == names
        assert await threads_of(store, self.ada, "desc") == names[::-1]

    @requires("arrival_order")
    async def test_threads_come_as_they_arrived_whatever_their_times_say(self, store: Store) -> None:
        for number, name in enumerate(["c", "a", "b", "d"]):
            await store.save_thread(thread(name, -(number % 2)), self.ada)

        await store.save_thread(thread("a", 86_400), self.ada)

        assert await threads_of(store, self.ada, "asc") == ["c", "a", "b", "d"]
        assert await threads_of(store, self.ada, "desc") == ["d", "b", "a", "c"]

    async def test_a_thread_that_is_not_there_is_not_found(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)

        with pytest.raises(NotFoundError):
            await store.load_thread("thr_9", self.ada)

    async def test_a_deleted_thread_takes_its_items_along_and_no_others(self, store: Store) -> None:
        [name] = await fill(store, self.ada, items=1)
        await store.save_thread(thread("other", 1), self.ada)
        await store.add_thread_item("other", message(name, thread_id="other"), self.ada)

        await store.delete_thread("thr_1", self.ada)

        assert await threads_of(store, self.ada) == ["other"]
        assert await items_of(store, self.ada) == []
        assert text_of(await store.load_item("other", name, self.ada)) == "What is a node?"
        gone = (store.load_thread("thr_1", self.ada), store.load_item("thr_1", name, self.ada))
        await assert_refused(NotFoundError, *gone)

    async def test_deleting_a_thread_twice_is_as_deleting_it_once(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)

        await store.delete_thread("thr_1", self.ada)
        await store.delete_thread("thr_1", self.ada)

        assert await threads_of(store, self.ada) == []

    async def test_a_thread_that_is_made_again_is_new_and_empty(self, store: Store) -> None:
        await fill(store, self.ada, items=2)
        await store.save_thread(thread("other", 1), self.ada)

        await store.delete_thread("thr_1", self.ada)
        await store.save_thread(thread(number=2), self.ada)

        assert await items_of(store, self.ada) == []
        assert await threads_of(store, self.ada) == ["other", "thr_1"]

    @requires("metadata_only")
    async def test_a_thread_that_carries_items_is_kept_without_them(self, store: Store) -> None:
        created_at = thread().created_at + timedelta(seconds=1)
        whole = Thread(id="thr_1", created_at=created_at, title="T", items=Page(data=[message()]))

        await store.save_thread(whole, self.ada)

        loaded = await store.load_thread("thr_1", self.ada)
        assert type(loaded) is ThreadMetadata
        assert same(loaded, thread(number=1, title="T"))
        assert await items_of(store, self.ada) == []
