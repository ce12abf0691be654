"""Turns that begin and end in one step: wholly or not at all, within quotas, one at a time in a thread."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ActiveStatus, ClosedStatus, LockedStatus

from chatkit_rag.stores.base import KeepsLeases, RememberedRequest, RemembersRequests, Store
from chatkit_rag.stores.turns import Asked, BeginsTurns, Begun, Ending, Refusal
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.cancelling import AWAITS, cancelled_at
from chatkit_rag.testing.store.coordination import LONG, asked
from chatkit_rag.testing.store.part import Part, fill, items_of, message, text_of, thread, threads_of

State = tuple[list[str], bool | None]


class TurningStore(Store, BeginsTurns, KeepsLeases, RemembersRequests, Protocol):
    """A store that begins and ends turns."""


def question(id_: str = "msg_new", thread_id: str = "thr_1", **fields: Any) -> Asked:
    """A message that begins a turn; without a quota."""
    given: dict[str, Any] = {"holder": "a", "seconds": LONG, "quota": 0} | fields
    return Asked(message=message(id_, id_, thread_id=thread_id), **given)


def answer(id_: str = "msg_answer", **fields: Any) -> Ending:
    """What a turn ends with."""
    given: dict[str, Any] = {"holder": "a"} | fields
    return Ending(item=message(id_, id_), **given)


class Turns(Part):
    """One turn after the other."""

    @requires("turns")
    async def test_a_turn_begins_behind_what_there_is_and_knows_the_newest_of_it(self, store: TurningStore) -> None:
        before = await fill(store, self.ada, items=5)

        begun = await store.begin_turn(question(history=3), self.ada)

        assert isinstance(begun, Begun)
        assert begun.thread == thread()
        assert [item.id for item in begun.history] == before[:1:-1]
        assert await items_of(store, self.ada) == [*before, "msg_new"]
        assert text_of(await store.load_item("thr_1", "msg_new", self.ada)) == "msg_new"
        assert not await store.take_lease("thr_1", "b", LONG, self.ada)

    @requires("turns")
    async def test_a_turn_of_which_no_history_is_wanted_brings_none(self, store: TurningStore) -> None:
        await fill(store, self.ada, items=2)

        begun = await store.begin_turn(question(), self.ada)

        assert isinstance(begun, Begun)
        assert not begun.history

    @requires("turns")
    async def test_a_turn_ends_with_its_item_and_the_thread_is_free(self, store: TurningStore) -> None:
        await fill(store, self.ada)
        await store.begin_turn(question(), self.ada)

        await store.end_turn(answer(), self.ada)

        assert await items_of(store, self.ada) == ["msg_new", "msg_answer"]
        assert isinstance(await store.begin_turn(question("msg_next", holder="b"), self.ada), Begun)

    @requires("turns")
    async def test_who_has_lost_a_thread_gives_nothing_back_with_an_item(self, store: TurningStore) -> None:
        await fill(store, self.ada)
        await store.take_lease("thr_1", "b", LONG, self.ada)

        await store.end_turn(answer(), self.ada)

        assert not await store.take_lease("thr_1", "c", LONG, self.ada)

    @requires("turns")
    async def test_a_thread_begins_with_its_first_message_and_is_held(self, store: TurningStore) -> None:
        begun = await store.begin_thread(thread(title="T"), question(), self.ada)

        assert isinstance(begun, Begun)
        assert begun.thread == await store.load_thread("thr_1", self.ada) == thread(title="T")
        assert await items_of(store, self.ada) == ["msg_new"]
        assert not await store.take_lease("thr_1", "b", LONG, self.ada)

    @requires("turns")
    async def test_a_second_time_is_as_once(self, store: TurningStore) -> None:
        begun = [await store.begin_thread(thread(), question("msg_1", quota=1), self.ada) for _ in range(2)]
        ended = [await store.end_turn(answer("msg_2"), self.ada) for _ in range(2)]
        next_ = [await store.begin_turn(question("msg_3", quota=3, history=9), self.ada) for _ in range(2)]

        assert begun == [Begun(thread=thread())] * 2
        assert ended == [None, None]
        assert [[item.id for item in one.history] for one in next_ if isinstance(one, Begun)] == [
            ["msg_2", "msg_1"]
        ] * 2
        assert await items_of(store, self.ada) == ["msg_1", "msg_2", "msg_3"]
        assert await threads_of(store, self.ada) == ["thr_1"]

    @requires("turns", "owners")
    async def test_in_a_thread_that_is_not_there_or_not_one_s_own_no_turn_begins_or_ends(
        self, store: TurningStore
    ) -> None:
        await fill(store, self.ada)
        mallory = self.context_of("mallory", "morning")

        for asks, reader in ((question(thread_id="thr_9"), self.ada), (question(), mallory)):
            ends = Ending(item=asks.message, holder="a")
            with pytest.raises(NotFoundError):
                await store.begin_turn(asks, reader)
            with pytest.raises(NotFoundError):
                await store.end_turn(ends, reader)
        assert await items_of(store, self.ada) == await items_of(store, mallory) == []
        assert await store.take_lease("thr_1", "b", LONG, self.ada)

    @requires("turns")
    @pytest.mark.parametrize("refusal", [Refusal.BUSY, Refusal.LOCKED, Refusal.CLOSED, Refusal.FULL])
    async def test_where_no_turn_begins_nothing_is_stored(self, store: TurningStore, refusal: Refusal) -> None:
        status = {Refusal.LOCKED: LockedStatus(), Refusal.CLOSED: ClosedStatus()}.get(refusal, ActiveStatus())
        there = await fill(store, self.ada, items=2)
        await store.save_thread(thread(status=status), self.ada)
        if refusal is Refusal.BUSY:
            await store.take_lease("thr_1", "b", LONG, self.ada)
        claimed = asked()
        await store.claim_request("k", claimed, LONG, self.ada)

        quota = 2 if refusal is Refusal.FULL else 3
        refused = await store.begin_turn(question(quota=quota, key="k", request=asked(thread_id="thr_1")), self.ada)

        assert refused is refusal
        assert await items_of(store, self.ada) == there
        assert await store.claim_request("k", asked(), LONG, self.ada) == claimed
        assert await store.take_lease("thr_1", "b", LONG, self.ada)

    @requires("turns")
    async def test_a_reader_with_as_many_threads_as_they_may_have_begins_no_other(self, store: TurningStore) -> None:
        for number in range(2, 5):
            await store.save_thread(thread(f"thr_{number}"), self.ada)

        refused = await store.begin_thread(thread(), question(quota=3), self.ada)
        there = await threads_of(store, self.ada)
        await store.delete_thread("thr_2", self.ada)
        begun = await store.begin_thread(thread(), question(quota=3), self.ada)

        assert (refused, there) == (Refusal.FULL, ["thr_2", "thr_3", "thr_4"])
        assert isinstance(begun, Begun)
        assert await threads_of(store, self.ada) == ["thr_3", "thr_4", "thr_1"]

    @requires("turns", "owners")
    async def test_a_quota_is_each_reader_s_own(self, store: TurningStore) -> None:
        await store.begin_thread(thread(), question(quota=1), self.ada)

        theirs = await store.begin_thread(thread(), question(quota=1), self.context_of("bert", "morning"))

        assert isinstance(theirs, Begun)

    @requires("turns", "concurrent")
    async def test_of_many_turns_at_once_one_begins(self, store: TurningStore) -> None:
        await fill(store, self.ada)

        begun = await asyncio.gather(
            *(store.begin_turn(question(f"msg_{n}", holder=f"holder {n}"), self.ada) for n in range(20))
        )

        assert sum(isinstance(one, Begun) for one in begun) == len(await items_of(store, self.ada)) == 1
        assert begun.count(Refusal.BUSY) == 19

    @requires("turns", "concurrent")
    async def test_a_thread_s_quota_holds_for_many_at_once(self, store: TurningStore) -> None:
        await fill(store, self.ada)

        async def ask(number: int) -> bool:
            asks = question(f"msg_{number}", holder=f"holder {number}", quota=10, history=20)
            begun = await store.begin_turn(asks, self.ada)
            while begun is Refusal.BUSY:
                await asyncio.sleep(0)
                begun = await store.begin_turn(asks, self.ada)
            if isinstance(begun, Begun):
                known = [item.id for item in reversed(begun.history)]
                await store.release_lease("thr_1", asks.holder, self.ada)
                assert known == (await items_of(store, self.ada))[: len(known)]
            return isinstance(begun, Begun)

        begun = await asyncio.gather(*(ask(number) for number in range(20)))

        assert sum(begun) == len(await items_of(store, self.ada)) == 10

    @requires("turns", "concurrent")
    async def test_a_reader_s_quota_holds_for_many_threads_at_once(self, store: TurningStore) -> None:
        def ask(number: int) -> Coroutine[Any, Any, Begun | Refusal]:
            name = f"thr_{number}"
            return store.begin_thread(thread(name), question(thread_id=name, quota=5), self.ada)

        begun = await asyncio.gather(*(ask(number) for number in range(20)))

        assert sum(isinstance(one, Begun) for one in begun) == len(await threads_of(store, self.ada)) == 5

    @requires("turns")
    async def test_a_request_is_noted_with_its_message_and_settled_with_the_last_item(
        self, store: TurningStore
    ) -> None:
        written, settled = asked(thread_id="thr_1", item_id="msg_new"), asked(thread_id="thr_1", busy_until=0.0)
        known: list[RememberedRequest | None] = []

        for key in ("k1", "k2"):
            await store.claim_request(key, asked(), LONG, self.ada)
            if key == "k1":
                await store.begin_thread(thread(), question(key=key, request=written), self.ada)
            else:
                await store.begin_turn(question(key=key, request=written), self.ada)
            known.append(await store.claim_request(key, asked(), LONG, self.ada))
            await store.end_turn(answer(key=key, request=settled), self.ada)
            known.append(await store.claim_request(key, asked(), LONG, self.ada))

        assert known == [written, settled] * 2

    @requires("turns", "whole_writes")
    @pytest.mark.parametrize("step", ["begin turn", "begin thread", "end turn"])
    async def test_a_step_that_is_cancelled_is_done_wholly_or_not_at_all(self, store: TurningStore, step: str) -> None:
        steps: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "begin turn": lambda: store.begin_turn(question(), self.ada),
            "begin thread": lambda: store.begin_thread(thread(), question(), self.ada),
            "end turn": lambda: store.end_turn(answer(), self.ada),
        }
        outcomes: dict[str, tuple[State, State]] = {
            "begin turn": (([], True), (["msg_new"], False)),
            "begin thread": (([], None), (["msg_new"], False)),
            "end turn": (([], False), (["msg_answer"], True)),
        }
        undone, done = outcomes[step]
        for awaits in range(AWAITS):
            await store.delete_thread("thr_1", self.ada)
            if step != "begin thread":
                await store.save_thread(thread(), self.ada)
            if step == "end turn":
                await store.take_lease("thr_1", "a", LONG, self.ada)

            was_cancelled = await cancelled_at(awaits, steps[step]())

            state = await self._state(store)
            assert state == done or (was_cancelled and state == undone)
            if not was_cancelled:
                break

    async def _state(self, store: TurningStore) -> State:
        """The thread's items, and whether it is free; None where there is no thread."""
        items = await items_of(store, self.ada)
        try:
            free = await store.take_lease("thr_1", "c", LONG, self.ada)
        except NotFoundError:
            return items, None
        return items, free
