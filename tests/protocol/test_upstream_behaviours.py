"""What servers written for ChatKit's own `process` rely on, by ours and by one that knows nothing of us.

The behaviours are those that the SDK tests on its own server. Where we differ on purpose, the other tests of this
folder say how: unknown or too many answers to questions are refused, feedback is for the assistant's messages only, a
widget sends the actions that it offers, and a thread comes with its newest items.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from chatkit.actions import Action, ActionConfig
from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.server import ChatKitServer, stream_widget
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientEffectEvent,
    ClientToolCallItem,
    ClosedStatus,
    CustomSummary,
    CustomTask,
    EntitySource,
    FileSource,
    GeneratedImage,
    GeneratedImageItem,
    GeneratedImageUpdated,
    HiddenContextItem,
    InferenceOptions,
    LockedStatus,
    NoticeEvent,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    StructuredInputAnswerSubmission,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    StructuredInputSubmission,
    SyncCustomActionResponse,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadUpdatedEvent,
    ToolChoice,
    URLSource,
    UserMessageInput,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    WidgetRootUpdated,
    WidgetStreamingTextValueDelta,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
)
from chatkit.widgets import Button, Card, Text

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.protocol.driven import DrivenServer
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.testing import ChatServerContract, ProtocolClient, Refused
from chatkit_rag.testing.chat_server_contract import CAPABILITIES
from protocol.awkward_store import AwkwardStore
from protocol.frames import question
from protocol.hooked_servers import Files, Hooked, Ours, Stock, said, says, yields
from testing.stock_server import MORE, STRUCTURED_QUESTION, TOOL_QUESTION, WIDGET_QUESTION, StockServer

pytestmark = pytest.mark.anyio

LOCAL = RequestContext(principal=Principal("local"))


@pytest.fixture
def store() -> AwkwardStore:
    return AwkwardStore(0.01)


@pytest.fixture(params=[Ours, Stock], ids=["RagChatServer", "ChatKitServer"])
def server(request: pytest.FixtureRequest, store: AwkwardStore, course_index: EdgeIndex) -> Hooked:
    """A server of either kind, whose hooks the test puts in."""
    if request.param is Ours:
        sources = [CourseSource(course_index)]
        return Ours(store, sources=sources, model=ExtractiveModel(), attachment_store=Files())
    return Stock(store, Files())


async def client_of(server: ChatKitServer[RequestContext]) -> AsyncIterator[ProtocolClient]:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), ProtocolClient("/", app=chat) as client:
        yield client


@pytest.fixture
async def client(server: Hooked) -> AsyncIterator[ProtocolClient]:
    async for client in client_of(server):
        yield client


@pytest.fixture
def kept(client: ProtocolClient) -> Callable[[str], Awaitable[list[Any]]]:
    """A thread's items as a client lists them, oldest first."""

    async def kept(thread_id: str) -> list[Any]:
        return (await client.list_items(thread_id, order="asc", limit=100)).data

    return kept


def place(thread: ThreadMetadata, id_: str) -> dict[str, Any]:
    return {"id": id_, "thread_id": thread.id, "created_at": utc_now()}


def done(make: Callable[[ThreadMetadata], Any]) -> Callable[[ThreadMetadata], ThreadItemDoneEvent]:
    return lambda thread: ThreadItemDoneEvent(item=make(thread))


