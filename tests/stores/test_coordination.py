"""What the contract does not say of leases and remembered requests: nothing piles up, and processes agree."""

import asyncio
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.base import KeepsLeases, RememberedRequest, RemembersRequests
from chatkit_rag.stores.coordination import InProcessCoordination
from chatkit_rag.stores.interrupted import interrupted
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore

pytestmark = pytest.mark.anyio

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)
LONG = 3600.0


def asked(fingerprint: str = "f", **fields: Any) -> RememberedRequest:
    return RememberedRequest(**({"fingerprint": fingerprint, "busy_until": time.time() + LONG} | fields))


def test_nothing_is_marked_as_cut_short_that_is_there_at_once():
    end = ck.EndOfTurnItem(id="e", thread_id="thr_1", created_at=T0)

    assert interrupted(end) is end


async def test_a_key_that_is_no_text_is_refused(store: Any, ada: RequestContext):
    with pytest.raises(InvalidRequest):
        await store.claim_request("a\0", asked(), LONG, ada)


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore, InProcessCoordination])
def test_stores_say_that_they_can(kind: type[object], tmp_path: Path):
    made = kind(tmp_path / "t.db") if kind is SQLiteStore else kind()  # type: ignore[call-arg]

    assert isinstance(made, KeepsLeases)
    assert isinstance(made, RemembersRequests)


async def test_expired_requests_do_not_pile_up_in_memory(ada: RequestContext):
    memory = InProcessCoordination()

    for number in range(1_000):
        await memory.claim_request(f"k{number}", asked(), 0.0, ada)

    assert len(memory._requests) < 20  # what a long-lived server would keep for ever


async def test_expired_requests_do_not_pile_up_in_a_file(
    make_store: Callable[[str], Any], ada: RequestContext, tmp_path: Path
):
    store = make_store("sqlite")
    for number in range(20):
        await store.claim_request(f"k{number}", asked(thread_id="thr_1"), 0.0, ada)

    await store.close()

    with sqlite3.connect(tmp_path / "threads-0.db") as file:
        [[kept]] = file.execute("SELECT count(*) FROM requests").fetchall()
    assert kept <= 1


def test_two_processes_over_one_file_never_hold_the_same_thread(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    asyncio.run(_make_thread(tmp_path / "t.db"))

    with context.Pool(2) as pool:
        taken = pool.starmap(_take_many, [(tmp_path / "t.db", name) for name in ("a", "b")])

    assert sum(len(each) for each in taken) == 50
    assert not set(taken[0]) & set(taken[1])


LOCAL = RequestContext(principal=Principal("local"))


async def _make_thread(path: Path) -> None:
    store = SQLiteStore(path)
    for number in range(50):
        await store.save_thread(ck.ThreadMetadata(id=f"thr_{number}", created_at=T0), LOCAL)
    await store.close()


def _take_many(path: Path, name: str) -> list[int]:
    async def take() -> list[int]:
        store = SQLiteStore(path)
        try:
            return [number for number in range(50) if await store.take_lease(f"thr_{number}", name, LONG, LOCAL)]
        finally:
            await store.close()

    return asyncio.run(take())
