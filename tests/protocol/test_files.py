"""Files of messages: only such as are there are sent, they can be looked at again, and they go with their thread."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.errors import FilesUnavailable, StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.memory import MemoryStore
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, Answer, call, items_of, message, refusal, request, stream

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def client(store: AwkwardStore, course_index: EdgeIndex, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that takes files."""
    files = LocalAttachmentStore(folder, secret="a secret of more than thirty-two bytes")
    server = RagChatServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel(), attachment_store=files)
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(app=chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


async def uploaded(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.post("/attachments", files={"file": ("map.png", PNG, "image/png")})
    assert response.status_code == 200, response.text
    return response.json()


async def ask_about(client: httpx.AsyncClient, *ids: str) -> Answer:
    return await stream(client, request("threads.create", input=message(COVERED, attachments=list(ids))))


def on_disk(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_a_file_that_is_not_uploaded_yet_is_not_sent(client: httpx.AsyncClient):
    record = await call(client, "attachments.create", name="map.png", size=len(PNG), mime_type="image/png")

    refused = await client.post("/", json=request("threads.create", input=message(COVERED, attachments=[record["id"]])))

    assert refusal(refused, 409)["details"] == {"attachment_id": record["id"]}
    assert (await call(client, "threads.list"))["data"] == []


async def test_a_record_whose_bytes_are_lost_is_not_sent(client: httpx.AsyncClient, folder: Path):
    record = await uploaded(client)
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()

    refused = await client.post("/", json=request("threads.create", input=message(COVERED, attachments=[record["id"]])))

    refusal(refused, 409)


async def test_the_preview_of_an_older_message_can_be_looked_at(client: httpx.AsyncClient):
    record = await uploaded(client)
    answer = await ask_about(client, record["id"])

    listed = await items_of(client, answer.thread_id)
    loaded = await call(client, "threads.get_by_id", thread_id=answer.thread_id)

    for item in (listed[0], loaded["items"]["data"][0]):
        address = urlsplit(item["attachments"][0]["preview_url"])
        seen = await client.get(f"{address.path}?{address.query}")
        assert (seen.status_code, seen.content) == (200, PNG)


async def test_deleting_a_thread_deletes_its_files_and_no_others(client: httpx.AsyncClient, folder: Path):
    mine, other = await uploaded(client), await uploaded(client)
    answer = await ask_about(client, mine["id"])
    assert len(on_disk(folder)) == 2

    await call(client, "threads.delete", thread_id=answer.thread_id)

    assert on_disk(folder) == [PNG]
    assert (await client.get(f"/attachments/{mine['id']}")).status_code == 404
    assert (await client.get(f"/attachments/{other['id']}")).status_code == 200


async def test_of_two_threads_that_want_a_file_at_once_one_gets_it(client: httpx.AsyncClient):
    record = await uploaded(client)
    asked = request("threads.create", input=message(COVERED, attachments=[record["id"]]))

    answers = await asyncio.gather(*(client.post("/", json=asked) for _ in range(3)))

    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [200, 409, 409]
    threads = (await call(client, "threads.list"))["data"]
    assert len(threads) == 1
    assert [file["id"] for file in (await items_of(client, threads[0]["id"]))[0]["attachments"]] == [record["id"]]


async def test_within_its_thread_a_file_may_be_sent_again(client: httpx.AsyncClient):
    record = await uploaded(client)
    answer = await ask_about(client, record["id"])

    again = message(COVERED, attachments=[record["id"]])
    await stream(client, request("threads.add_user_message", thread_id=answer.thread_id, input=again))

    assert len([item for item in await items_of(client, answer.thread_id) if item.get("attachments")]) == 2


async def test_a_file_of_a_message_that_could_not_be_stored_is_free_again(
    client: httpx.AsyncClient, store: AwkwardStore
):
    record = await uploaded(client)
    asked = request("threads.create", input=message(COVERED, attachments=[record["id"]]))
    store.failing = {"save_thread", "add_thread_item", "begin_thread"}
    refusal(await client.post("/", json=asked), 503)
    assert store.failed
    store.failing = set()

    answer = await ask_about(client, record["id"])

    assert answer.thread_id


async def test_a_file_in_a_message_cannot_be_deleted_alone(client: httpx.AsyncClient, folder: Path):
    record = await uploaded(client)
    await ask_about(client, record["id"])

    refusal(await client.post("/", json=request("attachments.delete", attachment_id=record["id"])), 409)

    assert on_disk(folder) == [PNG]


async def test_one_that_is_being_deleted_is_not_sent(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    record = await uploaded(client)
    remove = LocalAttachmentStore.delete_attachments
    monkeypatch.setattr(LocalAttachmentStore, "delete_attachments", out_of_order)
    refusal(await client.post("/", json=request("attachments.delete", attachment_id=record["id"])), 503)
    monkeypatch.setattr(LocalAttachmentStore, "delete_attachments", remove)

    asked = request("threads.create", input=message(COVERED, attachments=[record["id"]]))
    refusal(await client.post("/", json=asked), 409)

    assert await call(client, "attachments.delete", attachment_id=record["id"]) == {}


async def out_of_order(*_arguments: Any) -> None:
    raise FilesUnavailable("out of order")


@pytest.mark.parametrize("step", ["delete_attachments", "delete_attachment", "delete_thread"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_deletion_that_ends_at_any_step_can_be_done_again(
    client: httpx.AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, done: bool
):
    """Bytes, records, thread: where it breaks off before a step, or just behind it, all of it can go later."""
    records = [await uploaded(client) for _ in range(2)]
    answer = await ask_about(client, *(record["id"] for record in records))
    breaks = [1]
    place = LocalAttachmentStore if step == "delete_attachments" else MemoryStore
    whole = getattr(place, step)

    async def broken(*arguments: Any) -> None:
        if done:
            await whole(*arguments)
        if breaks:
            breaks.clear()
            raise StoreUnavailable("killed here")
        if not done:
            await whole(*arguments)

    monkeypatch.setattr(place, step, broken)
    refusal(await client.post("/", json=request("threads.delete", thread_id=answer.thread_id)), 503)
    assert not breaks

    again = await client.post("/", json=request("threads.delete", thread_id=answer.thread_id))

    assert again.status_code == (404 if step == "delete_thread" and done else 200)
    assert on_disk(folder) == []
    for record in records:
        assert (await client.get(f"/attachments/{record['id']}")).status_code == 404
    assert (await call(client, "threads.list"))["data"] == []


async def test_a_file_is_sent_once(client: httpx.AsyncClient):
    record = await uploaded(client)
    await ask_about(client, record["id"])

    refused = await client.post("/", json=request("threads.create", input=message(COVERED, attachments=[record["id"]])))

    refusal(refused, 409)
