"""Callers who are cancelled, at each await: what they write is there wholly or not at all, and the store works on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol

import pytest
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import (
    KeepsFeedback,
    KeepsLeases,
    Lifecycle,
    PatchesThreads,
    RememberedRequest,
    RemembersRequests,
    Store,
)
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.besides import ReadFeedback
from chatkit_rag.testing.store.part import Part, file, fill, items_of, message, same, text_of, thread, threads_of

AWAITS = 60
"""More than any call has; where it has fewer, trying ends with the first that was not cancelled."""

HOLD = 60.0
"""Seconds that nobody waits for."""


class CoordinatingStore(Store, KeepsLeases, RemembersRequests, Protocol):
    """A store that keeps leases and remembers requests."""


class Cancelling(Part):
    """Callers who are cancelled."""

    @requires("whole_writes")
    @pytest.mark.parametrize(
        "step", ["add", "replace", "save thread", "drop item", "drop thread", "save file", "drop file"]
    )
    async def test_a_write_that_is_cancelled_is_there_wholly_or_not_at_all(self, store: Store, step: str) -> None:
        for awaits in range(AWAITS):
            before = await self._ready(store)
            was_cancelled = await cancelled_at(awaits, self._write(store, step))

            after = await self._look(store)
            written = await self._written(store, step)
            assert after == written or (was_cancelled and after == before)
            if not was_cancelled:
                break

    @requires("whole_writes", "patches")
    async def test_a_patch_that_is_cancelled_is_there_wholly_or_not_at_all(self, store: Store) -> None:
        assert isinstance(store, PatchesThreads)
        for awaits in range(AWAITS):
            await store.save_thread(thread(title="old", metadata={"word": "old"}), self.ada)
            changes = {"title": "new", "metadata": {"word": "new"}}
            was_cancelled = await cancelled_at(awaits, store.patch_thread("thr_1", changes, self.ada))

            found = await store.load_thread("thr_1", self.ada)
            words = {found.title, found.metadata["word"]}
            assert words == {"new"} or (was_cancelled and words == {"old"})
            if not was_cancelled:
                break

    @requires("whole_writes", "feedback")
    async def test_feedback_that_is_cancelled_is_there_wholly_or_not_at_all(
        self, store: Store, read_feedback: ReadFeedback
    ) -> None:
        assert isinstance(store, KeepsFeedback)
        for awaits in range(AWAITS):
            await store.delete_thread("thr_1", self.ada)
            names = await fill(store, self.ada, items=2)
            saving = store.save_feedback("thr_1", names, {"kind": "positive"}, self.ada)
            was_cancelled = await cancelled_at(awaits, saving)

            kept = {await read_feedback(self.ada, "thr_1", name) for name in names}
            assert kept == {"positive"} or (was_cancelled and kept == {None})
            if not was_cancelled:
                break

    @requires("whole_writes", "leases")
    @pytest.mark.parametrize("step", ["take", "release"])
    async def test_a_lease_whose_holder_is_cancelled_can_be_given_back_and_taken(
        self, store: CoordinatingStore, step: str
    ) -> None:
        await store.save_thread(thread(), self.ada)
        for awaits in range(AWAITS):
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "take": lambda: store.take_lease("thr_1", "a", HOLD, self.ada),
                "release": lambda: store.release_lease("thr_1", "a", self.ada),
            }
            if step == "release":
                assert await store.take_lease("thr_1", "a", HOLD, self.ada)
            was_cancelled = await cancelled_at(awaits, calls[step]())

            free = await store.take_lease("thr_1", "b", HOLD, self.ada)
            assert was_cancelled or free == (step == "release")
            await store.release_lease("thr_1", "a", self.ada)
            assert await store.take_lease("thr_1", "b", HOLD, self.ada)
            await store.release_lease("thr_1", "b", self.ada)
            if not was_cancelled:
                break

    @requires("whole_writes", "idempotency")
    @pytest.mark.parametrize("step", ["claim", "note", "forget"])
    async def test_a_request_whose_sender_is_cancelled_is_remembered_as_it_was_or_as_it_should_be(
        self, store: CoordinatingStore, step: str
    ) -> None:
        until = time.time() + HOLD
        old = RememberedRequest(fingerprint="f", busy_until=until)
        new = RememberedRequest(fingerprint="f", busy_until=until, thread_id="thr_1", item_id="msg_1")
        steps: dict[str, tuple[RememberedRequest | None, RememberedRequest | None]] = {
            "claim": (None, old),
            "note": (old, new),
            "forget": (old, None),
        }
        before, after = steps[step]
        for awaits in range(AWAITS):
            if before is not None:
                await store.claim_request("k", before, HOLD, self.ada)
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "claim": lambda: store.claim_request("k", old, HOLD, self.ada),
                "note": lambda: store.note_request("k", new, self.ada),
                "forget": lambda: store.forget_request("k", self.ada),
            }
            was_cancelled = await cancelled_at(awaits, calls[step]())

            found = await store.claim_request("k", old, HOLD, self.ada)
            assert found == after or (was_cancelled and found == before)
            await store.forget_request("k", self.ada)
            if not was_cancelled:
                break

    @requires("whole_writes")
    @pytest.mark.parametrize("step", ["thread", "threads", "items", "item", "file"])
    async def test_a_reader_who_is_cancelled_leaves_a_store_that_works(self, store: Store, step: str) -> None:
        ready = await self._ready(store)
        for awaits in range(AWAITS):
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "thread": lambda: store.load_thread("thr_1", self.ada),
                "threads": lambda: store.load_threads(20, None, "desc", self.ada),
                "items": lambda: store.load_thread_items("thr_1", None, 20, "desc", self.ada),
                "item": lambda: store.load_item("thr_1", "msg_1", self.ada),
                "file": lambda: store.load_attachment("atc_1", self.ada),
            }
            was_cancelled = await cancelled_at(awaits, calls[step]())

            assert await self._look(store) == ready
            if not was_cancelled:
                break

    @requires("whole_writes", "lifecycle")
    async def test_an_opening_that_is_cancelled_leaves_a_store_that_opens(self, store: Store) -> None:
        assert isinstance(store, Lifecycle)
        ready = await self._ready(store)
        for awaits in range(AWAITS):
            await store.close()
            was_cancelled = await cancelled_at(awaits, store.open())

            assert await self._look(store) == ready
            if not was_cancelled:
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
        try:
            sent = (await store.load_attachment("atc_1", self.ada)).name
        except NotFoundError:
            sent = None
        return {"threads": names, "title": title, "items": items, "file": sent}

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
            "drop file": lambda: store.delete_attachment("atc_1", self.ada),
        }

        async def write() -> None:
            await writes[step]()

        return write()


async def cancelled_at(awaits: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Whether `work` was cancelled, as it waited for the given time; nought is the first. Raises what it raises."""
    working = asyncio.ensure_future(_CancelledAt(work, awaits).run())
    await asyncio.wait({working}, timeout=10)
    assert working.done(), "what is cancelled never ends"
    if not working.cancelled():
        working.result()
    return working.cancelled()


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
