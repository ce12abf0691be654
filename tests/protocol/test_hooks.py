"""The operations that a site's own hooks carry out: client tools, questions, widgets, files, speech, feedback."""

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from chatkit.actions import Action
from chatkit.store import AttachmentStore
from chatkit.types import (
    AttachmentCreateParams,
    AudioInput,
    ClientToolCallItem,
    FileAttachment,
    LockedStatus,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    SyncCustomActionResponse,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)
from chatkit.widgets import WidgetTemplate

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from protocol.awkward_store import AwkwardStore
from protocol.frames import COVERED, call, question, refusal, request, stream

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))
SOMEBODY = {"Authorization": "Bearer somebody"}

BUTTON = WidgetTemplate(
    {
        "version": "1.0",
        "name": "button",
        "template": '{"type": "Card", "children": [{"type": "Button", "label": "More", '
        '"onClickAction": {"type": "more", "payload": {}}}]}',
        "jsonSchema": {},
    }
)


class Files(AttachmentStore[RequestContext]):
    """Names files and forgets them: what is tested is when it is asked to."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def create_attachment(self, input: AttachmentCreateParams, context: RequestContext) -> FileAttachment:
        id_ = self.generate_attachment_id(input.mime_type, context)
        return FileAttachment(id=id_, name=input.name, mime_type=input.mime_type)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        self.deleted.append(attachment_id)


class HookedServer(RagChatServer):
    """Answers by its hooks: a question of the reader's makes the item that the test has put in `next_item`."""

    next_item: Any = None
    continued: int = 0

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        if input_user_message is None:
            self.continued += 1
        elif self.next_item is not None:
            yield ThreadItemDoneEvent(item=self.next_item(thread))
            return
        async for event in self.answer(thread, input_user_message, context):
            yield event

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        thread.title = f"{action.type} from {sender.id if sender else 'nowhere'}"
        yield ThreadItemDoneEvent(item=tool_call(thread))

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> SyncCustomActionResponse:
        assert sender is not None
        return SyncCustomActionResponse(updated_item=sender.model_copy(update={"copy_text": "pressed"}))

    async def transcribe(self, audio_input: AudioInput, context: RequestContext) -> TranscriptionResult:
        return TranscriptionResult(text=f"{len(audio_input.data)} bytes of {audio_input.media_type}")


@pytest.fixture
def server(store: AwkwardStore, course_index: EdgeIndex) -> HookedServer:
    files = Files()
    sources = [CourseSource(course_index)]
    return HookedServer(store, sources=sources, model=ExtractiveModel(), attachment_store=files)


@pytest.fixture
async def client(server: HookedServer) -> AsyncIterator[httpx.AsyncClient]:
    def authenticate(connection: Any) -> Principal | None:
        return Principal("somebody") if connection.headers.get("authorization") == SOMEBODY["Authorization"] else None

    chat = ChatApp(server, authenticate=authenticate, options=AppOptions(local_reader=True))
    async with (
        chat.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=chat), base_url="http://localhost") as http,
    ):
        yield http


def tool_call(thread: ThreadMetadata) -> ClientToolCallItem:
    return ClientToolCallItem(
        id="tc_1", thread_id=thread.id, created_at=utc_now(), call_id="call_1", name="where_am_i", arguments={}
    )


def quiz(thread: ThreadMetadata) -> StructuredInputItem:
    options = [StructuredInputMultipleChoiceOption(value=value) for value in ("a topic", "a service")]
    inputs = [
        StructuredInputMultipleChoice(id="q1", question="What streams?", options=options),
        StructuredInputFreeform(id="q2", question="And why?"),
    ]
    return StructuredInputItem(id="si_1", thread_id=thread.id, created_at=utc_now(), inputs=inputs)


def widget(thread: ThreadMetadata) -> WidgetItem:
    return WidgetItem(id="wid_1", thread_id=thread.id, created_at=utc_now(), widget=BUTTON.build())


class TestClientTools:
    async def test_a_result_is_stored_and_the_answer_goes_on(self, client: httpx.AsyncClient, server: HookedServer):
        server.next_item = tool_call
        thread_id = (await stream(client, question(COVERED))).thread_id

        returned = request("threads.add_client_tool_output", thread_id=thread_id, result={"page": 3})
        answer = await stream(client, returned)

        item = await server.store.load_item(thread_id, "tc_1", LOCAL)
        assert isinstance(item, ClientToolCallItem)
        assert (item.status, item.output) == ("completed", {"page": 3})
        assert server.continued == 1
        assert answer.reply["content"][0]["annotations"]

    async def test_a_second_result_is_refused(self, client: httpx.AsyncClient, server: HookedServer):
        server.next_item = tool_call
        thread_id = (await stream(client, question(COVERED))).thread_id
        body = request("threads.add_client_tool_output", thread_id=thread_id, result=1)
        await stream(client, body)

        refusal(await client.post("/", json=body), 409)
        refusal(await client.post("/", json={**body, "params": {**body["params"], "result": "x" * 70_000}}), 422)


