"""`CachedStore` over a Redis that is away, slow, full, refuses to be written to, or comes back with an older memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from redis.exceptions import OutOfMemoryError, RedisError

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.stores import cached_entries
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing.store.part import thread
from redis_server import RedisServer

pytestmark = pytest.mark.anyio

Make = Callable[..., CachedStore]


@pytest.fixture
async def make(mortal_redis: RedisServer) -> AsyncIterator[Make]:
    """Makes stores over one Redis, as several processes have them; each finds what the others have stored."""
    made: list[CachedStore] = []
    behind = MemoryStore()

    def make(*, patience: float = 5.0) -> CachedStore:
        made.append(CachedStore(behind, mortal_redis.url, patience=patience))
        return made[-1]

    yield make
    mortal_redis.stop()
    for store in made:
        await store.close()


async def title(store: CachedStore, ada: RequestContext) -> str | None:
    return (await store.load_thread("thr_1", ada)).title


async def until_it_works(store: CachedStore) -> None:
    """Waits until Redis is used again."""
    async with asyncio.timeout(20):
        while True:
            with suppress(StoreUnavailable):
                return await store.ping_cache()
            await asyncio.sleep(0.05)


async def test_without_redis_it_starts_and_works_and_says_so_once(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, caplog: pytest.LogCaptureFixture
):
    mortal_redis.kill()
    store = make()

    await store.open()
    for number in range(3):
        await store.save_thread(thread(title=str(number)), ada)
        assert await title(store, ada) == str(number)

    with pytest.raises(StoreUnavailable):
        await store.ping_cache()
    await store.ping()
    assert [record.levelno for record in caplog.records if "stores" in record.name] == [logging.WARNING]


async def test_one_that_comes_back_is_used_again(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, caplog: pytest.LogCaptureFixture
):
    store = make()
    await store.save_thread(thread(title="before"), ada)
    await title(store, ada)

    mortal_redis.kill()
    await store.save_thread(thread(title="meanwhile"), ada)
    assert await title(store, ada) == "meanwhile"
    mortal_redis.start()
    await until_it_works(store)

    assert [await title(store, ada) for _ in range(2)] == ["meanwhile"] * 2
    assert mortal_redis.run("HLEN", store._entries.of(ada.owner).entries) == 3
    assert "Redis answers again" in caplog.text


async def test_one_that_takes_connections_and_says_nothing_is_not_waited_for(
    make: Make, mortal_redis: RedisServer, ada: RequestContext
):
    store = make(patience=0.02)
    await store.save_thread(thread(title="before"), ada)
    await title(store, ada)

    mortal_redis.pause()
    async with asyncio.timeout(3):  # a hundred times the patience is 2 s: it is not waited for each time
        for _ in range(100):
            assert await title(store, ada) == "before"
    async with asyncio.timeout(10):
        for number in range(20):
            await store.save_thread(thread(title=str(number)), ada)
            assert await title(store, ada) == str(number)


async def test_what_it_was_not_told_it_is_told_when_it_goes_on(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cached_entries, "_WRITE_SECONDS", 0.1)
    writer, other = make(patience=0.1), make()
    await writer.save_thread(thread(title="before"), ada)
    await title(other, ada)

    mortal_redis.pause()
    await writer.save_thread(thread(title="after"), ada)
    assert await title(writer, ada) == "after"
    mortal_redis.go_on()
    await until_it_works(writer)

    assert await title(other, ada) == "after"
    assert await title(writer, ada) == "after"


async def test_a_store_that_is_closed_tells_what_it_still_can(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cached_entries, "_BETWEEN_TRIES", 3600)
    monkeypatch.setattr(cached_entries, "_WRITE_SECONDS", 0.1)
    writer, other = make(patience=0.1), make()
    await writer.save_thread(thread(title="before"), ada)
    await title(other, ada)
    mortal_redis.pause()
    await writer.save_thread(thread(title="after"), ada)
    mortal_redis.go_on()

    await writer.close()

    assert await title(other, ada) == "after"


async def test_where_more_was_not_told_than_it_remembers_everything_is_forgotten(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cached_entries, "_DEBTS", 1)
    monkeypatch.setattr(cached_entries, "_WRITE_SECONDS", 0.1)
    writer, other = make(patience=0.1), make()
    await writer.save_thread(thread(title="before"), ada)
    await title(other, ada)

    mortal_redis.pause()
    for number in range(3):
        await writer.save_thread(thread(title=str(number)), ada)
    assert len(writer._entries._debts) == 2
    mortal_redis.go_on()
    await until_it_works(writer)

    assert writer._entries._debts == {}
    assert await title(other, ada) == "2"


@pytest.mark.parametrize("defended", [True, False])
async def test_one_that_comes_back_with_an_older_memory_has_no_entries(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, monkeypatch: pytest.MonkeyPatch, *, defended: bool
):
    if not defended:
        monkeypatch.setattr(cached_entries, "LOOK", cached_entries.LOOK.replace("(%w+)'", "%w%w(%w-)'"))
    store = make()
    await store.save_thread(thread(title="before"), ada)
    await title(store, ada)
    mortal_redis.run("SAVE")
    await store.save_thread(thread(title="after"), ada)
    mortal_redis.kill()
    mortal_redis.start()

    assert mortal_redis.run("HLEN", store._entries.of(ada.owner).entries) == 3
    assert await title(make(), ada) == ("after" if defended else "before")


async def test_a_full_one_still_forgets(make: Make, mortal_redis: RedisServer, ada: RequestContext):
    store = make()
    await store.save_thread(thread(title="before"), ada)
    await title(store, ada)
    mortal_redis.run("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(OutOfMemoryError):
        mortal_redis.run("SET", "x", "y")

    assert await title(store, ada) == "before"
    for number in range(3):
        await store.save_thread(thread(title=str(number)), ada)
        assert [await title(reader, ada) for reader in (store, make()) for _ in range(2)] == [str(number)] * 4

    mortal_redis.run("CONFIG", "SET", "maxmemory", "0")
    await until_it_works(store)
    assert [await title(store, ada) for _ in range(2)] == ["2"] * 2
    assert mortal_redis.run("HLEN", store._entries.of(ada.owner).entries) == 3


@pytest.mark.parametrize("defended", [True, False])
async def test_one_that_cannot_be_written_to_is_not_read(
    make: Make, mortal_redis: RedisServer, ada: RequestContext, monkeypatch: pytest.MonkeyPatch, *, defended: bool
):
    if not defended:
        monkeypatch.setattr(cached_entries, "LOOK", cached_entries.LOOK.replace("redis.call('HDEL', KEYS[3], '')", ""))
    writer, other = make(), make()
    await writer.save_thread(thread(title="before"), ada)
    await title(other, ada)
    mortal_redis.run("CONFIG", "SET", "min-replicas-to-write", "1")  # as a disk that cannot be written to does
    with pytest.raises(RedisError, match="NOREPLICAS"):
        mortal_redis.run("SET", "x", "y")

    await writer.save_thread(thread(title="after"), ada)

    assert await title(writer, ada) == "after"
    assert await title(other, ada) == ("after" if defended else "before")


@pytest.mark.parametrize("known", [True, False], ids=["refused", "not known"])
async def test_a_write_that_failed_may_still_be_made(mortal_redis: RedisServer, ada: RequestContext, *, known: bool):
    class Failing(MemoryStore):
        async def patch_thread(self, *_arguments: object) -> None:
            if known:
                await super().load_thread("thr_unknown", ada)
            raise StoreUnavailable("the answer was lost")

    behind = Failing()
    store = CachedStore(behind, mortal_redis.url, patience=5.0)
    await store.save_thread(thread(title="before"), ada)

    with pytest.raises(Exception, match="no such thread" if known else "lost"):
        await store.patch_thread("thr_1", {"title": "after"}, ada)
    assert await title(store, ada) == "before"
    await behind.save_thread(thread(title="after"), ada)  # late, by the database

    assert await title(store, ada) == ("before" if known else "after")
    await store.close()
