"""Readers who leave at every event of an answer, in every way that a server tells it, over stores that take their time.

The app is called as a server calls it, so that a reader leaves exactly behind the event that the test means; behind
the app everything is real: the turn, the runner, the client of the model, HTTP, the model server.

    reads, told by receive      http.disconnect after the event (ASGI 2.3)
    reads, told by send         the next write raises OSError (ASGI 2.4)
    stalls, told by receive     the next write does not return before http.disconnect came
    stalls, told by send        the next write does not return, and then raises OSError
    stalls for good             the next write never returns, and nobody says anything

All positions of one way are tried at once, each with an app, a store and a model server of its own.
"""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from agents import Agent, AgentHooks, OpenAIResponsesModel, RunConfig, Runner
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import ChatKitServer
from chatkit.types import AssistantMessageItem, SDKHiddenContextItem, ThreadItem, ThreadMetadata, UserMessageItem
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from agent.openai_server import model_at
from asgi.serving import PATIENCE, eventually
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.history import message_text
from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.streaming import StreamOptions
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.interrupted import InterruptedMessage
from chatkit_rag.testing import FakeModelServer
from protocol.awkward_store import AwkwardStore
from protocol.frames import question, read_frames
from threats.site import OnePassage

pytestmark = pytest.mark.anyio

WORDS = 8
ANSWER = "".join(f"{number:04} " for number in range(WORDS)).strip()
ASKED = "What is a node?"
PACE = 0.04
STALL = 0.15
"""How long the app waits for a reader who stalls for good; the others must not seem to, however busy a machine is."""
SLOWER = 0.5
"""The model's pace from the moment at which its reader leaves: what else this machine does must not look like words."""
CERTIFICATES = ssl.create_default_context()
"""Never used, and read once: each client would read them anew, and hold up everybody in its event loop."""
LOCAL = RequestContext(principal=Principal("local"))

Way = Literal[
    "reads, told by receive",
    "reads, told by send",
    "stalls, told by receive",
    "stalls, told by send",
    "stalls for good",
]
WAYS: tuple[Way, ...] = Way.__args__  # type: ignore[attr-defined]
BY_THE_CLOCK = "stalls for good"
"""Found out by a time-out alone: on a machine that is busy with other things, the model says more until then."""


class SlowStore(AwkwardStore):
    """Every call takes its time, those that coordinate as well."""

    async def patch_thread(self, *arguments: Any) -> Any:
        return await self._awaited("patch_thread", *arguments)

    async def take_lease(self, *arguments: Any) -> Any:
        return await self._awaited("take_lease", *arguments)

    async def release_lease(self, *arguments: Any) -> Any:
        return await self._awaited("release_lease", *arguments)

    async def note_request(self, *arguments: Any) -> Any:
        return await self._awaited("note_request", *arguments)


class SdkServer(ChatKitServer[RequestContext]):
    """As ChatKit's documentation has it: nothing in it stops the run that it has begun."""

    def __init__(self, store: Any, client: AsyncOpenAI) -> None:
        super().__init__(store)
        model = OpenAIResponsesModel("fake", client)
        self._agent = Agent[AgentContext[RequestContext]](name="Assistant", model=model)

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> Any:
        assert input_user_message is not None
        turn = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(
            self._agent, message_text(input_user_message), context=turn, run_config=RunConfig(tracing_disabled=True)
        )
        async for event in stream_agent_response(turn, result):
            yield event


def client_of(model: FakeModelServer) -> AsyncOpenAI:
    http = DefaultAsyncHttpxClient(verify=CERTIFICATES, trust_env=False)
    return AsyncOpenAI(api_key="none", base_url=model.base_url, http_client=http)


def direct(store: Any, model: FakeModelServer) -> tuple[Any, Callable[[], Awaitable[None]]]:
    return RagChatServer(store, sources=[OnePassage()], model=model_at(model)), nothing


def runner(store: Any, model: FakeModelServer) -> tuple[Any, Callable[[], Awaitable[None]]]:
    client = client_of(model)
    asked = OpenAIResponsesModel("fake", client)
    chosen = ChosenModel(model=asked, label="fake", costs_money=False)
    agent = Agent[TurnContext](name="Assistant", model=asked, hooks=AgentHooks())
    return RagChatServer(store, sources=[OnePassage()], model=chosen, agent=agent), client.close


def lean_runner(store: Any, model: FakeModelServer) -> tuple[Any, Callable[[], Awaitable[None]]]:
    chosen = model_at(model)
    assert isinstance(chosen.model, ResponsesModel)
    # Hooks are the runner's business: an agent that has some never takes the direct path.
    agent = Agent[TurnContext](name="Assistant", model=chosen.model, hooks=AgentHooks())
    return RagChatServer(store, sources=[OnePassage()], model=chosen, agent=agent), nothing


