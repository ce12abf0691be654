"""A site with everything that a stranger could be after, in a thread of Alice's, and every way to ask for it."""

import json
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
from chatkit.actions import Action
from chatkit.types import (
    AudioInput,
    ClientToolCallItem,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)
from chatkit.widgets import WidgetTemplate
from starlette.requests import HTTPConnection

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.history import message_text
from chatkit_rag.agent.message import stream_text
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import SessionTokens, bearer_token
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.documents import Hit, Passage
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.base import BaseStore
from protocol.frames import Answer, message, question, request, stream

ALICE, BOB, OTHER_ALICE = Principal("alice"), Principal("bob"), Principal("alice", tenant="other")
READERS = {"alice-token": ALICE, "bob-token": BOB, "other-alice-token": OTHER_ALICE}
SECRET = "a secret of more than thirty-two bytes"
AUDIO = b64encode(b"\x1aE\xdf\xa3").decode()
ANSWER = "A node is a process."
QUIZ, WIDGET, TOOL = "Ask me", "Show the button", "Call the tool"
MORE = {"type": "more", "payload": {}}

BUTTON = WidgetTemplate(
    {
        "version": "1.0",
        "name": "button",
        "template": '{"type": "Card", "children": [{"type": "Button", "label": "More", '
        '"onClickAction": {"type": "more", "payload": {}}}]}',
        "jsonSchema": {},
    }
)
PASSAGE = Passage(
    id="00000000-0000-0000-0000-000000000001",
    path="/nodes",
    anchor="what-is-a-node",
    title="Nodes",
    heading_path=("Nodes", "What is a node?"),
    text="A node is a process that performs computation.",
    url="/nodes#what-is-a-node",
)

Hook = Callable[[ThreadMetadata, RequestContext], AsyncIterator[ThreadStreamEvent]]


class OnePassage:
    """A source that finds the same for every question."""

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        return Retrieved(hits=(Hit(passage=PASSAGE, score=1.0),), weak=False)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...


