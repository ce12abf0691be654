"""Many at once: nothing is lost, nothing is there twice, nothing is left behind."""

import asyncio

from chatkit.store import NotFoundError

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, items_of, message, text_of, thread, threads_of


class AtOnce(Part):
    """Many at once."""

    @requires("concurrent")
    async def test_fifty_writers_lose_nothing(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)

        async def write(writer: int) -> None:
            for number in range(20):
                await store.add_thread_item("thr_1", message(f"msg_{writer}_{number}", number=number), self.ada)

        await asyncio.gather(*(write(writer) for writer in range(50)))

        ids = await items_of(store, self.ada)
        assert sorted(ids) == sorted(f"msg_{writer}_{number}" for writer in range(50) for number in range(20))
        for writer in range(50):
            written = [name for name in ids if name.startswith(f"msg_{writer}_")]
            assert written == [f"msg_{writer}_{number}" for number in range(20)]

    @requires("concurrent")
    async def test_writers_of_one_item_leave_one(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)

        await asyncio.gather(*(store.save_item("thr_1", message(text=str(number)), self.ada) for number in range(50)))

        assert await items_of(store, self.ada) == ["msg_1"]
        assert text_of(await store.load_item("thr_1", "msg_1", self.ada)) in {str(number) for number in range(50)}

    @requires("concurrent")
    async def test_writers_of_one_thread_leave_one(self, store: Store) -> None:
        await asyncio.gather(*(store.save_thread(thread(title=str(number)), self.ada) for number in range(50)))

        assert await threads_of(store, self.ada) == ["thr_1"]
        assert (await store.load_thread("thr_1", self.ada)).title in {str(number) for number in range(50)}

    @requires("concurrent", "strict_cursors")
    async def test_who_pages_while_others_write_sees_each_row_once_and_in_order(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)
        ids = [f"msg_{number:03}" for number in range(60)]
        for number, name in enumerate(ids[:20]):
            await store.add_thread_item("thr_1", message(name, number=number), self.ada)

        async def write() -> None:
            for number, name in enumerate(ids[20:], 20):
                await store.add_thread_item("thr_1", message(name, number=number), self.ada)

        writing = asyncio.ensure_future(write())
        seen = [await items_of(store, self.ada, size=7) for _ in range(5)]
        await writing

        assert seen == [ids[: len(one)] for one in seen]
        assert await items_of(store, self.ada, size=7) == ids

    @requires("concurrent", "no_orphans")
    async def test_an_item_that_races_its_thread_s_removal_leaves_nothing_behind(self, store: Store) -> None:
        for number in range(20):
            await store.save_thread(thread(), self.ada)

            added, _ = await asyncio.gather(
                store.add_thread_item("thr_1", message(f"msg_{number}"), self.ada),
                store.delete_thread("thr_1", self.ada),
                return_exceptions=True,
            )

            assert added is None or isinstance(added, NotFoundError)
            assert await items_of(store, self.ada) == []
