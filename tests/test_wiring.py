"""Which store, and which sources besides the course, the settings come to."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError, StoreUnavailable
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.settings import Settings
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.wiring import build_library_docs, build_server, build_store
from context7_server import Context7Server
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


class TestLibraries:
    @pytest.fixture
    def context7(self) -> Iterator[Context7Server]:
        with Context7Server() as server:
            yield server

    @pytest.mark.parametrize("prefix", ["", "CHATKIT_RAG_"])
    async def test_they_are_looked_up_as_the_environment_says(
        self, context7: Context7Server, monkeypatch: pytest.MonkeyPatch, prefix: str
    ):
        monkeypatch.setenv(f"{prefix}CONTEXT7_API_KEY", "ctx7sk-1")
        monkeypatch.setenv(f"{prefix}CONTEXT7_MAX_RESULTS", "1")
        monkeypatch.setenv("CHATKIT_RAG_LIBRARIES", '{"zenoh": "/eclipse-zenoh/zenoh"}')

        [source] = build_library_docs(Settings.read(context7_url=context7.api))
        found = await source.search("What is Zenoh?", ADA)
        await source.close()

        assert len(found.hits) == 1
        assert [asked["libraryId"] for asked in context7.asked] == ["/eclipse-zenoh/zenoh"]
        assert context7.keys == ["Bearer ctx7sk-1"]

    async def test_they_are_looked_up_over_mcp_where_the_address_is_such_a_server_s(self, context7: Context7Server):
        [source] = build_library_docs(Settings.read(context7_api_key="key", context7_url=context7.mcp))
        await source.open()
        found = await source.search("What is ROS 2?", ADA)
        await source.close()

        assert len(found.hits) == 2

    async def test_an_answer_waits_for_them_as_long_as_the_settings_say(self, context7: Context7Server):
        context7.hangs = True
        read = Settings.read(context7_api_key="key", context7_url=context7.api, library_docs_seconds=0.1)
        [source] = build_library_docs(read)
        async with asyncio.timeout(2):
            found = await source.search("What is ROS 2?", ADA)
        await source.close()

        assert found.weak

    @pytest.mark.parametrize("name", ["CONTEXT7_ENABLED", "CHATKIT_RAG_CONTEXT7_ENABLED"])
    def test_they_are_switched_off_by_either_variable(self, monkeypatch: pytest.MonkeyPatch, name: str):
        monkeypatch.setenv(name, "false")

        assert build_library_docs(Settings.read(context7_api_key="key")) == []

    def test_the_settings_reach_worker_processes(self, monkeypatch: pytest.MonkeyPatch):
        told = Settings.read(libraries={"ros2": "/ros2/docs"}, mcp_servers=["https://tools.example/mcp"])
        monkeypatch.setattr("os.environ", {})

        told.export()

        read = Settings.read()
        assert read.libraries == {"ros2": "/ros2/docs"}
        assert read.mcp_servers == ["https://tools.example/mcp"]

    @pytest.mark.parametrize(
        "setting",
        [
            {"mcp_servers": ["tools.example"]},
            {"context7_url": "context7.com/api"},
            {"openai_base_url": "localhost:8000/v1"},
        ],
    )
    def test_an_address_is_a_whole_one(self, setting: dict[str, Any]):
        with pytest.raises(ConfigurationError, match="an address begins with https://"):
            Settings.read(**setting)

    @pytest.mark.parametrize("known", ["ros2/docs", "/ros2", "/ros2/docs/jazzy/1", "https://docs.ros.org/en"])
    def test_an_id_is_one_of_context7_s(self, known: str):
        with pytest.raises(ConfigurationError, match=r"libraries\.ros2"):
            Settings.read(libraries={"ros2": known})

    async def test_the_tools_of_the_mcp_servers_in_the_settings_are_the_model_s(
        self, tmp_path: Path, context7: Context7Server
    ):
        index = MemoryIndex()
        settings = Settings.read(data_dir=tmp_path, mcp_servers=[context7.mcp], model="extractive")
        server = build_server(settings, index)
        await server.open()
        offered = server._equipped_agent().tools
        await server.close()

        assert "query-docs" in {tool.name for tool in offered}
