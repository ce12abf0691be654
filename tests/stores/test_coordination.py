"""What every store promises of leases, remembered requests, and the mark of interrupted items."""

import asyncio
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import NotFound
from chatkit_rag.stores.base import KeepsLeases, RememberedRequest, RemembersRequests
from chatkit_rag.stores.coordination import InProcessCoordination
from chatkit_rag.stores.interrupted import InterruptedMessage, interrupted
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore

pytestmark = pytest.mark.anyio

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)
LONG = 3600.0


@pytest.fixture
async def there(store: Any, ada: RequestContext) -> Any:
    """A store with one thread of Ada's."""
    await store.save_thread(ck.ThreadMetadata(id="thr_1", created_at=T0), ada)
    return store


def asked(fingerprint: str = "f", **fields: Any) -> RememberedRequest:
    return RememberedRequest(**({"fingerprint": fingerprint, "busy_until": time.time() + LONG} | fields))


class TestLeases:
    async def test_a_thread_is_one_holders_until_it_is_given_back(self, there: Any, ada: RequestContext):
        first = await there.take_lease("thr_1", "a", LONG, ada)
        second = await there.take_lease("thr_1", "b", LONG, ada)
        await there.release_lease("thr_1", "a", ada)
        third = await there.take_lease("thr_1", "b", LONG, ada)

        assert (first, second, third) == (True, False, True)

    async def test_its_holder_may_take_it_again(self, there: Any, ada: RequestContext):
        await there.take_lease("thr_1", "a", 0.0, ada)

        assert await there.take_lease("thr_1", "a", LONG, ada)
        assert not await there.take_lease("thr_1", "b", LONG, ada)

    async def test_it_runs_out(self, there: Any, ada: RequestContext):
        await there.take_lease("thr_1", "a", 0.0, ada)

        assert await there.take_lease("thr_1", "b", LONG, ada)

    async def test_nobody_gives_back_what_is_anothers(self, there: Any, ada: RequestContext):
        await there.take_lease("thr_1", "a", LONG, ada)

        await there.release_lease("thr_1", "b", ada)

        assert not await there.take_lease("thr_1", "b", LONG, ada)

    async def test_of_fifty_at_once_one_gets_it(self, there: Any, ada: RequestContext):
        taken = await asyncio.gather(*(there.take_lease("thr_1", f"holder {n}", LONG, ada) for n in range(50)))

        assert sum(taken) == 1

    @pytest.mark.parametrize("owner", [Principal("mallory"), Principal("ada", tenant="other")])
    async def test_a_thread_that_is_not_there_or_not_ones_own_is_not_found(self, there: Any, owner: Principal):
        with pytest.raises(NotFound):
            await there.take_lease("thr_1", "m", LONG, RequestContext(principal=owner))

    async def test_a_deleted_thread_takes_its_lease_along(self, there: Any, ada: RequestContext):
        await there.take_lease("thr_1", "a", LONG, ada)

        await there.delete_thread("thr_1", ada)

        with pytest.raises(NotFound):
            await there.take_lease("thr_1", "a", LONG, ada)
        await there.release_lease("thr_1", "a", ada)


class TestRememberedRequests:
    async def test_a_key_is_new_once(self, store: Any, ada: RequestContext):
        request = asked()

        claims = [await store.claim_request("k", request, LONG, ada) for _ in range(3)]

        assert claims == [None, request, request]

    async def test_of_fifty_at_once_one_has_it_new(self, store: Any, ada: RequestContext):
        claims = await asyncio.gather(*(store.claim_request("k", asked(), LONG, ada) for _ in range(50)))

        assert claims.count(None) == 1

    async def test_what_is_known_of_a_request_is_brought_up_to_date(self, store: Any, ada: RequestContext):
        request = asked()
        await store.claim_request("k", request, LONG, ada)
        written = replace(request, thread_id="thr_1", item_id="msg_1", busy_until=0.0)

        await store.note_request("k", written, ada)

        assert await store.claim_request("k", request, LONG, ada) == written

    async def test_a_request_that_was_given_up_before_it_wrote_is_new_again(self, store: Any, ada: RequestContext):
        await store.claim_request("k", asked(busy_until=time.time() - 1), LONG, ada)

        assert await store.claim_request("k", asked(), LONG, ada) is None
        assert await store.claim_request("k", asked(), LONG, ada) is not None

    async def test_one_that_was_forgotten_is_new_again(self, store: Any, ada: RequestContext):
        await store.claim_request("k", asked(), LONG, ada)

        await store.forget_request("k", ada)

        assert await store.claim_request("k", asked(), LONG, ada) is None

    async def test_it_expires(self, store: Any, ada: RequestContext):
        await store.claim_request("k", asked(thread_id="thr_1"), 0.0, ada)

        assert await store.claim_request("k", asked(), LONG, ada) is None

    async def test_a_key_is_its_readers_own(self, store: Any, ada: RequestContext):
        await store.claim_request("k", asked(), LONG, ada)
        mallory = RequestContext(principal=Principal("mallory"))

        assert await store.claim_request("k", asked(), LONG, mallory) is None
        await store.forget_request("k", mallory)
        assert await store.claim_request("k", asked(), LONG, ada) is not None

    async def test_noting_what_is_not_there_does_nothing(self, store: Any, ada: RequestContext):
        await store.note_request("k", asked(thread_id="thr_1"), ada)

        assert await store.claim_request("k", asked(), LONG, ada) is None


