"""What every store promises; the promises stand in `stores.base`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from chatkit import store as sdk
from chatkit import types as ck
from chatkit.server import ChatKitServer, NonStreamingResult
from chatkit.widgets import Card, Text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from chatkit_rag import errors
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore

pytestmark = pytest.mark.anyio

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)


def reader(name: str, *, tenant: str = "") -> RequestContext:
    return RequestContext(principal=Principal(name, tenant=tenant))


def thread(id_: str = "thr_1", **fields: Any) -> ck.ThreadMetadata:
    return ck.ThreadMetadata(**({"id": id_, "created_at": T0} | fields))


def message(id_: str = "msg_1", text: str = "What is a node?", **fields: Any) -> ck.UserMessageItem:
    content = [ck.UserMessageTextContent(text=text)]
    given_ = {"id": id_, "thread_id": "thr_1", "created_at": T0, "content": content}
    return ck.UserMessageItem(**(given_ | {"inference_options": ck.InferenceOptions()} | fields))


def text_of(item: Any) -> str:
    return item.content[0].text


def items_of_all_types() -> list[Any]:
    place = {"thread_id": "thr_1", "created_at": T0}
    source = ck.URLSource(title="Nodes", url="/module-1/nodes#why", description="…", group="Week 1")
    entity = ck.EntitySource(id="page-1", title="Page", data={"deep": {"list": [1, 2.5, None, True]}})
    file = ck.FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", metadata={"pages": 3})
    image = ck.ImageAttachment(id="atc_2", name="b.png", mime_type="image/png", preview_url="https://x.test/b.png")
    tag = ck.UserMessageTagContent(id="tag_1", text="@nodes", data={"path": "/nodes"}, interactive=True)
    tasks = [
        ck.SearchTask(title="Searched", queries=["nodes"], sources=[source], status_indicator="complete"),
        ck.ThoughtTask(content="Hm."),
        ck.CustomTask(title="Custom", icon="book-open", content="text"),
        ck.FileTask(sources=[ck.FileSource(title="a", filename="a.pdf")]),
        ck.ImageTask(title="An image"),
    ]
    choice = ck.StructuredInputMultipleChoice(
        id="q1",
        question="Which?",
        options=[ck.StructuredInputMultipleChoiceOption(value="a")],
        multiple=True,
        answer=ck.StructuredInputAnswer(values=["a", "\N{SNOWMAN}"]),
    )
    free = ck.StructuredInputFreeform(id="q2", question="Why?", description="In a word")
    return [
        message(
            "i01",
            content=[ck.UserMessageTextContent(text="Zürich 👩‍🚀 \x00 \u2028 'a' \"b\" -- ; %s ? :a"), tag],
            attachments=[file, image],
            quoted_text="quoted",
            inference_options=ck.InferenceOptions(tool_choice=ck.ToolChoice(id="search"), model="m"),
        ),
        ck.AssistantMessageItem(
            id="i02",
            content=[
                ck.AssistantMessageContent(
                    text="A node is a process.",
                    annotations=[ck.Annotation(source=source, index=5), ck.Annotation(source=entity)],
                ),
                ck.AssistantMessageContent(text=""),
            ],
            **place,
        ),
        ck.ClientToolCallItem(
            id="i03",
            call_id="c",
            name="get_selection",
            arguments={"a": [1, {"b": None}]},
            output={"text": "x"},
            **place,
        ),
        ck.ClientToolCallItem(id="i04", status="completed", call_id="c", name="n", arguments={}, **place),
        ck.WidgetItem(id="i05", widget=Card(children=[Text(value="Hello")]), copy_text="Hello", **place),
        ck.GeneratedImageItem(id="i06", image=ck.GeneratedImage(id="img", url="https://x.test/i.png"), **place),
        ck.StructuredInputItem(id="i07", status="answered", inputs=[choice, free], **place),
        ck.TaskItem(id="i08", task=tasks[0], **place),
        ck.WorkflowItem(
            id="i09",
            workflow=ck.Workflow(type="custom", tasks=tasks, summary=ck.CustomSummary(title="Done"), expanded=True),
            **place,
        ),
        ck.WorkflowItem(
            id="i10", workflow=ck.Workflow(type="reasoning", tasks=[], summary=ck.DurationSummary(duration=3)), **place
        ),
        ck.EndOfTurnItem(id="i11", **place),
        ck.HiddenContextItem(id="i12", content={"why": ["hidden", 1]}, **place),
        ck.HiddenContextItem(id="i13", content="text", **place),
        ck.SDKHiddenContextItem(id="i14", content="text", **place),
    ]


async def fill(store: Any, context: RequestContext, *, items: int = 0, id_: str = "thr_1") -> list[str]:
    """A thread with so many messages, all of one moment, with ids that do not sort as they arrive."""
    await store.save_thread(thread(id_), context)
    ids = [f"msg_{(number * 7919) % 1009:04}" for number in range(items)]
    for name in ids:
        await store.add_thread_item(id_, message(name, text=name, thread_id=id_), context)
    return ids


async def item_ids(store: Any, context: RequestContext, id_: str = "thr_1", order: str = "asc") -> list[str]:
    return [item.id async for item in every(lambda after: store.load_thread_items(id_, after, 100, order, context))]


async def thread_ids(store: Any, context: RequestContext, order: str = "asc") -> list[str]:
    return [found.id async for found in every(lambda after: store.load_threads(100, after, order, context))]


async def every(load: Callable[[str | None], Awaitable[ck.Page[Any]]]) -> Any:
    after = None
    while True:
        page = await load(after)
        for row in page.data:
            yield row
        if not page.has_more:
            return
        after = page.after


class TestThreads:
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"title": "Nodes, and 'why' 👩‍🚀"},
            {"title": ""},
            {"status": ck.LockedStatus(reason="maintenance")},
            {"status": ck.ClosedStatus()},
            {"metadata": {"page": {"url": "/nodes", "n": [1, 2.5, None, True]}, "": ""}},
            {"allowed_image_domains": ["x.test"]},
        ],
    )
    async def test_a_thread_comes_back_as_it_was_saved(self, store: Any, ada: RequestContext, fields: dict[str, Any]):
        await store.save_thread(thread(**fields), ada)

        assert await store.load_thread("thr_1", ada) == thread(**fields)
        assert (await store.load_threads(10, None, "asc", ada)).data == [thread(**fields)]

    async def test_saving_again_changes_it_and_keeps_its_place_and_items(self, store: Any, ada: RequestContext):
        for number in range(3):
            await fill(store, ada, items=1, id_=f"thr_{number}")

        changed = thread("thr_1", title="New", status=ck.LockedStatus(), created_at=T0 + timedelta(days=1))
        await store.save_thread(changed, ada)

        assert await store.load_thread("thr_1", ada) == changed
        assert await thread_ids(store, ada) == ["thr_0", "thr_1", "thr_2"]
        assert await item_ids(store, ada, "thr_1") == ["msg_0000"]

    async def test_they_come_in_the_order_of_their_arrival_whatever_their_times_and_ids_say(
        self, store: Any, ada: RequestContext
    ):
        for number, name in enumerate(["c", "a", "b"]):
            await store.save_thread(thread(name, created_at=T0 - timedelta(days=number % 2)), ada)

        assert await thread_ids(store, ada, "asc") == ["c", "a", "b"]
        assert await thread_ids(store, ada, "desc") == ["b", "a", "c"]

    async def test_a_thread_that_carries_items_is_kept_without_them(self, store: Any, ada: RequestContext):
        whole = ck.Thread(id="thr_1", created_at=T0, title="T", items=ck.Page(data=[message()]))

        await store.save_thread(whole, ada)

        loaded = await store.load_thread("thr_1", ada)
        assert type(loaded) is ck.ThreadMetadata
        assert loaded == thread(title="T")
        assert await item_ids(store, ada) == []

    async def test_one_that_is_not_there_is_not_found(self, store: Any, ada: RequestContext):
        with pytest.raises(NotFound):
            await store.load_thread("thr_1", ada)

    async def test_not_found_is_chatkits_error_and_ours(self, store: Any, ada: RequestContext):
        with pytest.raises(sdk.NotFoundError):
            await store.load_thread("thr_1", ada)
        with pytest.raises(errors.NotFound):
            await store.load_thread("thr_1", ada)

    async def test_deleting_takes_the_items_along(self, store: Any, ada: RequestContext):
        [name] = await fill(store, ada, items=1)
        await fill(store, ada, items=1, id_="other")

        await store.delete_thread("thr_1", ada)

        assert await thread_ids(store, ada) == ["other"]
        assert await item_ids(store, ada) == []
        assert await item_ids(store, ada, "other") == [name]
        with pytest.raises(NotFound):
            await store.load_item("thr_1", name, ada)

    async def test_deleting_twice_is_as_deleting_once(self, store: Any, ada: RequestContext):
        await fill(store, ada)

        await store.delete_thread("thr_1", ada)
        await store.delete_thread("thr_1", ada)

        assert await thread_ids(store, ada) == []

    async def test_one_that_is_made_again_is_new_and_empty(self, store: Any, ada: RequestContext):
        await fill(store, ada, items=2)
        await fill(store, ada, id_="other")

        await store.delete_thread("thr_1", ada)
        await store.save_thread(thread(), ada)

        assert await item_ids(store, ada) == []
        assert await thread_ids(store, ada) == ["other", "thr_1"]


class TestPatches:
    """What a store may do besides ChatKit's methods: single fields of a thread, and feedback."""

    async def test_one_field_is_changed_and_the_others_stay(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(title="Before", metadata={"site": "robots"}), ada)

        await store.patch_thread("thr_1", {"title": "After, and 'why' 👩‍🚀"}, ada)
        await store.patch_thread("thr_1", {"metadata": {"page": None, "n": [1, 2.5]}, "status": ck.LockedStatus()}, ada)

        expected = thread(
            title="After, and 'why' 👩‍🚀", metadata={"page": None, "n": [1, 2.5]}, status=ck.LockedStatus()
        )
        assert await store.load_thread("thr_1", ada) == expected

    async def test_a_title_can_be_taken_away(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(title="Before"), ada)

        await store.patch_thread("thr_1", {"title": None}, ada)

        assert (await store.load_thread("thr_1", ada)).title is None

    async def test_what_is_not_there_or_not_ones_own_is_not_brought_into_being(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(title="Ada's"), ada)

        with pytest.raises(NotFound):
            await store.patch_thread("thr_1", {"title": "Mine"}, reader("mallory"))
        with pytest.raises(NotFound):
            await store.patch_thread("thr_9", {"title": "Ghost"}, ada)

        assert await thread_ids(store, ada) == ["thr_1"]
        assert (await store.load_thread("thr_1", ada)).title == "Ada's"
        assert await thread_ids(store, reader("mallory")) == []

    async def test_changes_of_different_fields_at_once_are_all_kept(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(), ada)

        await asyncio.gather(
            store.patch_thread("thr_1", {"title": "Nodes"}, ada),
            store.patch_thread("thr_1", {"metadata": {"site": "robots"}}, ada),
            store.patch_thread("thr_1", {"allowed_image_domains": ["x.test"]}, ada),
        )

        expected = thread(title="Nodes", metadata={"site": "robots"}, allowed_image_domains=["x.test"])
        assert await store.load_thread("thr_1", ada) == expected

    async def test_feedback_is_taken_and_goes_with_its_thread(self, store: Any, ada: RequestContext):
        (first,) = await fill(store, ada, items=1)

        await store.save_feedback("thr_1", [first], {"kind": "positive"}, ada)
        await store.save_feedback("thr_1", [first], {"kind": "negative", "text": "No."}, ada)
        await store.delete_thread("thr_1", ada)

        assert await item_ids(store, ada) == []