def driven(store: Any, model: FakeModelServer) -> tuple[Any, Callable[[], Awaitable[None]]]:
    client = client_of(model)
    return SdkServer(store, client), client.close


async def nothing() -> None:
    pass


ENGINES = [direct, runner, driven]


@dataclass
class Reader:
    """A reader as a server shows one to an app: one who stays, or who leaves behind the event number `position`.

    -1 is before anything came, 0 behind the header.
    """

    body: bytes
    way: Way | None = None
    position: int = 0
    on_leaving: Callable[[], None] = lambda: None
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    started: bool = False
    ended: bool = False
    fired: bool = False
    """Whether the app has met what its reader did."""
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            if self.way == "reads, told by receive" and self.position < 0:
                self._leave()
            return {"type": "http.request", "body": self.body, "more_body": False}
        if self.way is None or not self.way.endswith("receive"):
            await asyncio.Event().wait()
        await self._gone.wait()
        self.fired = True
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self._is_over():
            await self._refuse()
        if self._gone.is_set():
            return  # a server of ASGI 2.3 drops what is written to a reader who is gone
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
            self.started = True
        else:
            self.events += read_frames(message["body"].decode())
            self.ended = not message["more_body"]
        if self.way == "reads, told by receive" and self._is_over():
            self._leave()
        await asyncio.sleep(0)  # as a server does when it writes

    def _is_over(self) -> bool:
        """Whether everything has come that this reader takes."""
        if self.way is None or (self.position >= 0 and not self.started):
            return False
        return self.position < 0 or len(self.events) >= self.position

    async def _refuse(self) -> None:
        """What becomes of a write behind the last one that the reader takes."""
        match self.way:
            case "reads, told by send":
                self._leave(fired=True)
                raise OSError("the reader is gone")
            case "stalls, told by receive" if not self._gone.is_set():
                asyncio.get_running_loop().call_later(2 * PACE, self._leave)
                await self._gone.wait()
            case "stalls, told by send":
                await asyncio.sleep(2 * PACE)
                self._leave(fired=True)
                raise OSError("the reader is gone")
            case "stalls for good":
                try:
                    await asyncio.Event().wait()
                finally:
                    self._leave(fired=True)
            case _:
                pass

    def _leave(self, *, fired: bool = False) -> None:
        if not self._gone.is_set():
            self._gone.set()
            self.fired = self.fired or fired
            self.on_leaving()

    @property
    def text(self) -> str:
        """What came of the answer's text."""
        return "".join(event["update"].get("delta", "") for event in self.events if "update" in event)

    @property
    def got_whole_answer(self) -> bool:
        return any(
            event["type"] == "thread.item.done" and event["item"]["type"] == "assistant_message"
            for event in self.events
        )


async def call(chat: ChatApp, reader: Reader) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/", "query_string": b"", "headers": headers}
    await chat(scope, reader.receive, reader.send)


@asynccontextmanager
async def site(
    engine: Any, delay: float, stall_seconds: float
) -> AsyncIterator[tuple[ChatApp, SlowStore, FakeModelServer]]:
    """An app over a model of its own. One event a write: the mailbox is full with one, and the turn waits."""
    store = SlowStore(delay)
    with FakeModelServer(answer=ANSWER, piece=5, pause=PACE) as model:
        server, close = engine(store, model)
        streaming = StreamOptions(stall_seconds=stall_seconds, buffer_bytes=1)
        chat = ChatApp(
            server, authenticate=nobody, options=AppOptions(local_reader=True, streaming=streaming, drain_seconds=1)
        )
        async with chat.lifespan():
            yield chat, store, model
        await close()


async def leave(engine: Any, way: Way, position: int, delay: float, events: int) -> None:
    """One reader who leaves at `position` of `events`, all that must hold afterwards, and the next message."""
    where = f"{way}, behind event {position} of {events}"
    stall_seconds = STALL if way == BY_THE_CLOCK else PATIENCE
    async with site(engine, delay, stall_seconds) as (chat, store, model):
        sent_then = WORDS

        def note() -> None:
            nonlocal sent_then
            sent_then, model.pause = model.sent, SLOWER

        reader = Reader(orjson.dumps(question(ASKED)), way, position, on_leaving=note)

        await call(chat, reader)
        await comes_true(lambda: len(chat._owner) == 0, f"the app has no task left: {where}")

        assert reader.fired or (position >= events and way.endswith("receive")), where
        assert len(reader.events) == max(0, min(position, events)), where
        # The model has stopped within two words; a connection is kept only where it had said all.
        assert model.sent <= sent_then + 2, where
        await comes_true(lambda: model.connections <= (model.sent == WORDS), f"no connection is left: {where}")
        await comes_true(
            lambda: model.disconnects >= len(model.requests) or model.sent == WORDS, f"the model is left: {where}"
        )
        thread_id = check_what_is_stored(await items_of(store), reader, where)
        assert store._leases == {}, where

        model.pause = 0.0
        asked = len(model.requests)
        patient = Reader(orjson.dumps(question("And then?", thread_id)))
        await call(chat, patient)

        assert patient.ended, where
        assert (patient.text, patient.events[-1]["type"]) == (ANSWER, "thread.item.done"), where
        assert len(model.requests) == asked + 1, where
        await comes_true(lambda: len(chat._owner) == 0, f"the app has no task left in the end: {where}")
        assert store._leases == {}, where


