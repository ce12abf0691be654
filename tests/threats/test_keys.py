"""Names that would be SQL, or a path into JSON, if anything put them together with it."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from chatkit.types import ThreadMetadata, ThreadStreamEvent

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.base import BaseStore, patch_thread
from protocol.frames import call, question, refusal, request, stream
from threats.site import ALICE, EverythingServer, everything_of, settle_in

pytestmark = pytest.mark.anyio

CONTEXT = RequestContext(principal=ALICE)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}

KEYS = [
    "$.title",
    "$.title', '\"Taken\"', '$.x",
    "title', x",
    "') OR 1=1 --",
    '"',
    "'",
    '"]',
    "$[0]",
    "[#-1]",
    "a.b.c",
    "a[0].b",
    "$",
    "$.",
    "",
    " ",
    "\\",
    "\\u0000",
    "\x1f",
    "`",
    "?",
    ":tenant",
    "%(tenant)s",
    "%s",
    "{0}",
    "--",
    "/*",
    ";DROP TABLE threads;",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "é" * 500,
    "🤖",
    "__proto__",
    "payload",
    "id",
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
class TestKeysOfMetadata:
    async def test_patching_stores_them_as_they_are_and_touches_nothing_else(self, store: BaseStore, key: str):
        for name in ("a", "b"):
            thread = ThreadMetadata(id=f"thr_{name}", title=f"Title {name}", created_at=MOMENT, metadata={"old": 1})
            await store.save_thread(thread, CONTEXT)
        metadata = {key: {key: [key, 1, None, True, 0.5]}}

        await patch_thread(store, "thr_a", {"metadata": metadata}, CONTEXT)

        patched, other = [await store.load_thread(f"thr_{name}", CONTEXT) for name in ("a", "b")]
        assert patched.metadata == metadata
        assert (patched.id, patched.title, patched.created_at) == ("thr_a", "Title a", MOMENT)
        assert (other.title, other.metadata) == ("Title b", {"old": 1})

    async def test_saving_stores_them_as_they_are(self, store: BaseStore, key: str):
        metadata = {key: {key: key}, "before": 1}
        thread = ThreadMetadata(id="thr_a", title=key, created_at=MOMENT, metadata=metadata)

        await store.save_thread(thread, CONTEXT)
        await patch_thread(store, "thr_a", {"title": f"{key}{key}"}, CONTEXT)

        kept = await store.load_thread("thr_a", CONTEXT)
        assert (kept.metadata, kept.title) == (metadata, f"{key}{key}")

    async def test_a_hook_may_use_them(
        self, server: EverythingServer, alice: httpx.AsyncClient, store: BaseStore, key: str
    ):
        async def note(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
            thread.metadata = {key: [key]}
            async for event in server.say(thread, context):
                yield event

        server.hook = note
        answer = await stream(alice, question("Hello"))

        kept = await store.load_thread(answer.thread_id, CONTEXT)
        assert (kept.metadata, kept.title) == ({key: [key]}, None)
        assert answer.errors == []


async def test_a_key_that_no_database_could_hold_is_refused_by_all(store: BaseStore):
    thread = ThreadMetadata(id="thr_a", title="Title", created_at=MOMENT)
    await store.save_thread(thread, CONTEXT)

    with pytest.raises(InvalidRequest):
        await patch_thread(store, "thr_a", {"metadata": {"\x00": 1}}, CONTEXT)

    assert (await store.load_thread("thr_a", CONTEXT)).metadata == {}


async def test_as_ids_orders_and_cursors_they_find_nothing_and_change_nothing(
    alice: httpx.AsyncClient, store: BaseStore
):
    things = await settle_in(alice)
    before = await everything_of(store, ALICE, things)
    at = {"thread_id": things.thread}

    for text in KEYS:
        for body in [
            request("threads.get_by_id", thread_id=text),
            request("threads.delete", thread_id=text),
            request("threads.update", thread_id=text, title="x"),
            request("threads.list", after=text),
            request("threads.list", order=text),
            request("items.list", **at, after=text),
            request("items.list", **at, order=text),
            request("items.list", **at, limit=text),
            request("items.feedback", **at, item_ids=[text], kind="positive"),
            request("items.feedback", **at, item_ids=[things.answer], kind=text),
            request("attachments.delete", attachment_id=text),
        ]:
            refusal(await alice.post("/", json=body), 404, 422)

    assert await everything_of(store, ALICE, things) == before


async def test_a_reader_is_found_by_no_pattern(alice: httpx.AsyncClient, store: BaseStore):
    things = await settle_in(alice)

    for user in ("%", "_____", "alice' --", "ALICE", " alice", "alice "):
        foreign = RequestContext(principal=type(ALICE)(user))
        assert (await store.load_threads(100, None, "asc", foreign)).data == []
        with pytest.raises(Exception, match="no such thread"):
            await store.load_thread(things.thread, foreign)
    assert len((await call(alice, "threads.list"))["data"]) == 1


async def test_titles_that_look_like_sql_are_titles(alice: httpx.AsyncClient):
    thread_id = (await stream(alice, question("Hello"))).thread_id
    for title in filter(str.strip, KEYS):
        body = request("threads.update", thread_id=thread_id, title=title)
        if "\0" in title or len(title) > 200:
            refusal(await alice.post("/", json=body), 422)
        else:
            answer: Any = (await alice.post("/", content=json.dumps(body), headers=JSON)).json()
            assert answer["title"] == title.strip()
