"""What is lost when processes, the database, connections or the disk fail: nothing that was acknowledged.

A few rounds of each every time, and as many as a release should have seen in `nox -s soak`.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import pytest
from chatkit.types import ThreadMetadata

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.context import RequestContext
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from postgres_proxy import Cutter, proxy_before
from postgres_server import PostgresServer, postgres_server
from protocol.frames import COVERED, ask
from small_disk import Ballast, small_disk
from stores.history import History, all_items
from stores.writers import T0, store_at, writers, written

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]  # processes and a database are started

IN_FILES_AND_DATABASES = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def rounds(few: int, many: int, *, minutes: int) -> pytest.MarkDecorator:
    """A few rounds every time, many of them in the soak."""
    soak = pytest.param(many, marks=[pytest.mark.soak, pytest.mark.timeout(60 * minutes)])
    return pytest.mark.parametrize("cycles", [few, soak])


@pytest.fixture
def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where an empty store of the kind may be made."""
    return str(tmp_path / "threads.db") if kind == "sqlite" else request.getfixturevalue("postgres_url")


async def found_by_another(kind: str, address: str, thread_id: str, context: RequestContext) -> list[Any]:
    """The items of a thread, for whoever opens the store now."""
    async with AsyncExitStack() as opened:
        store = store_at(kind, address)
        opened.push_async_callback(store.close)
        return await all_items(store, thread_id, context)


def numbers_of(kind: str, address: str, postgres: Callable[[], PostgresServer]) -> list[int]:
    """The numbers that the items go by, in their order."""
    if kind == "postgres":
        rows = postgres().run("SELECT seq FROM chatkit_rag.items ORDER BY seq", url=address)
    else:
        with closing(sqlite3.connect(address)) as file:
            rows = file.execute("SELECT seq FROM items ORDER BY seq").fetchall()
    return [seq for (seq,) in rows]


class TestKilledWriters:
    @IN_FILES_AND_DATABASES
    @rounds(5, 1000, minutes=40)
    async def test_what_they_had_acknowledged_is_there_and_nothing_is_half_there(
        self, kind: str, address: str, cycles: int, ada: RequestContext
    ):
        under_way = acknowledged = stored = 0
        with writers(kind, address) as writing:
            for cycle in range(cycles):
                history = History()
                writing.begin(f"thr_{cycle}", writers=4)
                writing.hear(history, 1 + cycle % 7)
                assert writing.kill(history) == [-SIGKILL]

                items = await found_by_another(kind, address, f"thr_{cycle}", ada)
                history.check(items)
                under_way += bool(history.open)
                acknowledged += len(history.acknowledged)
                stored += len(items)
        print(f"{cycles} killed, {under_way} of them while writing; {acknowledged} acknowledged, {stored} stored")
        assert under_way >= 0.9 * cycles
        if kind == "sqlite":
            with closing(sqlite3.connect(address)) as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    @pytest.mark.soak
    @IN_FILES_AND_DATABASES
    async def test_who_writes_beside_them_goes_on(self, kind: str, address: str, ada: RequestContext):
        history = History()
        with writers(kind, address) as writing:
            writing.begin("thr_1", processes=2, writers=2)
            writing.hear(history, 4)
            survivor = writing.pids.pop()
            writing.kill(history)
            killed = time.monotonic_ns()
            writing.pids = [survivor]
            writing.hear(history, 10, since=killed)
            assert writing.kill(history) == [-SIGKILL]

        history.check(await found_by_another(kind, address, "thr_1", ada))


class TestManyWriters:
    @IN_FILES_AND_DATABASES
    @pytest.mark.parametrize(("processes", "each"), [(2, 3), pytest.param(5, 10, marks=pytest.mark.soak)])
    async def test_in_several_processes_they_write_in_a_dense_order(
        self, kind: str, address: str, processes: int, each: int, ada: RequestContext, request: pytest.FixtureRequest
    ):
        history = History()
        with writers(kind, address) as writing:
            writing.begin("thr_1", processes=processes, writers=each, items=20)
            assert writing.hear_all(history) == [0] * processes

        items = await found_by_another(kind, address, "thr_1", ada)
        assert len(items) == len(history.acknowledged) == processes * each * 20
        history.check(items)
        numbers = numbers_of(kind, address, lambda: request.getfixturevalue("postgres"))
        assert numbers == list(range(1, len(items) + 1))

    async def test_fifty_see_their_items_in_the_order_in_which_they_wrote_them(self, store: Any, ada: RequestContext):
        history = History()
        await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)

        async def write(writer: int) -> None:
            for number in range(20):
                id_ = f"{writer}-{number}"
                history.begin(id_)
                await store.add_thread_item("thr_1", written(id_, "thr_1"), ada)
                history.acknowledge(id_)

        await asyncio.gather(*(write(writer) for writer in range(50)))

        assert len(history.acknowledged) == 1000
        history.check(await all_items(store, "thr_1", ada))


class TestAKilledDatabase:
    @rounds(2, 50, minutes=10)
    async def test_it_is_back_in_five_seconds_with_all_that_was_acknowledged(self, cycles: int, ada: RequestContext):
        history = History()
        waits: list[float] = []
        with postgres_server(own=True) as server:
            store = PostgresStore(server.url, auto_migrate=True)
            await store.open()
            with writers("postgres", server.url) as writing:
                writing.begin("thr_1", writers=4)
                for _ in range(cycles):
                    writing.hear(history, 5)
                    before = server.pid
                    await asyncio.to_thread(server.control, "restart", "-m", "immediate")
                    there = time.monotonic_ns()
                    waits.append((writing.hear(history, since=there) - there) / 1e9)
                    assert server.pid != before
                    # A store of another process, whose connections are all dead, notices nothing.
                    assert (await store.load_thread("thr_1", ada)).id == "thr_1"
                assert writing.kill(history) == [-SIGKILL]

            history.check(await all_items(store, "thr_1", ada))
            await store.close()
        print(f"{cycles} restarts, {len(history.acknowledged)} acknowledged; back after {max(waits):.2f} s at most")
        assert max(waits) <= 5


