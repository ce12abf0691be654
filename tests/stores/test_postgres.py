"""What `PostgresStore` adds to the contract: one flight each, and losing connections, processes, the database."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from chatkit import types as ck
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ConfigurationError, NotFound, StoreUnavailable
from chatkit_rag.stores.base import RememberedRequest
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.postgres_statements import statements
from chatkit_rag.stores.turns import Asked, Ending
from postgres_proxy import Proxy, TransactionPooler, proxy_before
from postgres_server import PostgresServer

pytestmark = pytest.mark.anyio

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)
LONG = 3600.0
DRIVERS = ["asyncpg", "psycopg"]

Open = Callable[..., PostgresStore]


def thread(id_: str = "thr_1", **fields: Any) -> ck.ThreadMetadata:
    return ck.ThreadMetadata(id=id_, created_at=T0, **fields)


def hidden(id_: str, content: str = "text") -> ck.SDKHiddenContextItem:
    return ck.SDKHiddenContextItem(id=id_, thread_id="thr_1", created_at=T0, content=content)


def asked(thread_id: str, quota: int) -> Asked:
    content = [ck.UserMessageTextContent(text="What is a node?")]
    message = ck.UserMessageItem(
        id="msg_1", thread_id=thread_id, created_at=T0, content=content, inference_options=ck.InferenceOptions()
    )
    request = RememberedRequest(fingerprint="f", busy_until=time.time() + LONG, thread_id=thread_id)
    return Asked(message=message, holder="a", seconds=LONG, quota=quota, history=20, key="k", request=request)


def by(driver: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


async def item_ids(store: PostgresStore, context: RequestContext) -> list[str]:
    ids: list[str] = []
    after = None
    while True:
        page = await store.load_thread_items("thr_1", after, 100, "asc", context)
        ids += [item.id for item in page.data]
        if not page.has_more:
            return ids
        after = page.after


@pytest.fixture
async def stores() -> AsyncIterator[Open]:
    """Makes stores, and closes them."""
    made: list[PostgresStore] = []

    def make(url: Any, **options: Any) -> PostgresStore:
        made.append(PostgresStore(url, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the test's database."""
    async with proxy_before(postgres_url) as before:
        yield before


