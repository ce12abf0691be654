"""What items are called and when they were made, whatever hooks and models say; and what is kept of unfinished ones."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    CustomTask,
    GeneratedImage,
    GeneratedImageItem,
    GeneratedImageUpdated,
    HiddenContextItem,
    Page,
    SDKHiddenContextItem,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
    WidgetComponentUpdated,
    WidgetItem,
    WidgetRootUpdated,
    WidgetStreamingTextValueDelta,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from chatkit.widgets import Card, Markdown, Text

from chatkit_rag.server import RagChatServer
from protocol.frames import COVERED, Answer, ask, items_of, texts

pytestmark = pytest.mark.anyio

FAKE = "__fake_id__"
Play = Callable[..., None]


@pytest.fixture
def play(server: RagChatServer, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a hook in place that yields these events, each made for the thread."""

    def put(*make: Callable[[str], ThreadStreamEvent | Exception]) -> None:
        async def respond(thread: Any, _message: Any, _context: Any) -> AsyncIterator[ThreadStreamEvent]:
            for event in (each(thread.id) for each in make):
                if isinstance(event, Exception):
                    raise event
                yield event

        monkeypatch.setattr(server, "respond", respond)

    return put


def fields(thread_id: str, id_: str) -> dict[str, Any]:
    # Naive, as ChatKit's own code makes it.
    return {"id": id_, "thread_id": thread_id, "created_at": datetime.now()}  # noqa: DTZ005


def message(id_: str, text: str = "") -> Callable[[str], AssistantMessageItem]:
    content = [AssistantMessageContent(text=text)] if text else []
    return lambda thread_id: AssistantMessageItem(**fields(thread_id, id_), content=content)


def workflow(*titles: str) -> Callable[[str], WorkflowItem]:
    tasks = [CustomTask(title=title) for title in titles]
    return lambda thread_id: WorkflowItem(**fields(thread_id, "w"), workflow=Workflow(type="custom", tasks=tasks))


def widget(value: str) -> Callable[[str], WidgetItem]:
    card = Card(children=[Markdown(id="m", value=value), Text(id="t", value="-")])
    return lambda thread_id: WidgetItem(**fields(thread_id, "x"), widget=card)


def image(thread_id: str) -> GeneratedImageItem:
    return GeneratedImageItem(**fields(thread_id, "i"))


def added(make: Callable[[str], ThreadItem]) -> Callable[[str], ThreadStreamEvent]:
    return lambda thread_id: ThreadItemAddedEvent(item=make(thread_id))


def done(make: Callable[[str], ThreadItem]) -> Callable[[str], ThreadStreamEvent]:
    return lambda thread_id: ThreadItemDoneEvent(item=make(thread_id))


def replaced(make: Callable[[str], ThreadItem]) -> Callable[[str], ThreadStreamEvent]:
    return lambda thread_id: ThreadItemReplacedEvent(item=make(thread_id))


def updated(id_: str, update: Any) -> Callable[[str], ThreadStreamEvent]:
    return lambda _thread_id: ThreadItemUpdatedEvent(item_id=id_, update=update)


def removed(id_: str) -> Callable[[str], ThreadStreamEvent]:
    return lambda _thread_id: ThreadItemRemovedEvent(item_id=id_)


def delta(text: str) -> AssistantMessageContentPartTextDelta:
    return AssistantMessageContentPartTextDelta(content_index=0, delta=text)


def fails(_thread_id: str) -> Exception:
    return RuntimeError("the model is away")


def streamed(id_: str, text: str) -> list[Callable[[str], ThreadStreamEvent]]:
    return [added(message(id_)), updated(id_, delta(text)), done(message(id_, text))]


def ids(answer: Answer) -> list[str]:
    """The ids of the events of the answer's items, in their order."""
    asked = answer.question["id"]
    named = [event.get("item_id") or event.get("item", {}).get("id") for event in answer.events]
    return [id_ for id_ in named if id_ and id_ != asked]


