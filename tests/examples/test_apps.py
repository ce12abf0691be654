"""The example apps, in process and over HTTP: what one host can do, the other can."""

import asyncio
import importlib.util
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
CHAT = "/api/chatkit"
QUESTION = {
    "type": "threads.create",
    "params": {
        "input": {
            "content": [{"type": "input_text", "text": "What is Physical AI?"}],
            "attachments": [],
            "inference_options": {},
        }
    },
}


async def as_anonymous_reader(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{CHAT}/session", json={})
    client.headers["Authorization"] = f"Bearer {answer.json()['client_secret']}"


async def as_user_of_the_host(client: httpx.AsyncClient) -> None:
    await client.get("/")


HOSTS: dict[str, Callable[[httpx.AsyncClient], Awaitable[None]]] = {
    "fastapi_app": as_anonymous_reader,
    "litestar_app": as_user_of_the_host,
}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def app(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    """The example's app, with its data directory and its index's private copies in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spec = importlib.util.spec_from_file_location(host, EXAMPLES / host / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, host, module)  # where Litestar looks up annotations
    spec.loader.exec_module(module)
    return module.app


@pytest.fixture
async def stranger(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app), client_of(app) as client:
        yield client


@pytest.fixture
async def reader(stranger: httpx.AsyncClient, host: str) -> httpx.AsyncClient:
    await HOSTS[host](stranger)
    return stranger


@pytest.mark.parametrize("path", [CHAT, f"{CHAT}/"])
async def test_a_question_is_answered_with_a_citation_with_and_without_the_trailing_slash(
    reader: httpx.AsyncClient, path: str
) -> None:
    answer = await reader.post(path, json=QUESTION)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    content = answered(answer)["content"][0]
    assert "artificial intelligence that perceives the real world" in content["text"]
    source = content["annotations"][0]["source"]
    assert source["url"] == "/module-1/week-1/what-is-physical-ai#what-is-physical-ai"


async def test_a_stranger_is_asked_to_sign_in(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post(f"{CHAT}/", json=QUESTION)

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"


async def test_a_thread_is_its_readers_own(reader: httpx.AsyncClient, app: ASGIApp, host: str) -> None:
    asked = await reader.post(f"{CHAT}/", json=QUESTION)
    thread_id = events(asked)[0]["thread"]["id"]
    open_thread = {"type": "threads.get_by_id", "params": {"thread_id": thread_id}}

    own = await reader.post(f"{CHAT}/", json=open_thread)
    async with client_of(app) as other:
        await HOSTS[host](other)
        theirs = await other.post(f"{CHAT}/", json=open_thread)

    assert [item["type"] for item in own.json()["items"]["data"]] == ["user_message", "assistant_message"]
    assert theirs.status_code == 404


async def test_an_unknown_thread_is_a_404_in_our_own_shape(reader: httpx.AsyncClient) -> None:
    request = {"type": "threads.get_by_id", "params": {"thread_id": "thr_unknown"}}

    answer = await reader.post(f"{CHAT}/", json=request)

    assert answer.status_code == 404
    assert answer.json() == {
        "code": "not_found",
        "message": "no such thread",
        "details": {"thread": "thr_unknown"},
    }
    assert answer.headers["x-request-id"]


async def test_it_is_healthy(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get(f"{CHAT}/health")

    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"


async def test_the_chat_has_a_page(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get(f"{CHAT}/page")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<!doctype html>" in answer.text


async def test_a_stranger_finds_the_way_to_the_chat(stranger: httpx.AsyncClient, host: str) -> None:
    answer = await stranger.get(FIRST_PAGE[host], follow_redirects=True)

    assert answer.status_code == 200
    assert "What would you like to know?" in answer.text


async def test_nothing_is_left_when_the_lifespan_ends(app: ASGIApp, host: str, tmp_path: Path) -> None:
    async with running(app), client_of(app) as client:
        await HOSTS[host](client)
        await client.post(f"{CHAT}/", json=QUESTION)
        copies_while_running = private_copies(tmp_path)

    assert len(copies_while_running) == 1
    assert private_copies(tmp_path) == []


FIRST_PAGE = {"fastapi_app": f"{CHAT}/page", "litestar_app": "/"}


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")


def private_copies(folder: Path) -> list[Path]:
    return list(folder.glob("chatkit-rag-index-*"))


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    frames = answer.text.strip().split("\n\n")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames if frame.startswith("data: ")]


def answered(answer: httpx.Response) -> dict[str, Any]:
    """The assistant's message, as the last event tells it."""
    items = [event["item"] for event in events(answer) if event["type"] == "thread.item.done"]
    return next(item for item in items if item["type"] == "assistant_message")


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Runs the app's lifespan, in a task of its own as a server does: httpx' transport does not."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def told(step: str) -> None:
        to_app.put_nowait({"type": f"lifespan.{step}"})
        async with asyncio.timeout(30):
            message = await from_app.get()
        assert message["type"] == f"lifespan.{step}.complete", message.get("message")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app(scope, to_app.get, from_app.put))
        await told("startup")
        try:
            yield
        finally:
            await told("shutdown")
