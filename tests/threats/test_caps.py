"""What one reader may ask for: up to each limit it is done, one more and it is refused, and nothing is spent on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from chatkit.types import ThreadMetadata, ThreadStreamEvent

from agent.openai_server import model_at
from chatkit_rag.agent.history import HistoryOptions
from chatkit_rag.agent.tokens import estimated_tokens
from chatkit_rag.asgi.limits import BODY_BYTES
from chatkit_rag.context import RequestContext
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer
from chatkit_rag.testing.wording import ToolCall
from protocol.frames import message, question, refusal, request, stream
from threats.site import (
    EverythingServer,
    OnePassage,
    app_of,
    as_json,
    client_of,
    every_operation,
    files_in,
    settle_in,
    upload,
)

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class TestSizes:
    @pytest.mark.parametrize(
        "metadata",
        [
            lambda more: {"a": "x" * (8 * 1024 - len('{"a":""}') + more)},
            lambda more: {f"{number:02}": 1 for number in range(50 + more)},
            # The request is the first level, its metadata the second.
            lambda more: {"a": nested(30 + more)},
        ],
        ids=["bytes", "keys", "depth"],
    )
    async def test_metadata(self, alice: httpx.AsyncClient, metadata: Any):
        body = question("Hello")

        await stream(alice, {**body, "metadata": metadata(0)})

        refusal(await alice.post("/", json={**body, "metadata": metadata(1)}), 422)

    async def test_messages(self, alice: httpx.AsyncClient):
        await stream(alice, question("x" * 32_000))
        refusal(await alice.post("/", json=question("x" * 32_001)), 422)

        half = {"content": [{"type": "input_text", "text": "x" * 16_000}] * 2}
        await stream(alice, request("threads.create", input={**message(""), **half}))
        half["content"].append({"type": "input_text", "text": "x"})
        refusal(await alice.post("/", json=request("threads.create", input={**message(""), **half})), 422)

    async def test_selected_texts(self, alice: httpx.AsyncClient):
        for length, kept in ((8_000, "x" * 8_000), (8_001, f"{'x' * 8_000} […]"), (100_000, f"{'x' * 8_000} […]")):
            answer = await stream(alice, request("threads.create", input=message("Hello", quoted_text="x" * length)))
            assert answer.question["quoted_text"] == kept

    async def test_titles(self, alice: httpx.AsyncClient):
        thread_id = (await stream(alice, question("Hello"))).thread_id

        for length, status in ((200, 200), (201, 422)):
            body = request("threads.update", thread_id=thread_id, title="x" * length)
            assert (await alice.post("/", json=body)).status_code == status

    async def test_feedback(self, alice: httpx.AsyncClient):
        answer = await stream(alice, question("Hello"))

        for number, status in ((50, 200), (51, 422), (10_000, 422)):
            ids = [answer.reply["id"]] * number
            body = request("items.feedback", thread_id=answer.thread_id, item_ids=ids, kind="positive")
            refused = await alice.post("/", json=body)
            # A list that is long enough is too large a body before it is too long a list.
            assert refused.status_code in (status, 413 if len(refused.request.content) > BODY_BYTES else status)

    async def test_files_of_a_message(self, alice: httpx.AsyncClient):
        files = [await upload(alice, f"{number}.txt") for number in range(11)]

        refusal(await alice.post("/", json=request("threads.create", input=message("Hi", attachments=files))), 422)
        await stream(alice, request("threads.create", input=message("Hi", attachments=files[:10])))

    async def test_sizes_of_files(self, alice: httpx.AsyncClient):
        def of(size: int) -> dict[str, Any]:
            return request("attachments.create", name="a.txt", size=size, mime_type="text/plain")

        assert (await alice.post("/", json=of(10 * MIB))).status_code == 200
        refusal(await alice.post("/", json=of(10 * MIB + 1)), 422)
        plain = {"Content-Type": "text/plain"}
        assert (await alice.post("/attachments?name=a.txt", content=b"x" * 10 * MIB, headers=plain)).status_code == 200
        refusal(await alice.post("/attachments?name=a.txt", content=b"x" * (10 * MIB + 1), headers=plain), 413)

    async def test_results_of_tools(self, alice: httpx.AsyncClient):
        things = await settle_in(alice)

        def of(length: int) -> dict[str, Any]:
            return request("threads.add_client_tool_output", thread_id=things.thread, result="x" * length)

        refusal(await alice.post("/", json=of(64 * 1024 - 1)), 422)
        await stream(alice, of(64 * 1024 - 2))

    async def test_names_of_things(self, alice: httpx.AsyncClient):
        for length, status in ((255, 404), (256, 422)):
            for name in ("thread_id", "item_id"):
                params = {"thread_id": "x", "item_id": "x", name: "x" * length}
                refusal(await alice.post("/", json=request("threads.retry_after_item", **params)), status)

    async def test_idempotency_keys(self, alice: httpx.AsyncClient):
        for length, status in ((255, 200), (256, 422)):
            answer = await alice.post("/", json=question("Hello"), headers={"Idempotency-Key": "x" * length})
            assert answer.status_code == status


class TestAnswersAtATime:
    async def test_a_fourth_is_refused_and_costs_nothing_until_one_has_ended(self):
        server, go_on, begun = EverythingServer(MemoryStore()), asyncio.Event(), 0
        chat = app_of(server, streams_per_reader=3)

        async def wait(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
            nonlocal begun
            begun += 1
            await go_on.wait()
            async for event in server.say(thread, context):
                yield event

        server.hook = wait
        async with chat.lifespan(), client_of(chat, "alice-token") as alice, client_of(chat, "bob-token") as bob:
            under_way = [asyncio.ensure_future(stream(alice, question("Hello"))) for _ in range(3)]
            while begun < 3:
                await asyncio.sleep(0)

            refused = await alice.post("/", json=question("Once more"))
            others = asyncio.ensure_future(stream(bob, question("Hello")))
            while begun < 4:
                await asyncio.sleep(0)
            reading = await alice.post("/", json=request("threads.list"))
            go_on.set()
            answers = await asyncio.gather(*under_way, others)
            again = await stream(alice, question("Once more"))

        assert refusal(refused, 429)["code"] == "too_many_streams"
        assert int(refused.headers["retry-after"]) > 0
        assert len(reading.json()["data"]) == 3, "nothing was stored of the fourth"
        assert all(answer.text for answer in [*answers, again])


class TestTheModel:
    @pytest.fixture
    def model(self) -> Iterator[FakeModelServer]:
        with FakeModelServer(answer="Yes [1].") as model:
            yield model

    @pytest.fixture
    async def reader(self, model: FakeModelServer) -> AsyncIterator[httpx.AsyncClient]:
        chat = app_of(RagChatServer(MemoryStore(), sources=[OnePassage()], model=model_at(model)))
        async with chat.lifespan(), client_of(chat, "alice-token") as http:
            yield http

    async def test_it_is_not_the_clients_to_choose(self, reader: httpx.AsyncClient, model: FakeModelServer):
        await stream(reader, question("What is a node?"))
        body = question("What is a node?")
        options = {"model": "gpt-dear", "tool_choice": {"id": "delete_everything"}}
        body["params"]["input"]["inference_options"] = options
        body["metadata"] = {"model": "gpt-dear", "max_tokens": 10**9, "tool_choice": "delete_everything"}

        await stream(reader, {**body, "model": "gpt-dear"})

        plain, chosen = model.requests
        assert (chosen["model"], chosen.get("tool_choice")) == ("fake", plain.get("tool_choice"))
        assert chosen.keys() == plain.keys()
        assert chosen["tools"] == plain["tools"]
        assert "gpt-dear" not in as_json(chosen)
        assert "delete_everything" not in as_json(chosen)

    async def test_a_loop_of_tool_calls_is_cut(self, reader: httpx.AsyncClient, model: FakeModelServer):
        model.script = [ToolCall("search_course", {"query": f"node {number}"}) for number in range(50)]

        answer = await stream(reader, question("What is a node?"))

        assert len(model.requests) <= 7
        assert len(answer.errors) == 1
        assert len(model.script) > 40

    async def test_a_long_history_is_not_sent_whole(self, reader: httpx.AsyncClient, model: FakeModelServer):
        first = await stream(reader, question("x" * 10_000))
        for _ in range(6):
            await stream(reader, question("x" * 10_000, first.thread_id))

        # 70,000 were said; the ends of the question stand there once more, as what was searched for.
        told = as_json(model.requests[-1]["input"]).count("x") - 800
        assert told >= 20_000
        assert estimated_tokens("x" * told) <= HistoryOptions().tokens

    async def test_what_is_refused_asks_no_model(self, reader: httpx.AsyncClient, model: FakeModelServer):
        things = await stream(reader, question("What is a node?"))
        asked = len(model.requests)

        for text in ("", " ", "x" * 32_001, "\0"):
            refusal(await reader.post("/", json=question(text, things.thread_id)), 422)
        files = message("Look", attachments=[f"atc_{number}" for number in range(5_000)])
        refusal(await reader.post("/", json=request("threads.create", input=files)), 422)

        assert len(model.requests) == asked


async def test_reading_never_begins_an_answer(tmp_path: Any):
    server = EverythingServer(MemoryStore(), attachment_store=files_in(tmp_path))
    chat = app_of(server)
    async with chat.lifespan(), client_of(chat, "alice-token") as alice:
        things = await settle_in(alice)

        async def forbidden(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
            raise AssertionError("an answer was begun")
            yield

        server.hook = forbidden
        reading = [body for body in every_operation(things) if body["type"].split(".")[1] in ("list", "get_by_id")]
        answers = [await alice.post("/", json=body) for body in reading]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