class TestIds:
    async def test_one_message_has_one_id_of_ours_from_its_first_event_to_its_last(
        self, client: httpx.AsyncClient, play: Play
    ):
        play(*streamed(FAKE, "Hello."))

        answer = await ask(client, COVERED)

        assert len(ids(answer)) == 3
        assert set(ids(answer)) == {answer.reply["id"]}
        assert FAKE not in str(answer.events)
        assert [item["id"] for item in await items_of(client, answer.thread_id)] == [
            answer.question["id"],
            answer.reply["id"],
        ]

    async def test_messages_that_share_a_name_are_apart_within_a_turn_and_between_turns(
        self, client: httpx.AsyncClient, play: Play
    ):
        play(*streamed(FAKE, "One."), *streamed(FAKE, "Two."))

        first = await ask(client, COVERED)
        await ask(client, COVERED, first.thread_id)

        kept = await items_of(client, first.thread_id)
        assert texts(kept) == [COVERED, "One.", "Two."] * 2
        assert len({item["id"] for item in kept}) == 6

    async def test_a_name_that_a_model_uses_in_every_response_is_a_new_message_each_time(
        self, client: httpx.AsyncClient, play: Play
    ):
        play(*streamed("msg_0", "The same name."))

        first = await ask(client, COVERED)
        await ask(client, COVERED, first.thread_id)

        assert texts(await items_of(client, first.thread_id)) == [COVERED, "The same name."] * 2

    async def test_a_hook_reaches_an_item_of_an_earlier_turn_by_the_name_that_it_gave_it(
        self, client: httpx.AsyncClient, play: Play
    ):
        play(done(widget("one")))
        first = await ask(client, COVERED)
        play(replaced(widget("two")))

        again = await ask(client, COVERED, first.thread_id)

        shown = first.of("thread.item.done")[-1]["item"]
        assert again.of("thread.item.replaced")[0]["item"]["id"] == shown["id"]
        assert [item["type"] for item in await items_of(client, first.thread_id)].count("widget") == 1

    async def test_an_item_goes_by_the_name_that_the_server_s_store_made(
        self, client: httpx.AsyncClient, server: RagChatServer, monkeypatch: pytest.MonkeyPatch
    ):
        made: list[str] = []

        async def respond(thread: Any, _message: Any, context: Any) -> AsyncIterator[ThreadStreamEvent]:
            made.append(server.store.generate_item_id("message", thread, context))
            yield ThreadItemDoneEvent(item=message(made[0], "Hello.")(thread.id))

        monkeypatch.setattr(server, "respond", respond)

        answer = await ask(client, COVERED)

        assert answer.reply["id"] == made[0]

    async def test_an_item_of_another_thread_stays_where_it_is(self, client: httpx.AsyncClient, play: Play):
        first = await ask(client, COVERED)
        play(done(message(first.reply["id"], "Mine now.")))

        other = await ask(client, COVERED)

        assert texts(await items_of(client, first.thread_id)) == [COVERED, first.text]
        assert texts(await items_of(client, other.thread_id)) == [COVERED, "Mine now."]


class TestTimes:
    async def test_every_time_on_the_wire_is_aware_and_the_same_from_first_to_last(
        self, client: httpx.AsyncClient, play: Play
    ):
        before = datetime.now(UTC) - timedelta(seconds=1)
        play(*streamed("a", "Hello."))

        answer = await ask(client, COVERED)

        begun, ended = answer.of("thread.item.added")[0]["item"], answer.reply
        assert begun["created_at"] == ended["created_at"]
        for thing in (ended, answer.question, answer.of("thread.created")[0]["thread"]):
            moment = datetime.fromisoformat(thing["created_at"])
            assert moment.utcoffset() == timedelta()
            assert before < moment < datetime.now(UTC) + timedelta(seconds=1)


SECRET = "the reader is a pirate"
HIDDEN: list[Callable[[str], ThreadItem]] = [
    lambda thread_id: HiddenContextItem(**fields(thread_id, "h"), content=SECRET),
    lambda thread_id: SDKHiddenContextItem(**fields(thread_id, "h"), content=SECRET),
]


@pytest.mark.parametrize("hidden", HIDDEN, ids=["hidden context", "the sdk's"])
class TestHiding:
    async def test_no_event_of_a_hidden_item_leaves(
        self, client: httpx.AsyncClient, play: Play, hidden: Callable[[str], ThreadItem]
    ):
        def thread(thread_id: str) -> ThreadStreamEvent:
            items = Page[ThreadItem](data=[hidden(thread_id)])
            metadata = {"private": SECRET}
            return ThreadUpdatedEvent(
                thread=Thread(id=thread_id, created_at=datetime.now(), items=items, metadata=metadata)  # noqa: DTZ005
            )

        play(added(hidden), updated("h", delta(SECRET)), done(hidden), replaced(hidden), removed("h"), thread)

        answer = await ask(client, COVERED)

        assert answer.kinds[3:] == ["thread.updated"]
        assert SECRET not in orjson.dumps(answer.events).decode()
        assert answer.of("thread.updated")[0]["thread"]["items"]["data"] == []

    async def test_a_shown_item_that_becomes_hidden_goes_from_the_screen(
        self, client: httpx.AsyncClient, play: Play, hidden: Callable[[str], ThreadItem]
    ):
        play(done(message("h", "Ahoy.")), replaced(hidden))

        answer = await ask(client, COVERED)

        assert answer.of("thread.item.removed")[0]["item_id"] == answer.reply["id"]
        assert SECRET not in orjson.dumps([answer.events, await items_of(client, answer.thread_id)]).decode()


