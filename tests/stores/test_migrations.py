"""Making and renewing the tables: once, whoever begins, and never by code that is too old for them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck
from chatkit.store import NotFoundError

from chatkit_rag.cli import app, main
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError, MissingExtra, StoreUnavailable
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.postgres_schema import VERSIONS, check_version, migration_script
from chatkit_rag.testing.store.part import file, fill
from chatkit_rag.testing.store.privacy import held
from postgres_server import PostgresServer
from processes import run

pytestmark = pytest.mark.anyio

THREAD = ck.ThreadMetadata(id="thr_1", created_at=datetime(2025, 3, 1, tzinfo=UTC))


@pytest.fixture
def empty_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own without any tables."""
    with postgres.database() as url:
        yield url


@pytest.fixture
async def stores() -> Any:
    """Makes stores, and closes them."""
    made: list[PostgresStore] = []

    def make(url: str, **options: Any) -> PostgresStore:
        made.append(PostgresStore(url, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


def columns(postgres: PostgresServer, url: str) -> list[tuple[Any, ...]]:
    what = "table_schema, table_name, column_name, data_type, is_nullable, column_default"
    where = "table_schema NOT IN ('pg_catalog', 'information_schema')"
    return postgres.run(f"SELECT {what} FROM information_schema.columns WHERE {where} ORDER BY 1, 2, 3", url=url)


def indexes(postgres: PostgresServer, url: str) -> list[tuple[Any, ...]]:
    return postgres.run("SELECT indexdef FROM pg_indexes WHERE schemaname = 'chatkit_rag' ORDER BY 1", url=url)


async def test_a_store_that_may_makes_its_tables_and_leaves_them_as_they_are_the_next_time(
    stores: Any, empty_url: str, ada: RequestContext
):
    await stores(empty_url, auto_migrate=True).save_thread(THREAD, ada)

    again = stores(empty_url, auto_migrate=True)
    await again.open()

    assert await again.load_thread("thr_1", ada) == THREAD


async def test_one_that_may_not_says_what_to_run_and_works_once_that_was_done(
    stores: Any, empty_url: str, ada: RequestContext
):
    store = stores(empty_url)
    with pytest.raises(StoreUnavailable, match="chatkit-rag migrate"):
        await store.open()
    with pytest.raises(StoreUnavailable, match="chatkit-rag migrate"):
        await store.save_thread(THREAD, ada)

    await store.migrate()

    await store.save_thread(THREAD, ada)
    assert await store.load_thread("thr_1", ada) == THREAD


async def test_the_tables_live_in_the_schema_that_was_asked_for(
    stores: Any, empty_url: str, postgres: PostgresServer, ada: RequestContext
):
    await stores(empty_url, schema="robots", auto_migrate=True).save_thread(THREAD, ada)
    await stores(empty_url, schema="cooking", auto_migrate=True).open()

    assert {row[0] for row in columns(postgres, empty_url)} == {"robots", "cooking"}
    assert postgres.run("SELECT count(*) FROM cooking.threads", url=empty_url) == [(0,)]
    assert postgres.run("SELECT count(*) FROM robots.threads", url=empty_url) == [(1,)]


async def test_a_schema_that_is_newer_than_the_code_is_refused_and_left_alone(
    stores: Any, postgres_url: str, postgres: PostgresServer, ada: RequestContext
):
    postgres.run("UPDATE chatkit_rag.alembic_version SET version_num = '9999'", url=postgres_url)

    for auto_migrate in (False, True):
        store = stores(postgres_url, auto_migrate=auto_migrate)
        with pytest.raises(ConfigurationError, match="newer chatkit-rag"):
            await store.open()
        with pytest.raises(ConfigurationError, match="newer chatkit-rag"):
            await store.save_thread(THREAD, ada)

    assert postgres.run("SELECT version_num FROM chatkit_rag.alembic_version", url=postgres_url) == [("9999",)]
    assert postgres.run("SELECT count(*) FROM chatkit_rag.threads", url=postgres_url) == [(0,)]


def test_code_runs_on_its_own_version_and_the_one_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chatkit_rag.stores.postgres_schema.VERSIONS", ("0001", "0002", "0003"))

    for version in ("0002", "0003"):
        check_version(version, schema="s", label="l")
    for version in ("0001", None):
        with pytest.raises(StoreUnavailable, match="too old"):
            check_version(version, schema="s", label="l")
    with pytest.raises(ConfigurationError, match="0004"):
        check_version("0004", schema="s", label="l")


def test_the_code_knows_every_version_that_there_is():
    folder = Path(str(import_module("chatkit_rag.stores.migrations.versions").__file__)).parent
    text = {path.stem: path.read_text("utf-8") for path in folder.glob("*.py") if path.stem != "__init__"}

    steps = {}
    for name in text:
        module = import_module(f"chatkit_rag.stores.migrations.versions.{name}")
        steps[module.down_revision] = module.revision
    found, last = [], None
    while last in steps:
        last = steps[last]
        found.append(last)

    assert tuple(found) == VERSIONS
    assert len(found) == len(text)


async def test_the_printed_sql_makes_the_same_tables(
    stores: Any, empty_url: str, postgres_url: str, postgres: PostgresServer, ada: RequestContext
):
    postgres.run(migration_script("chatkit_rag"), url=empty_url)

    assert columns(postgres, empty_url) == columns(postgres, postgres_url)
    assert indexes(postgres, empty_url) == indexes(postgres, postgres_url)
    store = stores(empty_url)
    await store.save_thread(THREAD, ada)
    await store.migrate()


@pytest.fixture
def url_of_before(postgres: PostgresServer, postgres_url: str) -> str:
    """A database with the tables of the version before."""
    postgres.run("ALTER TABLE chatkit_rag.owners DROP COLUMN deleted_at", url=postgres_url)
    postgres.run("UPDATE chatkit_rag.alembic_version SET version_num = '0001'", url=postgres_url)
    return postgres_url


async def test_on_the_tables_of_the_version_before_all_works_but_what_needs_the_new_ones(
    stores: Any, url_of_before: str, ada: RequestContext
):
    store = stores(url_of_before)
    await fill(store, ada, items=2)
    await store.save_attachment(file(), ada)

    with pytest.raises(StoreUnavailable, match="chatkit-rag migrate"):
        await store.delete_user(ada)

    found = await held(store, ada)
    assert [len(found[kind]) for kind in ("threads", "items", "attachments")] == [1, 2, 1]
    assert await store.purge_expired() == 0
    assert [id_ for _, id_ in await store.purge_threads(datetime(2030, 1, 1, tzinfo=UTC), 10)] == ["thr_1"]
    assert await store.purge_expired() == 0


async def test_a_server_that_began_before_the_migration_heeds_a_mark_that_came_after_it(
    stores: Any, url_of_before: str
):
    server, command = stores(url_of_before), stores(url_of_before)
    under_way = RequestContext(principal=Principal("ada"))
    await fill(server, under_way, items=1)

    await command.migrate()
    await command.delete_user(RequestContext(principal=Principal("ada")))

    for write in (server.save_thread(THREAD, under_way), server.save_attachment(file(), under_way)):
        with pytest.raises(NotFoundError):
            await write


async def test_code_of_the_version_before_writes_to_the_new_tables_and_what_it_wrote_can_be_deleted(
    stores: Any, postgres_url: str, postgres: PostgresServer, ada: RequestContext
):
    payload = THREAD.model_dump_json()
    before = [  # as it was sent by that code, its values filled in
        f"""
        WITH place AS (
            INSERT INTO chatkit_rag.owners AS owner (tenant, user_id, thread_seq) VALUES ('', 'ada', 1)
            ON CONFLICT (tenant, user_id) DO UPDATE SET thread_seq = owner.thread_seq + 1 RETURNING thread_seq
        )
        INSERT INTO chatkit_rag.threads (tenant, user_id, id, seq, payload)
        SELECT '', 'ada', 'thr_1', thread_seq, '{payload}' FROM place
        ON CONFLICT (tenant, user_id, id) DO UPDATE SET payload = excluded.payload RETURNING id""",
        f"""
        INSERT INTO chatkit_rag.attachments (tenant, user_id, id, payload)
        VALUES ('', 'ada', 'atc_1', '{file().model_dump_json()}')
        ON CONFLICT (tenant, user_id, id) DO UPDATE SET payload = excluded.payload RETURNING id""",
    ]
    for statement in before:
        postgres.run(statement, url=postgres_url)
    store = stores(postgres_url)

    loaded = await store.load_thread("thr_1", ada)
    deleted = await store.delete_user(ada)
    for statement in before:  # a server of that version goes on, and knows of no mark
        postgres.run(statement, url=postgres_url)

    assert loaded == THREAD
    assert (deleted.threads, deleted.attachments) == (1, 1)
    again = await store.delete_user(ada)
    assert (again.threads, again.attachments) == (1, 1)


async def test_the_row_of_a_deleted_reader_goes_a_day_later_and_their_numbers_begin_anew(
    stores: Any, postgres_url: str, postgres: PostgresServer, ada: RequestContext
):
    store = stores(postgres_url)
    await fill(store, ada, items=1)
    await store.delete_user(ada)
    await store.purge_expired()
    assert postgres.run("SELECT user_id FROM chatkit_rag.owners", url=postgres_url) == [("ada",)]
    postgres.run("UPDATE chatkit_rag.owners SET deleted_at = deleted_at - interval '25 hours'", url=postgres_url)

    removed = await store.purge_expired()

    assert removed == 1
    assert postgres.run("SELECT user_id FROM chatkit_rag.owners", url=postgres_url) == []
    for name in ("thr_1", "thr_2"):
        await store.save_thread(THREAD.model_copy(update={"id": name}), RequestContext(principal=Principal("ada")))


async def test_a_migration_that_fails_leaves_nothing_behind(
    stores: Any, empty_url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    postgres.run("CREATE SCHEMA chatkit_rag", url=empty_url)
    postgres.run("CREATE TABLE chatkit_rag.requests (somebodys text)", url=empty_url)  # the last of our tables

    with pytest.raises(StoreUnavailable, match="already exists"):
        await stores(empty_url).migrate()

    assert {row[1] for row in columns(postgres, empty_url)} == {"requests"}


def test_without_alembic_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chatkit_rag.stores.postgres_schema.find_spec", lambda _name: None)

    with pytest.raises(MissingExtra, match=r"pip install 'chatkit-rag\[postgres\]'"):
        migration_script("chatkit_rag")


# Forks as many as are asked for, once what is slow to import is imported; they wait for each other before they begin.
STARTERS = """
import asyncio, os, sys
from datetime import UTC, datetime
from alembic import command
from chatkit.types import ThreadMetadata
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.postgres import PostgresStore

url, rounds, processes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def start(number, name):
    store = PostgresStore(url, schema=f"round_{number}", auto_migrate=True, pool_size=2)
    await store.open()
    context = RequestContext(principal=Principal("ada"))
    await store.save_thread(ThreadMetadata(id=f"thr_{name}", created_at=datetime.now(UTC)), context)
    await store.close()

for number in range(rounds):
    begin, go = os.pipe()
    children = []
    for name in range(processes):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(begin, 1)  # returns when the last hand that holds the other end lets go of it
            asyncio.run(start(number, name))
            os._exit(0)
        children.append(child)
    os.close(go)
    os.close(begin)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_eight_processes_that_start_at_once_on_an_empty_database_all_start(
    rounds: int, empty_url: str, postgres: PostgresServer
):
    processes = 8

    command = [sys.executable, "-c", STARTERS, empty_url, str(rounds), str(processes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 if rounds < 10 else 850, check=False)

    assert done.stdout.splitlines() == [" ".join(["0"] * processes)] * rounds, done.stderr
    for number in range(rounds):
        assert postgres.run(f"SELECT count(*) FROM round_{number}.threads", url=empty_url) == [(processes,)]


class TestTheCommand:
    def test_it_brings_the_schema_to_the_newest_version(self, empty_url: str, postgres: PostgresServer, tmp_path: Path):
        settings = {"DATABASE_URL": empty_url, "CHATKIT_RAG_DATABASE_SCHEMA": "robots"}

        done = run("migrate", cwd=tmp_path, env=settings)
        again = run("migrate", "--json", cwd=tmp_path, env=settings)

        assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
        assert VERSIONS[-1] in done.stdout
        said = json.loads(again.stdout)
        assert (said["schema"], said["version"]) == ("robots", VERSIONS[-1])
        assert said["database"] in done.stdout
        assert {row[0] for row in columns(postgres, empty_url)} == {"robots"}

    def test_it_prints_the_sql_without_any_database(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        monkeypatch.setenv("DATABASE_URL", "")

        app(["migrate", "--sql"], standalone_mode=False)

        assert capsys.readouterr().out == migration_script("chatkit_rag")
        app(["migrate", "--sql", "--json"], standalone_mode=False)
        assert json.loads(capsys.readouterr().out) == {"sql": migration_script("chatkit_rag")}

    def test_threads_in_a_file_need_none(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        monkeypatch.setenv("DATABASE_URL", "sqlite:///my.db")

        app(["migrate"], standalone_mode=False)

        assert "my.db needs no migration" in capsys.readouterr().out
        app(["migrate", "--json"], standalone_mode=False)
        assert json.loads(capsys.readouterr().out) == {"database": "my.db", "schema": None, "version": None}

    def test_what_cannot_be_used_is_one_line_without_the_password(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cr3t@127.0.0.1:1/d")
        monkeypatch.setattr(sys, "argv", ["chatkit-rag", "migrate"])

        with pytest.raises(SystemExit) as left:
            main()

        said = capsys.readouterr().err
        assert left.value.code == 1
        assert len(said.splitlines()) == 1
        assert "127.0.0.1:1/d cannot be reached" in said
        assert "s3cr3t" not in said