class EverythingServer(RagChatServer):
    """Makes the item that a question names, and says its sentence for every other; or does what `hook` does."""

    hook: Hook | None = None
    acted: int = 0

    def __init__(self, store: Any, **arguments: Any) -> None:
        super().__init__(store, sources=[OnePassage()], **{"model": "extractive", **arguments})

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        asked = message_text(input_user_message) if input_user_message else ""
        if self.hook is not None:
            async for event in self.hook(thread, context):
                yield event
        elif asked in ITEMS:
            yield ThreadItemDoneEvent(item=ITEMS[asked](thread, context, self.store))
        else:
            async for event in self.say(thread, context):
                yield event

    async def say(self, thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
        turn = TurnContext(thread=thread, store=self.store, request_context=context)
        async for event in stream_text(ANSWER, turn):
            yield event

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        self.acted += 1
        async for event in self.say(thread, context):
            yield event

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> SyncCustomActionResponse:
        self.acted += 1
        updated = sender.model_copy(update={"copy_text": "pressed"}) if sender else None
        return SyncCustomActionResponse(updated_item=updated)

    async def transcribe(self, audio_input: AudioInput, context: RequestContext) -> TranscriptionResult:
        return TranscriptionResult(text=f"{len(audio_input.data)} bytes of {audio_input.media_type}")


def _place(kind: Any, thread: ThreadMetadata, context: RequestContext, store: Any) -> dict[str, Any]:
    id_ = store.generate_item_id(kind, thread, context)
    return {"id": id_, "thread_id": thread.id, "created_at": utc_now()}


def tool_call(thread: ThreadMetadata, context: RequestContext, store: Any) -> ClientToolCallItem:
    place = _place("tool_call", thread, context, store)
    return ClientToolCallItem(call_id="call_1", name="where_am_i", arguments={}, **place)


def quiz(thread: ThreadMetadata, context: RequestContext, store: Any) -> StructuredInputItem:
    options = [StructuredInputMultipleChoiceOption(value=value) for value in ("a topic", "a service")]
    inputs = [
        StructuredInputMultipleChoice(id="q1", question="What streams?", options=options),
        StructuredInputFreeform(id="q2", question="And why?"),
    ]
    return StructuredInputItem(inputs=inputs, **_place("message", thread, context, store))


def button(thread: ThreadMetadata, context: RequestContext, store: Any) -> WidgetItem:
    return WidgetItem(widget=BUTTON.build(), **_place("message", thread, context, store))


ITEMS: dict[str, Callable[[ThreadMetadata, RequestContext, Any], ThreadItem]] = {
    QUIZ: quiz,
    WIDGET: button,
    TOOL: tool_call,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What a reader has, by its ids; or what nobody has."""

    thread: str
    question: str
    answer: str
    quiz: str
    widget: str
    tool_call: str
    used_file: str
    loose_file: str

    @property
    def ids(self) -> dict[str, str]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


NOBODYS = Belongings(
    thread="thr_" + "0" * 34,
    question="msg_" + "1" * 34,
    answer="msg_" + "2" * 34,
    quiz="msg_" + "3" * 34,
    widget="msg_" + "4" * 34,
    tool_call="tc_" + "5" * 34,
    used_file="atc_" + "6" * 34,
    loose_file="atc_" + "7" * 34,
)


def every_operation(of: Belongings) -> list[dict[str, Any]]:
    """One valid request of each of the sixteen operations, about these things as far as it can be about any."""
    at, pressed = {"thread_id": of.thread}, {"item_id": of.widget, "action": MORE}
    return [
        request("threads.create", input=message("Look", attachments=[of.loose_file])),
        request("threads.add_user_message", **at, input=message("And then?", attachments=[])),
        request("threads.add_client_tool_output", **at, result={"page": 3}),
        request(
            "threads.add_structured_input",
            **at,
            item_id=of.quiz,
            input={"status": "answered", "answers": {"q1": {"values": ["a topic"]}, "q2": {"values": ["It flows."]}}},
        ),
        request("threads.retry_after_item", **at, item_id=of.question),
        request("threads.custom_action", **at, **pressed),
        request("threads.sync_custom_action", **at, **pressed),
        request("threads.get_by_id", **at),
        request("threads.list", limit=2, order="asc", after=of.thread),
        request("threads.update", **at, title="Mine now"),
        request("threads.delete", **at),
        request("items.list", **at, limit=2, order="desc", after=of.answer),
        request("items.feedback", **at, item_ids=[of.answer], kind="negative"),
        request("attachments.create", name="notes.txt", size=5, mime_type="text/plain"),
        request("attachments.delete", attachment_id=of.loose_file),
        request("input.transcribe", audio_base64=AUDIO, mime_type="audio/webm"),
    ]


ADDRESSES_NOTHING = {"attachments.create", "input.transcribe"}
"""Operations that are about nothing which is there already."""


async def settle_in(reader: httpx.AsyncClient) -> Belongings:
    """A thread with an item of every kind, one file in its first message, and one that was only uploaded."""
    used_file, loose_file = await upload(reader, "used.txt"), await upload(reader, "loose.txt")
    first = await stream(reader, request("threads.create", input=message("What is a node?", attachments=[used_file])))
    made = {asked: _made(await stream(reader, question(asked, first.thread_id))) for asked in ITEMS}
    return Belongings(
        thread=first.thread_id,
        question=first.question["id"],
        answer=first.reply["id"],
        quiz=made[QUIZ],
        widget=made[WIDGET],
        tool_call=made[TOOL],
        used_file=used_file,
        loose_file=loose_file,
    )


def _made(answer: Answer) -> str:
    return answer.of("thread.item.done")[-1]["item"]["id"]


async def upload(reader: httpx.AsyncClient, name: str) -> str:
    uploaded = await reader.post("/attachments", params={"name": name}, content=b"12345", headers=PLAIN_TEXT)
    assert uploaded.status_code == 200, uploaded.text
    return uploaded.json()["id"]


PLAIN_TEXT = {"Content-Type": "text/plain"}


async def everything_of(store: BaseStore, owner: Principal, things: Belongings) -> str:
    """Every thread, item and file record of the owner, as text."""
    context = RequestContext(principal=owner)
    threads = (await store.load_threads(100, None, "asc", context)).data
    items = [await store.load_thread_items(thread.id, None, 100, "asc", context) for thread in threads]
    files = [await store.load_attachment(id_, context) for id_ in (things.used_file, things.loose_file)]
    records = [*threads, *(item for page in items for item in page.data), *files]
    return "\n".join(record.model_dump_json() for record in records)


def without_ids(text: str, things: Belongings) -> str:
    """The text with each id replaced by what it is the id of."""
    for name, id_ in things.ids.items():
        text = text.replace(id_, f"<{name}>")
    return text


def authenticate(connection: HTTPConnection) -> Principal | None:
    """The site's own tokens; whoever shows another one may still have one of ours."""
    return READERS.get(bearer_token(connection) or "")


def app_of(server: Any, **options: Any) -> ChatApp:
    """The app that strangers come to: signed-in readers, and anonymous ones with a session."""
    return ChatApp(
        server,
        authenticate=authenticate,
        sessions=SessionTokens(SECRET),
        options=AppOptions(**{"allow_anonymous": True, "streams_per_reader": 0, **options}),
    )


@asynccontextmanager
async def client_of(chat: ChatApp, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `chat`, in process, that shows the token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app=chat)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http:
        yield http


def files_in(folder: Path) -> LocalAttachmentStore:
    return LocalAttachmentStore(folder, secret=SECRET)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