class TestInterruptedItems:
    async def test_the_mark_comes_back_with_the_item(self, there: Any, ada: RequestContext):
        content = [ck.AssistantMessageContent(text='It says "status":"interrupted" itself.')]
        whole = ck.AssistantMessageItem(id="msg_1", thread_id="thr_1", created_at=T0, content=content)
        await there.add_thread_item("thr_1", whole, ada)
        await there.add_thread_item("thr_1", interrupted(whole.model_copy(update={"id": "msg_2"})), ada)

        page = await there.load_thread_items("thr_1", None, 10, "asc", ada)

        assert [type(item) for item in page.data] == [ck.AssistantMessageItem, InterruptedMessage]
        assert type(await there.load_item("thr_1", "msg_2", ada)) is InterruptedMessage

    async def test_a_whole_item_in_its_place_takes_the_mark_away(self, there: Any, ada: RequestContext):
        whole = ck.AssistantMessageItem(id="msg_1", thread_id="thr_1", created_at=T0, content=[])
        await there.add_thread_item("thr_1", interrupted(whole), ada)

        await there.save_item("thr_1", whole, ada)

        assert type(await there.load_item("thr_1", "msg_1", ada)) is ck.AssistantMessageItem

    async def test_a_result_that_only_speaks_of_it_is_no_mark(self, there: Any, ada: RequestContext):
        output = {"status": "interrupted"}
        fields = {"id": "tc_1", "thread_id": "thr_1", "created_at": T0, "arguments": {}, "output": output}
        call = ck.ClientToolCallItem(call_id="c", name="n", **fields)

        await there.add_thread_item("thr_1", call, ada)

        assert await there.load_item("thr_1", "tc_1", ada) == call

    def test_nothing_is_cut_short_that_is_there_at_once(self):
        end = ck.EndOfTurnItem(id="e", thread_id="thr_1", created_at=T0)

        assert interrupted(end) is end


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore, InProcessCoordination])
def test_stores_say_that_they_can(kind: type[object], tmp_path: Path):
    made = kind(tmp_path / "t.db") if kind is SQLiteStore else kind()  # type: ignore[call-arg]

    assert isinstance(made, KeepsLeases)
    assert isinstance(made, RemembersRequests)


async def test_expired_requests_do_not_pile_up_in_memory(ada: RequestContext):
    memory = InProcessCoordination()

    for number in range(1_000):
        await memory.claim_request(f"k{number}", asked(), 0.0, ada)

    assert len(memory._requests) < 20  # what a long-lived server would keep for ever


async def test_expired_requests_do_not_pile_up_in_a_file(
    make_store: Callable[[str], Any], ada: RequestContext, tmp_path: Path
):
    store = make_store("sqlite")
    for number in range(20):
        await store.claim_request(f"k{number}", asked(thread_id="thr_1"), 0.0, ada)

    await store.close()

    with sqlite3.connect(tmp_path / "threads-0.db") as file:
        [[kept]] = file.execute("SELECT count(*) FROM requests").fetchall()
    assert kept <= 1


def test_two_processes_over_one_file_never_hold_the_same_thread(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    asyncio.run(_make_thread(tmp_path / "t.db"))

    with context.Pool(2) as pool:
        taken = pool.starmap(_take_many, [(tmp_path / "t.db", name) for name in ("a", "b")])

    assert sum(len(each) for each in taken) == 50
    assert not set(taken[0]) & set(taken[1])


LOCAL = RequestContext(principal=Principal("local"))


async def _make_thread(path: Path) -> None:
    store = SQLiteStore(path)
    for number in range(50):
        await store.save_thread(ck.ThreadMetadata(id=f"thr_{number}", created_at=T0), LOCAL)
    await store.close()


def _take_many(path: Path, name: str) -> list[int]:
    async def take() -> list[int]:
        store = SQLiteStore(path)
        try:
            return [number for number in range(50) if await store.take_lease(f"thr_{number}", name, LONG, LOCAL)]
        finally:
            await store.close()

    return asyncio.run(take())
