"""Servers that break the contract, each in one way, and the test of the contract that must notice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
from chatkit.server import StreamingResult
from chatkit.types import (
    FeedbackKind,
    Page,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
)

from testing.stock_server import Events, SmallStore, StockServer, hidden


def spoiled(spoil: Callable[..., Events]) -> Callable[[], StockServer]:
    """A server that spoils the events of its answers: the item added, its updates, the item done."""

    def tamper(events: Events) -> Events:
        added, *updates, done = events
        return spoil(added, updates, done)

    return lambda: StockServer(tamper=tamper)


def with_id(event: Any, id_: str) -> Any:
    if isinstance(event, ThreadItemUpdatedEvent):
        return event.model_copy(update={"item_id": id_})
    return event.model_copy(update={"item": event.item.model_copy(update={"id": id_})})


def with_text(event: Any, text: str) -> Any:
    [part] = event.item.content
    content = [part.model_copy(update={"text": text})]
    return event.model_copy(update={"item": event.item.model_copy(update={"content": content})})


def storing(**methods: Any) -> Callable[[], StockServer]:
    """A server whose store has other methods."""
    return lambda: StockServer(type("SpoiledStore", (SmallStore,), methods)())


def hooked(**methods: Any) -> Callable[[], StockServer]:
    """A server that has other hooks."""
    return type("SpoiledServer", (StockServer,), methods)


async def nothing(*_arguments: Any, **_named: Any) -> None:
    """A write that is forgotten."""


async def nothing_of_the_assistant(self: SmallStore, thread_id: str, item: ThreadItem, context: Any) -> None:
    if item.type != "assistant_message":
        await SmallStore.add_thread_item(self, thread_id, item, context)


async def only_the_last_question(self: SmallStore, thread_id: str, item: ThreadItem, context: Any) -> None:
    if item.type == "user_message":
        self.items.pop(thread_id, None)
    await SmallStore.add_thread_item(self, thread_id, item, context)


async def without_files(self: SmallStore, thread_id: str, item: ThreadItem, context: Any) -> None:
    if isinstance(item, UserMessageItem):
        item = item.model_copy(update={"attachments": []})
    await SmallStore.add_thread_item(self, thread_id, item, context)


async def items_of_all_threads(self: SmallStore, _id: str, after: Any, limit: int, order: str, context: Any) -> Any:
    rows = [item for items in self.items.values() for item in items.values()]
    return self.page(rows, after, limit, order)


def the_last_row_again(self: SmallStore, rows: list[Any], after: str | None, limit: int, order: str) -> Page[Any]:
    rows = rows if order == "asc" else rows[::-1]
    start = [row.id for row in rows].index(after) if after else 0
    has_more = len(rows) > start + limit
    data = rows[start : start + limit]
    return Page(data=data, has_more=has_more, after=data[-1].id if has_more else None)


async def the_old_title(self: SmallStore, thread: ThreadMetadata, context: Any) -> None:
    self.threads.setdefault(thread.id, thread)


async def the_first_word(
    self: StockServer, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Any
) -> None:
    for item_id in item_ids:
        self.feedback.setdefault((thread_id, item_id), feedback)


async def no_text(*_arguments: Any, **_named: Any) -> TranscriptionResult:
    return TranscriptionResult(text="")


async def no_item(*_arguments: Any) -> SyncCustomActionResponse:
    return SyncCustomActionResponse()


def no_action(*_arguments: Any) -> AsyncIterator[ThreadStreamEvent]:
    raise RuntimeError("no such action")


def leaking(added: Any, updates: Events, done: Any) -> Events:
    return [
        ThreadItemAddedEvent(item=hidden(ThreadMetadata(id="thr", created_at=added.item.created_at))),
        added,
        *updates,
        done,
    ]


BROKEN: dict[str, tuple[str, Callable[[], StockServer], dict[str, Any]]] = {
    "ends before the text": (
        "test_a_new_thread_begins_with_the_question_and_ends_with_the_answer",
        spoiled(lambda added, updates, done: [added, done, *updates]),
        {},
    ),
    "text before the beginning": (
        "test_a_new_thread_begins_with_the_question_and_ends_with_the_answer",
        spoiled(lambda added, updates, done: [updates[0], added, *updates[1:], done]),
        {},
    ),
    "no end": (
        "test_a_new_thread_begins_with_the_question_and_ends_with_the_answer",
        spoiled(lambda added, updates, done: [added, *updates]),
        {},
    ),
    "nothing but the end": (
        "test_a_new_thread_begins_with_the_question_and_ends_with_the_answer",
        spoiled(lambda added, updates, done: [done]),
        {},
    ),
    "forgets what came before": (
        "test_the_next_message_continues_its_thread",
        storing(add_thread_item=only_the_last_question),
        {},
    ),
    "stores another text": (
        "test_the_finished_text_is_the_deltas_joined",
        spoiled(lambda added, updates, done: [added, *updates, with_text(done, "A node is another thing.")]),
        {},
    ),
    "swaps deltas": (
        "test_the_finished_text_is_the_deltas_joined",
        spoiled(lambda added, updates, done: [added, updates[0], updates[2], updates[1], updates[3], done]),
        {},
    ),
    "ends under another id": (
        "test_a_message_has_one_id_from_its_first_event_to_its_last",
        spoiled(lambda added, updates, done: [added, *updates, with_id(done, "msg_other")]),
        {},
    ),
    "updates another id": (
        "test_a_message_has_one_id_from_its_first_event_to_its_last",
        spoiled(lambda added, updates, done: [added, *(with_id(one, "msg_other") for one in updates), done]),
        {},
    ),
    "gives every message the same id": (
        "test_no_two_items_share_an_id",
        spoiled(lambda added, updates, done: [with_id(one, "__fake_id__") for one in (added, *updates, done)]),
        {},
    ),
    "acknowledges what it does not store": (
        "test_an_item_is_stored_before_its_done_is_seen",
        storing(add_thread_item=nothing_of_the_assistant),
        {},
    ),
    "leaks what is hidden": ("test_nothing_hidden_leaves_the_server", spoiled(leaking), {}),
    "keeps the old answer": (
        "test_another_try_replaces_the_answer_and_keeps_the_question",
        storing(delete_thread_item=nothing),
        {},
    ),
    "naive times": ("test_every_time_says_its_offset", StockServer, {}),
    "repeats an item": (
        "test_the_pages_of_a_thread_hold_each_item_once",
        storing(page=the_last_row_again),
        {"order": "asc"},
    ),
    "repeats a thread": (
        "test_the_pages_of_the_list_hold_each_thread_once",
        storing(page=the_last_row_again),
        {"order": "desc"},
    ),
    "mixes threads": (
        "test_a_thread_is_found_by_its_id_with_its_items",
        storing(load_thread_items=items_of_all_threads),
        {},
    ),
    "forgets a title": ("test_a_new_title_is_kept", storing(save_thread=the_old_title), {}),
    "deletes nothing": ("test_a_deleted_thread_is_gone_and_the_others_are_not", storing(delete_thread=nothing), {}),
    "takes any limit": ("test_a_limit_is_brought_within_bounds", StockServer, {"limit": 0, "length": 1}),
    "shows a thread to all": ("test_another_reader_finds_nothing_of_a_thread", StockServer, {}),
    "lets all change a thread": ("test_another_reader_changes_nothing_of_a_thread", StockServer, {}),
    "lets all write to a thread": ("test_another_reader_cannot_write_to_a_thread", StockServer, {}),
    "takes messages in a locked thread": ("test_a_locked_thread_takes_no_messages_and_can_be_read", StockServer, {}),
    "fails over half of JSON": (
        "test_a_body_that_is_no_request_is_a_mistake_of_the_client_s",
        StockServer,
        {"body": b"{"},
    ),
    "fails over an unknown thread": (
        "test_a_thread_that_is_not_there_is_not_found",
        StockServer,
        {"operation": "threads.get_by_id"},
    ),
    "cuts the stream over an unknown thread": (
        "test_a_thread_that_is_not_there_never_breaks_a_stream",
        StockServer,
        {"operation": "threads.add_user_message"},
    ),
    "keeps the first word": ("test_the_last_word_on_an_answer_counts", hooked(add_feedback=the_first_word), {}),
    "loses a file": ("test_a_file_is_announced_and_sent_along", storing(add_thread_item=without_files), {}),
    "cuts the stream over an unknown file": ("test_a_file_that_was_taken_back_cannot_be_sent", StockServer, {}),
    "keeps a file that was taken back": (
        "test_a_file_that_was_taken_back_cannot_be_sent",
        storing(delete_attachment=nothing),
        {},
    ),
    "hears nothing": ("test_speech_becomes_text", hooked(transcribe=no_text), {}),
    "forgets a tool's output": (
        "test_the_output_of_a_client_s_tool_is_kept_and_the_answer_goes_on",
        storing(save_item=nothing),
        {},
    ),
    "forgets a reader's answers": (
        "test_a_reader_s_answers_are_kept_and_the_answer_goes_on",
        storing(save_item=nothing),
        {},
    ),
    "fails over an action": ("test_a_widget_s_action_is_answered", hooked(action=no_action), {}),
    "says nothing to an action": ("test_a_widget_s_action_is_answered_at_once", hooked(sync_action=no_item), {}),
    "does the same twice": ("test_a_request_with_the_same_key_is_carried_out_once", StockServer, {}),
    "takes a key for two requests": ("test_a_key_stands_for_one_request", StockServer, {}),
}
"""What is wrong with a server, which test of the contract must notice, and its parameters."""


class LateStore(SmallStore):
    """Keeps the assistant's messages back, until it is told to store them."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[ThreadItem] = []
        self.looks = 0
        self.listed = asyncio.Event()

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        if item.type == "assistant_message":
            self.late.append(item)
        else:
            await super().add_thread_item(thread_id, item, context)

    async def load_thread_items(self, *arguments: Any, **named: Any) -> Page[ThreadItem]:
        page = await super().load_thread_items(*arguments, **named)
        self.looks += 1
        if self.looks == 2:  # the first is for the question
            self.listed.set()
        return page


class LateServer(StockServer):
    """Stores an answer when its stream ends, which it does after somebody looked for it in vain, or after a second."""

    async def process(self, request: Any, context: Any) -> Any:
        result = await super().process(request, context)
        return StreamingResult(self.stored_at_the_end(result)) if isinstance(result, StreamingResult) else result

    async def stored_at_the_end(self, frames: StreamingResult) -> AsyncGenerator[bytes, None]:
        store: Any = self.store
        async for frame in frames:
            yield frame
        with anyio.move_on_after(1):
            await store.listed.wait()
        for item in store.late:
            await SmallStore.add_thread_item(store, item.thread_id, item, context=None)
