"""What `SQLiteStore` adds to the contract: a file that survives, and other processes beside this one."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from chatkit import types as ck

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import ConfigurationError, StoreUnavailable
from chatkit_rag.stores.sql import SQLiteStore

pytestmark = pytest.mark.anyio

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)


def thread(id_: str = "thr_1", **fields: Any) -> ck.ThreadMetadata:
    return ck.ThreadMetadata(id=id_, created_at=T0, **fields)


def hidden(id_: str, text: str = "text") -> ck.SDKHiddenContextItem:
    return ck.SDKHiddenContextItem(id=id_, thread_id="thr_1", created_at=T0, content=text)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    try:
        yield store
    finally:
        await store.close()


async def item_ids(store: SQLiteStore, context: RequestContext) -> list[str]:
    ids: list[str] = []
    after = None
    while True:
        page = await store.load_thread_items("thr_1", after, 100, "asc", context)
        ids += [item.id for item in page.data]
        if not page.has_more:
            return ids
        after = page.after


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Within it, whatever is started must end: a connection's thread does a moment after it was closed."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    for started_here in set(threading.enumerate()) - before:
        started_here.join(5)
        assert not started_here.is_alive()


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


PRELUDE = """
import asyncio, sys
from datetime import UTC, datetime
from chatkit.types import SDKHiddenContextItem, ThreadMetadata
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.sql import SQLiteStore

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)
ada = RequestContext(principal=Principal("ada"))
store = SQLiteStore(sys.argv[1])

def hidden(id_):
    return SDKHiddenContextItem(id=id_, thread_id="thr_1", created_at=T0, content="text")
"""

WRITER = f"""{PRELUDE}
async def main():
    await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        await store.add_thread_item("thr_1", hidden(f"{{sys.argv[4]}}{{number}}"), ada)
        print(f"{{sys.argv[4]}}{{number}}", flush=True)
    await store.close()

asyncio.run(main())
"""

# Each says that it is ready and waits for a line, so that they meet at the same moment.
OPENER = f"""{PRELUDE}
async def main():
    for path in sys.argv[1:]:
        store = SQLiteStore(path)
        print("ready", flush=True)
        sys.stdin.readline()
        await store.open()
        await store.save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)
        await store.close()