class TestStructuredInput:
    async def test_answers_are_stored_shown_and_the_turn_goes_on(self, client: httpx.AsyncClient, server: HookedServer):
        server.next_item = quiz
        thread_id = (await stream(client, question(COVERED))).thread_id
        submission = {"answers": {"q1": {"values": ["a topic"]}}}

        answer = await stream(
            client, request("threads.add_structured_input", thread_id=thread_id, item_id="si_1", input=submission)
        )

        replaced = answer.of("thread.item.replaced")[0]["item"]
        assert replaced["status"] == "answered"
        assert [part["answer"] for part in replaced["inputs"]] == [
            {"values": ["a topic"], "skipped": False},
            {"values": [], "skipped": True},
        ]
        assert server.continued == 1

    @pytest.mark.parametrize(
        "answers",
        [{"q9": {"values": ["x"]}}, {"q1": {"values": ["a topic", "a service"]}}, {"q2": {"values": ["x" * 5000]}}],
    )
    async def test_answers_that_do_not_fit_the_questions_change_nothing(
        self, client: httpx.AsyncClient, server: HookedServer, answers: dict[str, Any]
    ):
        server.next_item = quiz
        thread_id = (await stream(client, question(COVERED))).thread_id
        before = await server.store.load_item(thread_id, "si_1", LOCAL)
        body = request("threads.add_structured_input", thread_id=thread_id, item_id="si_1", input={"answers": answers})

        refusal(await client.post("/", json=body), 422)

        assert await server.store.load_item(thread_id, "si_1", LOCAL) == before


class TestActions:
    async def test_an_action_of_a_widget_runs_and_its_title_is_kept(
        self, client: httpx.AsyncClient, server: HookedServer
    ):
        server.next_item = widget
        shown = await stream(client, question(COVERED))
        thread_id, widget_id = shown.thread_id, shown.of("thread.item.done")[-1]["item"]["id"]
        press = {"thread_id": thread_id, "item_id": widget_id, "action": {"type": "more", "payload": {}}}

        answer = await stream(client, request("threads.custom_action", **press))
        synced = await call(client, "threads.sync_custom_action", **press)

        assert answer.of("thread.updated")[0]["thread"]["title"] == f"more from {widget_id}"
        assert synced["updated_item"]["copy_text"] == "pressed"
        stored = await server.store.load_item(thread_id, "wid_1", LOCAL)  # by the name that the hook gave it
        assert isinstance(stored, WidgetItem)
        assert (stored.id, stored.copy_text) == (widget_id, "pressed")

    @pytest.mark.parametrize("operation", ["threads.custom_action", "threads.sync_custom_action"])
    async def test_an_action_that_the_widget_does_not_offer_is_refused(
        self, client: httpx.AsyncClient, server: HookedServer, operation: str
    ):
        server.next_item = widget
        thread_id = (await stream(client, question(COVERED))).thread_id
        forged = {"type": "grant_admin", "payload": {}}

        refusal(
            await client.post("/", json=request(operation, thread_id=thread_id, item_id="wid_1", action=forged)), 422
        )


class TestThreads:
    async def test_a_title_is_given_without_touching_the_rest(self, client: httpx.AsyncClient, server: HookedServer):
        thread_id = (await stream(client, question(COVERED))).thread_id
        thread = await server.store.load_thread(thread_id, LOCAL)
        thread.metadata = {"site": "robots"}
        await server.store.save_thread(thread, LOCAL)

        renamed = await call(client, "threads.update", thread_id=thread_id, title="  Nodes ")

        kept = await server.store.load_thread(thread_id, LOCAL)
        assert renamed["title"] == kept.title == "Nodes"
        assert kept.metadata == {"site": "robots"}

    async def test_a_deleted_thread_is_gone_and_does_not_come_back(
        self, client: httpx.AsyncClient, server: HookedServer
    ):
        thread_id = (await stream(client, question(COVERED))).thread_id

        assert await call(client, "threads.delete", thread_id=thread_id) == {}

        refusal(await client.post("/", json=request("threads.get_by_id", thread_id=thread_id)), 404)
        refusal(await client.post("/", json=request("threads.delete", thread_id=thread_id)), 404)
        assert (await call(client, "threads.list"))["data"] == []

    @pytest.mark.parametrize(
        "body",
        [
            {"type": "threads.add_user_message", "params": question(COVERED, "x")["params"]},
            request("threads.add_client_tool_output", result=1),
            request("threads.retry_after_item", item_id="x"),
            request("threads.custom_action", action={"type": "more", "payload": {}}),
        ],
        ids=lambda body: body["type"],
    )
    async def test_a_locked_thread_takes_nothing_new(
        self, client: httpx.AsyncClient, server: HookedServer, body: dict[str, Any]
    ):
        thread_id = (await stream(client, question(COVERED))).thread_id
        thread = await server.store.load_thread(thread_id, LOCAL)
        thread.status = LockedStatus()
        await server.store.save_thread(thread, LOCAL)
        before = await server.store.load_thread_items(thread_id, None, 100, "asc", LOCAL)

        refusal(await client.post("/", json={**body, "params": {**body["params"], "thread_id": thread_id}}), 409)

        assert await server.store.load_thread_items(thread_id, None, 100, "asc", LOCAL) == before


