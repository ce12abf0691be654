"""Pages: each row once, in order, and a cursor that means the row before."""

import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, fill, message, pages, shuffled, thread

ORDERS = pytest.mark.parametrize("order", ["asc", "desc"])
COUNT = 14
"""A multiple of some of the sizes that are tried, so that a last page may be full."""

LIMITS = {-(2**63): 1, -1: 1, 0: 1, 1: 1, 99: 99, 100: 100, 101: 100, 10**9: 100, 2**63: 100, 10**30: 100}
"""What may be asked for, and how many rows come of more than a hundred."""


class Pages(Part):
    """Pages: each row once, in order, and a cursor that means the row before."""

    @ORDERS
    @pytest.mark.parametrize("size", [1, 2, 7, 9, 100])
    async def test_the_pages_of_a_thread_hold_each_item_once(self, store: Store, order: str, size: int) -> None:
        ids = await fill(store, self.ada, items=COUNT)

        found = [
            page async for page in pages(lambda after: store.load_thread_items("thr_1", after, size, order, self.ada))
        ]

        assert [item.id for page in found for item in page.data] == (ids if order == "asc" else ids[::-1])
        assert [len(page.data) for page in found] == [min(size, COUNT - start) for start in range(0, COUNT, size)]
        assert [page.after for page in found[:-1]] == [page.data[-1].id for page in found[:-1]]
        assert not found[-1].after

    @ORDERS
    @pytest.mark.parametrize("size", [1, 2, 7, 9, 100])
    async def test_the_pages_of_the_list_hold_each_thread_once(self, store: Store, order: str, size: int) -> None:
        names = shuffled(COUNT, "thr")
        for number, name in enumerate(names):
            await store.save_thread(thread(name, number), self.ada)

        found = [page async for page in pages(lambda after: store.load_threads(size, after, order, self.ada))]

        assert [row.id for page in found for row in page.data] == (names if order == "asc" else names[::-1])
        assert [len(page.data) for page in found] == [min(size, COUNT - start) for start in range(0, COUNT, size)]
        assert [page.after for page in found[:-1]] == [page.data[-1].id for page in found[:-1]]
        assert not found[-1].after

    async def test_an_empty_list_is_one_empty_page(self, store: Store) -> None:
        threads = await store.load_threads(10, None, "asc", self.ada)
        await store.save_thread(thread(), self.ada)
        items = await store.load_thread_items("thr_1", None, 10, "asc", self.ada)

        assert (threads.data, threads.has_more, items.data, items.has_more) == ([], False, [], False)

    async def test_the_next_page_begins_behind_the_cursor_also_when_rows_were_added_since(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=4)
        newest = await store.load_thread_items("thr_1", None, 2, "desc", self.ada)
        oldest = await store.load_thread_items("thr_1", None, 2, "asc", self.ada)

        await store.add_thread_item("thr_1", message("new", number=4), self.ada)
        older = await store.load_thread_items("thr_1", newest.after, 10, "desc", self.ada)
        newer = await store.load_thread_items("thr_1", oldest.after, 10, "asc", self.ada)

        assert [item.id for item in older.data] == ids[1::-1]
        assert [item.id for item in newer.data] == [*ids[2:], "new"]

    async def test_the_next_page_has_what_is_left_when_rows_were_removed_since(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=6)
        first = await store.load_thread_items("thr_1", None, 2, "asc", self.ada)

        await store.delete_thread_item("thr_1", ids[0], self.ada)
        await store.delete_thread_item("thr_1", ids[3], self.ada)
        rest = await store.load_thread_items("thr_1", first.after, 10, "asc", self.ada)

        assert [item.id for item in rest.data] == [ids[2], *ids[4:]]

    @requires("clamped_limits")
    async def test_a_limit_is_brought_within_its_bounds(self, store: Store) -> None:
        await fill(store, self.ada, items=102)
        for number in range(2, 103):
            await store.save_thread(thread(f"thr_{number}", number), self.ada)

        for limit, rows in LIMITS.items():
            items = await store.load_thread_items("thr_1", None, limit, "desc", self.ada)
            threads = await store.load_threads(limit, None, "desc", self.ada)

            assert (limit, len(items.data), items.has_more) == (limit, rows, True)
            assert (limit, len(threads.data), threads.has_more) == (limit, rows, True)

    @requires("strict_cursors")
    @pytest.mark.parametrize("cursor", ["msg_unknown", "", "thr_1", "msg_0000' OR 1=1 --", "*", "%", "é" * 300])
    async def test_a_cursor_that_is_not_in_the_list_is_not_found(self, store: Store, cursor: str) -> None:
        await fill(store, self.ada, items=2)
        await store.save_thread(thread("thr_2", 1), self.ada)

        with pytest.raises(NotFoundError):
            await store.load_thread_items("thr_1", cursor, 10, "asc", self.ada)
        with pytest.raises(NotFoundError):
            await store.load_threads(10, cursor if cursor != "thr_1" else "msg_0000", "asc", self.ada)

    @requires("strict_cursors")
    async def test_the_cursor_of_another_thread_or_a_removed_row_is_not_found(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=2)
        await store.save_thread(thread("thr_2", 1), self.ada)
        await store.delete_thread_item("thr_1", ids[1], self.ada)

        for place, cursor in (("thr_2", ids[0]), ("nowhere", ids[0]), ("thr_1", ids[1])):
            with pytest.raises(NotFoundError):
                await store.load_thread_items(place, cursor, 10, "asc", self.ada)