class TestItems:
    @pytest.mark.parametrize("item", items_of_all_types(), ids=lambda item: f"{item.type}-{item.id}")
    async def test_an_item_of_every_type_comes_back_as_it_was_stored(
        self, store: Any, ada: RequestContext, item: ck.ThreadItem
    ):
        await fill(store, ada)

        await store.add_thread_item("thr_1", item, ada)

        loaded = await store.load_item("thr_1", item.id, ada)
        assert type(loaded) is type(item)
        assert loaded == item
        assert (await store.load_thread_items("thr_1", None, 10, "asc", ada)).data == [item]

    async def test_they_come_in_the_order_of_their_arrival_whatever_their_times_and_ids_say(
        self, store: Any, ada: RequestContext
    ):
        ids = await fill(store, ada, items=12)
        assert ids != sorted(ids)

        assert await item_ids(store, ada) == ids
        assert await item_ids(store, ada, order="desc") == ids[::-1]

    @pytest.mark.parametrize("method", ["add_thread_item", "save_item"])
    async def test_storing_a_known_item_replaces_it_in_its_place(self, store: Any, ada: RequestContext, method: str):
        ids = await fill(store, ada, items=3)

        await getattr(store, method)("thr_1", message(ids[1], text="changed"), ada)

        assert await item_ids(store, ada) == ids
        assert text_of(await store.load_item("thr_1", ids[1], ada)) == "changed"

    async def test_saving_an_unknown_item_stores_it(self, store: Any, ada: RequestContext):
        await fill(store, ada)

        await store.save_item("thr_1", message(), ada)

        assert await store.load_item("thr_1", "msg_1", ada) == message()

    @pytest.mark.parametrize("method", ["add_thread_item", "save_item"])
    async def test_an_item_never_brings_a_deleted_thread_back(self, store: Any, ada: RequestContext, method: str):
        await fill(store, ada)
        await store.delete_thread("thr_1", ada)

        with pytest.raises(NotFound):
            await getattr(store, method)("thr_1", message(), ada)

        assert await thread_ids(store, ada) == []
        await fill(store, ada)
        assert await item_ids(store, ada) == []

    async def test_deleting_one_leaves_the_others_and_is_idempotent(self, store: Any, ada: RequestContext):
        ids = await fill(store, ada, items=3)

        await store.delete_thread_item("thr_1", ids[1], ada)
        await store.delete_thread_item("thr_1", ids[1], ada)
        await store.delete_thread_item("nowhere", ids[0], ada)

        assert await item_ids(store, ada) == [ids[0], ids[2]]
        with pytest.raises(NotFound):
            await store.load_item("thr_1", ids[1], ada)

    async def test_one_that_is_stored_again_after_its_removal_comes_last(self, store: Any, ada: RequestContext):
        ids = await fill(store, ada, items=3)

        await store.delete_thread_item("thr_1", ids[0], ada)
        await store.add_thread_item("thr_1", message(ids[0]), ada)

        assert await item_ids(store, ada) == [*ids[1:], ids[0]]

    async def test_one_id_in_two_threads_is_two_items(self, store: Any, ada: RequestContext):
        for name in ("thr_1", "thr_2"):
            await fill(store, ada, id_=name)
            await store.add_thread_item(name, message(text=name), ada)

        await store.delete_thread_item("thr_1", "msg_1", ada)

        assert text_of(await store.load_item("thr_2", "msg_1", ada)) == "thr_2"

    async def test_a_thread_that_is_not_there_has_no_items(self, store: Any, ada: RequestContext):
        page = await store.load_thread_items("nowhere", None, 10, "asc", ada)

        assert page == ck.Page(data=[], has_more=False, after=None)


