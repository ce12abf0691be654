"""Several processes over one database and one Redis: what one was told is stored, all see."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.testing.store.part import message, thread, told
from redis_server import RedisServer

PROGRAM = Path(__file__).with_name("cached_history.py")
PATIENCE = 40


def run(database: str, redis: RedisServer, seconds: float, *, restart: bool) -> list[dict[str, Any]]:
    """What two processes tell of their writes and reads."""
    prefix = redis.prefix()
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, database, redis.url, prefix, str(number), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2  # type: ignore[union-attr]
        for process in processes:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        if restart:
            with pytest.raises(subprocess.TimeoutExpired):
                processes[0].wait(seconds / 3)
            redis.kill()
            redis.start()
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(output) for output in outputs]


def check(histories: list[dict[str, Any]]) -> None:
    """Each read saw what was acknowledged before it began; and not all of them asked the database."""
    told = sorted((line for history in histories for line in history["told"]), key=lambda line: line[-1])
    acknowledged: dict[tuple[str, str], int] = defaultdict(int)
    older = []
    for what, owner, thread_, number, _when in told:
        if what == "wrote":
            acknowledged[owner, thread_] = number
        elif number < acknowledged[owner, thread_]:
            older.append((owner, thread_, number, acknowledged[owner, thread_]))
    reads = sum(line[0] == "read" for line in told)
    loaded = sum(history["loaded"] for history in histories)
    print(f"{sum(acknowledged.values())} writes, {reads} reads, {loaded} of them from the store")

    assert older == []
    assert len(acknowledged) == 4
    assert loaded < reads


def test_over_postgres(postgres_url: str, redis: RedisServer):
    check(run(postgres_url, redis, 1.5, restart=False))


def test_over_sqlite_also_when_redis_is_killed_and_started_again(tmp_path: Path, mortal_redis: RedisServer):
    check(run(str(tmp_path / "threads.db"), mortal_redis, 2.0, restart=True))


@pytest.mark.anyio
async def test_what_postgres_has_and_what_redis_has_are_the_same(
    postgres_url: str, redis: RedisServer, ada: RequestContext
):
    behind = PostgresStore(postgres_url)
    store = CachedStore(behind, redis.url, prefix=redis.prefix(), patience=20.0)
    metadata = {"big": 2**70, "é": [1.5, None, "👩‍🚀"]}
    await store.save_thread(thread(title="é", metadata=metadata), ada)
    await store.add_thread_item("thr_1", message(text="ä\u2028"), ada)

    pairs = [
        ([await load(reader) for _ in range(2)], await load(behind))
        for reader in [store]
        for load in (
            lambda one: one.load_thread("thr_1", ada),
            lambda one: one.load_thread_items("thr_1", None, 20, "desc", ada),
            lambda one: one.load_threads(20, None, "desc", ada),
        )
    ]
    await store.close()

    assert all([told(record) for record in read] == [told(stored)] * 2 for read, stored in pairs)