def check_what_is_stored(items: Sequence[ThreadItem], reader: Reader, where: str) -> str:
    """The question, and of the answer what was sent at least, marked where it is not whole; the thread's id."""
    asked, *rest = items
    assert isinstance(asked, UserMessageItem), where
    assert message_text(asked) == ASKED, where
    answers = [item for item in rest if isinstance(item, AssistantMessageItem)]
    notes = [item for item in rest if isinstance(item, SDKHiddenContextItem)]
    kept = "".join(part.text for answer in answers for part in answer.content)
    marked = [isinstance(answer, InterruptedMessage) for answer in answers]
    assert len(answers) + len(notes) == len(rest), where
    assert len(answers) <= 1, where
    assert kept.startswith(reader.text), where
    assert ANSWER.startswith(kept), where
    if reader.got_whole_answer:
        assert (kept, marked, notes) == (ANSWER, [False], []), where
    elif marked != [False]:
        # Without a word of the answer there is none to mark, and the model is told all the same.
        assert marked == ([True] if kept else []), where
        assert len(notes) == 1, where
    else:
        assert (kept, notes) == (ANSWER, []), where
    return asked.thread_id


async def items_of(store: SlowStore) -> list[ThreadItem]:
    [thread] = (await store.load_threads(10, None, "asc", LOCAL)).data
    return (await store.load_thread_items(thread.id, None, 10, "asc", LOCAL)).data


async def leave_everywhere(engine: Any, way: Way, delay: float, *, every: int = 1) -> None:
    """Readers who leave at each position, or at each `every`-th; nothing is left of them in this process."""
    async with site(engine, 0.0, PATIENCE) as (chat, _, model):
        model.pause = 0.0
        patient = Reader(orjson.dumps(question(ASKED)))
        await call(chat, patient)
    events = len(patient.events)
    assert events >= WORDS + 6
    tasks, files = asyncio.all_tasks(), open_files()

    async with asyncio.timeout(40), asyncio.TaskGroup() as readers:
        for position in range(-1, events + 1, every):
            readers.create_task(leave(engine, way, position, delay, events))

    await comes_true(lambda: asyncio.all_tasks() <= tasks, "no task is left")
    await comes_true(lambda: open_files() <= files, "no file is left")


async def comes_true(condition: Callable[[], bool], what: str) -> None:
    """Returns when the condition holds: other threads, and callbacks that nobody can wait for, make it so."""
    with suppress(TimeoutError):
        await eventually(condition)
    assert condition(), what


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture(autouse=True)
async def _without_the_sdks_complaint() -> AsyncIterator[None]:
    """Passes over what asyncio says of a task of ChatKit's `_merge_generators` that ended before anybody asked it.

    It holds nothing any more: its end is the `StopAsyncIteration` that ends the run's events.
    """
    loop = asyncio.get_running_loop()
    told = loop.get_exception_handler()

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), StopAsyncIteration):
            (told or asyncio.AbstractEventLoop.default_exception_handler)(loop, context)

    loop.set_exception_handler(tell)
    yield
    gc.collect()  # so that it is said while nobody minds
    loop.set_exception_handler(told)


QUICK_WAYS = [pytest.param(way, marks=pytest.mark.soak) if way == BY_THE_CLOCK else way for way in WAYS]


@pytest.mark.parametrize("delay", [0.0, 0.01], ids=["store takes 0 ms", "store takes 10 ms"])
@pytest.mark.parametrize("way", QUICK_WAYS)
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
async def test_a_reader_may_leave_at_any_event(engine: Any, way: Way, delay: float):
    await leave_everywhere(engine, way, delay)


@pytest.mark.parametrize("way", ["reads, told by receive", "stalls, told by send"])
@pytest.mark.parametrize("engine", [direct, driven], ids=lambda engine: engine.__name__)
async def test_a_reader_may_leave_over_a_slow_store(engine: Any, way: Way):
    await leave_everywhere(engine, way, 0.2, every=4)


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", [*ENGINES, lean_runner], ids=lambda engine: engine.__name__)
async def test_a_reader_may_leave_at_any_event_over_a_slow_store(engine: Any, way: Way):
    await leave_everywhere(engine, way, 0.2)