class TestAttachments:
    async def test_one_comes_back_as_it_was_saved_and_can_be_replaced(self, store: Any, ada: RequestContext):
        file = ck.FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", metadata={"bytes": 3})
        image = ck.ImageAttachment(id="atc_1", name="b", mime_type="image/png", preview_url="https://x.test/b.png")

        await store.save_attachment(file, ada)
        assert await store.load_attachment("atc_1", ada) == file

        await store.save_attachment(image, ada)
        assert await store.load_attachment("atc_1", ada) == image

    async def test_deleting_is_idempotent(self, store: Any, ada: RequestContext):
        await store.save_attachment(ck.FileAttachment(id="atc_1", name="a", mime_type="text/plain"), ada)

        await store.delete_attachment("atc_1", ada)
        await store.delete_attachment("atc_1", ada)

        with pytest.raises(NotFound):
            await store.load_attachment("atc_1", ada)


class TestPages:
    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("size", [1, 2, 7, 100])
    async def test_every_row_comes_once_and_only_the_last_page_says_so(
        self, store: Any, ada: RequestContext, order: str, size: int
    ):
        ids = await fill(store, ada, items=14)  # a multiple of 1, 2 and 7
        expected = ids if order == "asc" else ids[::-1]

        pages = []
        after = None
        while not pages or pages[-1].has_more:
            pages.append(await store.load_thread_items("thr_1", after, size, order, ada))
            after = pages[-1].after

        assert [item.id for page in pages for item in page.data] == expected
        assert len(pages) == max(1, 14 // size)
        assert [page.after for page in pages] == [page.data[-1].id for page in pages[:-1]] + [None]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_threads_are_paged_likewise(self, store: Any, ada: RequestContext, order: str):
        names = [f"thr_{number * 3 % 7}" for number in range(7)]
        for name in names:
            await store.save_thread(thread(name), ada)

        first = await store.load_threads(3, None, order, ada)
        second = await store.load_threads(3, first.after, order, ada)
        third = await store.load_threads(3, second.after, order, ada)

        rows = [row.id for page in (first, second, third) for row in page.data]
        assert rows == (names if order == "asc" else names[::-1])
        assert [page.has_more for page in (first, second, third)] == [True, True, False]

    @pytest.mark.parametrize(("limit", "rows"), [(-1, 1), (0, 1), (1, 1), (100, 100), (101, 100), (10**9, 100)])
    async def test_a_limit_is_brought_within_its_bounds(self, store: Any, ada: RequestContext, limit: int, rows: int):
        await store.save_thread(thread(), ada)
        await asyncio.gather(
            *(store.add_thread_item("thr_1", message(f"msg_{number}"), ada) for number in range(102)),
            *(store.save_thread(thread(f"thr_{number}"), ada) for number in range(2, 103)),
        )

        items = await store.load_thread_items("thr_1", None, limit, "desc", ada)
        threads = await store.load_threads(limit, None, "desc", ada)

        assert (len(items.data), items.has_more) == (rows, True)
        assert (len(threads.data), threads.has_more) == (rows, True)

    @pytest.mark.parametrize("cursor", ["msg_unknown", "", "thr_1"])
    async def test_a_cursor_that_is_not_in_the_list_is_not_found(self, store: Any, ada: RequestContext, cursor: str):
        await fill(store, ada, items=2)

        with pytest.raises(NotFound):
            await store.load_thread_items("thr_1", cursor, 10, "asc", ada)
        if cursor != "thr_1":
            with pytest.raises(NotFound):
                await store.load_threads(10, cursor, "asc", ada)

    async def test_the_cursor_of_another_thread_or_reader_is_not_found(self, store: Any, ada: RequestContext):
        await fill(store, ada, items=1)
        await fill(store, ada, id_="thr_2")
        eve = reader("eve")
        await fill(store, eve, id_="thr_3")

        with pytest.raises(NotFound):
            await store.load_thread_items("thr_2", "msg_0000", 10, "asc", ada)
        with pytest.raises(NotFound):
            await store.load_threads(10, "thr_1", "asc", eve)

    async def test_the_next_page_begins_behind_the_cursor_also_when_rows_were_added_since(
        self, store: Any, ada: RequestContext
    ):
        ids = await fill(store, ada, items=4)
        newest = await store.load_thread_items("thr_1", None, 2, "desc", ada)

        await store.add_thread_item("thr_1", message("new"), ada)
        older = await store.load_thread_items("thr_1", newest.after, 10, "desc", ada)

        assert [item.id for item in older.data] == ids[1::-1]


@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "drop"]), st.integers(0, 15)), max_size=40),
    size=st.integers(1, 9),
    order=st.sampled_from(["asc", "desc"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_pages_give_what_was_added_and_not_removed_in_the_order_of_arrival(
    kind: str, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], size: int, order: str
):
    async def run() -> None:
        store: Any = MemoryStore()
        if kind == "sqlite":
            store = SQLiteStore(tmp_path_factory.mktemp("store") / "threads.db")
        try:
            ada = reader("ada")
            await store.save_thread(thread(), ada)
            expected: dict[str, None] = {}
            for step, number in steps:
                name = f"msg_{number}"
                if step == "add":
                    await store.add_thread_item("thr_1", message(name), ada)
                    expected.setdefault(name)
                else:
                    await store.delete_thread_item("thr_1", name, ada)
                    expected.pop(name, None)
            found = every(lambda after: store.load_thread_items("thr_1", after, size, order, ada))
            ids = [item.id async for item in found]
            assert ids == (list(expected) if order == "asc" else list(expected)[::-1])
        finally:
            if kind == "sqlite":
                await store.close()

    asyncio.run(run())


STRANGERS = {
    "another reader": reader("eve"),
    "the same name at another tenant": reader("ada", tenant="evening"),
    "the tenant's name as the reader's": reader("morning", tenant="ada"),
    "the two run together": reader("morningada"),
    "in capitals": reader("ADA", tenant="morning"),
    "a pattern": reader("%", tenant="morning"),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
class TestOwners:
    """`owner` is ada of the tenant morning; a stranger is like her, and not she."""

    @pytest.fixture
    def owner(self) -> RequestContext:
        return reader("ada", tenant="morning")

    @pytest.fixture
    async def hers(self, store: Any, owner: RequestContext) -> Callable[[], Awaitable[Any]]:
        """Stores what is hers, and gives a way to look at all of it."""
        await fill(store, owner, items=2)
        await store.save_attachment(ck.FileAttachment(id="atc_1", name="hers", mime_type="text/plain"), owner)

        async def look() -> Any:
            items = await store.load_thread_items("thr_1", None, 100, "asc", owner)
            threads = await store.load_threads(100, None, "asc", owner)
            return threads, items, await store.load_attachment("atc_1", owner)

        return look

    async def test_a_stranger_finds_nothing(self, store: Any, hers: Callable[[], Any], stranger: RequestContext):
        before = await hers()

        for reading in (
            store.load_thread("thr_1", stranger),
            store.load_item("thr_1", "msg_0000", stranger),
            store.load_attachment("atc_1", stranger),
            store.load_thread_items("thr_1", "msg_0000", 10, "asc", stranger),
            store.load_threads(10, "thr_1", "asc", stranger),
        ):
            with pytest.raises(NotFound):
                await reading
        assert await thread_ids(store, stranger) == []
        assert await item_ids(store, stranger) == []
        assert await hers() == before

    async def test_a_stranger_changes_nothing(self, store: Any, hers: Callable[[], Any], stranger: RequestContext):
        before = await hers()

        for writing in (
            store.add_thread_item("thr_1", message("planted"), stranger),
            store.save_item("thr_1", message("msg_0000", text="changed"), stranger),
        ):
            with pytest.raises(NotFound):
                await writing
        await store.delete_thread_item("thr_1", "msg_0000", stranger)
        await store.delete_thread("thr_1", stranger)
        await store.delete_attachment("atc_1", stranger)

        assert await hers() == before

    async def test_what_a_stranger_stores_under_her_ids_is_theirs(
        self, store: Any, hers: Callable[[], Any], stranger: RequestContext
    ):
        before = await hers()

        await store.save_thread(thread(title="theirs"), stranger)
        await store.add_thread_item("thr_1", message("msg_0000", text="theirs"), stranger)
        await store.save_attachment(ck.FileAttachment(id="atc_1", name="theirs", mime_type="text/plain"), stranger)

        assert await hers() == before
        assert (await store.load_thread("thr_1", stranger)).title == "theirs"
        assert text_of(await store.load_item("thr_1", "msg_0000", stranger)) == "theirs"
        assert (await store.load_attachment("atc_1", stranger)).name == "theirs"

        await store.delete_thread("thr_1", stranger)
        await store.delete_attachment("atc_1", stranger)

        assert await hers() == before

    async def test_what_is_not_hers_and_what_is_not_there_look_the_same(
        self, store: Any, hers: Callable[[], Any], stranger: RequestContext
    ):
        await hers()

        with pytest.raises(NotFound) as not_theirs:
            await store.load_thread("thr_1", stranger)
        with pytest.raises(NotFound) as not_there:
            await store.load_thread("thr_9", stranger)

        assert not_theirs.value.message == not_there.value.message
        assert not_theirs.value.details.keys() == not_there.value.details.keys()


class TestCopies:
    async def test_changing_what_was_stored_changes_nothing(self, store: Any, ada: RequestContext):
        mine, item = thread(metadata={"deep": {"list": []}}), message()
        await store.save_thread(mine, ada)
        await store.add_thread_item("thr_1", item, ada)

        mine.title = "changed"
        mine.metadata["deep"]["list"].append(1)
        item.content[0].text = "changed"

        assert await store.load_thread("thr_1", ada) == thread(metadata={"deep": {"list": []}})
        assert await store.load_item("thr_1", "msg_1", ada) == message()

    async def test_changing_what_was_handed_out_changes_nothing(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(metadata={"deep": {"list": []}}), ada)
        await store.add_thread_item("thr_1", message(), ada)

        for loaded in (await store.load_thread("thr_1", ada), (await store.load_threads(1, None, "asc", ada)).data[0]):
            loaded.metadata["deep"]["list"].append(1)
        page = await store.load_thread_items("thr_1", None, 1, "asc", ada)
        for item in (await store.load_item("thr_1", "msg_1", ada), page.data[0]):
            item.content.clear()
        page.data.clear()

        assert await store.load_thread("thr_1", ada) == thread(metadata={"deep": {"list": []}})
        assert await store.load_item("thr_1", "msg_1", ada) == message()

    async def test_storing_does_not_touch_what_is_stored(self, store: Any, ada: RequestContext):
        naive = datetime(2025, 3, 1, 12)  # noqa: DTZ001 - as ChatKit's own hooks make it
        mine, item = thread(created_at=naive), message(created_at=naive)

        await store.save_thread(mine, ada)
        await store.add_thread_item("thr_1", item, ada)

        assert mine.created_at is naive
        assert item.created_at is naive


class TestTimes:
    @pytest.mark.parametrize(
        "moment",
        [
            T0 + timedelta(microseconds=123_456),
            T0.astimezone(timezone(timedelta(hours=5, minutes=30))),
            datetime(2025, 3, 1, 12),  # noqa: DTZ001 - naive, as ChatKit's own hooks make it: local time
            datetime(2025, 7, 1, 12),  # noqa: DTZ001 - likewise, in summer
        ],
        ids=["utc", "india", "naive", "naive-summer"],
    )
    async def test_they_come_back_aware_and_in_utc(self, store: Any, ada: RequestContext, moment: datetime):
        await store.save_thread(thread(created_at=moment), ada)
        await store.add_thread_item("thr_1", message(created_at=moment), ada)

        for loaded in (
            await store.load_thread("thr_1", ada),
            await store.load_item("thr_1", "msg_1", ada),
            (await store.load_threads(1, None, "asc", ada)).data[0],
            (await store.load_thread_items("thr_1", None, 1, "asc", ada)).data[0],
        ):
            assert loaded.created_at.utcoffset() == timedelta(0)
            assert loaded.created_at.timestamp() == moment.timestamp()


class TestIds:
    async def test_ids_tell_their_kind_stay_apart_and_sort_by_time(self, store: Any, ada: RequestContext):
        kinds = {"message": "msg", "tool_call": "tc", "workflow": "wf", "task": "tsk", "sdk_hidden_context": "shcx"}

        assert store.generate_thread_id(ada).startswith("thr_")
        for kind, prefix in kinds.items():
            assert store.generate_item_id(kind, thread(), ada).startswith(f"{prefix}_")
        made = []
        for _ in range(3):
            made.append(store.generate_item_id("message", thread(), ada))
            await asyncio.sleep(0.002)
        assert made == sorted(set(made))


class TestAtOnce:
    async def test_fifty_writers_lose_nothing(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(), ada)

        async def write(writer: int) -> None:
            for number in range(20):
                await store.add_thread_item("thr_1", message(f"msg_{writer}_{number}"), ada)

        await asyncio.gather(*(write(writer) for writer in range(50)))

        ids = await item_ids(store, ada)
        assert sorted(ids) == sorted(f"msg_{writer}_{number}" for writer in range(50) for number in range(20))
        for writer in range(50):
            written = [name for name in ids if name.startswith(f"msg_{writer}_")]
            assert written == [f"msg_{writer}_{number}" for number in range(20)]

    async def test_writers_of_one_item_leave_one(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(), ada)

        await asyncio.gather(*(store.save_item("thr_1", message(text=str(number)), ada) for number in range(50)))

        assert await item_ids(store, ada) == ["msg_1"]
        assert text_of(await store.load_item("thr_1", "msg_1", ada)) in {str(number) for number in range(50)}

    async def test_an_item_that_races_its_threads_removal_leaves_nothing_behind(self, store: Any, ada: RequestContext):
        for number in range(20):
            await store.save_thread(thread(), ada)

            added, _ = await asyncio.gather(
                store.add_thread_item("thr_1", message(f"msg_{number}"), ada),
                store.delete_thread("thr_1", ada),
                return_exceptions=True,
            )

            assert added is None or isinstance(added, NotFound)
            assert await item_ids(store, ada) == []

    async def test_a_cancelled_write_is_there_wholly_or_not_at_all(self, store: Any, ada: RequestContext):
        await store.save_thread(thread(), ada)

        for number in range(40):
            writing = asyncio.ensure_future(store.add_thread_item("thr_1", message(f"msg_{number}"), ada))
            for _ in range(number % 20):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait({writing})
            acknowledged = not writing.cancelled()

            found = f"msg_{number}" in await item_ids(store, ada)
            assert found or not acknowledged
            if found:
                assert await store.load_item("thr_1", f"msg_{number}", ada) == message(f"msg_{number}")

        await store.add_thread_item("thr_1", message("last"), ada)
        assert (await item_ids(store, ada))[-1] == "last"


class Upstream(ChatKitServer[RequestContext]):
    """A server of ChatKit's own, which answers what it was asked."""

    async def respond(self, thread: ck.ThreadMetadata, input_user_message: Any, context: RequestContext) -> Any:
        thread.title = "A title"
        history = await self.store.load_thread_items(thread.id, None, 100, "asc", context)
        answer = ck.AssistantMessageContent(text=f"{len(history.data)}: {text_of(input_user_message)}")
        item = ck.AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),  # noqa: DTZ005 - as ChatKit's own hooks make it
            content=[answer],
        )
        yield ck.ThreadItemDoneEvent(item=item)


