"""Which store the settings come to."""

from pathlib import Path

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError, StoreUnavailable
from chatkit_rag.settings import Settings
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.wiring import build_store
from postgres_server import postgres_server
from redis_server import redis_server

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"))


@pytest.mark.parametrize(
    ("url", "file"), [(None, "data/threads.db"), ("", "data/threads.db"), ("sqlite:///other/my.db", "other/my.db")]
)
async def test_threads_are_in_a_file_until_a_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, file: str
):
    monkeypatch.chdir(tmp_path)
    store = build_store(Settings.read(data_dir=Path("data"), database_url=url))

    await store.open()
    await store.close()

    assert isinstance(store, SQLiteStore)
    assert (tmp_path / file).exists()


@pytest.mark.parametrize("name", ["DATABASE_URL", "CHATKIT_RAG_DATABASE_URL"])
def test_the_server_is_named_by_either_variable_and_ours_goes_first(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("DATABASE_URL", "postgresql://common/d")
    monkeypatch.setenv(name, "postgresql://me:s3cr3t@named/d")
    settings = Settings.read()

    store = build_store(settings)

    assert isinstance(store, PostgresStore)
    assert store.label == "named/d"
    assert "s3cr3t" not in repr(settings)


async def test_its_tables_are_made_at_start_where_the_settings_say_so_in_the_schema_that_they_name():
    with postgres_server() as server, server.database() as url:
        settings = Settings.read(database_url=url, database_schema="robots", auto_migrate=True)

        for one in (settings, settings.model_copy(update={"auto_migrate": False})):
            store = build_store(one)
            await store.open()
            assert (await store.load_threads(1, None, "asc", ADA)).data == []
            await store.close()

        assert server.run("SELECT count(*) FROM robots.threads", url=url) == [(0,)]


def test_a_schema_that_cannot_be_used_is_refused():
    settings = Settings.read(database_url="postgresql://h/d", database_schema="drop table")

    with pytest.raises(ConfigurationError, match="drop table"):
        build_store(settings)


@pytest.mark.parametrize("name", ["REDIS_URL", "CHATKIT_RAG_REDIS_URL"])
def test_redis_is_put_before_a_server_and_not_before_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    monkeypatch.setenv("REDIS_URL", "redis://common/0")
    monkeypatch.setenv(name, "redis://:s3cr3t@named/0")
    before_a_server = Settings.read(database_url="postgresql://h/d")

    store = build_store(before_a_server)

    assert isinstance(store, CachedStore)
    assert store.label == "h/d"
    assert "s3cr3t" not in repr(before_a_server)
    assert isinstance(build_store(Settings.read(data_dir=tmp_path)), SQLiteStore)
    monkeypatch.setenv(name, "")
    assert isinstance(build_store(before_a_server.model_copy(update={"redis_url": None})), PostgresStore)
    monkeypatch.setenv("REDIS_URL", "")
    assert isinstance(build_store(Settings.read(database_url="postgresql://h/d")), PostgresStore)


def test_a_redis_that_cannot_be_named_is_refused():
    with pytest.raises(ConfigurationError, match="Redis"):
        build_store(Settings.read(database_url="postgresql://h/d", redis_url="localhost:6379"))


async def test_all_keys_in_redis_begin_as_the_settings_say():
    with redis_server(own=True) as redis:
        nowhere = "postgresql://127.0.0.1:1/d"
        store = build_store(Settings.read(database_url=nowhere, redis_url=redis.url, redis_prefix="robots"))
        with pytest.raises(StoreUnavailable):  # which is found out when Redis has been asked
            await store.load_threads(1, None, "asc", ADA)
        await store.close()

        keys = redis.run("KEYS", "*")

    assert keys
    assert all(key.startswith("{robots}:") for key in keys)
