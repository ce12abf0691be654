"""Whether the parts work."""

from pathlib import Path

import httpx
import pytest

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.base import Store
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.memory import MemoryStore
from protocol.awkward_store import SECRET, AwkwardStore
from redis_server import redis_server

pytestmark = pytest.mark.anyio


class PingingStore(AwkwardStore):
    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def ping(self) -> None:
        if "ping" in self.failing:
            self.failed["ping"] += 1
            raise StoreUnavailable(SECRET)


@pytest.fixture
def store() -> PingingStore:
    return PingingStore()


async def health(store: Store, index: EdgeIndex, path: str) -> httpx.Response:
    server = RagChatServer(store, sources=[CourseSource(index)], model="extractive")
    chat = ChatApp(server, authenticate=nobody)
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.get(path)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_everything_works(store: PingingStore, course_index: EdgeIndex, path: str):
    response = await health(store, course_index, path)

    assert response.status_code == 200
    assert response.json() == {
        "status": "healthy",
        "chatkit_server": "operational",
        "rag_service": "healthy",
        "store": "operational",
        "checks": {"store": True, "sources": [True], "model": "extractive (no language model)"},
    }


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/health/ready", 503), ("/health/live", 200)])
async def test_without_the_store_it_is_not_ready_but_lives(
    store: PingingStore, course_index: EdgeIndex, path: str, status: int
):
    store.failing = {"ping"}

    response = await health(store, course_index, path)

    assert response.status_code == status
    assert SECRET not in response.text
    if path != "/health/live":
        assert store.failed["ping"] == 1
        assert (response.json()["status"], response.json()["store"]) == ("unhealthy", "down")


async def test_without_pages_it_serves_and_says_so(store: PingingStore, tmp_path: Path):
    response = await health(store, EdgeIndex(tmp_path), "/health/ready")

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["rag_service"]) == ("degraded", "down")


async def test_a_store_that_cannot_be_asked_is_taken_to_work(client: httpx.AsyncClient):
    response = await client.get("/health")

    assert response.json()["store"] == "operational"


@pytest.mark.parametrize("there", [True, False])
async def test_without_its_cache_it_is_ready_and_says_so(course_index: EdgeIndex, *, there: bool):
    with redis_server(own=True) as redis:
        store = CachedStore(MemoryStore(), redis.url, patience=5.0)
        if not there:
            redis.kill()

        response = await health(store, course_index, "/health/ready")

    assert response.status_code == 200
    assert response.json()["checks"]["cache"] is there
    assert response.json()["status"] == ("healthy" if there else "degraded")
    assert response.json()["store"] == "operational"