class TestFeedback:
    async def test_thumbs_are_kept_with_their_reason(
        self, client: httpx.AsyncClient, server: HookedServer, store: AwkwardStore
    ):
        answer = await stream(client, question(COVERED))
        body = request("items.feedback", thread_id=answer.thread_id, item_ids=[answer.reply["id"]], kind="negative")

        response = await client.post("/", json={**body, "metadata": {"reason": "outdated", "text": "Jazzy is out."}})

        assert response.json() == {}

        kept = store._of(LOCAL).feedback[answer.thread_id]
        assert kept == {answer.reply["id"]: {"kind": "negative", "reason": "outdated", "text": "Jazzy is out."}}

    async def test_only_the_assistants_messages_of_ones_own_thread_take_feedback(self, client: httpx.AsyncClient):
        answer = await stream(client, question(COVERED))
        params = {"thread_id": answer.thread_id, "kind": "positive"}

        on_question = request("items.feedback", **params, item_ids=[answer.question["id"]])
        on_nothing = request("items.feedback", **params, item_ids=[])
        foreign = request("items.feedback", **params, item_ids=[answer.reply["id"]])

        refusal(await client.post("/", json=on_question), 422)
        refusal(await client.post("/", json=on_nothing), 422)
        refusal(await client.post("/", json=foreign, headers=SOMEBODY), 404)


class TestFiles:
    async def test_a_file_belongs_to_one_message_and_to_one_reader(
        self, client: httpx.AsyncClient, server: HookedServer
    ):
        file = await call(client, "attachments.create", name="log.txt", size=9, mime_type="text/plain")
        body = question(COVERED)
        body["params"]["input"]["attachments"] = [file["id"]]

        refusal(await client.post("/", json=body, headers=SOMEBODY), 404)
        assert (
            await server.store.load_threads(1, None, "desc", RequestContext(principal=Principal("somebody")))
        ).data == []
        answer = await stream(client, body)
        refusal(await client.post("/", json=body), 409)

        assert answer.question["attachments"][0]["thread_id"] == answer.thread_id
        refusal(await client.post("/", json=request("attachments.delete", attachment_id=file["id"])), 409)

    async def test_a_file_that_is_in_no_message_is_deleted_with_its_bytes(
        self, client: httpx.AsyncClient, server: HookedServer
    ):
        file = await call(client, "attachments.create", name="log.txt", size=9, mime_type="text/plain")

        refusal(
            await client.post("/", json=request("attachments.delete", attachment_id=file["id"]), headers=SOMEBODY), 404
        )
        assert await call(client, "attachments.delete", attachment_id=file["id"]) == {}

        assert isinstance(server.attachment_store, Files)
        assert server.attachment_store.deleted == [file["id"]]

    @pytest.mark.parametrize(
        "file",
        [
            {"name": "x", "size": -1, "mime_type": "text/plain"},
            {"name": "x", "size": 10**9, "mime_type": "text/plain"},
            {"name": "", "size": 1, "mime_type": "text/plain"},
            {"name": "x", "size": 1, "mime_type": "<script>"},
        ],
    )
    async def test_impossible_files_are_refused(self, client: httpx.AsyncClient, file: dict[str, Any]):
        refusal(await client.post("/", json=request("attachments.create", **file)), 422)


class TestSpeech:
    async def test_speech_goes_through_the_hook(self, client: httpx.AsyncClient):
        audio = b64encode(b"\x1aE\xdf\xa3").decode()

        text = await call(client, "input.transcribe", audio_base64=audio, mime_type="audio/webm;codecs=opus")

        assert text == {"text": "4 bytes of audio/webm"}

    @pytest.mark.parametrize(("audio", "kind"), [("not base64!", "audio/webm"), ("AAAA", "text/html")])
    async def test_what_is_no_speech_is_refused(self, client: httpx.AsyncClient, audio: str, kind: str):
        refusal(await client.post("/", json=request("input.transcribe", audio_base64=audio, mime_type=kind)), 422)


@pytest.mark.parametrize(
    "body",
    [
        request("attachments.create", name="x", size=1, mime_type="text/plain"),
        request("attachments.delete", attachment_id="atc_x"),
        request("input.transcribe", audio_base64="AAAA", mime_type="audio/ogg"),
    ],
    ids=lambda body: body["type"],
)
async def test_what_a_server_was_not_set_up_for_is_said(
    store: AwkwardStore, course_index: EdgeIndex, body: dict[str, Any]
):
    plain = RagChatServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel())
    chat = ChatApp(plain, authenticate=nobody, options=AppOptions(local_reader=True))
    async with (
        chat.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=chat), base_url="http://localhost") as http,
    ):
        assert refusal(await http.post("/", json=body), 501)["code"] == "unsupported"
