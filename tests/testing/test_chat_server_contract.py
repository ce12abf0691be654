"""The contract, run over our server and over ChatKit's own; and that it notices what is wrong."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from chatkit.types import (
    Attachment,
    LockedStatus,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)
from starlette.requests import HTTPConnection

from asgi.serving import serving
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.base import patch_thread
from chatkit_rag.testing import ChatServerContract, ProtocolClient
from chatkit_rag.testing.chat_server_contract import CAPABILITIES
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED
from testing.broken_servers import BROKEN, LateServer, LateStore
from testing.stock_server import (
    ITEMS,
    MORE,
    STRUCTURED_QUESTION,
    TOOL_QUESTION,
    WIDGET_QUESTION,
    Files,
    StockServer,
    app_of,
    hidden,
)

pytest_plugins = ["pytester"]

ADA = RequestContext(principal=Principal("ada"))


class CourseServer(RagChatServer):
    """Our server, with every hook, and a note for the model in each answer."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        asked = input_user_message.content[0].text if input_user_message else ""
        if asked in ITEMS:
            yield ThreadItemDoneEvent(item=ITEMS[asked](thread))
            return
        yield ThreadItemAddedEvent(item=hidden(thread))
        yield ThreadItemDoneEvent(item=hidden(thread))
        async for event in self.answer(thread, input_user_message, context):
            yield event

    action = StockServer.action
    sync_action = StockServer.sync_action
    transcribe = StockServer.transcribe


class HookAnswers:
    """How both servers are made to do what the contract wants to see."""

    client_tool_question = TOOL_QUESTION
    structured_question = STRUCTURED_QUESTION
    widget_question = WIDGET_QUESTION
    widget_action = MORE

    @pytest.fixture
    def upload_file(self) -> Callable[[Attachment, bytes], Awaitable[None]]:
        async def upload(_attachment: Attachment, _content: bytes) -> None:
            """Nothing: what is kept of a file is its record."""

        return upload


class TestOurServer(HookAnswers, ChatServerContract):
    question = COVERED
    capabilities = frozenset(CAPABILITIES)

    @pytest.fixture(params=[0.0, 0.01], ids=["in process", "over a socket, with a store that takes its time"])
    def store(self, request: pytest.FixtureRequest) -> AwkwardStore:
        return AwkwardStore(request.param)

    @pytest.fixture
    def chat(self, store: AwkwardStore, course_index: EdgeIndex) -> ChatApp:
        server = CourseServer(
            store, sources=[CourseSource(course_index)], model=ExtractiveModel(), attachment_store=Files()
        )

        def named(connection: HTTPConnection) -> Principal:
            return Principal(connection.headers["authorization"].removeprefix("Bearer "))

        return ChatApp(server, authenticate=named)

    @pytest.fixture
    async def client(self, chat: ChatApp, store: AwkwardStore) -> AsyncIterator[ProtocolClient]:
        if store.delay:
            async with serving(chat) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/", token="ada") as client:
                yield client
        else:
            async with chat.lifespan(), ProtocolClient("/", app=chat, token="ada") as client:
                yield client

    @pytest.fixture
    def other_client(self, client: ProtocolClient) -> ProtocolClient:
        return client.with_options(token="grace")

    @pytest.fixture
    def lock_thread(self, store: AwkwardStore) -> Callable[[str], Awaitable[None]]:
        async def lock(thread_id: str) -> None:
            await patch_thread(store, thread_id, {"status": LockedStatus()}, ADA)

        return lock

    @pytest.fixture
    def read_feedback(self, store: AwkwardStore) -> Callable[[str, str], Awaitable[str | None]]:
        async def read(thread_id: str, item_id: str) -> str | None:
            return store._of(ADA).feedback[thread_id][item_id]["kind"]

        return read


class TestChatKitsOwnServer(HookAnswers, ChatServerContract):
    """What it does not claim, it does not do: `TestTheContractNotices` has it fail those tests."""

    capabilities = frozenset(
        {
            "retry",
            "feedback",
            "attachments",
            "transcription",
            "client_tools",
            "structured_input",
            "actions",
            "sync_actions",
        }
    )

    @pytest.fixture
    def server(self) -> StockServer:
        return StockServer()

    @pytest.fixture
    async def client(self, server: StockServer) -> AsyncIterator[ProtocolClient]:
        async with ProtocolClient("/chatkit", app=app_of(server)) as client:
            yield client

    @pytest.fixture
    def read_feedback(self, server: StockServer) -> Callable[[str, str], Awaitable[str | None]]:
        async def read(thread_id: str, item_id: str) -> str | None:
            return server.feedback.get((thread_id, item_id))

        return read


OF_ALL_SERVERS = 14
"""Tests of the contract that no capability is needed for, with their parameters."""


@pytest.mark.anyio
class TestTheContractNotices:
    @pytest.mark.parametrize("wrong", BROKEN)
    async def test_a_server_that_does_not_keep_it(self, wrong: str):
        test, make, given = BROKEN[wrong]
        server = make()

        async def lock(thread_id: str) -> None:
            server.store.threads[thread_id].status = LockedStatus()

        async def read(thread_id: str, item_id: str) -> str | None:
            return server.feedback.get((thread_id, item_id))

        async def upload(_file: Attachment, _content: bytes) -> None:
            """Nothing, as with the server that keeps the contract."""

        async with ProtocolClient("/chatkit", app=app_of(server)) as client:
            other = client.with_options(token="other")
            fixtures = {"other_client": other, "lock_thread": lock, "read_feedback": read, "upload_file": upload}
            method = getattr(TestChatKitsOwnServer(), test)
            asked_for = inspect.signature(method).parameters

            with pytest.raises((AssertionError, pytest.fail.Exception)) as noticed:
                await method(client, **{name: fixtures[name] for name in fixtures.keys() & asked_for}, **given)

        assert "TypeError" not in str(noticed.value), "the fault is one of this test's own"

    async def test_an_answer_that_is_stored_only_after_its_done(self):
        store = LateStore()
        server = LateServer(store)

        async with serving(app_of(server)) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/chatkit") as client:
            with pytest.raises(AssertionError):
                await TestChatKitsOwnServer().test_an_item_is_stored_before_its_done_is_seen(client)

        assert store.late

    def test_every_promise_has_a_server_that_breaks_it(self):
        promises = {name for name in dir(ChatServerContract) if name.startswith("test_")}

        assert {test for test, *_ in BROKEN.values()} == promises


class TestCapabilities:
    def test_one_that_there_is_not_is_refused(self):
        with pytest.raises(TypeError, match="retries"):
            type("Mistaken", (ChatServerContract,), {"capabilities": frozenset({"retries"})})

    def test_what_is_not_claimed_is_skipped_and_nothing_else_is(self, pytester: pytest.Pytester):
        pytester.makepyfile(
            """
            import pytest
            from chatkit_rag.testing import ChatServerContract, ProtocolClient
            from testing.stock_server import StockServer, app_of

            class TestSmallServer(ChatServerContract):
                capabilities = frozenset({"transcription"})

                @pytest.fixture
                async def client(self):
                    async with ProtocolClient("/chatkit", app=app_of(StockServer())) as client:
                        yield client
            """
        )

        result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")

        outcomes = result.parseoutcomes()
        assert set(outcomes) == {"passed", "skipped"}
        assert outcomes["passed"] == OF_ALL_SERVERS + 1
        result.stdout.fnmatch_lines(["*SKIPPED*the server does not claim clean_errors, owners"])
