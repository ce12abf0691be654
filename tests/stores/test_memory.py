"""What `MemoryStore` adds to the contract: it holds no more readers than it may."""

import pytest
from chatkit import types as ck
from chatkit.store import NotFoundError

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing.store.part import fill, items_of, threads_of

pytestmark = pytest.mark.anyio


def reader(number: int) -> RequestContext:
    return RequestContext(principal=Principal(f"reader-{number}"))


async def test_when_one_more_comes_who_has_been_away_longest_is_forgotten_with_all_that_is_theirs():
    store = MemoryStore(max_readers=3)
    for number in range(3):
        await fill(store, reader(number), items=2)
        file = ck.FileAttachment(id="atc_1", name="a", mime_type="text/plain")
        await store.save_attachment(file, reader(number))
    await store.load_thread("thr_1", reader(0))  # who only looks has been there, too

    await fill(store, reader(3), items=2)

    assert [len(await threads_of(store, reader(number))) for number in range(4)] == [1, 0, 1, 1]
    assert await items_of(store, reader(1)) == []
    with pytest.raises(NotFoundError):
        await store.load_attachment("atc_1", reader(1))
    assert len(await items_of(store, reader(0))) == 2
    assert (await store.load_attachment("atc_1", reader(0))).name == "a"


async def test_readers_who_have_nothing_push_nobody_out():
    store = MemoryStore(max_readers=2)
    await fill(store, reader(0), items=2)

    for number in range(1, 50):
        assert await threads_of(store, reader(number)) == []
        with pytest.raises(NotFoundError):
            await store.load_thread("thr_1", reader(number))
        await store.delete_thread("thr_1", reader(number))

    assert len(await items_of(store, reader(0))) == 2


async def test_a_thousand_readers_take_the_room_of_ten():
    store = MemoryStore(max_readers=10)

    for number in range(1000):
        await fill(store, reader(number), items=1)

    kept = [number for number in range(1000) if await threads_of(store, reader(number))]
    assert kept == list(range(990, 1000))
