"""The same request again: once carried out, and its outcome given as often as it is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from chatkit.types import ProgressUpdateEvent, ThreadStreamEvent

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import KeyReused, RequestInFlight
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.base import RememberedRequest
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, Answer, ask, items_of, question, read_frames, refusal, request, texts

pytestmark = pytest.mark.anyio

KEYED = RequestContext(principal=Principal("local"), idempotency_key="k1")


async def post(client: httpx.AsyncClient, body: dict[str, Any], key: str = "k1") -> Answer:
    response = await client.post("/", json=body, headers={"Idempotency-Key": key})
    assert response.status_code == 200, response.text
    return Answer(read_frames(response.text))


async def test_the_same_message_twice_is_one_message_and_one_answer(client: httpx.AsyncClient):
    first = await post(client, question(COVERED))

    again = await post(client, question(COVERED))

    assert again.thread_id == first.thread_id
    assert (again.question, again.reply, again.errors) == (first.question, first.reply, [])
    assert again.kinds == ["thread.created", "thread.item.done", "stream_options", "thread.item.done"]
    assert len(await items_of(client, first.thread_id)) == 2


async def test_a_message_s_own_id_is_its_key(client: httpx.AsyncClient):
    body = question(COVERED) | {"metadata": {"client_message_id": "m1"}}
    first = await post(client, body, key="")

    again = await post(client, body, key="")

    assert again.thread_id == first.thread_id


async def test_a_key_is_its_readers_own(client: httpx.AsyncClient, server: RagChatServer):
    await post(client, question(COVERED))
    context = replace(KEYED, principal=Principal("somebody"))

    result = await server.process(orjson.dumps(question(COVERED)), context)

    frames = [frame async for frame in result]
    assert any(b"text_delta" in frame for frame in frames)


async def test_another_request_under_the_key_is_refused(client: httpx.AsyncClient):
    first = await post(client, question(COVERED))

    refused = await client.post("/", json=question("What is a topic?"), headers={"Idempotency-Key": "k1"})

    assert refusal(refused, 422)["code"] == "idempotency_key_reused"
    assert len(await items_of(client, first.thread_id)) == 2


async def test_a_request_that_is_being_carried_out_is_not_begun_again(
    server: RagChatServer, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(*arguments: Any) -> AsyncIterator[ThreadStreamEvent]:
        yield ProgressUpdateEvent(text="begun")
        begun.set()
        await go_on.wait()
        async for event in server.answer(*arguments):
            yield event

    monkeypatch.setattr(server, "respond", waits)
    body = orjson.dumps(question(COVERED))

    async def read() -> list[bytes]:
        return [frame async for frame in await server.process(body, KEYED)]

    first = asyncio.ensure_future(read())
    await begun.wait()

    with pytest.raises(RequestInFlight):
        await server.process(body, KEYED)

    go_on.set()
    assert b"thread.item.done" in (await first)[-1]


async def test_fifty_at_once_are_one_message(server: RagChatServer, store: AwkwardStore):
    body = orjson.dumps(question(COVERED))

    async def send() -> list[bytes]:
        try:
            return [frame async for frame in await server.process(body, KEYED)]
        except RequestInFlight:
            return []

    outcomes = await asyncio.gather(*(send() for _ in range(50)))

    threads = await store.load_threads(10, None, "asc", KEYED)
    assert len(threads.data) == 1
    assert sum(any(b"text_delta" in frame for frame in frames) for frames in outcomes) == 1


async def test_a_refused_request_leaves_its_key_free(client: httpx.AsyncClient):
    thread_id = (await ask(client, COVERED)).thread_id
    body = request("threads.retry_after_item", thread_id=thread_id, item_id="msg_unknown")
    headers = {"Idempotency-Key": "k1"}
    refusal(await client.post("/", json=body, headers=headers), 404)

    answer = await post(client, question("What is a topic?", thread_id))

    assert answer.errors == []


async def test_an_interrupted_answer_is_given_as_far_as_it_came_and_said_to_be_interrupted(
    server: RagChatServer, client: httpx.AsyncClient
):
    result = await server.process(orjson.dumps(question(COVERED)), KEYED)
    async with aclosing(result.json_events) as frames:
        async for frame in frames:
            if b"text_delta" in frame:
                break

    again = await post(client, question(COVERED))

    assert again.reply["status"] == "interrupted"
    assert again.events[-1]["type"] == "error"
    assert again.events[-1]["allow_retry"] is True


async def test_the_outcome_is_that_of_its_own_question_when_the_talk_has_gone_on(client: httpx.AsyncClient):
    first = await post(client, question(COVERED))
    await ask(client, "What is a topic?", first.thread_id)

    again = await post(client, question(COVERED))

    assert texts([event["item"] for event in again.of("thread.item.done")]) == [COVERED, first.text]


async def test_the_outcome_of_a_deleted_thread_is_not_found(client: httpx.AsyncClient):
    first = await post(client, question(COVERED))
    await client.post("/", json=request("threads.delete", thread_id=first.thread_id))

    refused = await client.post("/", json=question(COVERED), headers={"Idempotency-Key": "k1"})

    refusal(refused, 404)


async def test_what_a_killed_process_did_is_given_when_nobody_holds_its_thread_any_more(
    server: RagChatServer, store: AwkwardStore, monkeypatch: pytest.MonkeyPatch
):
    note, lost = store.note_request, 0

    async def killed_before_it_settles(key: str, remembered: RememberedRequest, context: RequestContext) -> None:
        nonlocal lost
        if remembered.busy_until:
            await note(key, remembered, context)
        else:
            lost += 1

    monkeypatch.setattr(store, "note_request", killed_before_it_settles)
    first = [frame async for frame in await server.process(orjson.dumps(question(COVERED)), KEYED)]

    again = [frame async for frame in await server.process(orjson.dumps(question(COVERED)), KEYED)]

    assert lost == 1
    assert again[-1] == first[-1]


async def test_a_key_that_is_too_long_is_refused(client: httpx.AsyncClient):
    refused = await client.post("/", json=question(COVERED), headers={"Idempotency-Key": "k" * 256})

    refusal(refused, 422)


async def test_a_reused_key_raises_where_there_is_no_app(server: RagChatServer):
    [_frame async for _frame in await server.process(orjson.dumps(question(COVERED)), KEYED)]

    with pytest.raises(KeyReused):
        await server.process(orjson.dumps(question("What is a topic?")), KEYED)
