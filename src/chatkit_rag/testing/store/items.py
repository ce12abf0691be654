"""Items and attachments: kept, replaced and removed; and the ids that a store makes."""

from contextlib import suppress

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ImageAttachment, ThreadItem

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, file, fill, items_of, message, same, text_of, thread, threads_of
from chatkit_rag.testing.store.records import ITEMS

WAYS = pytest.mark.parametrize("method", ["add_thread_item", "save_item"])


class Items(Part):
    """Items: kept, replaced and removed."""

    @pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.type}-{item.id}")
    async def test_an_item_comes_back_as_it_was_stored(self, store: Store, item: ThreadItem) -> None:
        await store.save_thread(thread(), self.ada)

        await store.add_thread_item("thr_1", item, self.ada)

        [listed] = (await store.load_thread_items("thr_1", None, 10, "asc", self.ada)).data
        assert same(await store.load_item("thr_1", item.id, self.ada), item)
        assert same(listed, item)

    async def test_items_come_from_the_oldest_to_the_newest_and_back(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=12)

        assert await items_of(store, self.ada) == ids
        assert await items_of(store, self.ada, order="desc") == ids[::-1]

    @requires("arrival_order")
    async def test_items_of_one_moment_come_as_they_arrived(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=50, rising=False)
        await store.add_thread_item("thr_1", message("late", number=-86_400), self.ada)

        for size in (7, 100):
            assert await items_of(store, self.ada, size=size) == [*ids, "late"]
            assert await items_of(store, self.ada, order="desc", size=size) == ["late", *ids[::-1]]

    @WAYS
    async def test_a_known_item_is_replaced_in_its_place(self, store: Store, method: str) -> None:
        ids = await fill(store, self.ada, items=3)

        await getattr(store, method)("thr_1", message(ids[1], "changed", 1), self.ada)

        assert await items_of(store, self.ada) == ids
        assert text_of(await store.load_item("thr_1", ids[1], self.ada)) == "changed"

    async def test_saving_an_unknown_item_stores_it(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=2)

        await store.save_item("thr_1", message(number=2), self.ada)

        assert same(await store.load_item("thr_1", "msg_1", self.ada), message(number=2))
        assert await items_of(store, self.ada) == [*ids, "msg_1"]

    async def test_an_item_that_is_not_in_the_thread_is_not_found(self, store: Store) -> None:
        [name] = await fill(store, self.ada, items=1)
        await store.save_thread(thread("thr_2", 1), self.ada)

        for place, id_ in (("thr_1", "msg_unknown"), ("thr_2", name), ("nowhere", name)):
            with pytest.raises(NotFoundError):
                await store.load_item(place, id_, self.ada)

    @WAYS
    async def test_an_item_never_brings_a_deleted_thread_back(self, store: Store, method: str) -> None:
        await store.save_thread(thread(), self.ada)
        await store.delete_thread("thr_1", self.ada)

        with suppress(NotFoundError):
            await getattr(store, method)("thr_1", message(), self.ada)

        assert await threads_of(store, self.ada) == []
        with pytest.raises(NotFoundError):
            await store.load_thread("thr_1", self.ada)

    @requires("no_orphans")
    @WAYS
    async def test_an_item_without_its_thread_is_refused_and_leaves_nothing(self, store: Store, method: str) -> None:
        await fill(store, self.ada)
        await store.delete_thread("thr_1", self.ada)

        with pytest.raises(NotFoundError):
            await getattr(store, method)("thr_1", message(), self.ada)

        await fill(store, self.ada)
        assert await items_of(store, self.ada) == []

    async def test_deleting_an_item_leaves_the_others_and_can_be_done_twice(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=3)

        await store.delete_thread_item("thr_1", ids[1], self.ada)
        await store.delete_thread_item("thr_1", ids[1], self.ada)
        await store.delete_thread_item("nowhere", ids[0], self.ada)

        assert await items_of(store, self.ada) == [ids[0], ids[2]]
        with pytest.raises(NotFoundError):
            await store.load_item("thr_1", ids[1], self.ada)

    async def test_an_item_that_is_stored_again_after_its_removal_comes_last(self, store: Store) -> None:
        ids = await fill(store, self.ada, items=3)

        await store.delete_thread_item("thr_1", ids[0], self.ada)
        await store.add_thread_item("thr_1", message(ids[0], number=3), self.ada)

        assert await items_of(store, self.ada) == [*ids[1:], ids[0]]

    async def test_one_id_in_two_threads_is_two_items(self, store: Store) -> None:
        for number, name in enumerate(("thr_1", "thr_2")):
            await store.save_thread(thread(name, number), self.ada)
            await store.add_thread_item(name, message(text=name, thread_id=name), self.ada)
        both = [text_of(await store.load_item(name, "msg_1", self.ada)) for name in ("thr_1", "thr_2")]

        await store.delete_thread_item("thr_1", "msg_1", self.ada)

        assert both == ["thr_1", "thr_2"]
        assert text_of(await store.load_item("thr_2", "msg_1", self.ada)) == "thr_2"

    async def test_a_thread_that_is_not_there_has_no_items(self, store: Store) -> None:
        await fill(store, self.ada, items=1)

        page = await store.load_thread_items("nowhere", None, 10, "asc", self.ada)

        assert (page.data, page.has_more) == ([], False)


class Attachments(Part):
    """Attachments: kept, replaced and removed."""

    async def test_an_attachment_comes_back_as_it_was_saved_and_can_be_replaced(self, store: Store) -> None:
        image = ImageAttachment.model_validate(
            {"id": "atc_1", "name": "b", "mime_type": "image/png", "preview_url": "https://x.test/b.png?c=d&e"}
        )

        await store.save_attachment(file(), self.ada)
        first = await store.load_attachment("atc_1", self.ada)
        await store.save_attachment(image, self.ada)
        second = await store.load_attachment("atc_1", self.ada)

        assert (first, second) == (file(), image)

    async def test_a_deleted_attachment_is_gone_and_deleting_can_be_done_twice(self, store: Store) -> None:
        await store.save_attachment(file("atc_1"), self.ada)
        await store.save_attachment(file("atc_2"), self.ada)

        await store.delete_attachment("atc_1", self.ada)
        await store.delete_attachment("atc_1", self.ada)

        with pytest.raises(NotFoundError):
            await store.load_attachment("atc_1", self.ada)
        assert await store.load_attachment("atc_2", self.ada) == file("atc_2")


class Ids(Part):
    """The ids that a store makes."""

    async def test_new_ids_are_all_different(self, store: Store) -> None:
        made = [store.generate_thread_id(self.ada) for _ in range(500)]
        made += [store.generate_item_id("message", thread(), self.ada) for _ in range(500)]

        assert all(made)
        assert len(set(made)) == 1_000

    @requires("prefixes")
    async def test_new_ids_begin_as_chatkit_s_do(self, store: Store) -> None:
        made = {
            "thr": store.generate_thread_id(self.ada),
            "msg": store.generate_item_id("message", thread(), self.ada),
            "tc": store.generate_item_id("tool_call", thread(), self.ada),
            "wf": store.generate_item_id("workflow", thread(), self.ada),
            "tsk": store.generate_item_id("task", thread(), self.ada),
        }

        assert [prefix for prefix, id_ in made.items() if not id_.startswith(f"{prefix}_")] == []
