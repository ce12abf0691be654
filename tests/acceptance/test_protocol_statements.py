"""What the chat promises of its protocol, where no test of a single room shows it: one class for each promise."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import metadata, requires
from typing import Any

import httpx
import pytest
from agents import OpenAIChatCompletionsModel, RunConfig, Runner
from chatkit.agents import stream_agent_response
from chatkit.store import AttachmentStore
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    ClosedStatus,
    FileAttachment,
    LockedStatus,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)
from openai import AsyncOpenAI

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.history import message_text
from chatkit_rag.agent.models import ChosenModel, choose_model
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import PageContext, Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.base import patch_thread
from chatkit_rag.testing import FakeModelServer, Fault
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, Answer, ask, call, items_of, message, question, refusal, request, stream, texts

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))


class Files(AttachmentStore[RequestContext]):
    """Takes every file at once, and keeps no bytes."""

    async def create_attachment(self, input: AttachmentCreateParams, context: RequestContext) -> Attachment:
        id_ = self.generate_attachment_id(input.mime_type, context)
        return FileAttachment(id=id_, name=input.name, mime_type=input.mime_type)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None: ...


class Site(RagChatServer):
    """A site that notes what its hook is given, and may do something of its own before it answers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.contexts: list[RequestContext] = []
        self.asked: list[UserMessageItem | None] = []
        self.first: Callable[[ThreadMetadata, RequestContext], Any] | None = None

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        self.contexts.append(context)
        self.asked.append(input_user_message)
        if self.first is not None:
            await self.first(thread, context)
        async for event in self.answer(thread, input_user_message, context):
            yield event


@pytest.fixture(params=[0.0, 0.01], ids=["instant store", "awaiting store"])
def store(request: pytest.FixtureRequest) -> AwkwardStore:
    return AwkwardStore(request.param)


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="A node is a process [1].") as model:
        yield model


@pytest.fixture(params=INTERFACES)
def chosen(request: pytest.FixtureRequest, model: FakeModelServer) -> ChosenModel:
    """The model server, spoken to by each of its interfaces; what fails is not tried again."""
    return model_at(model, interface=request.param)


@pytest.fixture
def sources(course_index: EdgeIndex) -> list[CourseSource]:
    return [CourseSource(course_index)]


@pytest.fixture
def server(store: AwkwardStore, sources: list[CourseSource]) -> Site:
    """A site that needs no model."""
    return Site(store, sources=sources, model=ExtractiveModel(), attachment_store=Files())


@pytest.fixture
def modelled(store: AwkwardStore, sources: list[CourseSource], chosen: ChosenModel) -> Site:
    """A site that asks the model server."""
    return Site(store, sources=sources, model=chosen)


async def client_of(server: RagChatServer) -> AsyncIterator[httpx.AsyncClient]:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@pytest.fixture
async def client(server: Site) -> AsyncIterator[httpx.AsyncClient]:
    async for http in client_of(server):
        yield http


