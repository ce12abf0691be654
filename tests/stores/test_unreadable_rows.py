"""A record that a newer version wrote, or a disk has damaged: left out, named in the log, and replaceable."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck
from chatkit.store import NotFoundError

from chatkit_rag.context import RequestContext
from chatkit_rag.testing.store.part import items_of, thread
from postgres_server import PostgresServer
from stores.writers import store_at

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["sqlite", "postgres"])]

NEWER = '{"id":"i3","thread_id":"thr_1","created_at":"2025-03-01T12:00:00Z","type":"hologram","text":"a secret"}'
DAMAGED = [
    "",
    "{",
    '{"id":"i3","type":"sdk_hidden_context","content":"a secret',
    '{"content":"a secret"}',
    "null",
    NEWER,
]

Damage = Callable[[str, str], None]


def hidden(id_: str) -> ck.SDKHiddenContextItem:
    created_at = datetime(2025, 3, 1, 12, tzinfo=UTC)
    return ck.SDKHiddenContextItem(id=id_, thread_id="thr_1", created_at=created_at, content="text")


@pytest.fixture
def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "threads.db") if kind == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def store(kind: str, address: str, ada: RequestContext) -> AsyncIterator[Any]:
    """A store with a thread of five items."""
    store = store_at(kind, address)
    await store.save_thread(thread(), ada)
    for number in range(1, 6):
        await store.add_thread_item("thr_1", hidden(f"i{number}"), ada)
    yield store
    await store.close()


@pytest.fixture
def damage(kind: str, address: str, request: pytest.FixtureRequest) -> Damage:
    """Puts another record into the row of a table that has this id."""

    def put(row: str, payload: str) -> None:
        table, id_ = row.split()
        if kind == "sqlite":
            with closing(sqlite3.connect(address)) as file, file:
                file.execute(f"UPDATE {table} SET payload = ? WHERE id = ?", [payload, id_])
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            server.run(f"UPDATE chatkit_rag.{table} SET payload = $${payload}$$ WHERE id = '{id_}'", url=address)

    return put


async def test_one_in_the_middle_of_a_page_is_left_out_and_named_in_the_log(
    store: Any, damage: Damage, ada: RequestContext, caplog: pytest.LogCaptureFixture
):
    for payload in DAMAGED:
        damage("items i3", payload)
        caplog.clear()

        first = await store.load_thread_items("thr_1", None, 3, "asc", ada)
        rest = await store.load_thread_items("thr_1", first.after, 3, "asc", ada)

        assert ([item.id for item in first.data], first.has_more, first.after) == (["i1", "i2"], True, "i3")
        assert ([item.id for item in rest.data], rest.has_more) == (["i4", "i5"], False)
        assert await items_of(store, ada) == ["i1", "i2", "i4", "i5"]
        assert "item i3 cannot be read" in caplog.text
        assert "a secret" not in caplog.text


async def test_it_is_not_found_by_its_id_and_can_be_replaced(store: Any, damage: Damage, ada: RequestContext):
    damage("items i3", NEWER)

    with pytest.raises(NotFoundError):
        await store.load_item("thr_1", "i3", ada)
    await store.save_item("thr_1", hidden("i3"), ada)

    assert await items_of(store, ada) == ["i1", "i2", "i3", "i4", "i5"]


async def test_a_thread_and_a_file_that_cannot_be_read_are_left_out(
    store: Any, damage: Damage, ada: RequestContext, caplog: pytest.LogCaptureFixture
):
    for number in range(2, 4):
        await store.save_thread(thread(f"thr_{number}"), ada)
    await store.save_attachment(ck.FileAttachment(id="atc_1", name="a", mime_type="text/plain"), ada)
    damage("threads thr_2", "{}")
    damage("attachments atc_1", "{}")

    listed = await store.load_threads(10, None, "desc", ada)
    with pytest.raises(NotFoundError):
        await store.load_thread("thr_2", ada)
    with pytest.raises(NotFoundError):
        await store.load_attachment("atc_1", ada)

    assert [row.id for row in listed.data] == ["thr_3", "thr_1"]
    assert "thread thr_2 cannot be read" in caplog.text
    assert "attachment atc_1 cannot be read" in caplog.text
