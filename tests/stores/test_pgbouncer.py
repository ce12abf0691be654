"""`PostgresStore` behind a real PgBouncer that hands each transaction to another connection."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import psycopg
import pytest
from chatkit.types import HiddenContextItem, ThreadMetadata

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.testing.store.part import T0
from postgres_server import PostgresServer

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.fixture
def pooled_url(postgres: PostgresServer, postgres_url: str) -> Iterator[str]:
    """The URL of a pooler with two connections to the test's database."""
    if PGBOUNCER is None:
        pytest.skip("no pgbouncer here: the package of that name brings it")
    if postgres.bundled is None:
        pytest.skip("the pooler is set up for the bundled server alone")
    parts = urlsplit(postgres_url)
    [folder] = parse_qs(parts.query)["host"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Path(folder) / "pgbouncer.ini"  # where the user that the server runs as may read
    settings.write_text(
        f"""
[databases]
{parts.path[1:]} = host={folder} user={parts.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""
    )
    settings.chmod(0o644)
    user = ["-u", postgres.bundled.system_user] if os.getuid() == 0 else []
    process = subprocess.Popen([PGBOUNCER, "-q", *user, settings], stderr=subprocess.PIPE, text=True)
    url = f"postgresql://reader@127.0.0.1:{port}{parts.path}"
    try:
        while True:
            try:
                psycopg.connect(url, connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, process.communicate()
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=20)
        settings.unlink()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_store_works_over_a_pooler_in_transaction_mode(driver: str, pooled_url: str, ada: RequestContext):
    url = pooled_url.replace("postgresql://", f"postgresql+{driver}://") + "?pgbouncer=true"
    stores = [PostgresStore(url, pool_size=8, patience=20.0) for _ in range(3)]
    await stores[0].save_thread(ThreadMetadata(id="thr_1", created_at=T0), ada)

    async def write(store: PostgresStore, name: str) -> None:
        for number in range(25):
            item = HiddenContextItem(id=f"{name}_{number}", thread_id="thr_1", created_at=T0, content=name)
            await store.add_thread_item("thr_1", item, ada)
            await store.load_thread_items("thr_1", None, 5, "desc", ada)
            await store.patch_thread("thr_1", {"title": item.id}, ada)

    async with anyio.create_task_group() as tasks:
        for number in range(24):
            tasks.start_soon(write, stores[number % 3], str(number))

    found, after = set[str](), None
    while True:
        page = await stores[0].load_thread_items("thr_1", after, 100, "asc", ada)
        found |= {item.id for item in page.data}
        if not page.has_more:
            break
        after = page.after
    for store in stores:
        await store.close()
    assert len(found) == 24 * 25
