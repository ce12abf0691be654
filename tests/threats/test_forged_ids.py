"""Ids that collide, that are guessed, or that models and hooks bring: nobody's item takes the place of another's."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import ChatKitServer
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent, ThreadMetadata
from openai import AsyncOpenAI

from chatkit_rag.agent.history import message_text
from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.stores.base import BaseStore
from chatkit_rag.stores.ids import new_id
from chatkit_rag.testing import FakeModelServer
from protocol.frames import Answer, items_of, question, stream, texts
from threats.site import ALICE, EverythingServer, app_of, client_of, everything_of, settle_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer() as model:
        yield model


class SdkServer(ChatKitServer[RequestContext]):
    """As ChatKit's documentation has it, with a Chat Completions model: every item is called `__fake_id__`."""

    def __init__(self, store: BaseStore, base_url: str) -> None:
        super().__init__(store)
        self.client = AsyncOpenAI(api_key="none", base_url=base_url)
        model = OpenAIChatCompletionsModel("fake", self.client)
        self.agent = Agent[AgentContext[RequestContext]](name="Assistant", model=model)

    async def respond(self, thread: ThreadMetadata, input_user_message: Any, context: RequestContext) -> Any:
        turn = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(
            self.agent, message_text(input_user_message), context=turn, run_config=RunConfig(tracing_disabled=True)
        )
        async for event in stream_agent_response(turn, result):
            yield event


class TestIdsOfModels:
    async def test_two_readers_and_three_turns_make_six_answers(self, store: BaseStore, model: FakeModelServer):
        said = {"alice": ["A one.", "A two.", "A three."], "bob": ["B one.", "B two.", "B three."]}
        server = SdkServer(store, model.base_url)
        chat = app_of(server)
        answers: dict[str, list[Answer]] = {"alice": [], "bob": []}
        async with chat.lifespan(), client_of(chat, "alice-token") as alice, client_of(chat, "bob-token") as bob:
            for turn in range(3):
                for name, reader in (("alice", alice), ("bob", bob)):
                    model.script = [said[name][turn]]
                    thread_id = answers[name][0].thread_id if turn else None
                    answers[name].append(await stream(reader, question(f"Question {turn}", thread_id)))

            ids = [answer.reply["id"] for answer in answers["alice"] + answers["bob"]]
            for name, reader in (("alice", alice), ("bob", bob)):
                stored = await items_of(reader, answers[name][0].thread_id)
                assert texts([item for item in stored if item["type"] == "assistant_message"]) == said[name]
        await server.client.close()

        assert len(model.requests) == 6
        assert len(set(ids)) == 6
        assert "__fake_id__" not in ids


class TestIdsOfHooks:
    async def test_an_item_that_a_hook_calls_as_anothers_is_another_item(
        self, server: EverythingServer, alice: httpx.AsyncClient, bob: httpx.AsyncClient, store: BaseStore
    ):
        things = await settle_in(alice)
        before = await everything_of(store, ALICE, things)

        async def imitate(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[Any]:
            content = [AssistantMessageContent(text="Mine.")]
            for id_ in (things.answer, things.question):
                yield ThreadItemDoneEvent(
                    item=AssistantMessageItem(id=id_, thread_id=things.thread, created_at=utc_now(), content=content)
                )

        server.hook = imitate
        answer = await stream(bob, question("Hello"))

        made = [done["item"] for done in answer.of("thread.item.done")[1:]]
        assert {item["thread_id"] for item in made} == {answer.thread_id}
        assert not {item["id"] for item in made} & set(things.ids.values())
        assert await everything_of(store, ALICE, things) == before


class TestCollisions:
    async def test_an_id_that_somebody_else_has_already_overwrites_nothing(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, store: Any, server: EverythingServer
    ):
        things = await settle_in(alice)
        before = await everything_of(store, ALICE, things)
        taken = iter([things.question, things.answer])
        store.generate_thread_id = lambda context: things.thread
        store.generate_item_id = lambda kind, thread, context: next(taken)

        answer = await stream(bob, question("Mine"))

        assert answer.thread_id == things.thread, "the ids did collide"
        assert {answer.question["id"], answer.reply["id"]} == {things.question, things.answer}
        assert await everything_of(store, ALICE, things) == before
        assert [item["id"] for item in await items_of(bob, things.thread)] == [things.question, things.answer]

    def test_a_hundred_thousand_ids_are_different_and_hold_120_random_bits(self):
        ids = [new_id("thr") for _ in range(100_000)]

        assert len(set(ids)) == len(ids)
        random = [id_[-24:] for id_ in ids]
        assert all(len({letters[place] for letters in random}) == 32 for place in range(24))

    async def test_an_id_is_found_by_knowing_all_of_it(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        things = await settle_in(alice)
        guesses = [things.thread[:-1], things.thread + "0", things.thread.upper(), f" {things.thread}", "%", "_" * 38]

        bodies = [{"type": "threads.get_by_id", "params": {"thread_id": guess}} for guess in guesses]
        answers = await asyncio.gather(*(reader.post("/", json=body) for body in bodies for reader in (alice, bob)))

        assert {answer.status_code for answer in answers} == {404}
