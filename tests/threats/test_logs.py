"""What stands in the log: one line a record, whatever a reader sends, and nothing that is nobody else's business."""

import io
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import ChatKitServer
from chatkit.types import ThreadMetadata
from openai import AsyncOpenAI

from chatkit_rag.agent.history import message_text
from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.context import RequestContext
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.telemetry import REQUEST_ID, set_up_logging
from chatkit_rag.testing import FakeModelServer, Fault
from protocol.frames import message, question, read_frames, request, stream
from threats.site import (
    AUDIO,
    MORE,
    NOBODYS,
    EverythingServer,
    OnePassage,
    app_of,
    client_of,
    every_operation,
    files_in,
    settle_in,
)

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a"
KEY = f"sk-{CANARY}-of-the-model"
DSN = f"postgres://chat:{CANARY}@db.internal/chat"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """What would have been written by now: our own records, as `serve` writes them, and everybody else's."""
    ours, written = logging.getLogger("chatkit_rag"), io.StringIO()
    before = (ours.handlers, ours.level, ours.propagate)
    set_up_logging("DEBUG")
    [handler] = ours.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "httpx")  # the client of these tests, which tells every address

    def read() -> str:
        others = [record for record in caplog.records if not record.name.startswith("chatkit_rag")]
        return written.getvalue() + "".join(f"{caplog.handler.format(record)}\n" for record in others)

    yield read
    ours.handlers, ours.level, ours.propagate = before


class FailingStore(MemoryStore):
    """A site's own store, whose driver tells everything that it knows."""

    failing = False
    failures = 0

    async def add_thread_item(self, *arguments: Any) -> None:
        if self.failing:
            self.failures += 1
            raise ConnectionError(f"cannot connect to {DSN} (Authorization: Bearer {CANARY}-token)")
        await super().add_thread_item(*arguments)


def telling(body: dict[str, Any], secret: str) -> list[dict[str, Any]]:
    """The request with the secret in each of its places, one at a time, as a value and as what does not fit there."""
    told = [{**body, "metadata": {"pageContext": {"title": secret}, "userInfo": {"name": secret}, "text": secret}}]
    told += [{**body, "metadata": secret}, {**body, secret: 1}, {**body, "type": secret}]
    for name, value in body["params"].items():
        wrong: list[Any] = [secret, {secret: secret}, [secret], secret * 10_000]
        if isinstance(value, dict):
            wrong += [{**value, field: other} for field in value for other in (secret, {secret: [secret]}, [secret])]
        told += [{**body, "params": {**body["params"], name: other}} for other in wrong]
    return told


class TestSecrets:
    async def test_nothing_that_readers_send_is_logged(self, tmp_path: Path, log: Any):
        server = EverythingServer(SQLiteStore(tmp_path / "threads.db"), attachment_store=files_in(tmp_path / "files"))
        chat = app_of(server)
        statuses: set[int] = set()
        async with chat.lifespan(), client_of(chat, "alice-token") as alice:
            things = await settle_in(alice)
            headers = {"Idempotency-Key": CANARY, "X-User-Id": CANARY, "X-Request-ID": f"{CANARY} and more"}
            for of in (NOBODYS, things):
                for body in every_operation(of):
                    for told in telling(body, CANARY):
                        statuses.add((await alice.post("/", json=told, headers=headers)).status_code)
            for name in (CANARY, f"{CANARY}.exe", "x" * 300):
                await alice.post("/attachments", params={"name": name}, content=CANARY.encode())
            for token in (CANARY, f"Bearer {CANARY}", f"Basic {CANARY}", f"Bearer eyJ{CANARY}.eyJ.x"):
                refused = await alice.post("/", json=question("Hello"), headers={"Authorization": token})
                statuses.add(refused.status_code)
                await alice.post("/session", json={"existing": token})
                await alice.get("/attachments/atc_0000000000", params={"signature": token})

        assert {200, 400, 401, 404, 409, 422} <= statuses
        assert max(statuses) < 500
        assert CANARY not in log()

    @pytest.mark.parametrize("kind", ["unauthorized", "rate_limited", "server_error", "malformed", "failed", "cut"])
    @pytest.mark.parametrize("way", ["direct", "the SDK's model"])
    async def test_no_failure_of_the_model_tells_the_key_or_the_question(self, log: Any, way: str, kind: Any):
        with FakeModelServer(fault=Fault(kind)) as model:
            async with answering(model, way) as alice:
                response = await alice.post("/", json=question(f"What is {CANARY}?"))

            assert model.fired[kind] >= 1
        assert read_frames(response.text)[-1]["type"] == "error"
        assert "a turn failed" in log()
        assert CANARY not in log()
        assert KEY not in response.text

    async def test_a_store_that_tells_its_address_tells_it_without_the_password(self, log: Any):
        store = FailingStore()
        chat = app_of(EverythingServer(store))
        async with chat.lifespan(), client_of(chat, "alice-token") as alice:
            thread_id = (await stream(alice, question("Hello"))).thread_id
            store.failing = True
            failed = await alice.post("/", json=question(CANARY, thread_id))

        assert store.failures > 0
        assert failed.status_code == 500
        assert CANARY not in failed.text
        assert "postgres://chat:***@db.internal/chat" in log()
        assert CANARY not in log()

    async def test_a_record_that_cannot_be_read_is_not_quoted(self, tmp_path: Path, log: Any):
        path = tmp_path / "threads.db"
        chat = app_of(EverythingServer(SQLiteStore(path)))
        async with chat.lifespan(), client_of(chat, "alice-token") as alice:
            thread_id = (await stream(alice, question("Hello"))).thread_id
            with sqlite3.connect(path) as database:
                changed = f'{{"type": "assistant_message", "content": "{CANARY}", "id": 3}}'
                assert database.execute("UPDATE items SET payload = ?", [changed]).rowcount == 2
            database.close()
            listed = await alice.post("/", json=request("items.list", thread_id=thread_id))

        assert listed.json()["data"] == []
        assert "cannot be read" in log()
        assert CANARY not in log() + listed.text