@pytest.fixture
async def reader(modelled: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the site that asks the model server."""
    async for http in client_of(modelled):
        yield http


class TestInstalling:
    ABSENT = ("fastapi", "litestar", "asyncpg", "psycopg", "qdrant_client", "redis")

    def test_every_public_name_is_imported_without_frameworks_drivers_or_a_network(self):
        program = f"""
import socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {self.ABSENT!r}:
            raise ModuleNotFoundError(name)

def refuse(*_arguments, **_named):
    raise OSError("there is no network")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import chatkit_rag
print(*sorted(name for name in chatkit_rag.__all__ if getattr(chatkit_rag, name)))
"""

        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)

        assert ended.stderr == ""
        assert "RagChatServer" in ended.stdout.split()

    def test_it_is_for_python_3_11_and_later_and_brings_no_framework_along(self):
        always = [needed for needed in requires("chatkit-rag") or [] if "extra ==" not in needed]

        assert metadata("chatkit-rag")["Requires-Python"] == ">=3.11"
        names = {name.replace("_", "-") for name in self.ABSENT}
        assert [needed for needed in always if needed.startswith(tuple(names))] == []


class TestRules:
    """What the model takes for rules: instructions, or messages of the system or the developer."""

    async def test_nothing_that_a_reader_or_a_page_says_is_among_them(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        page = {"title": "PAGE-TITLE", "path": "/PAGE-PATH", "heading": "PAGE-HEADING", "headings": ["PAGE-HEADINGS"]}
        context = {"pageContext": page, "userInfo": {"name": "READER-NAME", "goals": "READER-GOALS"}}
        first = await stream(reader, {**question(COVERED), "metadata": context})
        await call(reader, "threads.update", thread_id=first.thread_id, title="THREAD-TITLE")

        asked = question("How do I start a ROS2 node twice?", first.thread_id)
        asked["params"]["input"]["quoted_text"] = "A ROS2 node QUOTED-TEXT"
        await stream(reader, {**asked, "metadata": context})

        assert len(model.requests) == 2
        said = ["PAGE-", "READER-", "THREAD-TITLE", "QUOTED-TEXT", COVERED, "start a ROS2 node", "A node is a process"]
        for sent in model.requests:
            rules = rules_in(sent)
            assert "You are the assistant of a course" in rules
            assert [words for words in said if words in rules] == []
        assert "QUOTED-TEXT" in json.dumps(model.requests[1])


def rules_in(sent: dict[str, Any]) -> str:
    """The instructions in a request to the model."""
    messages = [*sent.get("input", ()), *sent.get("messages", ())]
    ruling = [message for message in messages if message.get("role") in ("system", "developer")]
    return json.dumps([sent.get("instructions"), ruling])


class TestContext:
    SAID = {  # noqa: RUF012 - nobody changes it
        "pageContext": {"title": "x" * 2000, "path": "/nodes", "headings": ["Why", 7], "cookies": "secret"},
        "userInfo": {"name": "y" * 500, "level": "beginner", "email": "ada@example.org"},
    }

    @pytest.mark.parametrize("place", ["at the top", "in the message"])
    @pytest.mark.parametrize("operation", ["threads.create", "threads.add_user_message"])
    async def test_it_is_taken_from_either_place_by_known_fields_up_to_their_limits(
        self, client: httpx.AsyncClient, server: Site, operation: str, place: str
    ):
        begun = (await ask(client, COVERED)).thread_id if operation == "threads.add_user_message" else None
        body = question(COVERED, begun)
        (body if place == "at the top" else body["params"]["input"])["metadata"] = self.SAID

        await stream(client, body)

        context = server.contexts[-1]
        assert context.page == PageContext(title="x" * 1000, path="/nodes", headings=("Why", ""))
        assert context.profile == {"name": "y" * 200, "level": "beginner"}
        assert context.principal == Principal("local")

    async def test_the_request_s_own_goes_before_that_of_its_message(self, client: httpx.AsyncClient, server: Site):
        body = request("threads.create", input=message(COVERED, metadata={"a": 1, "b": 1})) | {"metadata": {"b": 2}}

        await stream(client, body)

        assert server.contexts[-1].metadata == {"a": 1, "b": 2}


class TestMessagesWithoutText:
    async def test_one_of_tags_only_is_answered_from_what_they_say(self, client: httpx.AsyncClient):
        tag = {"type": "input_tag", "id": "t", "text": COVERED, "data": {}, "interactive": False}

        answer = await stream(client, request("threads.create", input={**message(""), "content": [tag]}))

        assert answer.errors == []
        assert answer.question["content"][0]["text"] == COVERED
        assert answer.annotations

    async def test_one_of_files_only_is_answered_and_so_is_the_next(self, client: httpx.AsyncClient, server: Site):
        file = await call(client, "attachments.create", name="log.txt", size=9, mime_type="text/plain")

        answer = await stream(
            client, request("threads.create", input={**message("", attachments=[file["id"]]), "content": []})
        )
        second = await ask(client, COVERED, answer.thread_id)

        assert answer.errors == second.errors == []
        [asked] = [asked for asked in server.asked[:1] if asked]
        assert [sent.id for sent in asked.attachments] == [file["id"]]
        assert answer.text
        assert second.annotations

    async def test_one_of_nothing_is_refused(self, client: httpx.AsyncClient):
        empty = request("threads.create", input={**message(" "), "attachments": []})

        refusal(await client.post("/", json=empty), 422)


class SdkSite(RagChatServer):
    """A site that answers as ChatKit's documentation shows it: by the SDK's own translation of a run."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.names: list[str] = []

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        turn = TurnContext(thread=thread, store=self.store, request_context=context)
        asked = message_text(input_user_message) if input_user_message else ""
        result = Runner.run_streamed(self.agent, asked, context=turn, run_config=RunConfig(tracing_disabled=True))
        async for event in stream_agent_response(turn, result):
            if isinstance(event, ThreadItemDoneEvent):
                self.names.append(event.item.id)
            yield event


class TestModelsWithoutIds:
    """A Chat Completions model gives its messages no ids, and the Agents SDK calls all of them by one name."""

    @pytest.fixture(params=["the SDK's own model", "chat:NAME"])
    async def site(
        self, request: pytest.FixtureRequest, store: AwkwardStore, sources: list[CourseSource], model: FakeModelServer
    ) -> AsyncIterator[SdkSite]:
        if request.param == "chat:NAME":
            chosen: Any = choose_model("chat:fake", api_key="test", base_url=model.base_url)
            yield SdkSite(store, sources=sources, model=chosen)
        else:
            async with AsyncOpenAI(api_key="test", base_url=model.base_url) as openai:
                yield SdkSite(store, sources=sources, model=OpenAIChatCompletionsModel("fake", openai))

    async def test_two_turns_in_two_threads_are_four_messages_each_with_one_id_of_its_own(
        self, site: SdkSite, model: FakeModelServer
    ):
        model.script = ["One.", "Two.", "Three.", "Four."]
        answers: list[Answer] = []
        async for http in client_of(site):
            for _ in range(2):
                first = await ask(http, "First?")
                answers += [first, await ask(http, "Second?", first.thread_id)]
            threads = [answers[0].thread_id, answers[2].thread_id]
            kept = [await items_of(http, thread_id) for thread_id in threads]

        assert site.names == ["__fake_id__"] * 4
        assert [texts(items) for items in kept] == [
            ["First?", "One.", "Second?", "Two."],
            ["First?", "Three.", "Second?", "Four."],
        ]
        replies = [answer.reply["id"] for answer in answers]
        assert len(set(replies)) == 4
        assert [[item["id"] for item in items][1::2] for items in kept] == [replies[:2], replies[2:]]
        for answer in answers:
            [added] = answer.of("thread.item.added")
            updated = {event["item_id"] for event in answer.events if event["type"] == "thread.item.updated"}
            assert {added["item"]["id"]} == updated == {answer.reply["id"]}


class TestTitles:
    @pytest.mark.parametrize("saves", [False, True], ids=["by its thread", "by the store"])
    async def test_one_that_a_hook_gives_does_not_replace_the_reader_s_own(
        self, client: httpx.AsyncClient, server: Site, *, saves: bool
    ):
        async def title(thread: ThreadMetadata, context: RequestContext) -> None:
            await call(client, "threads.update", thread_id=thread.id, title="The reader's")
            thread.title = "The hook's"
            thread.metadata["seen"] = True
            if saves:
                await server.store.save_thread(thread, context)

        server.first = title

        answer = await ask(client, COVERED)

        kept = await call(client, "threads.get_by_id", thread_id=answer.thread_id)
        stored = await server.store.load_thread(answer.thread_id, LOCAL)
        assert kept["title"] == "The reader's"
        assert stored.metadata == {"seen": True}
        assert {told["thread"]["title"] for told in answer.of("thread.updated")} == {"The reader's"}

    async def test_a_hook_may_change_its_mind(self, client: httpx.AsyncClient, server: Site):
        async def titles(thread: ThreadMetadata, context: RequestContext) -> None:
            thread.title = "First"
            await server.store.save_thread(thread, context)
            thread.title = "Second"

        server.first = titles

        answer = await ask(client, COVERED)

        kept = await call(client, "threads.get_by_id", thread_id=answer.thread_id)
        assert kept["title"] == "Second"


class TestThreadsThatAreOver:
    OPERATIONS = [  # noqa: RUF012 - nobody changes it
        request("threads.add_user_message", input=message("More?")),
        request("threads.add_client_tool_output", result=1),
        request("threads.add_structured_input", item_id="x", input={"answers": {}}),
        request("threads.retry_after_item", item_id="x"),
        request("threads.custom_action", action={"type": "more", "payload": {}}),
        request("threads.sync_custom_action", action={"type": "more", "payload": {}}),
    ]

    @pytest.mark.parametrize("status", [LockedStatus(reason="Exam"), ClosedStatus()], ids=lambda status: status.type)
    @pytest.mark.parametrize("body", OPERATIONS, ids=lambda body: body["type"])
    async def test_they_take_nothing_and_can_be_read(
        self, client: httpx.AsyncClient, store: AwkwardStore, body: dict[str, Any], status: Any
    ):
        answer = await ask(client, COVERED)
        await patch_thread(store, answer.thread_id, {"status": status}, LOCAL)

        refused = await client.post("/", json={**body, "params": {**body["params"], "thread_id": answer.thread_id}})

        assert refusal(refused, 409)["details"] == {"status": status.type}
        assert await items_of(client, answer.thread_id) == [answer.question, answer.reply]


class TestWishes:
    async def test_a_model_or_tool_that_the_client_names_is_not_forwarded(
        self, reader: httpx.AsyncClient, modelled: Site, model: FakeModelServer
    ):
        wishes = {"model": "the-dearest-model", "tool_choice": {"id": "delete_everything"}}

        await stream(reader, request("threads.create", input=message(COVERED, inference_options=wishes)))

        [sent] = model.requests
        assert sent["model"] == "fake"
        assert "the-dearest-model" not in json.dumps(sent)
        assert "delete_everything" not in json.dumps(sent)
        [asked] = modelled.asked
        assert asked is not None
        assert asked.inference_options.model == "the-dearest-model"  # for a site that allows some


class TestTryingAgain:
    async def test_an_answer_that_broke_off_is_kept_until_another_try_takes_its_place(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        model.fault = Fault("cut", after=3, times=1)
        broken = await ask(reader, COVERED)
        kept = await items_of(reader, broken.thread_id)

        again = await stream(
            reader, request("threads.retry_after_item", thread_id=broken.thread_id, item_id=broken.question["id"])
        )

        assert model.fired == {"cut": 1}
        assert [error["allow_retry"] for error in broken.errors] == [True]
        assert texts(kept) == [COVERED, "A node is a"]
        assert kept[1]["status"] == "interrupted"
        assert (again.text, again.errors) == ("A node is a process.", [])
        assert await items_of(reader, broken.thread_id) == [broken.question, again.reply]
