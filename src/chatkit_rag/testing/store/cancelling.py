"""A write whose caller is cancelled, at each of its awaits: there wholly or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import Part, file, items_of, message, same, text_of, thread, threads_of

AWAITS = 60
"""More than any write has; where it has fewer, trying ends with the first that was not cancelled."""


class Cancelling(Part):
    """A write whose caller is cancelled."""

    @requires("whole_writes")
    @pytest.mark.parametrize("step", ["add", "replace", "save thread", "drop item", "drop thread", "save file"])
    async def test_a_write_that_is_cancelled_is_there_wholly_or_not_at_all(self, store: Store, step: str) -> None:
        for awaits in range(AWAITS):
            before = await self._ready(store)
            writing = asyncio.ensure_future(_CancelledAt(self._write(store, step), awaits).run())
            await asyncio.wait({writing}, timeout=10)
            assert writing.done(), "a cancelled write never ends"

            after = await self._look(store)
            written = await self._written(store, step)
            assert after == written or (writing.cancelled() and after == before)
            if not writing.cancelled():
                assert writing.exception() is None
                break

    @requires("whole_writes")
    async def test_a_write_that_is_cancelled_at_any_moment_leaves_a_store_that_works(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)

        for number in range(40):
            item = message(f"msg_{number}", number=number)
            writing = asyncio.ensure_future(store.add_thread_item("thr_1", item, self.ada))
            for _ in range(number % 20):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait({writing})

            if item.id in await items_of(store, self.ada):
                assert same(await store.load_item("thr_1", item.id, self.ada), item)
            else:
                assert writing.cancelled(), "an item was acknowledged, and is not there"

        await store.add_thread_item("thr_1", message("last", number=40), self.ada)
        assert (await items_of(store, self.ada))[-1] == "last"

    async def _ready(self, store: Store) -> Any:
        """Brings the store to where every write begins."""
        await store.delete_thread("thr_1", self.ada)
        await store.save_thread(thread(title="old"), self.ada)
        await store.add_thread_item("thr_1", message(text="old"), self.ada)
        await store.save_attachment(file(name="old"), self.ada)
        return await self._look(store)

    async def _look(self, store: Store) -> dict[str, Any]:
        names = await threads_of(store, self.ada)
        title = (await store.load_thread("thr_1", self.ada)).title if names else None
        items = {
            name: text_of(await store.load_item("thr_1", name, self.ada)) for name in await items_of(store, self.ada)
        }
        sent = await store.load_attachment("atc_1", self.ada)
        return {"threads": names, "title": title, "items": items, "file": sent.name}

    async def _written(self, store: Store, step: str) -> dict[str, Any]:
        """What it looks like when the write was carried out: it is, now."""
        try:
            await self._write(store, step)
        except NotFoundError:
            pytest.fail("the store does not work after a write was cancelled")
        return await self._look(store)

    def _write(self, store: Store, step: str) -> Coroutine[Any, Any, None]:
        writes: dict[str, Callable[[], Awaitable[None]]] = {
            "add": lambda: store.add_thread_item("thr_1", message("msg_2", "new", 1), self.ada),
            "replace": lambda: store.save_item("thr_1", message(text="new"), self.ada),
            "save thread": lambda: store.save_thread(thread(title="new"), self.ada),
            "drop item": lambda: store.delete_thread_item("thr_1", "msg_1", self.ada),
            "drop thread": lambda: store.delete_thread("thr_1", self.ada),
            "save file": lambda: store.save_attachment(file(name="new"), self.ada),
        }

        async def write() -> None:
            await writes[step]()

        return write()


class _CancelledAt:
    """Runs a coroutine in its own task, and cancels that task as it waits for the given time; nought is the first."""

    def __init__(self, work: Coroutine[Any, Any, None], awaits: int) -> None:
        self._work = work
        self._awaits = awaits

    async def run(self) -> None:
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        task = asyncio.current_task()
        assert task is not None
        answer: Callable[[], Any] = lambda: next(steps)  # noqa: E731 - what to resume with, which changes
        while True:
            try:
                waited_for = answer()
            except StopIteration:
                return
            if not self._awaits:
                task.cancel()
            self._awaits -= 1
            try:
                yield waited_for
            except BaseException as exc:  # noqa: BLE001 - handed on to whom it is for
                thrown = exc
                answer = lambda thrown=thrown: steps.throw(thrown)  # noqa: E731
            else:
                answer = lambda: next(steps)  # noqa: E731