asyncio.run(main())
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class TestTheFile:
    async def test_what_was_stored_is_there_when_the_file_is_opened_again(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(title="T"), ada)
            for number in range(3):
                await store.add_thread_item("thr_1", hidden(f"i{number}"), ada)
            await store.save_attachment(ck.FileAttachment(id="atc_1", name="a", mime_type="text/plain"), ada)

        async with opened(path) as store:
            assert await store.load_thread("thr_1", ada) == thread(title="T")
            assert await item_ids(store, ada) == ["i0", "i1", "i2"]
            assert (await store.load_attachment("atc_1", ada)).name == "a"
            await store.add_thread_item("thr_1", hidden("i3"), ada)
            assert await item_ids(store, ada) == ["i0", "i1", "i2", "i3"]

    @pytest.mark.parametrize(
        "name",
        ["with space.db", "a#b.db", "a?b=c&d.db", "a%20b.db", "%s %(a)s.db", "a@b:c.db", "zü'rich\".db", ":memory:"],
    )
    async def test_its_path_may_hold_any_character(self, tmp_path: Path, ada: RequestContext, name: str):
        folder = tmp_path / "a #folder? 100%"

        async with opened(folder / name) as store:
            await store.save_thread(thread(), ada)

        assert (folder / name).stat().st_size > 0
        assert {file.name.removeprefix(name) for file in folder.iterdir()} <= {"", "-wal", "-shm"}

    async def test_a_relative_path_stays_where_it_was_when_the_process_moves(
        self, tmp_path: Path, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        store = SQLiteStore("data/threads.db")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

        await store.save_thread(thread(), ada)
        await store.close()

        assert (tmp_path / "data" / "threads.db").exists()

    async def test_readers_are_not_blocked_by_a_writer_and_items_cannot_lose_their_thread(
        self, tmp_path: Path, ada: RequestContext
    ):
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(), ada)
            await store.add_thread_item("thr_1", hidden("i1"), ada)
            await store.delete_thread("thr_1", ada)

            assert rows(path, "PRAGMA journal_mode") == [("wal",)]
            assert rows(path, "SELECT count(*) FROM items") == [(0,)]

    async def test_nothing_of_a_deleted_item_stays_with_its_thread(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        whole = ck.Thread(id="thr_1", created_at=T0, items=ck.Page(data=[hidden("i1", "a secret")]))
        async with opened(path) as store:
            await store.save_thread(whole, ada)

            assert "a secret" not in rows(path, "SELECT payload FROM threads")[0][0]


class TestUnavailable:
    async def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(self, tmp_path: Path):
        (tmp_path / "file").touch()
        store = SQLiteStore(tmp_path / "file" / "threads.db")

        with pytest.raises(StoreUnavailable, match=r"file/threads\.db.*--data-dir"):
            await store.open()

    async def test_a_place_that_cannot_be_written_is_named_with_what_to_do(self, tmp_path: Path):
        store = SQLiteStore(tmp_path)  # a folder: not even root can write it as a file

        with (
            no_thread_left(),
            pytest.raises(StoreUnavailable, match=r"unable to open database file.*make its folder writable"),
        ):
            await store.open()

    async def test_a_file_that_is_no_database_is_said_to_be_none_and_left_alone(
        self, tmp_path: Path, ada: RequestContext
    ):
        path = tmp_path / "threads.db"
        path.write_text("These are somebody's notes. " * 100)
        store = SQLiteStore(path)

        with pytest.raises(StoreUnavailable, match="not a database"):
            await store.open()
        with pytest.raises(StoreUnavailable):
            await store.load_thread("thr_1", ada)

        assert path.read_text() == "These are somebody's notes. " * 100

    async def test_what_fails_to_open_leaves_nothing_running(self, tmp_path: Path):
        path = tmp_path / "threads.db"
        path.write_text("no database " * 100)

        with no_thread_left():
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await SQLiteStore(path).open()

    async def test_another_programs_database_is_refused_and_released(self, tmp_path: Path):
        path = tmp_path / "threads.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE threads (subject TEXT)")

        with no_thread_left(), pytest.raises(StoreUnavailable, match="no such column"):
            await SQLiteStore(path).open()

        assert ("CREATE TABLE threads (subject TEXT)",) in rows(path, "SELECT sql FROM sqlite_master")

    async def test_one_that_a_newer_version_has_made_is_refused_and_left_alone(
        self, tmp_path: Path, ada: RequestContext
    ):
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(), ada)
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 999")
        before = path.read_bytes()

        with no_thread_left():
            store = SQLiteStore(path)
            with pytest.raises(ConfigurationError, match=r"threads\.db is of version 999.*newer chatkit-rag"):
                await store.open()
            with pytest.raises(ConfigurationError):
                await store.load_thread("thr_1", ada)

        assert path.read_bytes() == before

    async def test_it_can_be_opened_once_the_cause_is_gone(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        path.write_text("no database " * 100)
        async with opened(path) as store:
            with pytest.raises(StoreUnavailable):
                await store.open()
            path.unlink()

            await store.save_thread(thread(), ada)
            assert await store.load_thread("thr_1", ada) == thread()

    async def test_a_file_that_another_process_keeps_locked_is_unavailable_for_now(
        self, tmp_path: Path, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("chatkit_rag.stores.sql_file._BUSY_SECONDS", 0.1)
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(), ada)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")

                with pytest.raises(StoreUnavailable, match="locked"):
                    await store.add_thread_item("thr_1", hidden("i1"), ada)
                assert await item_ids(store, ada) == []
                other.execute("ROLLBACK")

            await store.add_thread_item("thr_1", hidden("i1"), ada)
            assert await item_ids(store, ada) == ["i1"]

    async def test_ping_tells_whether_it_can_be_read(self, tmp_path: Path):
        async with opened(tmp_path / "threads.db") as store:
            await store.ping()
        (tmp_path / "broken.db").write_text("no database " * 100)
        async with opened(tmp_path / "broken.db") as store:
            with pytest.raises(StoreUnavailable):
                await store.ping()


class TestLifecycle:
    async def test_opening_and_closing_twice_is_as_doing_it_once(self, tmp_path: Path, ada: RequestContext):
        store = SQLiteStore(tmp_path / "threads.db")
        await store.close()
        await asyncio.gather(store.open(), store.open())
        await store.save_thread(thread(), ada)
        await asyncio.gather(store.close(), store.close())

        await store.open()
        assert await store.load_thread("thr_1", ada) == thread()
        await store.close()

    async def test_closing_lets_what_is_under_way_end_and_leaves_no_thread(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        store = SQLiteStore(path)
        with no_thread_left():
            await store.save_thread(thread(), ada)
            writing = [
                asyncio.ensure_future(store.add_thread_item("thr_1", hidden(f"i{number}"), ada)) for number in range(30)
            ]
            for _ in range(3):
                await asyncio.sleep(0)  # all have begun, and wait for the one connection

            await store.close()
            await asyncio.gather(*writing)

        assert [id_ for (id_,) in rows(path, "SELECT id FROM items ORDER BY seq")] == [f"i{n}" for n in range(30)]

    async def test_it_is_closed_also_when_its_scope_is_cancelled(self, tmp_path: Path, ada: RequestContext):
        with no_thread_left(), anyio.CancelScope() as scope:
            async with opened(tmp_path / "threads.db") as store:
                await store.save_thread(thread(), ada)
                scope.cancel()
                await anyio.sleep(10)

        assert scope.cancelled_caught

    def test_one_store_serves_one_event_loop_after_another(self, tmp_path: Path, ada: RequestContext):
        store = SQLiteStore(tmp_path / "threads.db")

        async def use(name: str) -> list[str]:
            await asyncio.gather(*(store.save_thread(thread(f"{name}{number}"), ada) for number in range(10)))
            found = await store.load_threads(100, None, "asc", ada)
            await store.close()
            return [row.id for row in found.data]

        assert len(asyncio.run(use("a"))) == 10
        assert len(asyncio.run(use("b"))) == 20

    async def test_a_write_that_has_begun_is_done_also_when_its_caller_is_cancelled(
        self, tmp_path: Path, ada: RequestContext
    ):
        async with opened(tmp_path / "threads.db") as store:
            await store.save_thread(thread(), ada)
            for turns in range(1, 25):
                writing = asyncio.ensure_future(store.add_thread_item("thr_1", hidden(f"i{turns}"), ada))
                for _ in range(turns):
                    await asyncio.sleep(0)
                writing.cancel()
                await asyncio.wait({writing})

            assert await item_ids(store, ada) == [f"i{turns}" for turns in range(1, 25)]


class TestOtherProcesses:
    async def test_one_reads_while_another_writes(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(), ada)
            with started(WRITER, path, 0, 60, "other") as writer:
                try:
                    for acknowledged in iter(writer.stdout.readline, ""):
                        assert acknowledged.strip() in await item_ids(store, ada)
                    assert writer.wait(20) == 0, writer.stderr.read()
                finally:
                    writer.kill()
            assert await item_ids(store, ada) == [f"other{number}" for number in range(60)]

    async def test_two_write_in_turn(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        async with opened(path) as store:
            await store.save_thread(thread(), ada)
            with started(WRITER, path, 0, 60, "other") as writer:
                try:
                    assert writer.stdout.readline()  # it has begun
                    for number in range(60):
                        await store.add_thread_item("thr_1", hidden(f"mine{number}"), ada)
                    _, complaints = await asyncio.to_thread(writer.communicate, timeout=20)
                    assert writer.returncode == 0, complaints
                finally:
                    writer.kill()

            ids = await item_ids(store, ada)
            for name in ("mine", "other"):
                assert [id_ for id_ in ids if id_.startswith(name)] == [f"{name}{number}" for number in range(60)]

    async def test_it_waits_for_another_that_is_making_the_file(self, tmp_path: Path, ada: RequestContext):
        path = tmp_path / "threads.db"
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            done = threading.Timer(0.2, other.execute, ["COMMIT"])
            done.start()

            async with opened(path) as store:
                await store.save_thread(thread(), ada)
            done.join()

        assert rows(path, "PRAGMA journal_mode") == [("wal",)]

    def test_several_make_the_file_at_the_same_moment(self, tmp_path: Path):
        paths = [tmp_path / f"{number}" / "threads.db" for number in range(15)]
        openers = [started(OPENER, *paths) for _ in range(3)]
        try:
            for _ in paths:
                assert [opener.stdout.readline() for opener in openers] == ["ready\n"] * 3, [
                    opener.stderr.read() for opener in openers if opener.poll()
                ]
                for opener in openers:
                    opener.stdin.write("go\n")
                    opener.stdin.flush()
            for opener in openers:
                _, complaints = opener.communicate(timeout=20)
                assert opener.returncode == 0, complaints
        finally:
            for opener in openers:
                opener.kill()
                opener.communicate()
