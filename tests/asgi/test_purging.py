"""The daily purge: once for all processes, without keeping anything from starting, answering or stopping."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.purging import DailyPurge
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import ConfigurationError, StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.privacy import Purged
from chatkit_rag.testing.store.part import thread, threads_of
from testing.stock_server import SmallStore

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"))
WEEK = timedelta(days=7)


class Watched(MemoryStore):
    """A store that tells when it was purged, and fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.purged = asyncio.Event()
        self.failures = 0

    async def purge_threads(self, *arguments: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("postgres://me:hunter2@db")
        return await super().purge_threads(*arguments)

    async def purge_expired(self) -> int:
        expired = await super().purge_expired()
        self.purged.set()
        return expired


@pytest.fixture
async def store() -> Watched:
    store = Watched()
    await store.save_thread(thread("thr_old", created_at=utc_now() - 2 * WEEK), ADA)
    await store.save_thread(thread("thr_new", created_at=utc_now()), ADA)
    return store


def app_over(store: Any, index: EdgeIndex, **options: Any) -> ChatApp:
    server = RagChatServer(store, sources=[CourseSource(index)], model=ExtractiveModel())
    return ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True, **options))


@pytest.fixture
async def running() -> AsyncIterator[Any]:
    """Runs purges, and stops them."""
    tasks: list[asyncio.Task[None]] = []
    yield lambda purge: tasks.append(asyncio.create_task(purge.run()))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_an_app_removes_what_is_older_than_its_retention_and_answers_meanwhile(
    store: Watched, course_index: EdgeIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("chatkit_rag.asgi.app.FIRST_SECONDS", (0.0, 0.0))
    caplog.set_level(logging.INFO)
    chat = app_over(store, course_index, retention=WEEK)

    async with chat.lifespan():
        with anyio.fail_after(10):
            await store.purged.wait()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=chat), base_url="http://localhost") as client:
            assert (await client.get("/health/live")).status_code == 200

    assert await threads_of(store, ADA) == ["thr_new"]
    [said] = [record.getMessage() for record in caplog.records if "too old" in record.getMessage()]
    assert "1 threads" in said
    assert "thr_old" not in said
    assert "ada" not in said


async def test_an_app_that_stops_before_its_first_purge_does_not_wait_for_it(store: Watched, course_index: EdgeIndex):
    tasks = asyncio.all_tasks()
    chat = app_over(store, course_index, retention=WEEK, drain_seconds=20.0)

    async with chat.lifespan():
        began = time.monotonic()
    took = time.monotonic() - began

    assert took < 10
    assert asyncio.all_tasks() == tasks
    assert not store.purged.is_set()


async def test_an_app_can_be_started_again_and_purges_again(
    store: Watched, course_index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chatkit_rag.asgi.app.FIRST_SECONDS", (0.0, 0.0))
    chat = app_over(store, course_index)

    for _ in range(2):
        store._requests.clear()  # the claim of the day
        store.purged.clear()
        async with chat.lifespan():
            with anyio.fail_after(10):
                await store.purged.wait()

    assert await threads_of(store, ADA) == ["thr_old", "thr_new"]  # which are kept for ever unless told


async def test_of_two_processes_over_one_store_one_purges(store: Watched):
    purges = [DailyPurge(store, None, retention=WEEK, first=(0.0, 0.0)) for _ in range(2)]

    done = [await purge.once() for purge in purges]

    assert done == [Purged(threads=1), None]


async def test_a_purge_that_fails_is_told_without_secrets_and_tried_again(
    store: Watched, running: Any, caplog: pytest.LogCaptureFixture
):
    store.failures = 1
    purge = DailyPurge(store, None, retention=WEEK, first=(0.0, 0.0), every=0.01)

    running(purge)
    with anyio.fail_after(10):
        await store.purged.wait()

    assert store.failures == 0
    assert await threads_of(store, ADA) == ["thr_new"]
    assert any("StoreUnavailable" in record.getMessage() for record in caplog.records)
    assert "hunter2" not in caplog.text


async def test_a_retention_that_nobody_could_keep_is_refused(course_index: EdgeIndex):
    with pytest.raises(ConfigurationError, match="cannot tell what is old"):
        app_over(SmallStore(), course_index, retention=WEEK)

    async with app_over(SmallStore(), course_index).lifespan():
        pass