class TestChatKitsOwnServer:
    """The stores serve any ChatKit server."""

    @pytest.fixture
    def ask(self, store: Any, ada: RequestContext) -> Callable[..., Awaitable[list[Any]]]:
        upstream = Upstream(store)

        async def process(type_: str, **params: Any) -> list[Any]:
            request = TypeAdapter(ck.ChatKitReq).validate_python({"type": type_, "params": params, "metadata": {}})
            result = await upstream.process(request.model_dump_json(), ada)
            if isinstance(result, NonStreamingResult):
                return [json.loads(result.json)]
            return [json.loads(line.removeprefix(b"data: ")) async for line in result]

        return process

    async def test_a_conversation_is_kept_listed_renamed_and_deleted(self, ask: Callable[..., Any]):
        question = {
            "content": [{"type": "input_text", "text": "Why?"}],
            "attachments": [],
            "inference_options": {},
        }

        events = await ask("threads.create", input=question)
        id_ = next(event["thread"]["id"] for event in events if event["type"] == "thread.created")
        await ask("threads.add_user_message", thread_id=id_, input=question)

        [listed] = await ask("threads.list", limit=10, order="desc", after=None)
        assert [(row["id"], row["title"]) for row in listed["data"]] == [(id_, "A title")]
        [items] = await ask("items.list", thread_id=id_, limit=3, order="asc", after=None)
        assert [item["type"] for item in items["data"]] == ["user_message", "assistant_message", "user_message"]
        [rest] = await ask("items.list", thread_id=id_, limit=3, order="asc", after=items["after"])
        assert [item["content"][0]["text"] for item in rest["data"]] == ["3: Why?"]

        await ask("threads.update", thread_id=id_, title="Renamed")
        [whole] = await ask("threads.get_by_id", thread_id=id_)
        assert whole["title"] == "Renamed"
        assert len(whole["items"]["data"]) == 4

        await ask("threads.delete", thread_id=id_)
        [listed] = await ask("threads.list", limit=10, order="desc", after=None)
        assert listed["data"] == []
