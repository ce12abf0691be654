"""Reading threads, changing them, and whose they are."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import pytest
from chatkit.types import LockedStatus

from chatkit_rag.testing.chat_server.part import Part, assert_refused, items_of
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.endpoint import Refused
from chatkit_rag.testing.protocol_client import ProtocolClient

Order = Literal["asc", "desc"]


class Threads(Part):
    """Reading threads, changing them, and whose they are."""

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_the_pages_of_a_thread_hold_each_item_once(self, client: ProtocolClient, order: Order) -> None:
        answers = [await client.create_thread(self.question)]
        thread_id = answers[0].thread.id
        answers += [await client.add_user_message(thread_id, f"Question {number}") for number in range(2)]
        expected = [item.id for answer in answers for item in answer.items]

        collected: list[str] = []
        after: str | None = None
        for _ in range(len(expected)):
            page = await client.list_items(thread_id, order=order, limit=2, after=after)
            assert len(page.data) <= 2
            collected += [item.id for item in page.data]
            if not page.has_more:
                break
            after = page.after

        assert collected == (expected if order == "asc" else expected[::-1])

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_the_pages_of_the_list_hold_each_thread_once(self, client: ProtocolClient, order: Order) -> None:
        ids = [(await client.create_thread(self.question)).thread.id for _ in range(3)]

        first = await client.list_threads(order=order, limit=2)
        second = await client.list_threads(order=order, limit=2, after=first.after)

        assert (first.has_more, second.has_more) == (True, False)
        collected = [thread.id for thread in [*first.data, *second.data]]
        assert collected == (ids if order == "asc" else ids[::-1])

    async def test_a_thread_is_found_by_its_id_with_its_items(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)
        await client.create_thread(self.question)

        found = await client.get_thread(answer.thread.id)

        assert found.id == answer.thread.id
        assert found.items.data == answer.items

    async def test_a_new_title_is_kept(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.question)

        renamed = await client.update_thread(answer.thread.id, "Another title")

        listed = (await client.list_threads()).data
        assert renamed.title == "Another title"
        assert (await client.get_thread(answer.thread.id)).title == "Another title"
        assert [thread.title for thread in listed] == ["Another title"]
        assert await items_of(client, answer.thread.id) == answer.items

    async def test_a_deleted_thread_is_gone_and_the_others_are_not(self, client: ProtocolClient) -> None:
        kept = await client.create_thread(self.question)
        deleted = await client.create_thread(self.question)

        await client.delete_thread(deleted.thread.id)

        with pytest.raises(Refused):
            await client.get_thread(deleted.thread.id)
        assert [thread.id for thread in (await client.list_threads()).data] == [kept.thread.id]
        assert await items_of(client, kept.thread.id) == kept.items

    @requires("clamped_limits")
    @pytest.mark.parametrize(("limit", "length"), [(-1, 1), (0, 1), (1, 1), (1_000_000_000, 2)])
    async def test_a_limit_is_brought_within_bounds(self, client: ProtocolClient, limit: int, length: int) -> None:
        answer = await client.create_thread(self.question)
        await client.create_thread(self.question)

        threads = await client.list_threads(limit=limit)
        items = await client.list_items(answer.thread.id, limit=limit, order="asc")

        assert len(threads.data) == length
        assert items.data == answer.items[: max(limit, 1)]

    @requires("owners")
    async def test_another_reader_finds_nothing_of_a_thread(
        self, client: ProtocolClient, other_client: ProtocolClient
    ) -> None:
        mine = await client.create_thread(self.question)

        assert (await other_client.list_threads()).data == []
        with pytest.raises(Refused):
            await other_client.get_thread(mine.thread.id)
        with suppress(Refused):  # an empty page is as good
            assert (await other_client.list_items(mine.thread.id)).data == []

    @requires("owners")
    async def test_another_reader_changes_nothing_of_a_thread(
        self, client: ProtocolClient, other_client: ProtocolClient
    ) -> None:
        mine = await client.create_thread(self.question)

        with pytest.raises(Refused):
            await other_client.update_thread(mine.thread.id, "Theirs")
        with suppress(Refused):  # what counts is that the thread is still there
            await other_client.delete_thread(mine.thread.id)

        found = await client.get_thread(mine.thread.id)
        assert (found.title, found.items.data) == (mine.thread.title, mine.items)

    @requires("owners", "clean_errors")
    async def test_another_reader_cannot_write_to_a_thread(
        self, client: ProtocolClient, other_client: ProtocolClient
    ) -> None:
        mine = await client.create_thread(self.question)

        await assert_refused(other_client.add_user_message(mine.thread.id, self.question))
        await assert_refused(other_client.retry_after_item(mine.thread.id, mine.question.id))

        assert await items_of(client, mine.thread.id) == mine.items

    @requires("locked_threads")
    async def test_a_locked_thread_takes_no_messages_and_can_be_read(
        self, client: ProtocolClient, lock_thread: Callable[[str], Awaitable[None]]
    ) -> None:
        answer = await client.create_thread(self.question)
        await lock_thread(answer.thread.id)

        await assert_refused(client.add_user_message(answer.thread.id, self.question))

        found = await client.get_thread(answer.thread.id)
        assert isinstance(found.status, LockedStatus)
        assert found.items.data == answer.items
