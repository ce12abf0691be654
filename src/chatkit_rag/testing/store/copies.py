"""Records are copied in and out: changing one changes nothing that is stored."""

from datetime import datetime
from typing import Any

from chatkit.types import UserMessageItem

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, file, message, same, thread

DEEP: dict[str, Any] = {"deep": {"list": []}}


class Copies(Part):
    """Records are copied in and out."""

    @requires("copies")
    async def test_changing_what_was_stored_changes_nothing(self, store: Store) -> None:
        mine, item, sent = thread(metadata={"deep": {"list": []}}), message(), file()
        await store.save_thread(mine, self.ada)
        await store.add_thread_item("thr_1", item, self.ada)
        await store.save_attachment(sent, self.ada)

        mine.title = "changed"
        mine.metadata["deep"]["list"].append(1)
        item.content[0].text = "changed"
        sent.name = "changed"

        assert same(await store.load_thread("thr_1", self.ada), thread(metadata=DEEP))
        assert same(await store.load_item("thr_1", "msg_1", self.ada), message())
        assert await store.load_attachment("atc_1", self.ada) == file()

    @requires("copies")
    async def test_changing_what_was_handed_out_changes_nothing(self, store: Store) -> None:
        await store.save_thread(thread(metadata=DEEP), self.ada)
        await store.add_thread_item("thr_1", message(), self.ada)
        await store.save_attachment(file(), self.ada)

        threads = await store.load_threads(1, None, "asc", self.ada)
        for loaded in (await store.load_thread("thr_1", self.ada), threads.data[0]):
            loaded.metadata["deep"]["list"].append(1)
        items = await store.load_thread_items("thr_1", None, 1, "asc", self.ada)
        for item in (await store.load_item("thr_1", "msg_1", self.ada), items.data[0]):
            assert isinstance(item, UserMessageItem)
            item.content.clear()
        (await store.load_attachment("atc_1", self.ada)).name = "changed"
        items.data.clear()
        threads.data.clear()

        assert same(await store.load_thread("thr_1", self.ada), thread(metadata={"deep": {"list": []}}))
        assert same(await store.load_item("thr_1", "msg_1", self.ada), message())
        assert await store.load_attachment("atc_1", self.ada) == file()

    @requires("copies")
    async def test_storing_does_not_touch_what_is_stored(self, store: Store) -> None:
        naive = datetime(2025, 3, 1, 12)  # noqa: DTZ001 - as ChatKit's own hooks make it
        mine, item = thread(created_at=naive), message(created_at=naive)

        await store.save_thread(mine, self.ada)
        await store.add_thread_item("thr_1", item, self.ada)

        assert (mine, item) == (thread(created_at=naive), message(created_at=naive))
