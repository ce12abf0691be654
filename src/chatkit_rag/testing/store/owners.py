"""Readers are kept apart: what is not theirs and what is not there look the same."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import PatchesThreads, Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import (
    Part,
    assert_refused,
    file,
    fill,
    items_of,
    message,
    text_of,
    thread,
    threads_of,
    told,
)

STRANGERS = pytest.mark.parametrize(
    "stranger",
    [
        ("eve", "morning"),
        ("ada", "evening"),
        ("ada", ""),
        ("morning", "ada"),
        ("morningada", ""),
        ("ADA", "morning"),
        ("%", "morning"),
        ("a*", "morning"),
        ("ada' OR '1'='1", "morning"),
    ],
    ids="@".join,
)
"""Each is like `ada` of the tenant `morning`, and not she."""


class Owners(Part):
    """Readers are kept apart."""

    @requires("owners")
    @STRANGERS
    async def test_a_stranger_finds_nothing(self, store: Store, stranger: tuple[str, str]) -> None:
        look = await self._hers(store)
        before, they = await look(), self.context_of(*stranger)

        await assert_refused(
            NotFoundError,
            store.load_thread("thr_1", they),
            store.load_item("thr_1", "msg_0000", they),
            store.load_attachment("atc_1", they),
        )
        assert await threads_of(store, they) == []
        assert await items_of(store, they) == []
        assert await look() == before

    @requires("owners", "strict_cursors")
    @STRANGERS
    async def test_a_stranger_s_cursor_is_not_found(self, store: Store, stranger: tuple[str, str]) -> None:
        await self._hers(store)
        they = self.context_of(*stranger)
        await store.save_thread(thread("thr_9"), they)

        await assert_refused(
            NotFoundError,
            store.load_thread_items("thr_1", "msg_0000", 10, "asc", they),
            store.load_threads(10, "thr_1", "asc", they),
        )

    @requires("owners")
    @STRANGERS
    async def test_a_stranger_changes_nothing(self, store: Store, stranger: tuple[str, str]) -> None:
        look = await self._hers(store)
        before, they = await look(), self.context_of(*stranger)

        with suppress(NotFoundError):
            await store.add_thread_item("thr_1", message("planted"), they)
        with suppress(NotFoundError):
            await store.save_item("thr_1", message("msg_0000", "changed"), they)
        await store.delete_thread_item("thr_1", "msg_0000", they)
        await store.delete_thread("thr_1", they)
        await store.delete_attachment("atc_1", they)

        assert await look() == before

    @requires("owners")
    @STRANGERS
    async def test_what_a_stranger_stores_under_her_ids_is_theirs(
        self, store: Store, stranger: tuple[str, str]
    ) -> None:
        look = await self._hers(store)
        before, they = await look(), self.context_of(*stranger)

        await store.save_thread(thread(title="theirs"), they)
        await store.add_thread_item("thr_1", message("msg_0000", "theirs"), they)
        await store.save_attachment(file(name="theirs"), they)

        assert await look() == before
        assert (await store.load_thread("thr_1", they)).title == "theirs"
        assert text_of(await store.load_item("thr_1", "msg_0000", they)) == "theirs"
        assert (await store.load_attachment("atc_1", they)).name == "theirs"

        await store.delete_thread("thr_1", they)
        await store.delete_attachment("atc_1", they)

        assert await look() == before

    @requires("owners")
    async def test_what_is_not_hers_and_what_is_not_there_look_the_same(self, store: Store) -> None:
        await self._hers(store)
        eve = self.context_of("eve", "morning")

        with pytest.raises(NotFoundError) as not_theirs:
            await store.load_thread("thr_1", eve)
        with pytest.raises(NotFoundError) as not_there:
            await store.load_thread("thr_2", eve)

        assert type(not_theirs.value) is type(not_there.value)
        assert str(not_theirs.value).replace("thr_1", "thr_2") == str(not_there.value)

    @requires("owners")
    @pytest.mark.parametrize("step", range(12))
    async def test_a_context_that_names_nobody_is_refused(self, store: Store, step: int) -> None:
        look = await self._hers(store)
        before, nobody = await look(), None
        steps: list[Callable[[Any], Awaitable[Any]]] = [
            lambda nobody: store.load_thread("thr_1", nobody),
            lambda nobody: store.save_thread(thread("thr_2"), nobody),
            lambda nobody: store.load_threads(10, None, "asc", nobody),
            lambda nobody: store.delete_thread("thr_1", nobody),
            lambda nobody: store.load_thread_items("thr_1", None, 10, "asc", nobody),
            lambda nobody: store.add_thread_item("thr_1", message("planted"), nobody),
            lambda nobody: store.save_item("thr_1", message("msg_0000", "changed"), nobody),
            lambda nobody: store.load_item("thr_1", "msg_0000", nobody),
            lambda nobody: store.delete_thread_item("thr_1", "msg_0000", nobody),
            lambda nobody: store.save_attachment(file(name="theirs"), nobody),
            lambda nobody: store.load_attachment("atc_1", nobody),
            lambda nobody: store.delete_attachment("atc_1", nobody),
        ]

        refused = False
        try:
            await steps[step](nobody)
        except Exception:  # noqa: BLE001 - whatever it is that says no
            refused = True

        assert refused
        assert await look() == before

    @requires("owners", "patches")
    async def test_a_stranger_patches_nothing(self, store: Store) -> None:
        look = await self._hers(store)
        before = await look()
        assert isinstance(store, PatchesThreads)

        with pytest.raises(NotFoundError):
            await store.patch_thread("thr_1", {"title": "Mine"}, self.context_of("eve", "morning"))

        assert await look() == before

    async def _hers(self, store: Store) -> Callable[[], Awaitable[Any]]:
        """Stores what is Ada's, and gives a way to look at all of it."""
        ada = self.ada
        await fill(store, ada, items=2)
        await store.save_attachment(file(), ada)

        async def look() -> Any:
            threads = (await store.load_threads(100, None, "asc", ada)).data
            items = (await store.load_thread_items("thr_1", None, 100, "asc", ada)).data
            return [told(row) for row in (*threads, *items, await store.load_attachment("atc_1", ada))]

        return look