@asynccontextmanager
async def locked(url: str, statement: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A transaction of somebody else's that has run `statement` and is not at its end."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(statement.encode())
        yield connection


async def operations(store: PostgresStore, context: RequestContext) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every operation, over a thread with some items."""
    await store.save_thread(thread(), context)
    for number in range(5):
        await store.add_thread_item("thr_1", hidden(f"i{number}"), context)
    request = RememberedRequest(fingerprint="f", busy_until=time.time() + LONG)
    file = ck.FileAttachment(id="atc_1", name="a", mime_type="text/plain")
    await store.save_attachment(file, context)
    return {
        "ping": store.ping,
        "load_thread": lambda: store.load_thread("thr_1", context),
        "save_thread": lambda: store.save_thread(thread(title="T"), context),
        "patch_thread": lambda: store.patch_thread("thr_1", {"title": "U"}, context),
        "load_threads": lambda: store.load_threads(20, None, "desc", context),
        "load_threads after": lambda: store.load_threads(20, "thr_1", "desc", context),
        "load_thread_items": lambda: store.load_thread_items("thr_1", None, 20, "desc", context),
        "load_thread_items after": lambda: store.load_thread_items("thr_1", "i3", 20, "asc", context),
        "add_thread_item": lambda: store.add_thread_item("thr_1", hidden("new"), context),
        "save_item": lambda: store.save_item("thr_1", hidden("i1", "changed"), context),
        "load_item": lambda: store.load_item("thr_1", "i1", context),
        "save_feedback": lambda: store.save_feedback("thr_1", ["i1", "i2"], {"kind": "positive"}, context),
        "save_attachment": lambda: store.save_attachment(file, context),
        "load_attachment": lambda: store.load_attachment("atc_1", context),
        "delete_attachment": lambda: store.delete_attachment("atc_9", context),
        "take_lease": lambda: store.take_lease("thr_1", "a", LONG, context),
        "release_lease": lambda: store.release_lease("thr_1", "a", context),
        "claim_request": lambda: store.claim_request("k", request, LONG, context),
        "note_request": lambda: store.note_request("k", request, context),
        "begin_turn": lambda: store.begin_turn(asked("thr_1", 100), context),
        "begin_turn in a full thread": lambda: store.begin_turn(asked("thr_1", 1), context),
        "begin_thread": lambda: store.begin_thread(thread("thr_3"), asked("thr_3", 100), context),
        "end_turn": lambda: store.end_turn(Ending(item=hidden("last"), holder="a", key="k", request=request), context),
        "forget_request": lambda: store.forget_request("k", context),
        "delete_thread_item": lambda: store.delete_thread_item("thr_1", "i4", context),
        "delete_thread": lambda: store.delete_thread("thr_2", context),
    }


class TestFlights:
    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_each_operation_is_one_flight(self, proxy: Proxy, stores: Open, ada: RequestContext, driver: str):
        store = stores(by(driver, proxy.url), pool_size=1)
        todo = await operations(store, ada)
        for _ in range(7):  # psycopg prepares a statement when it comes for the sixth time
            for operation in todo.values():
                await operation()

        flights = {}
        for name, operation in todo.items():
            before = proxy.flights
            await operation()
            flights[name] = proxy.flights - before

        assert flights == dict.fromkeys(todo, 1)

    async def test_connections_are_there_before_the_first_request(self, proxy: Proxy, stores: Open):
        store = stores(proxy.url, pool_size=3)

        await store.open()

        assert proxy.connections == 3

    async def test_none_is_held_between_operations(self, stores: Open, postgres_url: str, ada: RequestContext):
        store = stores(postgres_url, pool_size=1)
        await store.save_thread(thread(), ada)

        await asyncio.gather(*(store.add_thread_item("thr_1", hidden(f"i{n}"), ada) for n in range(50)))

        assert len(await item_ids(store, ada)) == 50


class TestOrder:
    async def test_numbers_of_items_are_dense(
        self, stores: Open, postgres_url: str, postgres: PostgresServer, ada: RequestContext
    ):
        writing, other = stores(postgres_url), stores(postgres_url)
        await writing.save_thread(thread(), ada)

        async def write(writer: int) -> None:
            store = other if writer % 2 else writing
            for number in range(20):
                await store.add_thread_item("thr_1", hidden(f"{writer}-{number}"), ada)

        await asyncio.gather(*(write(writer) for writer in range(50)))

        rows = postgres.run("SELECT seq FROM chatkit_rag.items ORDER BY seq", url=postgres_url)
        assert [seq for (seq,) in rows] == list(range(1, 1001))

    @pytest.mark.parametrize("what", ["item", "thread"])
    async def test_nothing_becomes_visible_before_what_came_first(
        self, stores: Open, postgres_url: str, ada: RequestContext, what: str
    ):
        store = stores(postgres_url)
        await store.save_thread(thread(), ada)
        first = ("", "ada", "thr_1", "first") if what == "item" else ("", "ada", "first")
        record = hidden("first") if what == "item" else thread("first")
        sql = statements("chatkit_rag").add_item if what == "item" else statements("chatkit_rag").save_thread

        async def ids() -> list[str]:
            if what == "item":
                return await item_ids(store, ada)
            return [row.id for row in (await store.load_threads(9, None, "asc", ada)).data[1:]]

        async with locked(postgres_url, "SELECT 1") as connection:
            age = [] if what == "item" else [0.0]
            await psycopg.AsyncRawCursor(connection).execute(sql, [*first, record.model_dump_json(), *age])
            second = asyncio.ensure_future(
                store.add_thread_item("thr_1", hidden("second"), ada)
                if what == "item"
                else store.save_thread(thread("second"), ada)
            )
            await asyncio.wait({second}, timeout=0.2)
            meanwhile = await ids()
            await connection.commit()
            await second

        assert meanwhile == []
        assert await ids() == ["first", "second"]


class TestAway:
    async def test_it_starts_without_the_database_and_finds_it_when_it_comes(
        self, stores: Open, proxy: Proxy, postgres_url: str, ada: RequestContext, caplog: pytest.LogCaptureFixture
    ):
        proxy.upstream = "postgresql://127.0.0.1:1/d"
        store = stores(proxy.url)

        await store.open()
        with pytest.raises(StoreUnavailable):
            await store.ping()
        proxy.upstream = postgres_url

        await store.save_thread(thread(), ada)
        assert await store.load_thread("thr_1", ada) == thread()
        assert "cannot be reached" in caplog.text

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_a_port_where_nobody_listens_is_told_at_once(self, stores: Open, ada: RequestContext, driver: str):
        store = stores(f"postgresql+{driver}://127.0.0.1:1/d")
        began = time.monotonic()

        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/d cannot be reached"):
            await store.load_thread("thr_1", ada)

        assert time.monotonic() - began < 3

    async def test_a_database_that_says_nothing_any_more_is_not_waited_for(
        self, stores: Open, proxy: Proxy, ada: RequestContext
    ):
        store = stores(proxy.url, pool_size=2, patience=1.0)
        await store.save_thread(thread(), ada)
        proxy.still = True
        began = time.monotonic()

        for calls in (store.load_thread("thr_1", ada), store.save_thread(thread(title="T"), ada)):
            with pytest.raises(StoreUnavailable):
                await calls
        assert time.monotonic() - began < 5

        proxy.still = False
        await store.save_thread(thread(title="U"), ada)
        assert (await store.load_thread("thr_1", ada)).title == "U"

    async def test_a_pool_in_use_is_waited_for_a_second(self, stores: Open, postgres_url: str, ada: RequestContext):
        store = stores(postgres_url, pool_size=1, patience=4.0)
        await store.save_thread(thread(), ada)
        async with locked(postgres_url, "SELECT 1 FROM chatkit_rag.threads FOR UPDATE") as connection:
            writing = asyncio.ensure_future(store.add_thread_item("thr_1", hidden("i1"), ada))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="pool_size"):
                await store.load_thread("thr_1", ada)
            assert time.monotonic() - began < 3.5
            await connection.rollback()
            await writing

        assert await item_ids(store, ada) == ["i1"]

    async def test_who_waits_for_a_connection_comes_before_who_asks_again(
        self, stores: Open, postgres_url: str, ada: RequestContext
    ):
        store = stores(postgres_url, pool_size=1)
        await store.save_thread(thread(), ada)
        loads = 0

        async def load_without_end() -> None:
            nonlocal loads
            while True:
                await store.load_thread("thr_1", ada)
                loads += 1

        greedy = asyncio.ensure_future(load_without_end())
        while not loads:
            await asyncio.sleep(0)
        before = loads
        await store.load_thread("thr_1", ada)
        greedy.cancel()

        assert loads - before < 5

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_connections_that_broke_are_replaced_unnoticed(
        self, stores: Open, proxy: Proxy, ada: RequestContext, driver: str
    ):
        store = stores(by(driver, proxy.url), pool_size=8)
        await store.save_thread(thread(), ada)
        await asyncio.gather(*(store.load_thread("thr_1", ada) for _ in range(8)))

        proxy.break_connections()
        await store.load_thread("thr_1", ada)
        proxy.break_connections()
        await store.add_thread_item("thr_1", hidden("i1"), ada)
        proxy.break_connections()
        await asyncio.gather(*(store.add_thread_item("thr_1", hidden(f"i{n}"), ada) for n in range(2, 12)))

        assert sorted(await item_ids(store, ada)) == sorted(f"i{n}" for n in range(1, 12))
        assert proxy.connections > 8

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_a_write_whose_answer_was_lost_is_there_once(
        self, stores: Open, proxy: Proxy, ada: RequestContext, driver: str
    ):
        store = stores(by(driver, proxy.url), pool_size=1)
        request = RememberedRequest(fingerprint="f", busy_until=time.time() + LONG)
        await store.save_thread(thread(), ada)
        await store.add_thread_item("thr_1", hidden("i1"), ada)

        proxy.answers_to_lose = 1
        await store.add_thread_item("thr_1", hidden("i2"), ada)
        await store.add_thread_item("thr_1", hidden("i3"), ada)
        proxy.answers_to_lose = 1
        claim = await store.claim_request("k", request, LONG, ada)

        assert proxy.lost == 2
        assert await item_ids(store, ada) == ["i1", "i2", "i3"]
        assert claim is None
        assert await store.claim_request("k", request, LONG, ada) == request

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_a_primary_that_became_a_standby_is_left(
        self, stores: Open, postgres_url: str, postgres: PostgresServer, ada: RequestContext, driver: str
    ):
        store = stores(by(driver, postgres_url), pool_size=2)
        await store.save_thread(thread(), ada)
        [[name]] = postgres.run("SELECT current_database()", url=postgres_url)
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        reading = stores(by(driver, postgres_url), pool_size=2)
        await reading.load_thread("thr_1", ada)

        with pytest.raises(StoreUnavailable, match="read-only"):
            await reading.save_thread(thread(title="T"), ada)
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = off")

        await reading.save_thread(thread(title="U"), ada)
        assert (await store.load_thread("thr_1", ada)).title == "U"

    async def test_transactions_in_each_others_way_are_tried_again(
        self, stores: Open, postgres_url: str, postgres: PostgresServer, ada: RequestContext
    ):
        [[name]] = postgres.run("SELECT current_database()", url=postgres_url)
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        store = stores(postgres_url)
        await store.save_thread(thread(), ada)

        await asyncio.gather(*(store.add_thread_item("thr_1", hidden(f"i{n}"), ada) for n in range(4)))

        assert sorted(await item_ids(store, ada)) == ["i0", "i1", "i2", "i3"]


class TestRefused:
    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_a_user_who_is_not_known_is_told_and_the_password_is_not(
        self, stores: Open, postgres_url: str, driver: str, caplog: pytest.LogCaptureFixture
    ):
        url = by(driver, postgres_url).replace("postgres:@", "nobody:s3cr3t@")
        if "s3cr3t" not in url:
            pytest.skip("the server's own URL names its user otherwise")
        store = stores(url)

        with pytest.raises(StoreUnavailable, match="check user, password and database") as refused:
            await store.open()

        assert "s3cr3t" not in "".join(traceback.format_exception(refused.value)) + caplog.text

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_a_wrong_password_is_told_and_never_repeated(
        self,
        stores: Open,
        postgres_url: str,
        postgres: PostgresServer,
        ada: RequestContext,
        driver: str,
        caplog: pytest.LogCaptureFixture,
    ):
        with postgres.reader_with_a_password("the-right-one", url=postgres_url) as role:
            right, wrong = (
                by(driver, postgres_url).replace("postgres:@", f"{role}:{password}@")
                for password in ("the-right-one", "s3cr3t")
            )
            await stores(right).open()
            store = stores(wrong)

            refusals = []
            for call in (store.open, lambda: store.load_thread("thr_1", ada)):
                with pytest.raises(StoreUnavailable, match="check user, password and database") as refused:
                    await call()
                refusals += traceback.format_exception(refused.value)

        assert "s3cr3t" not in "".join(refusals) + caplog.text

    async def test_ids_that_postgres_cannot_hold_are_never_found(
        self, stores: Open, postgres_url: str, ada: RequestContext
    ):
        store = stores(postgres_url)
        await store.save_thread(thread(), ada)

        for id_ in ("\0", "thr_1\0", "\ud800"):
            with pytest.raises(NotFound):
                await store.load_thread(id_, ada)
            with pytest.raises(NotFound):
                await store.load_threads(9, id_, "asc", ada)
            with pytest.raises(NotFound):
                await store.patch_thread(id_, {"title": "T"}, ada)
            with pytest.raises(NotFound):
                await store.take_lease(id_, "a", LONG, ada)
            with pytest.raises(NotFound):
                await store.save_feedback("thr_1", [id_], {"kind": "positive"}, ada)
            await store.delete_thread(id_, ada)
        assert await store.load_thread("thr_1", ada) == thread()


class TestPoolers:
    """A pooler gives each transaction another connection, which knows none of the statements of the one before."""

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_every_operation_works_behind_one(
        self, stores: Open, postgres_url: str, ada: RequestContext, driver: str
    ):
        async with proxy_before(postgres_url, TransactionPooler) as pooler:
            store = stores(by(driver, pooler.url) + "&pgbouncer=true", pool_size=2)
            for operation in (await operations(store, ada)).values():
                for _ in range(7):
                    await operation()
            await store.close()

            assert await stores(postgres_url).load_item("thr_1", "new", ada) == hidden("new")

    async def test_what_is_done_for_it_is_needed(self, stores: Open, postgres_url: str, ada: RequestContext):
        async with proxy_before(postgres_url, TransactionPooler) as pooler:
            store = stores(pooler.url, pool_size=1, pooler=False)

            calls = [store.save_thread(thread(), ada) for _ in range(4)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)

            assert any("prepared statement" in str(outcome) for outcome in outcomes)
            await store.close()


class TestAnEngineOfTheHosts:
    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_it_is_used_as_it_is_and_stays_the_hosts(
        self, stores: Open, postgres_url: str, ada: RequestContext, driver: str
    ):
        engine = create_async_engine(by(driver, postgres_url), pool_size=2)
        store = stores(engine, schema="robots", auto_migrate=True)

        for operation in (await operations(store, ada)).values():
            await operation()
        await store.close()

        async with engine.connect() as connection:  # with a transaction, as the host is used to
            await connection.execute(text("DELETE FROM robots.items"))
            await connection.rollback()
            left = await connection.scalar(text("SELECT count(*) FROM robots.items"))
        await engine.dispose()
        assert left == 8

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_connections_that_broke_are_replaced_unnoticed(
        self, stores: Open, proxy: Proxy, ada: RequestContext, driver: str
    ):
        engine = create_async_engine(
            by(driver, proxy.url)
            .replace("sslmode", "ssl" if driver == "asyncpg" else "sslmode")
            .replace("&gssencmode=disable", ""),
            pool_size=8,
        )
        store = stores(engine)
        await store.save_thread(thread(), ada)
        await asyncio.gather(*(store.add_thread_item("thr_1", hidden(f"i{n}"), ada) for n in range(8)))

        proxy.break_connections()
        await store.add_thread_item("thr_1", hidden("last"), ada)

        assert (await item_ids(store, ada))[-1] == "last"
        await engine.dispose()

    async def test_one_of_another_database_is_refused(self, tmp_path: Any):
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")

        with pytest.raises(ConfigurationError, match="asyncpg or psycopg"):
            PostgresStore(engine)
        await engine.dispose()


class TestLifecycle:
    async def test_opening_and_closing_twice_is_as_doing_it_once(
        self, stores: Open, postgres_url: str, ada: RequestContext
    ):
        store = stores(postgres_url)
        await store.close()
        await asyncio.gather(store.open(), store.open())
        await store.save_thread(thread(), ada)
        await asyncio.gather(store.close(), store.close())

        await store.open()
        assert await store.load_thread("thr_1", ada) == thread()

    def test_one_store_serves_one_event_loop_after_another(self, postgres_url: str, ada: RequestContext):
        store = PostgresStore(postgres_url)

        async def use(name: str) -> int:
            await asyncio.gather(*(store.save_thread(thread(f"{name}{number}"), ada) for number in range(10)))
            found = await store.load_threads(100, None, "asc", ada)
            await store.close()
            return len(found.data)

        assert asyncio.run(use("a")) == 10
        assert asyncio.run(use("b")) == 20

    @pytest.mark.parametrize("driver", DRIVERS)
    async def test_the_pool_is_whole_after_any_cancellation(
        self, stores: Open, postgres_url: str, ada: RequestContext, driver: str
    ):
        store = stores(by(driver, postgres_url), pool_size=1)
        await store.save_thread(thread(), ada)
        cancelled = 0
        for turns in range(25):
            for call in (
                lambda: store.load_thread_items("thr_1", None, 20, "asc", ada),
                lambda turns=turns: store.add_thread_item("thr_1", hidden(f"i{turns}"), ada),
            ):
                running = asyncio.ensure_future(call())
                for _ in range(turns):
                    await asyncio.sleep(0)
                running.cancel()
                await asyncio.wait({running})
                cancelled += running.cancelled()

        assert cancelled > 10
        # A write that had begun was done, whatever became of its caller.
        assert await item_ids(store, ada) == [f"i{turns}" for turns in range(1, 25)]

    async def test_leases_go_by_the_databases_clock(
        self, stores: Open, postgres_url: str, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
    ):
        store = stores(postgres_url)
        await store.save_thread(thread(), ada)
        await store.take_lease("thr_1", "a", 60.0, ada)

        monkeypatch.setattr(time, "time", lambda: 4e9)  # of a host whose clock is decades ahead

        assert not await store.take_lease("thr_1", "b", 60.0, ada)
