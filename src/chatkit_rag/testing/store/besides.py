"""What a store may do besides: patches, feedback, marks of interrupted items, connections."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from chatkit.store import NotFoundError
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ClientToolCallItem, LockedStatus

from chatkit_rag.stores.base import KeepsFeedback, Lifecycle, PatchesThreads, Store
from chatkit_rag.stores.interrupted import InterruptedMessage, interrupted
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import T0, Part, fill, items_of, message, same, thread, threads_of

ReadFeedback = Callable[[Any, str, str], Awaitable[str | None]]


class PatchingStore(Store, PatchesThreads, Protocol):
    """A store that changes single fields."""


class FeedbackStore(Store, KeepsFeedback, Protocol):
    """A store that keeps feedback."""


class OpenedStore(Store, Lifecycle, Protocol):
    """A store that is opened and closed."""


class Patches(Part):
    """Single fields of a thread are changed in one step."""

    @requires("patches")
    async def test_one_field_is_changed_and_the_others_stay(self, store: PatchingStore) -> None:
        await store.save_thread(thread(title="Before", metadata={"site": "robots"}), self.ada)
        status = LockedStatus()
        metadata: dict[str, Any] = {"page": None, "n": [1, 2.5, 2**53 + 1], "$.title": "é", "": {}}

        await store.patch_thread("thr_1", {"title": "After, and 'why' 👩‍🚀"}, self.ada)
        await store.patch_thread("thr_1", {"metadata": metadata, "status": status}, self.ada)
        await store.patch_thread("thr_1", {}, self.ada)

        expected = thread(title="After, and 'why' 👩‍🚀", metadata=metadata, status=status)
        assert same(await store.load_thread("thr_1", self.ada), expected)

    @requires("patches")
    async def test_a_title_can_be_taken_away(self, store: PatchingStore) -> None:
        await store.save_thread(thread(title="Before"), self.ada)

        await store.patch_thread("thr_1", {"title": None}, self.ada)

        assert (await store.load_thread("thr_1", self.ada)).title is None

    @requires("patches")
    async def test_a_patch_brings_no_thread_into_being(self, store: PatchingStore) -> None:
        await store.save_thread(thread(title="Ada's"), self.ada)
        await store.delete_thread("thr_1", self.ada)

        with pytest.raises(NotFoundError):
            await store.patch_thread("thr_1", {"title": "Ghost"}, self.ada)

        assert await threads_of(store, self.ada) == []

    @requires("patches")
    async def test_patches_of_different_fields_at_once_are_all_kept(self, store: PatchingStore) -> None:
        await store.save_thread(thread(), self.ada)

        await asyncio.gather(
            store.patch_thread("thr_1", {"title": "Nodes"}, self.ada),
            store.patch_thread("thr_1", {"metadata": {"site": "robots"}}, self.ada),
            store.patch_thread("thr_1", {"allowed_image_domains": ["x.test"]}, self.ada),
        )

        expected = thread(title="Nodes", metadata={"site": "robots"}, allowed_image_domains=["x.test"])
        assert same(await store.load_thread("thr_1", self.ada), expected)


class Feedback(Part):
    """What readers think of answers."""

    @requires("feedback")
    async def test_the_last_word_on_each_item_counts(self, store: FeedbackStore, read_feedback: ReadFeedback) -> None:
        first, second = await fill(store, self.ada, items=2)

        await store.save_feedback("thr_1", [first, second, first], {"kind": "positive"}, self.ada)
        await store.save_feedback("thr_1", [first], {"kind": "negative", "text": "No."}, self.ada)
        await store.save_feedback("thr_1", [], {"kind": "positive"}, self.ada)

        kept = [await read_feedback(self.ada, "thr_1", name) for name in (first, second)]
        assert kept == ["negative", "positive"]
        assert await items_of(store, self.ada) == [first, second]

    @requires("feedback")
    async def test_feedback_on_what_is_not_there_is_not_found(
        self, store: FeedbackStore, read_feedback: ReadFeedback
    ) -> None:
        [first] = await fill(store, self.ada, items=1)

        for place, names in (("thr_1", [first, "msg_unknown"]), ("nowhere", [first])):
            with pytest.raises(NotFoundError):
                await store.save_feedback(place, names, {"kind": "positive"}, self.ada)

        assert await read_feedback(self.ada, "thr_1", first) is None

    @requires("feedback", "owners")
    async def test_nobody_s_feedback_is_another_s(self, store: FeedbackStore, read_feedback: ReadFeedback) -> None:
        [first] = await fill(store, self.ada, items=1)
        await store.save_feedback("thr_1", [first], {"kind": "positive"}, self.ada)

        with pytest.raises(NotFoundError):
            await store.save_feedback("thr_1", [first], {"kind": "negative"}, self.context_of("eve", "morning"))

        assert await read_feedback(self.ada, "thr_1", first) == "positive"

    @requires("feedback")
    @pytest.mark.parametrize("removed", ["item", "thread"])
    async def test_feedback_goes_with_its_item(
        self, store: FeedbackStore, read_feedback: ReadFeedback, removed: str
    ) -> None:
        [first] = await fill(store, self.ada, items=1)
        await store.save_feedback("thr_1", [first], {"kind": "positive"}, self.ada)

        if removed == "item":
            await store.delete_thread_item("thr_1", first, self.ada)
        else:
            await store.delete_thread("thr_1", self.ada)
            await store.save_thread(thread(), self.ada)
        await store.add_thread_item("thr_1", message(first), self.ada)

        assert await read_feedback(self.ada, "thr_1", first) is None


class Interrupted(Part):
    """The mark of items that were cut short."""

    @requires("interrupted")
    async def test_the_mark_comes_back_with_its_item(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)
        await store.add_thread_item("thr_1", _answer("msg_1"), self.ada)
        await store.add_thread_item("thr_1", interrupted(_answer("msg_2")), self.ada)

        page = await store.load_thread_items("thr_1", None, 10, "asc", self.ada)
        loaded = await store.load_item("thr_1", "msg_2", self.ada)

        assert [type(item) for item in page.data] == [AssistantMessageItem, InterruptedMessage]
        assert same(loaded, interrupted(_answer("msg_2")))

    @requires("interrupted")
    async def test_a_whole_item_in_its_place_takes_the_mark_away(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)
        await store.add_thread_item("thr_1", interrupted(_answer("msg_1")), self.ada)

        await store.save_item("thr_1", _answer("msg_1"), self.ada)

        assert same(await store.load_item("thr_1", "msg_1", self.ada), _answer("msg_1"))

    @requires("interrupted")
    async def test_a_result_that_only_speaks_of_it_is_no_mark(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)
        fields: dict[str, Any] = {"arguments": {}, "output": {"status": "interrupted"}}
        call = ClientToolCallItem(id="tc_1", thread_id="thr_1", created_at=T0, call_id="c", name="n", **fields)

        await store.add_thread_item("thr_1", call, self.ada)

        assert same(await store.load_item("thr_1", "tc_1", self.ada), call)


class Life(Part):
    """Connections that are opened and closed."""

    @requires("lifecycle")
    async def test_opening_and_closing_twice_is_as_doing_it_once(self, store: OpenedStore) -> None:
        await asyncio.gather(store.open(), store.open())
        await store.ping()
        await store.save_thread(thread(), self.ada)

        await asyncio.gather(store.close(), store.close())
        await store.close()
        await store.open()

        assert same(await store.load_thread("thr_1", self.ada), thread())


def _answer(id_: str) -> AssistantMessageItem:
    content = [AssistantMessageContent(text='It says "status":"interrupted" itself.')]
    return AssistantMessageItem(id=id_, thread_id="thr_1", created_at=T0, content=content)