class TestHooks:
    async def test_they_are_given_who_asks_and_what_came_with_it(self, client: ProtocolClient, server: Hooked):
        server.answering = says("Hello.")
        asking = client.with_options(metadata={"lesson": 3}, headers={"X-Request-ID": "r-1"})

        answer = await asking.create_thread("Hello?")
        await asking.give_feedback(answer.thread.id, [answer.reply.id], "positive")

        [(message, context)] = server.asked
        [(thread_id, item_ids, kind, later)] = server.feedback
        assert message is not None
        assert message.content[0].text == "Hello?"
        assert (thread_id, item_ids, kind) == (answer.thread.id, [answer.reply.id], "positive")
        for seen in (context, later):
            assert (seen.principal, seen.metadata, seen.request_id) == (Principal("local"), {"lesson": 3}, "r-1")

    @pytest.mark.parametrize("operation", ["create_thread", "add_user_message", "retry_after_item"])
    async def test_they_are_given_the_model_and_tool_that_the_reader_chose(
        self, client: ProtocolClient, server: Hooked, operation: str
    ):
        server.answering = says("Hello.")
        wishes = InferenceOptions(model="m", tool_choice=ToolChoice(id="search"))
        asked = UserMessageInput(
            content=[UserMessageTextContent(text="Hello?")], attachments=[], inference_options=wishes
        )

        first = await client.create_thread(asked)
        if operation == "add_user_message":
            await client.add_user_message(first.thread.id, asked)
        if operation == "retry_after_item":
            await client.retry_after_item(first.thread.id, first.question.id)

        assert len(server.asked) == (1 if operation == "create_thread" else 2)
        assert [message.inference_options for message, _ in server.asked if message] == [wishes] * len(server.asked)

    async def test_tags_come_with_their_data_and_the_excerpt_with_its_message(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        tag = UserMessageTagContent(id="lab-3", text="Lab 3", data={"path": ["m", 3]}, group="Labs", interactive=True)
        asked = UserMessageInput(
            content=[UserMessageTextContent(text="Help with "), tag],
            attachments=[],
            quoted_text="rclpy.spin",
            inference_options=InferenceOptions(),
        )

        answer = await client.create_thread(asked)

        [(message, _)] = server.asked
        [stored] = await kept(answer.thread.id)
        assert message is not None
        for seen in (message, answer.question, stored):
            assert (seen.content[1], seen.quoted_text) == (tag, "rclpy.spin")

    async def test_an_answer_of_nothing_leaves_the_question_alone(self, client: ProtocolClient, server: Hooked, kept):
        answer = await client.create_thread("Hello?")

        assert answer.kinds == ["thread.created", "thread.item.done", "stream_options"]
        assert answer.thread.title is None
        assert await kept(answer.thread.id) == [answer.question]

    async def test_what_is_for_the_moment_is_sent_and_not_stored(self, client: ProtocolClient, server: Hooked, kept):
        passing = [
            ProgressUpdateEvent(text="Searching", icon="search"),
            ClientEffectEvent(name="scroll_to", data={"heading": "nodes"}),
            NoticeEvent(level="warning", title="Old", message="This page is **old**."),
        ]
        server.answering = yields(*(lambda _thread, event=event: event for event in passing))

        answer = await client.create_thread("Hello?")

        assert answer.events[3:] == passing
        assert await kept(answer.thread.id) == [answer.question]

    async def test_hidden_context_is_stored_for_the_model_and_never_sent(
        self, client: ProtocolClient, server: Hooked, store: AwkwardStore, kept
    ):
        server.answering = yields(
            done(lambda thread: HiddenContextItem(content={"secret": 1}, **place(thread, "hidden"))),
            done(lambda thread: said(thread, "Hello.")),
        )

        answer = await client.create_thread("Hello?")

        stored = await store.load_thread_items(answer.thread.id, None, 10, "asc", LOCAL)
        assert [item.type for item in stored.data] == ["user_message", "hidden_context_item", "assistant_message"]
        assert "secret" not in str(answer.json)
        assert await kept(answer.thread.id) == [answer.question, answer.reply]
        assert (await client.get_thread(answer.thread.id)).items.data == [answer.question, answer.reply]

    async def test_ids_are_those_that_the_store_makes(
        self, client: ProtocolClient, server: Hooked, store: AwkwardStore, monkeypatch: pytest.MonkeyPatch
    ):
        async def answer_with_an_id(thread: ThreadMetadata, _message: Any, context: RequestContext) -> Any:
            id_ = server.store.generate_item_id("message", thread, context)
            yield ThreadItemDoneEvent(item=said(thread, "Hello.", id_))

        numbers = iter(range(1, 10))
        monkeypatch.setattr(store, "generate_thread_id", lambda _context: f"course-{next(numbers)}")
        monkeypatch.setattr(store, "generate_item_id", lambda kind, thread, _: f"{thread.id}-{kind}-{next(numbers)}")
        server.answering = answer_with_an_id

        answer = await client.create_thread("Hello?")

        assert answer.thread.id == "course-1"
        assert (answer.question.id, answer.reply.id) == ("course-1-message-2", "course-1-message-3")


class TestThreads:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("title", "Nodes"),
            ("status", LockedStatus(reason="Exam")),
            ("status", ClosedStatus(reason="Over")),
            ("allowed_image_domains", ["img.test", "example.test"]),
        ],
    )
    async def test_what_a_hook_changes_of_its_thread_is_stored_and_told(
        self, client: ProtocolClient, server: Hooked, name: str, value: Any
    ):
        async def change(thread: ThreadMetadata, *_: Any) -> Any:
            setattr(thread, name, value)
            return
            yield

        server.answering = change

        answer = await client.create_thread("Hello?")

        assert isinstance(answer.events[-1], ThreadUpdatedEvent)
        assert getattr(answer.events[-1].thread, name) == value
        assert getattr(await client.get_thread(answer.thread.id), name) == value

    async def test_metadata_is_stored_and_stays_on_the_server(
        self, client: ProtocolClient, server: Hooked, store: AwkwardStore
    ):
        async def note(thread: ThreadMetadata, *_: Any) -> Any:
            thread.metadata["previous_response_id"] = "resp_1"
            return
            yield

        server.answering = note

        answer = await client.create_thread("Hello?")

        assert (await store.load_thread(answer.thread.id, LOCAL)).metadata == {"previous_response_id": "resp_1"}
        assert answer.kinds[-1] == "thread.updated"
        assert "resp_1" not in str(answer.json)

    async def test_a_change_in_the_middle_is_told_behind_the_next_event(self, client: ProtocolClient, server: Hooked):
        async def change(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemDoneEvent(item=said(thread, "One.", "a"))
            thread.title = "Nodes"
            yield ThreadItemDoneEvent(item=said(thread, "Two.", "b"))
            yield ThreadItemDoneEvent(item=said(thread, "Three.", "c"))

        server.answering = change

        answer = await client.create_thread("Hello?")

        assert answer.kinds[3:] == ["thread.item.done", "thread.item.done", "thread.updated", "thread.item.done"]
        assert (await client.get_thread(answer.thread.id)).title == "Nodes"

    async def test_what_is_not_set_is_not_sent(self, client: ProtocolClient, server: Hooked):
        async def change(thread: ThreadMetadata, *_: Any) -> Any:
            thread.title = "Nodes"
            return
            yield

        server.answering = change

        answer = await client.create_thread("Hello?")

        created, updated = answer.json[0]["thread"], answer.json[-1]["thread"]
        assert "allowed_image_domains" not in created.keys() | updated.keys()
        assert ("title" in created, updated["title"]) == (False, "Nodes")


class TestItems:
    async def test_one_that_is_removed_is_gone(self, client: ProtocolClient, server: Hooked, kept):
        server.answering = yields(
            done(lambda thread: said(thread, "One.", "a")),
            done(lambda thread: said(thread, "Two.", "b")),
            lambda _thread: ThreadItemRemovedEvent(item_id="a"),
        )

        answer = await client.create_thread("Hello?")

        [one, two] = answer.items[1:]
        assert [event.item_id for event in answer.of(ThreadItemRemovedEvent)] == [one.id]
        assert await kept(answer.thread.id) == [answer.question, two]

    @pytest.mark.parametrize(
        "replacement",
        [
            lambda thread: said(thread, "Another.", "a"),
            lambda thread: WidgetItem(widget=Card(children=[Text(value="Another.")]), **place(thread, "a")),
        ],
        ids=["of the same kind", "of another kind"],
    )
    async def test_one_that_is_replaced_keeps_its_place(
        self, client: ProtocolClient, server: Hooked, kept, replacement: Any
    ):
        server.answering = yields(
            done(lambda thread: said(thread, "One.", "a")),
            done(lambda thread: said(thread, "Two.", "b")),
            lambda thread: ThreadItemReplacedEvent(item=replacement(thread)),
        )

        answer = await client.create_thread("Hello?")

        [replaced] = answer.of(ThreadItemReplacedEvent)
        asked, first, second = await kept(answer.thread.id)
        assert (asked, second) == (answer.question, answer.item(second.id))
        assert first == replaced.item
        assert "Another." in first.model_dump_json()

    async def test_sources_of_every_kind_are_sent_and_stored(self, client: ProtocolClient, server: Hooked, kept):
        sources = [
            URLSource(title="Nodes", url="https://course.test/nodes#why", description="A node is", group="Week 1"),
            FileSource(title="Slides", filename="week-1.pdf"),
            EntitySource(
                id="lab-3", title="Lab 3", icon="lab", label="Lab", inline_label="3", interactive=True, data={"n": 3}
            ),
        ]
        annotations = [Annotation(source=source, index=index) for index, source in enumerate(sources)]
        content = [AssistantMessageContent(text="A node.", annotations=annotations)]
        server.answering = yields(done(lambda thread: AssistantMessageItem(content=content, **place(thread, "reply"))))

        answer = await client.create_thread("Hello?")

        assert answer.annotations == annotations
        assert await kept(answer.thread.id) == [answer.question, answer.reply]

    async def test_an_image_grows_and_its_last_form_is_stored(self, client: ProtocolClient, server: Hooked, kept):
        partial, whole = (GeneratedImage(id="img", url=f"https://img.test/{name}.png") for name in ("half", "whole"))
        server.answering = yields(
            lambda thread: ThreadItemAddedEvent(item=GeneratedImageItem(**place(thread, "image"))),
            lambda _thread: ThreadItemUpdatedEvent(
                item_id="image", update=GeneratedImageUpdated(image=partial, progress=0.5)
            ),
            done(lambda thread: GeneratedImageItem(image=whole, **place(thread, "image"))),
        )

        answer = await client.create_thread("Draw")

        assert answer.kinds[3:] == ["thread.item.added", "generated_image.updated", "thread.item.done"]
        [update] = answer.of(GeneratedImageUpdated)
        _, image = await kept(answer.thread.id)
        assert (update.image, update.progress) == (partial, 0.5)
        assert image.image == whole


class TestWidgets:
    async def test_one_that_is_there_at_once_is_sent_and_stored(self, client: ProtocolClient, server: Hooked, kept):
        shown = Card(children=[Text(value="Hello")])
        server.answering = lambda thread, *_: stream_widget(thread, shown, copy_text="Hello")

        answer = await client.create_thread("Show")

        assert answer.kinds[3:] == ["thread.item.done"]
        _, widget = await kept(answer.thread.id)
        assert (widget, widget.widget, widget.copy_text) == (answer.items[1], shown, "Hello")

    @pytest.mark.parametrize(
        ("states", "update"),
        [
            (["", "Hel", "Hello", "Hello, world"], WidgetStreamingTextValueDelta),
            (["Hello", "World"], WidgetRootUpdated),
        ],
        ids=["text that grows", "text that is replaced"],
    )
    async def test_one_that_changes_is_stored_as_it_was_last(
        self, client: ProtocolClient, server: Hooked, kept, states: list[str], update: Any
    ):
        async def drawn() -> Any:
            for state in states:
                yield Card(children=[Text(id="text", value=state)])

        server.answering = lambda thread, *_: stream_widget(thread, drawn())

        answer = await client.create_thread("Show")

        assert len(answer.of(update)) == len(states) - 1
        assert answer.kinds[3] == "thread.item.added"
        _, widget = await kept(answer.thread.id)
        assert widget == answer.items[1]
        assert widget.widget == Card(children=[Text(id="text", value=states[-1])])


class TestWorkflows:
    async def test_a_task_that_was_announced_is_in_the_finished_workflow_once(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        async def work(thread: ThreadMetadata, *_: Any) -> Any:
            item = WorkflowItem(workflow=Workflow(type="custom", tasks=[]), **place(thread, "work"))
            yield ThreadItemAddedEvent(item=item)
            task = CustomTask(title="Search")
            yield ThreadItemUpdatedEvent(item_id="work", update=WorkflowTaskAdded(task=task, task_index=0))
            item.workflow.tasks.append(task)
            item.workflow.summary = CustomSummary(title="Searched")
            yield ThreadItemDoneEvent(item=item)

        server.answering = work

        answer = await client.create_thread("Work")

        _, workflow = await kept(answer.thread.id)
        assert [task.title for task in workflow.workflow.tasks] == ["Search"]
        assert workflow.workflow.summary == CustomSummary(title="Searched")
        assert workflow == answer.items[1]


class TestClientTools:
    async def test_a_call_waits_for_its_result_and_the_answer_goes_on_with_it(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        async def answer_with_a_tool(thread: ThreadMetadata, message: Any, context: RequestContext) -> Any:
            if message is None:
                page = await server.store.load_thread_items(thread.id, None, 1, "desc", context)
                yield ThreadItemDoneEvent(item=said(thread, f"You selected {page.data[0].output['text']}."))
            else:
                call = ClientToolCallItem(
                    call_id="call_1", name="selection", arguments={"trim": True, "n": 2}, **place(thread, "tool")
                )
                yield ThreadItemDoneEvent(item=call)

        server.answering = answer_with_a_tool

        asked = await client.create_thread("Explain this")
        answered = await client.add_client_tool_output(asked.thread.id, {"text": "spin()"})

        call = asked.items[1]
        assert isinstance(call, ClientToolCallItem)
        assert (call.status, call.call_id, call.name) == ("pending", "call_1", "selection")
        assert call.arguments == {"trim": True, "n": 2}
        assert answered.kinds == ["stream_options", "thread.item.done"]
        assert answered.text == "You selected spin()."
        _, completed, reply = await kept(asked.thread.id)
        assert (completed.id, completed.status, completed.output) == (call.id, "completed", {"text": "spin()"})
        assert reply == answered.reply


class TestStructuredInput:
    def questions(self, thread: ThreadMetadata) -> StructuredInputItem:
        options = [StructuredInputMultipleChoiceOption(value=value) for value in ("Python", "C++")]
        inputs = [
            StructuredInputMultipleChoice(id="language", question="Which language?", options=options),
            StructuredInputFreeform(id="why", question="Why?"),
        ]
        return StructuredInputItem(inputs=inputs, **place(thread, "quiz"))

    @pytest.mark.parametrize(
        ("status", "given", "expected"),
        [
            ("answered", {"language": ["Python"], "why": ["It is short."]}, [["Python"], ["It is short."]]),
            ("answered", {"language": ["Rust"]}, [["Rust"], None]),
            ("skipped", {}, [None, None]),
        ],
        ids=["answered", "with a word of their own, and one left out", "skipped"],
    )
    async def test_answers_replace_the_questions_and_the_answer_goes_on(
        self, client: ProtocolClient, server: Hooked, kept, status: Any, given: dict[str, list[str]], expected: Any
    ):
        async def ask_back(thread: ThreadMetadata, message: Any, _context: Any) -> Any:
            yield ThreadItemDoneEvent(item=self.questions(thread) if message else said(thread, "Thank you."))

        server.answering = ask_back
        asked = await client.create_thread("Plan a lesson")
        answers = {id_: StructuredInputAnswerSubmission(values=values) for id_, values in given.items()}

        answered = await client.add_structured_input(
            asked.thread.id, asked.items[1].id, StructuredInputSubmission(status=status, answers=answers)
        )

        [replaced] = answered.of(ThreadItemReplacedEvent)
        _, stored, reply = await kept(asked.thread.id)
        assert stored == replaced.item
        assert (stored.status, reply) == (status, answered.reply)
        assert [None if one.answer.skipped else one.answer.values for one in stored.inputs] == expected


class TestActions:
    SEND = Action[str, Any](type="send", payload={"to": "ada"})

    def mail(self, thread: ThreadMetadata) -> WidgetItem:
        press = ActionConfig(type=self.SEND.type, payload=self.SEND.payload)
        return WidgetItem(widget=Card(children=[Button(label="Send", onClickAction=press)]), **place(thread, "mail"))

    @pytest.fixture
    async def shown(self, client: ProtocolClient, server: Hooked) -> tuple[str, str]:
        """The ids of a thread and of the widget in it."""
        server.answering = yields(done(self.mail))
        answer = await client.create_thread("Show")
        return answer.thread.id, answer.items[1].id

    async def test_a_streamed_one_is_given_its_widget_and_what_it_redraws_is_stored(
        self, client: ProtocolClient, server: Hooked, shown: tuple[str, str], kept
    ):
        sent = Card(children=[Text(value="Sent")])

        async def send(_thread: ThreadMetadata, _action: Any, sender: WidgetItem, _context: Any) -> Any:
            yield ThreadItemUpdatedEvent(item_id=sender.id, update=WidgetRootUpdated(widget=sent))

        server.acting = send

        acted = await client.custom_action(shown[0], self.SEND, shown[1])

        [(action, sender)] = server.pressed
        assert action == self.SEND
        assert sender is not None
        assert sender.id == shown[1]
        assert acted.kinds == ["stream_options", "widget.root.updated"]
        _, widget = await kept(shown[0])
        assert widget.widget == sent

    async def test_one_at_once_gives_the_changed_item_which_is_stored(
        self, client: ProtocolClient, server: Hooked, shown: tuple[str, str], kept
    ):
        sent = Card(children=[Text(value="Sent")])
        server.acting_at_once = lambda sender: SyncCustomActionResponse(
            updated_item=sender.model_copy(update={"widget": sent})
        )

        response = await client.sync_custom_action(shown[0], self.SEND, shown[1])

        [(action, sender)] = server.pressed
        assert (action, sender and sender.id) == (self.SEND, shown[1])
        assert response.updated_item is not None
        assert (response.updated_item.id, response.updated_item.widget) == (shown[1], sent)
        assert (await kept(shown[0]))[1] == response.updated_item

    async def test_one_from_elsewhere_has_no_widget(
        self, client: ProtocolClient, server: Hooked, shown: tuple[str, str], kept
    ):
        server.acting = lambda thread, *_: says("Sent.")(thread, None, LOCAL)

        acted = await client.custom_action(shown[0], self.SEND)

        assert server.pressed == [(self.SEND, None)]
        assert (await kept(shown[0]))[-1] == acted.reply


class TestSpeech:
    async def test_audio_reaches_the_hook_as_bytes_with_its_media_type(self, client: ProtocolClient, server: Hooked):
        told = await client.transcribe(b64encode(b"\x1aE\xdf\xa3").decode(), mime_type="audio/webm;codecs=opus")

        [heard] = server.audio
        assert told.text == "as it was spoken"
        assert (heard.data, heard.mime_type) == (b"\x1aE\xdf\xa3", "audio/webm;codecs=opus")
        assert heard.media_type == "audio/webm"


class TestFiles:
    @pytest.mark.parametrize(("media_type", "kind"), [("text/plain", "file"), ("image/png", "image")])
    async def test_one_is_announced_with_where_to_upload_it(
        self, client: ProtocolClient, store: AwkwardStore, media_type: str, kind: str
    ):
        file = await client.create_attachment("notes", size=9, mime_type=media_type)

        stored = await store.load_attachment(file.id, LOCAL)
        assert (file.type, file.name, file.mime_type) == (kind, "notes", media_type)
        assert file.upload_descriptor is not None
        assert (str(file.upload_descriptor.url), file.upload_descriptor.method) == (
            f"https://files.test/{file.id}",
            "PUT",
        )
        assert file.upload_descriptor.headers == {"X-Signed": "yes"}
        assert str(getattr(file, "preview_url", "")) == (f"https://files.test/{file.id}/preview" * (kind == "image"))
        assert (file.metadata, stored.metadata) == (None, {"bucket": "private"})

    @pytest.mark.parametrize("operation", ["create_thread", "add_user_message"])
    async def test_one_that_is_sent_belongs_to_its_thread_and_its_metadata_stays_here(
        self, client: ProtocolClient, server: Hooked, store: AwkwardStore, operation: str
    ):
        file = await client.create_attachment("notes.txt", size=9, mime_type="text/plain")
        uploaded = (await store.load_attachment(file.id, LOCAL)).model_copy(update={"upload_descriptor": None})
        await store.save_attachment(uploaded, LOCAL)
        content: list[Any] = [UserMessageTextContent(text="Read this")]
        asked = UserMessageInput(content=content, attachments=[file.id], inference_options=InferenceOptions())

        if operation == "create_thread":
            answer = await client.create_thread(asked)
            thread_id = answer.thread.id
        else:
            thread_id = (await client.create_thread("Hello?")).thread.id
            answer = await client.add_user_message(thread_id, asked)

        stored = await store.load_attachment(file.id, LOCAL)
        listed = await client.list_items(thread_id)
        message = server.asked[-1][0]
        assert message is not None
        assert (stored.thread_id, stored.metadata) == (thread_id, {"bucket": "private"})
        assert [(sent.id, sent.metadata) for sent in message.attachments] == [(file.id, {"bucket": "private"})]
        assert [sent.id for sent in answer.question.attachments] == [file.id]
        assert "bucket" not in listed.model_dump_json(exclude_none=True)
        assert "bucket" not in str(answer.json)

    async def test_one_that_is_taken_back_is_gone_with_its_bytes(self, client: ProtocolClient, server: Hooked):
        file = await client.create_attachment("notes.txt", size=9, mime_type="text/plain")

        await client.delete_attachment(file.id)

        assert isinstance(server.attachment_store, Files)
        assert server.attachment_store.deleted == [file.id]
        with pytest.raises(Refused) as refused:
            await client.delete_attachment(file.id)
        assert refused.value.status == 404

    async def test_without_a_place_for_them_none_are_taken(self, client: ProtocolClient, server: Hooked):
        server.attachment_store = None

        with pytest.raises(Refused) as created:
            await client.create_attachment("notes.txt", size=9, mime_type="text/plain")
        with pytest.raises(Refused) as deleted:
            await client.delete_attachment("atc_1")

        assert (created.value.status, deleted.value.status) == (501, 501)


class TestTryingAgain:
    async def test_a_new_answer_takes_the_place_of_what_followed_the_question(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        async def number(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemDoneEvent(item=said(thread, str(len(server.asked)), f"reply_{len(server.asked)}"))

        server.answering = number
        first = await client.create_thread("First?")
        second = await client.add_user_message(first.thread.id, "Second?")
        await client.add_user_message(first.thread.id, "Third?")

        again = await client.retry_after_item(first.thread.id, second.question.id)

        retried, _ = server.asked[-1]
        asked, _ = server.asked[1]
        assert retried == asked
        assert again.text == "4"
        assert await kept(first.thread.id) == [first.question, first.reply, second.question, again.reply]

    async def test_an_answer_cannot_be_answered(self, client: ProtocolClient, server: Hooked, kept):
        server.answering = says("Hello.")
        answer = await client.create_thread("Hello?")

        with pytest.raises(Refused) as refused:
            await client.retry_after_item(answer.thread.id, answer.reply.id)

        assert refused.value.status == 422
        assert await kept(answer.thread.id) == answer.items
        assert len(server.asked) == 1


class TestFailures:
    @pytest.mark.parametrize(
        ("failure", "told"),
        [
            (ValueError("secret"), {"code": "stream.error", "allow_retry": True}),
            (
                CustomStreamError("Later.", allow_retry=True),
                {"code": "custom", "message": "Later.", "allow_retry": True},
            ),
            (CustomStreamError("Never."), {"code": "custom", "message": "Never.", "allow_retry": False}),
            (StreamError(ErrorCode.STREAM_ERROR, allow_retry=False), {"code": "stream.error", "allow_retry": False}),
        ],
        ids=lambda value: str(value) if isinstance(value, Exception) else "",
    )
    async def test_what_a_hook_raises_is_one_error_event_at_the_end(
        self, client: ProtocolClient, server: Hooked, kept, failure: Exception, told: dict[str, Any]
    ):
        async def fail(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemDoneEvent(item=said(thread, "Well,"))
            raise failure

        server.answering = fail

        answer = await client.create_thread("Hello?")

        assert answer.complete
        assert answer.json[-1] == {"type": "error", **told}
        assert len(answer.errors) == 1
        assert await kept(answer.thread.id) == [answer.question, answer.reply]


class TestCancelling:
    """A turn is cancelled by closing its events; an app does that when the reader is gone."""

    @pytest.fixture
    def answering(self, server: Hooked) -> Callable[[str], Awaitable[list[dict[str, Any]]]]:
        """Asks, reads up to the event that has this text in it, and leaves; gives what was read."""
        served = server if isinstance(server, RagChatServer) else DrivenServer(server)

        async def read(until: str) -> list[dict[str, Any]]:
            result: Any = await served.process(orjson.dumps(question("Hello?")), LOCAL)
            events: list[dict[str, Any]] = []
            async with aclosing(result.json_events) as frames:
                async for frame in frames:
                    events.append(orjson.loads(frame.removeprefix(b"data: ")))
                    if until.encode() in frame:
                        return events
            raise AssertionError(events)

        return read

    @pytest.fixture
    def stored(self, store: AwkwardStore) -> Callable[[], Awaitable[list[Any]]]:
        """What is stored in the one thread."""

        async def stored() -> list[Any]:
            [thread] = (await store.load_threads(10, None, "asc", LOCAL)).data
            return (await store.load_thread_items(thread.id, None, 10, "asc", LOCAL)).data

        return stored

    async def test_what_was_written_is_stored_with_one_note_and_the_hook_is_called_once(
        self, server: Hooked, answering, stored
    ):
        async def write(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemAddedEvent(item=said(thread, "Hello, "))
            update = AssistantMessageContentPartTextDelta(content_index=0, delta="world")
            yield ThreadItemUpdatedEvent(item_id="reply", update=update)
            await asyncio.Event().wait()

        server.answering = write

        await answering(until='"delta":"world"')

        asked, partial, note = await stored()
        assert asked.type == "user_message"
        assert partial.content[0].text == "Hello, world"
        assert isinstance(note, SDKHiddenContextItem)
        assert [[item.id for item in pending] for pending in server.cancelled] == [[partial.id]]

    async def test_a_message_without_a_word_is_not_stored(self, server: Hooked, answering, stored):
        async def begin(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemAddedEvent(item=said(thread, ""))
            await asyncio.Event().wait()

        server.answering = begin

        await answering(until="thread.item.added")

        assert [item.type for item in await stored()] == ["user_message", "sdk_hidden_context"]
        assert len(server.cancelled) == 1

    async def test_a_workflow_is_stored_as_far_as_it_came_each_task_once(self, server: Hooked, answering, stored):
        async def work(thread: ThreadMetadata, *_: Any) -> Any:
            item = WorkflowItem(workflow=Workflow(type="custom", tasks=[]), **place(thread, "work"))
            yield ThreadItemAddedEvent(item=item)
            task = CustomTask(title="Search")
            item.workflow.tasks.append(task)
            yield ThreadItemUpdatedEvent(item_id="work", update=WorkflowTaskAdded(task=task, task_index=0))
            await asyncio.Event().wait()

        server.answering = work

        await answering(until="workflow.task.added")

        _, workflow, _ = await stored()
        assert [task.title for task in workflow.workflow.tasks] == ["Search"]

    async def test_a_hook_that_is_cancelled_by_itself_keeps_what_was_written(self, server: Hooked, answering, stored):
        async def write(thread: ThreadMetadata, *_: Any) -> Any:
            yield ThreadItemAddedEvent(item=said(thread, "Hello"))
            raise asyncio.CancelledError

        server.answering = write

        events = await answering(until='"type":"error"')

        asked, partial, _ = await stored()
        assert (asked.type, partial.content[0].text) == ("user_message", "Hello")
        assert events[-1]["type"] == "error"


class TestChatKitsServerBehindOurApp(ChatServerContract):
    """A server of ChatKit's own, driven by its hooks: all that the contract knows, also what the SDK itself cannot."""

    capabilities = frozenset(CAPABILITIES)
    client_tool_question = TOOL_QUESTION
    structured_question = STRUCTURED_QUESTION
    widget_question = WIDGET_QUESTION
    widget_action = MORE

    @pytest.fixture
    def stock(self, store: AwkwardStore) -> StockServer:
        stock: Any = StockServer
        return stock(store)

    @pytest.fixture
    async def client(self, stock: StockServer) -> AsyncIterator[ProtocolClient]:
        def named(connection: Any) -> Principal:
            return Principal(connection.headers["authorization"].removeprefix("Bearer "))

        chat = ChatApp(stock, authenticate=named)
        async with chat.lifespan(), ProtocolClient("/", app=chat, token="local") as client:
            yield client

    @pytest.fixture
    def other_client(self, client: ProtocolClient) -> ProtocolClient:
        return client.with_options(token="grace")

    @pytest.fixture
    def lock_thread(self, store: AwkwardStore) -> Callable[[str], Awaitable[None]]:
        async def lock(thread_id: str) -> None:
            await store.patch_thread(thread_id, {"status": LockedStatus()}, LOCAL)

        return lock

    @pytest.fixture
    def read_feedback(self, stock: StockServer) -> Callable[[str, str], Awaitable[str | None]]:
        async def read(thread_id: str, item_id: str) -> str | None:
            return stock.feedback.get((thread_id, item_id))

        return read

    @pytest.fixture
    def upload_file(self) -> Callable[..., Awaitable[None]]:
        async def upload(*_arguments: Any) -> None:
            """Nothing: what is kept of a file is its record."""

        return upload