class TestACutConnection:
    @pytest.mark.parametrize("driver", ["asyncpg", pytest.param("psycopg", marks=pytest.mark.soak)])
    @pytest.mark.parametrize("fresh", [False, True], ids=["in use", "just made"])
    @pytest.mark.parametrize(
        "step", [9, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["some", "each"]
    )
    async def test_no_message_of_a_turn_can_be_cut_so_that_a_reader_notices(
        self, postgres_url: str, course_index: EdgeIndex, ada: RequestContext, *, driver: str, fresh: bool, step: int
    ):
        async with AsyncExitStack() as opened:
            proxy = await opened.enter_async_context(proxy_before(postgres_url, Cutter))
            store = PostgresStore(proxy.url.replace("postgresql", f"postgresql+{driver}"), pool_size=1)
            chat = ChatApp(
                RagChatServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel()),
                authenticate=lambda _request: ada.principal,
            )
            await opened.enter_async_context(chat.lifespan())
            transport = httpx.ASGITransport(app=chat)
            client = await opened.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://localhost")
            )
            looking = PostgresStore(postgres_url)
            opened.push_async_callback(looking.close)
            thread_id = (await ask(client, COVERED)).thread_id
            expected = [item.id for item in await all_items(looking, thread_id, ada)]

            for passed in count(0, step):
                if fresh:
                    await store.close()  # it opens again at once
                proxy.messages_until_cut, before = passed, proxy.cuts
                answer = await ask(client, COVERED, thread_id)

                assert answer.errors == []
                assert answer.annotations
                expected += [done["item"]["id"] for done in answer.of("thread.item.done")]
                if proxy.cuts == before:
                    break
            assert proxy.cuts == passed // step > 20 // step
            assert [item.id for item in await all_items(looking, thread_id, ada)] == expected
            print(f"{driver}: a turn has {passed} messages at most, and was cut at {proxy.cuts} of them")


class TestAFullDisk:
    """Writing is refused with the error that may pass, reading goes on, and so does writing when there is room."""

    async def test_a_file_that_may_not_grow(self, tmp_path: Path, ada: RequestContext):
        store = SQLiteStore(tmp_path / "threads.db")
        await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)

        async def limit(pages: int) -> None:
            await store._file.write(
                lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
            )

        await check_that_it_fills_up_and_recovers(store, ada, fill=lambda: limit(1), make_room=lambda: limit(1 << 30))
        await store.close()
        with closing(sqlite3.connect(tmp_path / "threads.db")) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    @pytest.mark.soak
    async def test_a_file_on_a_disk_without_room(self, ada: RequestContext):
        with small_disk(megabytes=2) as disk:
            store = SQLiteStore(disk / "threads.db")
            await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)
            ballast = Ballast(disk / "ballast")

            await check_that_it_fills_up_and_recovers(store, ada, fill=ballast.put, make_room=ballast.drop)
            await store.close()

    @pytest.mark.soak
    async def test_a_database_on_a_disk_without_room(self, ada: RequestContext):
        with postgres_server(own=True) as server, small_disk(megabytes=40) as disk:
            place = disk / "tables"
            place.mkdir()
            for folder in (disk, place):
                shutil.chown(folder, server.bundled.system_user or None)
            server.run(f"CREATE TABLESPACE small LOCATION '{place}'")
            server.run("CREATE DATABASE small TABLESPACE small")
            store = PostgresStore(server.url_of("small"), auto_migrate=True)
            await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)
            ballast = Ballast(disk / "ballast")

            await check_that_it_fills_up_and_recovers(store, ada, fill=ballast.put, make_room=ballast.drop)
            await store.close()
            server.run("DROP DATABASE small WITH (FORCE)")
            server.run("DROP TABLESPACE small")


async def check_that_it_fills_up_and_recovers(
    store: Any, context: RequestContext, *, fill: Callable[[], Any], make_room: Callable[[], Any]
) -> None:
    """Writes until the store has no room, looks at it, makes room, and writes again."""
    history = History()

    async def add(number: int) -> None:
        id_ = f"i{number}"
        history.begin(id_)
        await store.add_thread_item("thr_1", written(id_, "thr_1"), context)
        history.acknowledge(id_)

    for number in range(5):
        await add(number)
    await fill()
    await refused(add(number) for number in range(5, 5000))
    await refused(add(number) for number in range(5000, 5500))
    without_room = set(history.open)
    assert len(without_room) == 2

    assert (await store.load_thread("thr_1", context)).id == "thr_1"
    kept = await all_items(store, "thr_1", context)
    history.check(kept)
    assert not without_room & {item.id for item in kept}, "an item that was refused is there"

    await make_room()
    for number in range(6000, 6020):
        await add(number)
    history.check(await all_items(store, "thr_1", context))


async def refused(writes: Iterator[Awaitable[None]]) -> None:
    """Writes until the store refuses to."""

    async def write_all() -> None:
        for write in writes:
            await write

    with pytest.raises(StoreUnavailable):
        await write_all()
