"""Which store the settings come to."""

from pathlib import Path

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.settings import Settings
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.wiring import build_store
from postgres_server import postgres_server

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
