"""How an answer is streamed, and what is stored of it."""

from itertools import groupby

from chatkit.types import (
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    HiddenContextItem,
    SDKHiddenContextItem,
    StreamOptionsEvent,
    ThreadCreatedEvent,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)

from chatkit_rag.testing.chat_server.part import Part, items_of, messages, messages_of
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.protocol_client import ProtocolClient
from chatkit_rag.testing.streamed_answer import StreamedAnswer


class Turns(Part):
    """How an answer is streamed, and what is stored of it."""

    async def test_a_new_thread_begins_with_the_question_and_ends_with_the_answer(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)

        steps = [_step(event, answer.reply.id) for event in answer.events]
        assert [step for step, _ in groupby(filter(None, steps))] == [
            "thread.created",
            "thread.item.done (question)",
            "stream_options",
            "thread.item.added (reply)",
            "thread.item.updated (reply)",
            "thread.item.done (reply)",
        ]
        assert answer.errors == []
        assert [part.text for part in answer.question.content] == [self.question]
        assert {answer.question.thread_id, answer.reply.thread_id} == {answer.thread.id}

    async def test_the_next_message_continues_its_thread(self, client: ProtocolClient) -> None:
        first = await client.create_thread(self.question)

        second = await client.add_user_message(first.thread.id, "And then?")

        assert second.of(ThreadCreatedEvent) == []
        assert [part.text for part in second.question.content] == ["And then?"]
        stored = await messages_of(client, first.thread.id)
        assert stored == messages([*first.items, *second.items])

    async def test_the_finished_text_is_the_deltas_joined(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)

        assert answer.text.strip()
        assert _text_as_it_came(answer) == {index: part.text for index, part in enumerate(answer.reply.content)}

    async def test_a_message_has_one_id_from_its_first_event_to_its_last(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)

        added = {event.item.id for event in answer.of(ThreadItemAddedEvent)}
        updated = {event.item_id for event in answer.of(ThreadItemUpdatedEvent)}
        ended = {item.id for item in answer.items} | {event.item_id for event in answer.of(ThreadItemRemovedEvent)}
        assert updated <= added, "an update is about an item that was not added"
        assert added <= ended, "an item was added, and neither finished nor removed under its id"
        assert answer.reply.id in added

    async def test_no_two_items_share_an_id(self, client: ProtocolClient) -> None:
        first = await client.create_thread(self.question)
        again = await client.add_user_message(first.thread.id, self.question)
        other = await client.create_thread(self.question)

        ids = [item.id for answer in (first, again, other) for item in answer.items]
        assert sorted(ids) == sorted(set(ids))
        assert first.thread.id != other.thread.id

    async def test_an_item_is_stored_before_its_done_is_seen(self, client: ProtocolClient) -> None:
        async with client.create_thread(self.question) as answer:
            async for event in answer:
                if isinstance(event, ThreadItemDoneEvent):
                    assert event.item in await items_of(client, event.item.thread_id)

        assert answer.reply

    async def test_nothing_hidden_leaves_the_server(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)

        with_item = (ThreadItemAddedEvent, ThreadItemDoneEvent, ThreadItemReplacedEvent)
        seen = [event.item for event in answer.events if isinstance(event, with_item)]
        seen += await items_of(client, answer.thread.id)
        seen += (await client.get_thread(answer.thread.id)).items.data
        assert [item for item in seen if isinstance(item, HiddenContextItem | SDKHiddenContextItem)] == []

    @requires("retry")
    async def test_another_try_replaces_the_answer_and_keeps_the_question(self, client: ProtocolClient) -> None:
        first = await client.create_thread(self.question)
        await client.add_user_message(first.thread.id, "And then?")

        again = await client.retry_after_item(first.thread.id, first.question.id)

        assert again.text
        assert await messages_of(client, first.thread.id) == [first.question, *messages(again.items)]

    @requires("aware_times")
    async def test_every_time_says_its_offset(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)
        stored = await items_of(client, answer.thread.id)
        listed = (await client.list_threads()).data

        seen = [answer.thread, *answer.items, *stored, *listed, await client.get_thread(answer.thread.id)]
        assert [one.id for one in seen if one.created_at.utcoffset() is None] == []


def _step(event: ThreadStreamEvent, reply_id: str) -> str:
    """Which step of a turn the event is; empty for what may come anywhere."""
    match event:
        case ThreadCreatedEvent() | StreamOptionsEvent():
            return event.type
        case ThreadItemDoneEvent() if event.item.type == "user_message":
            return "thread.item.done (question)"
        case ThreadItemAddedEvent() | ThreadItemDoneEvent() if event.item.id == reply_id:
            return f"{event.type} (reply)"
        case ThreadItemUpdatedEvent() if event.item_id == reply_id:
            return f"{event.type} (reply)"
        case _:
            return ""


def _text_as_it_came(answer: StreamedAnswer) -> dict[int, str]:
    """The reply's parts, put together from their updates."""
    parts: dict[int, str] = {}
    for event in answer.of(ThreadItemUpdatedEvent):
        update = event.update
        if event.item_id != answer.reply.id:
            continue
        match update:
            case AssistantMessageContentPartAdded():
                parts[update.content_index] = update.content.text
            case AssistantMessageContentPartTextDelta():
                parts[update.content_index] = parts.get(update.content_index, "") + update.delta
            case AssistantMessageContentPartDone():
                assert update.content.text == parts.get(update.content_index, "")
            case _:
                pass
    return parts
