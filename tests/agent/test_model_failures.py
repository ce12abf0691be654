"""A model server that fails, seen by the reader: one error at the end, the text so far kept, and the next turn works.

On each of the three ways to a model: straight through the lean client, through the Agents SDK's runner, and through
the runner to a Chat Completions server.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from agents import AgentHooks

from asgi.serving import eventually
from chatkit_rag.agent.direct import direct_model
from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, Fault
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, Answer, ask, items_of, texts

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"
ANSWER = "Some of the answers, and then the rest."
SAID = "Some of the answers,"
"""The first five deltas."""

ONCE = ResponsesOptions(attempts=1)
IMPATIENT = ResponsesOptions(attempts=1, first_token_seconds=1.5, idle_seconds=1.5)

OWNER = "The assistant cannot answer at the moment. Please tell the owner of this site."
BUSY = "There are too many questions just now. Please try again in a moment."
TOO_LONG = "This conversation has grown too long for the language model. Please begin a new one."
REFUSED = "The language model does not answer this."
NO_ANSWER = "The language model gave no answer. Please try again."
LATE = "The language model took too long. Please try again."
STOPPED = "The language model stopped before its answer was complete. Please try again."


@dataclass(frozen=True)
class Talk:
    """A site whose model is the fake one."""

    client: httpx.AsyncClient
    chat: ChatApp


Begin = Callable[..., AbstractAsyncContextManager[Talk]]


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer=ANSWER) as model:
        yield model


@pytest.fixture(params=["direct", "runner", "chat completions"])
def begin(request: pytest.FixtureRequest, course_index: EdgeIndex, model: FakeModelServer) -> Begin:
    """Starts a site, on one of the ways to the model."""

    @asynccontextmanager
    async def begin(options: ResponsesOptions = ONCE, store: MemoryStore | None = None) -> AsyncIterator[Talk]:
        kind = ChatCompletionsModel if request.param == "chat completions" else ResponsesModel
        way: Any = kind("fake", api_key=KEY, base_url=model.base_url, options=options)
        chosen = ChosenModel(model=way, label="fake", costs_money=False, connection=way)
        server = RagChatServer(store or MemoryStore(), sources=[CourseSource(course_index)], model=chosen)
        if request.param == "runner":
            server.agent = server.agent.clone(hooks=AgentHooks())
        assert (direct_model(server.agent) is not None) == (request.param == "direct")
        chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
        transport = httpx.ASGITransport(chat)
        async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Talk(http, chat)

    return begin


@pytest.fixture(params=[0.0, 0.01], ids=["instant store", "awaiting store"])
def store(request: pytest.FixtureRequest) -> AwkwardStore:
    return AwkwardStore(request.param)


BEFORE_THE_FIRST_WORD: list[tuple[Fault, str, bool]] = [
    (Fault("unauthorized"), OWNER, False),
    (Fault("rate_limited"), BUSY, True),
    (Fault("quota"), OWNER, False),
    (Fault("bad_request"), REFUSED, False),
    (Fault("too_long"), TOO_LONG, False),
    (Fault("server_error"), NO_ANSWER, True),
    (Fault("overloaded"), NO_ANSWER, True),
    (Fault("silent"), LATE, True),
    (Fault("stalls", after=0), LATE, True),
    (Fault("cut", after=0), NO_ANSWER, True),
    (Fault("malformed", after=0), NO_ANSWER, True),
    (Fault("huge_delta", after=0), NO_ANSWER, True),
    (Fault("error_event", after=0), NO_ANSWER, True),
    (Fault("failed", after=0), NO_ANSWER, True),
    (Fault("incomplete", after=0), STOPPED, True),
    (Fault("ends_early", after=0), NO_ANSWER, True),
]
IN_THE_MIDDLE: list[tuple[Fault, str]] = [
    (Fault("stalls", after=5), LATE),
    (Fault("cut", after=5), NO_ANSWER),
    (Fault("malformed", after=5), NO_ANSWER),
    (Fault("huge_delta", after=5), NO_ANSWER),
    (Fault("error_event", after=5), NO_ANSWER),
    (Fault("failed", after=5), NO_ANSWER),
    (Fault("incomplete", after=5), STOPPED),
    (Fault("ends_early", after=5), NO_ANSWER),
]


def name_of(value: Any) -> str | None:
    return value.kind if isinstance(value, Fault) else ""


def patience_for(fault: Fault) -> ResponsesOptions:
    return IMPATIENT if fault.kind in ("silent", "stalls") else ONCE


def assert_told(answer: Answer, message: str, *, allow_retry: bool) -> None:
    """One error, the last event, in just these words; nothing of the key and the server anywhere."""
    error = {"type": "error", "code": "custom", "message": message, "allow_retry": allow_retry}
    assert answer.events[-1] == error
    assert len(answer.errors) == 1
    assert not any(secret in json.dumps(answer.events) for secret in (KEY, "127.0.0.1", "v1/"))


async def assert_at_rest(talk: Talk, model: FakeModelServer, before: set[Any]) -> None:
    """Nothing runs that did not run before, and at most one connection is kept for the next request."""
    await eventually(lambda: len(talk.chat._owner) == 0 and asyncio.all_tasks() <= before and model.connections <= 1)


class TestBeforeTheFirstWord:
    @pytest.mark.parametrize(("fault", "message", "allow_retry"), BEFORE_THE_FIRST_WORD, ids=name_of)
    async def test_the_reader_is_told_once_and_asks_again(
        self,
        begin: Begin,
        model: FakeModelServer,
        caplog: pytest.LogCaptureFixture,
        fault: Fault,
        message: str,
        *,
        allow_retry: bool,
    ):
        async with begin(patience_for(fault)) as talk:
            running = asyncio.all_tasks()
            model.fault = fault
            failed = await ask(talk.client, COVERED)
            model.fault = None
            await assert_at_rest(talk, model, running)

            answer = await ask(talk.client, COVERED, failed.thread_id)

            assert (model.fired, len(model.requests)) == ({fault.kind: 1}, 2)
            assert_told(failed, message, allow_retry=allow_retry)
            assert answer.text == ANSWER
            assert texts(await items_of(talk.client, failed.thread_id)) == [COVERED, COVERED, ANSWER]
            await assert_at_rest(talk, model, running)
        assert KEY not in caplog.text
        assert "Traceback" not in caplog.text


class TestInTheMiddle:
    @pytest.mark.parametrize(("fault", "message"), IN_THE_MIDDLE, ids=name_of)
    async def test_the_text_so_far_is_kept_and_the_next_turn_works(
        self,
        begin: Begin,
        model: FakeModelServer,
        store: AwkwardStore,
        caplog: pytest.LogCaptureFixture,
        fault: Fault,
        message: str,
    ):
        async with begin(patience_for(fault), store) as talk:
            running = asyncio.all_tasks()
            model.fault = fault
            failed = await ask(talk.client, COVERED)
            model.fault = None
            await assert_at_rest(talk, model, running)

            answer = await ask(talk.client, COVERED, failed.thread_id)

            assert model.fired == {fault.kind: 1}
            assert_told(failed, message, allow_retry=True)
            assert "".join(failed.deltas) == SAID
            assert answer.text == ANSWER
            kept = await items_of(talk.client, failed.thread_id)
            assert texts(kept) == [COVERED, SAID, COVERED, ANSWER]
            assert [item.get("status") for item in kept] == [None, "interrupted", None, None]
            await assert_at_rest(talk, model, running)
        assert "Traceback" not in caplog.text


class TestWhatIsNoFailure:
    async def test_an_answer_that_is_completed_twice_is_one_answer(self, begin: Begin, model: FakeModelServer):
        async with begin() as talk:
            model.fault = Fault("ends_twice")

            answer = await ask(talk.client, COVERED)
            again = await ask(talk.client, COVERED, answer.thread_id)

            assert model.fired == {"ends_twice": 2}
            assert (answer.errors, again.errors) == ([], [])
            assert texts(await items_of(talk.client, answer.thread_id)) == [COVERED, ANSWER] * 2

    async def test_a_server_that_recovers_in_time_is_asked_again_unnoticed(self, begin: Begin, model: FakeModelServer):
        async with begin(ResponsesOptions(attempts=2, retry_wait_seconds=0.01)) as talk:
            model.fault = Fault("overloaded", times=1)

            answer = await ask(talk.client, COVERED)

            assert (model.fired, len(model.requests)) == ({"overloaded": 1}, 2)
            assert (answer.errors, answer.text) == ([], ANSWER)