FORGED = "2026-01-01 00:00:00,000 ERROR chatkit_rag [forged] everything is lost"
BREAKS = [
    "\r\n",
    "\n",
    "\r",
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x85",
    "\u2028",
    "\u2029",
    "\x0b",
    "\x0c",
    "\x08",
]


class TestForging:
    @pytest.mark.parametrize("places", ["message", "request id", "exception", "logger"])
    def test_every_record_is_one_line_and_holds_no_control_character(self, log: Any, places: str):
        nasty = "".join(f"{sign}{FORGED}" for sign in [*BREAKS, "\u202e", "\x00", "\x7f"])
        logger = logging.getLogger("chatkit_rag.threats")
        token = REQUEST_ID.set(nasty if places == "request id" else "quiet")
        if places == "message":
            logger.error("an item is called %s", nasty)
        elif places == "exception":
            logger.error("it failed", exc_info=RuntimeError(nasty))
        else:
            logging.getLogger(f"chatkit_rag.{nasty}" if places == "logger" else "chatkit_rag.x").error("it failed")
        REQUEST_ID.reset(token)

        # A traceback has lines of its own, which are indented.
        records = [line for line in log().split("\n") if line and not line.startswith("  ")]
        assert len(records) == 1
        assert FORGED in log()
        assert all(sign == "\n" or sign.isprintable() for sign in log())

    @pytest.mark.parametrize("sign", BREAKS, ids=ascii)
    async def test_what_readers_call_things_forges_no_record(self, tmp_path: Path, log: Any, sign: str):
        nasty = f"{sign}{FORGED}"
        server = EverythingServer(SQLiteStore(tmp_path / "threads.db"), attachment_store=files_in(tmp_path / "files"))
        chat = app_of(server)
        async with chat.lifespan(), client_of(chat, "alice-token") as alice:
            things = await settle_in(alice)
            at = {"thread_id": things.thread}
            bodies = [
                request("threads.get_by_id", thread_id=nasty),
                request("threads.update", **at, title=nasty),
                request("items.list", **at, after=nasty),
                request("items.feedback", **at, item_ids=[nasty], kind="positive"),
                request("threads.retry_after_item", **at, item_id=nasty),
                request("threads.custom_action", **at, item_id=things.widget, action={"type": nasty, "payload": {}}),
                request("threads.custom_action", **at, item_id=nasty, action=MORE),
                request("threads.add_structured_input", **at, item_id=things.quiz, input={"answers": {nasty: {}}}),
                request("attachments.create", name=nasty, size=1, mime_type="text/plain"),
                request("attachments.delete", attachment_id=nasty),
                request("input.transcribe", audio_base64=AUDIO, mime_type=nasty),
                request("threads.create", input=message(nasty, attachments=[nasty])),
                request(nasty),
            ]
            answers = [await alice.post("/", json=body) for body in bodies]
            # httpx sends what a header may hold; the rest is tried above.
            header = {"X-Request-ID": nasty.encode("utf-8"), "Idempotency-Key": nasty.encode("utf-8")}
            answers.append(await alice.post("/", json=question("Hello"), headers=header))

        assert all(answer.status_code < 500 for answer in answers)
        assert all(nasty not in answer.headers["x-request-id"] for answer in answers)
        assert not [line for line in log().splitlines() if line.startswith(FORGED)]
        assert all(character == "\n" or character.isprintable() for character in log())


@asynccontextmanager
async def answering(model: FakeModelServer, way: str) -> AsyncIterator[httpx.AsyncClient]:
    """A reader of a server that asks the model with our client, or as ChatKit's documentation has it."""
    if way == "direct":
        options = ResponsesOptions(attempts=1)
        lean = ResponsesModel("fake", api_key=KEY, base_url=model.base_url, options=options)
        chosen = ChosenModel(model=lean, label="fake", costs_money=False, connection=lean)
        server: Any = RagChatServer(MemoryStore(), sources=[OnePassage()], model=chosen)
        client = None
    else:
        client = AsyncOpenAI(api_key=KEY, base_url=model.base_url, max_retries=0)
        server = SdkServer(MemoryStore())
        server.agent = Agent(name="Assistant", model=OpenAIResponsesModel("fake", client))
    chat = app_of(server)
    async with chat.lifespan(), client_of(chat, "alice-token") as http:
        yield http
    if client is not None:
        await client.close()


class SdkServer(ChatKitServer[RequestContext]):
    """A server as ChatKit's documentation has it."""

    agent: Agent[Any]

    async def respond(self, thread: ThreadMetadata, input_user_message: Any, context: RequestContext) -> Any:
        turn = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(
            self.agent, message_text(input_user_message), context=turn, run_config=RunConfig(tracing_disabled=True)
        )
        async for event in stream_agent_response(turn, result):
            yield event
