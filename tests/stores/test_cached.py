"""What `CachedStore` adds to the contract: answers from Redis that are never older than what was acknowledged."""

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError, MissingExtra
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores import cached, cached_entries
from chatkit_rag.stores.base import (
    KeepsFeedback,
    KeepsLeases,
    Lifecycle,
    PatchesThreads,
    RemembersRequests,
    UsesCache,
)
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.coordination import InProcessCoordination
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.testing import ProtocolClient
from chatkit_rag.testing.store.part import message, thread, told
from protocol.frames import COVERED
from redis_server import RedisServer
from stores.interleaving import Stage, StagedRedis, StagedStore, orders
from testing.stock_server import SmallStore

pytestmark = pytest.mark.anyio

Make = Callable[..., CachedStore]


class CountingStore(MemoryStore):
    """A store that counts how often each of its reads is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("load_thread", "load_thread_items", "load_threads"):
            self.asked.append(name)
        return super().__getattribute__(name)

    def asked_again(self) -> list[str]:
        """What was asked for since the last look."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def behind() -> CountingStore:
    """The store that is wrapped."""
    return CountingStore()


@pytest.fixture
async def make(behind: CountingStore) -> AsyncIterator[Make]:
    """Makes cached stores, as several processes have them; over `behind` unless said otherwise."""
    made: list[CachedStore] = []

    def make(redis: Any, prefix: str, store: Any = None, **options: Any) -> CachedStore:
        made.append(CachedStore(behind if store is None else store, redis, prefix=prefix, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def prefix(redis: RedisServer) -> str:
    return redis.prefix()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """More patience than a busy machine needs."""
    monkeypatch.setattr(cached_entries, "_WRITE_SECONDS", 20.0)
    return 20.0


class TestWhatIsKept:
    async def test_a_thread_and_the_first_pages_are_asked_for_once(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        store, other = (make(redis.url, prefix, patience=patient) for _ in range(2))
        await store.save_thread(thread(), ada)
        await store.add_thread_item("thr_1", message(), ada)
        reads: list[Callable[[CachedStore], Any]] = [
            lambda store: store.load_thread("thr_1", ada),
            lambda store: store.load_thread_items("thr_1", None, 20, "desc", ada),
            lambda store: store.load_threads(20, None, "desc", ada),
        ]

        first = [await read(store) for read in reads]
        assert len(behind.asked_again()) == 3
        again = [await read(reader) for read in reads for reader in (store, other)]

        assert behind.asked_again() == []
        assert [told(record) for record in again] == [told(record) for record in first for _ in range(2)]

    async def test_pages_of_another_length_or_order_are_others_and_later_ones_are_not_kept(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient)
        await store.save_thread(thread(), ada)
        for number in range(3):
            await store.add_thread_item("thr_1", message(f"msg_{number}"), ada)

        pages = [
            [item.id for item in (await store.load_thread_items("thr_1", after, limit, order, ada)).data]
            for _ in range(2)
            for after, limit, order in ((None, 2, "asc"), (None, 3, "asc"), (None, 2, "desc"), ("msg_1", 2, "asc"))
        ]

        assert (
            pages[:4] == pages[4:] == [["msg_0", "msg_1"], ["msg_0", "msg_1", "msg_2"], ["msg_2", "msg_1"], ["msg_2"]]
        )
        assert len(behind.asked_again()) == 5

    async def test_what_is_too_large_is_not_kept(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient, entry_bytes=2_000)
        await store.save_thread(thread(title="t" * 3_000), ada)

        titles = [(await store.load_thread("thr_1", ada)).title for _ in range(2)]

        assert titles == ["t" * 3_000] * 2
        assert len(behind.asked_again()) == 2

    async def test_one_reader_has_so_many_entries_and_no_more(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient)
        for limit in range(1, 100):
            await store.load_threads(limit, None, "asc", ada)

        fields = redis.run("HLEN", store._entries.of(ada.owner).entries)
        assert fields == 64 + 2  # besides: the token, and the epoch

    async def test_after_its_time_it_is_asked_for_again(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient, ttl=0.05)
        await store.save_thread(thread(), ada)
        await store.load_thread("thr_1", ada)
        behind.asked_again()

        async with asyncio.timeout(10):
            while not behind.asked_again():
                await store.load_thread("thr_1", ada)
                await asyncio.sleep(0.02)

        # And everything else in Redis has its time, but for the epoch, of which there is one.
        left = redis.run("KEYS", f"*{prefix}*")
        assert [key for key in left if redis.run("PTTL", key) == -1] == [f"{{{prefix}}}:epoch"]

    async def test_what_is_damaged_or_of_another_version_is_read_from_the_store(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient)
        await store.save_thread(thread(title="Nodes"), ada)
        await store.load_thread("thr_1", ada)
        await store.load_threads(20, None, "asc", ada)
        place = store._entries.of(ada.owner).entries
        names = [name for name in redis.run("HKEYS", place) if name not in ("epoch", "token")]

        assert len(names) == 2
        for damaged in ('{"id": 1}', "[1]", "[false, null, [1]]", "{", "null"):
            for name in names:
                redis.run("HSET", place, name, damaged)
            assert (await store.load_thread("thr_1", ada)).title == "Nodes"
            assert [one.title for one in (await store.load_threads(20, None, "asc", ada)).data] == ["Nodes"]

    async def test_another_prefix_is_another_cache(
        self, make: Make, redis: RedisServer, patient: float, ada: RequestContext
    ):
        stores = [make(redis.url, redis.prefix(), MemoryStore(), patience=patient) for _ in range(2)]
        for number, store in enumerate(stores):
            await store.save_thread(thread(title=str(number)), ada)

        titles = [(await store.load_thread("thr_1", ada)).title for _ in range(2) for store in stores]

        assert titles == ["0", "1", "0", "1"]

    async def test_no_two_readers_meet_whatever_they_are_called(
        self, make: Make, redis: RedisServer, prefix: str, patient: float
    ):
        store = make(redis.url, prefix, patience=patient)
        names = [
            "",
            "a",
            "b",
            "a:b",
            "a\0b",
            "\0",
            "*",
            "a*",
            '","',
            '["a"]',
            "\\",
            "\ud800",
            "é",
            "e\u0301",
            "{a}",
            "\n",
        ]
        owners = [(tenant, user) for tenant in names for user in names if user]
        places = {(place := store._entries.of(owner)).entries + place.writers for owner in owners}
        assert len(places) == len(owners)

        readers = [RequestContext(principal=Principal(user, tenant="a:b")) for user in ("{a}", "*", "a", "b:a")]
        for number, reader in enumerate(readers):
            await store.save_thread(thread(title=str(number)), reader)
        titles = [(await store.load_thread("thr_1", reader)).title for _ in range(2) for reader in readers]
        assert titles == [*"0123"] * 2

        # Nor do their names stand in Redis.
        assert all(key.startswith(f"{{{prefix}}}:") and "a:b" not in key for key in redis.run("KEYS", f"*{prefix}*"))

    async def test_a_client_of_the_host_s_own_serves_and_stays_open(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        async with Redis.from_url(redis.url, decode_responses=True) as client:
            store = make(client, prefix, patience=patient)
            await store.save_thread(thread(title="é"), ada)
            titles = [(await store.load_thread("thr_1", ada)).title for _ in range(3)]
            await store.close()

            assert titles == ["é"] * 3
            assert len(behind.asked_again()) == 1
            assert await client.ping()


class TestWhatAStoreCanDo:
    KINDS = (Lifecycle, PatchesThreads, KeepsFeedback, KeepsLeases, RemembersRequests)

    async def test_is_what_the_wrapped_one_can(self, make: Make, redis: RedisServer, prefix: str):
        ours, small = make(redis.url, prefix), make(redis.url, prefix, SmallStore())

        assert [isinstance(ours, kind) for kind in (*self.KINDS, UsesCache)] == [True] * 6
        assert [kind for kind in self.KINDS if isinstance(small, kind)] == [Lifecycle]
        # As Python asks from 3.12 on, and static tools do: without running `__getattr__`.
        assert inspect.getattr_static(ours, "take_lease")

    @pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore, PostgresStore])
    def test_each_method_of_our_stores_is_known_for_what_it_changes(self, kind: type):
        besides = {name for name in dir(kind) if not name.startswith("_") and not hasattr(CachedStore, name)}

        known = cached._CHANGE_NOTHING_KEPT | cached._CHANGE_ONE_READERS | {"label", "migrate", "purge_threads"}
        known |= set(dir(InProcessCoordination))  # leases and requests, of which nothing is kept
        assert besides <= known, "say in `stores.cached` what it changes, or here that it changes everything"

    async def test_a_patch_is_seen_at_once(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, ada: RequestContext
    ):
        store, other = (make(redis.url, prefix, patience=patient) for _ in range(2))
        await store.save_thread(thread(title="Before"), ada)
        await other.load_thread("thr_1", ada)

        await store.patch_thread("thr_1", {"title": "After"}, context=ada)

        assert (await other.load_thread("thr_1", ada)).title == "After"

    @pytest.mark.parametrize("way", ["awaited", "iterated", "of another reader"])
    async def test_after_a_method_that_is_not_known_nothing_older_is_read(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, ada: RequestContext, way: str
    ):
        class Purging(CountingStore):
            async def purge(self, _context: RequestContext | None = None) -> int:
                await self.delete_thread("thr_1", ada)
                return 1

            async def purged(self) -> AsyncIterator[int]:
                yield 0
                yield await self.purge()

        store, other = (make(redis.url, prefix, inside, patience=patient) for inside in [Purging()] * 2)
        await store.save_thread(thread(), ada)
        assert len((await other.load_threads(9, None, "asc", ada)).data) == 1

        match way:
            case "awaited":
                assert await store.purge() == 1
            case "iterated":
                assert [row async for row in store.purged()] == [0, 1]
            case _:
                assert await store.purge(RequestContext(principal=Principal("the administrator"))) == 1

        assert (await other.load_threads(9, None, "asc", ada)).data == []

    async def test_leases_and_the_like_leave_entries_where_they_are(
        self, make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, ada: RequestContext
    ):
        store = make(redis.url, prefix, patience=patient)
        await store.save_thread(thread(), ada)
        await store.load_thread("thr_1", ada)
        behind.asked_again()

        assert await store.take_lease("thr_1", "me", 5, ada)
        await store.release_lease("thr_1", "me", ada)
        await store.load_thread("thr_1", ada)

        assert behind.asked_again() == []

    def test_a_missing_package_is_told_with_the_line_that_installs_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("chatkit_rag.stores.cached.find_spec", lambda _name: None)

        with pytest.raises(MissingExtra, match=r"pip install 'chatkit-rag\[redis\]'"):
            CachedStore(MemoryStore(), "redis://h")

    def test_an_address_that_cannot_be_used_is_refused_without_its_password(self):
        with pytest.raises(ConfigurationError, match="redis://") as refused:
            CachedStore(MemoryStore(), "http://:s3cr3t@h:6379")

        assert "s3cr3t" not in str(refused.value)


class Theatre:
    """Readers and writers of one thread, in stores over one Redis; each write gives it the next title."""

    def __init__(self, url: str, prefix: str, patience: float) -> None:
        self.stage = Stage()
        self.client = StagedRedis.at(url)
        self.client.stage = self.stage
        self.behind = StagedStore(MemoryStore(), self.stage)
        self.ada = RequestContext(principal=Principal("ada"))
        self.stores = [
            CachedStore(self.behind, self.client, prefix=prefix, patience=patience)  # type: ignore[arg-type]
            for _ in range(3)
        ]

    async def prepare(self) -> None:
        self.behind.titles.clear()
        await self.stores[0].save_thread(thread(title="0"), self.ada)

    def reader(self, number: int, *, keeps: bool) -> Callable[[], Any]:
        async def read() -> None:
            known = len(self.behind.titles)
            title = (await self.stores[number].load_thread("thr_1", self.ada)).title
            if keeps:
                assert title in self.behind.titles[known - 1 :], "a read is as old as when it began, at most"

        return read

    def writer(self, number: int) -> Callable[[], Any]:
        async def write() -> None:
            await self.stores[number].save_thread(thread(title=str(len(self.behind.titles) + number * 10)), self.ada)

        return write

    async def play(self, order: str, *, keeps: bool = True) -> bool:
        """Whether what is read in the end is what is stored, also when actors stand where the order leaves them."""
        await self.prepare()
        self.stage.__init__()
        actors = {
            "r": self.reader(1, keeps=keeps),
            "s": self.reader(2, keeps=keeps),
            "w": self.writer(0),
            "x": self.writer(1),
        }
        await self.stage.play(order, **actors)
        stored = self.behind.titles[-1]
        read = (await self.stores[2].load_thread("thr_1", self.ada)).title
        await self.stage.end()
        after = (await self.stores[2].load_thread("thr_1", self.ada)).title
        return read == stored and after == self.behind.titles[-1]

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        await self.client.aclose()


@pytest.fixture
async def open_theatre(redis: RedisServer, prefix: str, patient: float) -> AsyncIterator[Callable[[], Theatre]]:
    opened: list[Theatre] = []

    def open_() -> Theatre:
        opened.append(Theatre(redis.url, prefix, patient))
        return opened[-1]

    yield open_
    for theatre in opened:
        await theatre.close()


STEPS = 3
"""Of a reader: look, load, keep. Of a writer: forget, write, forget again."""


class TestInEveryOrder:
    async def test_the_steps_are_as_many_as_there_are_awaits(self, open_theatre: Callable[[], Theatre]):
        theatre = open_theatre()
        await theatre.prepare()
        for role in "rw":
            theatre.stage.__init__()
            await theatre.stage.play(role * STEPS, r=theatre.reader(1, keeps=True), w=theatre.writer(0))
            assert all(task.done() for task in theatre.stage._tasks.values())

            theatre.stage.__init__()
            await theatre.prepare()
            await theatre.stage.play(role * (STEPS - 1), r=theatre.reader(1, keeps=True), w=theatre.writer(0))
            assert not any(task.done() for task in theatre.stage._tasks.values())
            await theatre.stage.end()

    async def test_a_reader_and_a_writer(self, open_theatre: Callable[[], Theatre]):
        theatre = open_theatre()

        assert [order for order in orders(("r", STEPS), ("w", STEPS)) if not await theatre.play(order)] == []

    @pytest.mark.parametrize("roles", ["rsw", "rwx"], ids=["two readers and a writer", "a reader and two writers"])
    async def test_three(self, open_theatre: Callable[[], Theatre], roles: str):
        theatre = open_theatre()
        seed = random.randrange(10**6)
        print(f"seed {seed}")
        every = list(orders(*((role, STEPS) for role in roles)))

        chosen = random.Random(seed).sample(every, 60)

        assert [order for order in chosen if not await theatre.play(order)] == []

    @pytest.mark.soak
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("roles", ["rsw", "rwx"])
    async def test_three_in_every_order(self, open_theatre: Callable[[], Theatre], roles: str):
        theatre = open_theatre()
        every = list(orders(*((role, STEPS) for role in roles)))

        assert len(every) == 1680
        assert [order for order in every if not await theatre.play(order)] == []

    @pytest.mark.parametrize("steps", [1, 2])
    async def test_a_writer_that_is_killed_on_its_way(self, open_theatre: Callable[[], Theatre], steps: int):
        theatre = open_theatre()

        assert [order for order in orders(("r", STEPS), ("w", steps)) if not await theatre.play(order)] == []

    @pytest.mark.parametrize(
        ("script", "defence", "killed_after"),
        [
            ("KEEP", "if redis.call('HGET', KEYS[3], 'token') ~= ARGV[2] then return {} end", STEPS),
            ("CHANGE", "redis.call('DEL', KEYS[3])", STEPS),
            ("CHANGE", "redis.call('ZADD', KEYS[4], now + ARGV[2], ARGV[1])", 2),
            ("LOOK", "if redis.call('EXISTS', KEYS[2], KEYS[4]) > 0 then return {false, false} end", 2),
        ],
        ids=["without tokens", "without forgetting", "without noting writers", "without looking for writers"],
    )
    async def test_without_a_defence_there_is_an_order_that_shows_it(
        self,
        open_theatre: Callable[[], Theatre],
        monkeypatch: pytest.MonkeyPatch,
        script: str,
        defence: str,
        killed_after: int,
    ):
        whole = getattr(cached_entries, script)
        assert defence in whole
        monkeypatch.setattr(cached_entries, script, whole.replace(defence, ""))
        theatre = open_theatre()

        wrong = [
            order for order in orders(("r", STEPS), ("w", killed_after)) if not await theatre.play(order, keeps=False)
        ]

        assert wrong


async def test_a_conversation_is_read_again_without_asking_the_store(
    make: Make, redis: RedisServer, prefix: str, patient: float, behind: CountingStore, course_index: EdgeIndex
):
    store = make(redis.url, prefix, patience=patient)
    server = RagChatServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel())
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), ProtocolClient("/", app=chat) as client:
        thread_id = (await client.create_thread(COVERED)).thread.id
        first = [await client.get_thread(thread_id), await client.list_threads()]
        behind.asked_again()
        again = [await client.get_thread(thread_id), await client.list_threads()]
        assert behind.asked_again() == []

        await client.add_user_message(thread_id, COVERED)
        then = await client.get_thread(thread_id)

    assert again == first
    assert (len(first[0].items.data), len(then.items.data)) == (2, 4)