class TestUnfinishedItems:
    @pytest.mark.parametrize(
        ("events", "kept"),
        [
            (
                [
                    added(workflow("Look")),
                    updated("w", WorkflowTaskAdded(task_index=1, task=CustomTask(title="Read"))),
                    updated("w", WorkflowTaskUpdated(task_index=0, task=CustomTask(title="Looked"))),
                ],
                lambda item: [task["title"] for task in item["workflow"]["tasks"]] == ["Looked", "Read"],
            ),
            (
                [
                    added(widget("# A")),
                    updated("x", WidgetStreamingTextValueDelta(component_id="m", delta=" plan", done=False)),
                    updated("x", WidgetComponentUpdated(component_id="t", component=Text(id="t", value="!"))),
                ],
                lambda item: [part["value"] for part in item["widget"]["children"]] == ["# A plan", "!"],
            ),
            (
                [
                    added(widget("old")),
                    updated("x", WidgetRootUpdated(widget=Card(children=[Text(value="new")]))),
                ],
                lambda item: [part["value"] for part in item["widget"]["children"]] == ["new"],
            ),
            (
                [
                    added(image),
                    updated("i", GeneratedImageUpdated(image=GeneratedImage(id="g", url="https://x.org/1.png"))),
                ],
                lambda item: item["image"]["url"] == "https://x.org/1.png",
            ),
            (
                [added(message("a")), updated("a", delta("half "))],
                lambda item: item["content"][0]["text"] == "half ",
            ),
        ],
        ids=["workflow", "widget", "widget root", "image", "message"],
    )
    async def test_a_failing_turn_keeps_what_was_shown_and_says_that_it_is_not_whole(
        self,
        client: httpx.AsyncClient,
        play: Play,
        events: list[Callable[[str], ThreadStreamEvent]],
        kept: Callable[[dict[str, Any]], bool],
    ):
        play(*events, fails)

        answer = await ask(client, COVERED)

        [_question, item] = await items_of(client, answer.thread_id)
        assert answer.kinds[-1] == "error"
        assert kept(item), item
        assert item["status"] == "interrupted"

    async def test_what_shows_nothing_is_not_kept(self, client: httpx.AsyncClient, play: Play):
        play(added(message("a")), added(workflow()), added(image), fails)

        answer = await ask(client, COVERED)

        assert len(await items_of(client, answer.thread_id)) == 1

    async def test_what_a_hook_forgets_to_complete_is_completed(self, client: httpx.AsyncClient, play: Play):
        play(added(message("a")), updated("a", delta("All there is.")))

        answer = await ask(client, COVERED)

        assert answer.text == "All there is."
        assert await items_of(client, answer.thread_id) == [answer.question, answer.reply]

    async def test_a_task_that_the_announced_workflow_holds_already_is_not_there_twice(
        self, client: httpx.AsyncClient, play: Play
    ):
        task = CustomTask(title="Read")
        play(added(workflow("Look", "Read")), updated("w", WorkflowTaskAdded(task_index=1, task=task)), fails)

        answer = await ask(client, COVERED)

        [_question, item] = await items_of(client, answer.thread_id)
        assert [each["title"] for each in item["workflow"]["tasks"]] == ["Look", "Read"]


async def test_a_widget_of_an_earlier_turn_that_is_redrawn_stays_so(client: httpx.AsyncClient, play: Play):
    play(done(widget("one")))
    first = await ask(client, COVERED)
    play(updated("x", WidgetRootUpdated(widget=Card(children=[Text(value="two")]))))

    await ask(client, COVERED, first.thread_id)

    items = await items_of(client, first.thread_id)
    [kept] = [item for item in items if item["type"] == "widget"]
    assert kept["widget"]["children"][0]["value"] == "two"


async def test_a_whole_answer_that_is_cut_behind_its_end_is_not_called_interrupted(
    client: httpx.AsyncClient, play: Play
):
    play(*streamed("a", "All of it."), fails)

    answer = await ask(client, COVERED)

    assert "status" not in answer.reply
    assert await items_of(client, answer.thread_id) == [answer.question, answer.reply]
