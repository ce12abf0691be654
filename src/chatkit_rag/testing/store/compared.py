"""A store and dictionaries, side by side: what is done to one is done to the other, and then they are compared."""

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from anyio import from_thread
from chatkit.store import NotFoundError

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.store.part import file, items_of, message, text_of, thread, threads_of

PLACES = ["thr_a", "thr_b", "thr_c"]
IDS = ["z", "y", "a", "b", "c"]

Result = TypeVar("Result")


class Compared:
    """A store and dictionaries, to which the same is done."""

    def __init__(self, store: Store, readers: list[Any], *, orphans: bool) -> None:
        self._store = store
        self._readers = readers
        self._orphans = orphans
        self._clock = 0
        self._threads: list[dict[str, str]] = [{} for _ in readers]
        """Of each reader: thread -> title."""
        self._items: list[dict[str, dict[str, str]]] = [{} for _ in readers]
        """Of each reader: thread -> item -> text."""
        self._times: dict[tuple[Any, ...], int] = {}
        self._files: list[dict[str, str]] = [{} for _ in readers]
        from_thread.run(self._empty)

    def save_thread(self, reader: int, id_: str, text: str) -> None:
        """Stores a thread, new or changed."""
        reader %= len(self._readers)
        saved = thread(id_, self._time(id_ in self._threads[reader], reader, id_), title=text)
        from_thread.run(self._store.save_thread, saved, self._readers[reader])
        self._threads[reader][id_] = text
        self._items[reader].setdefault(id_, {})

    def delete_thread(self, reader: int, id_: str) -> None:
        """Removes a thread, if it is there."""
        reader %= len(self._readers)
        from_thread.run(self._store.delete_thread, id_, self._readers[reader])
        self._threads[reader].pop(id_, None)
        self._items[reader].pop(id_, None)

    def put_item(self, reader: int, place: str, id_: str, text: str, *, add: bool) -> None:
        """Stores an item, new or changed; where its thread is not there, it is refused."""
        reader %= len(self._readers)
        put = self._store.add_thread_item if add else self._store.save_item
        known = self._items[reader].get(place)
        if known is None and self._orphans:
            return
        item = message(id_, text, self._time(known is not None and id_ in known, reader, place, id_), thread_id=place)
        if known is None:
            with pytest.raises(NotFoundError):
                from_thread.run(put, place, item, self._readers[reader])
        else:
            from_thread.run(put, place, item, self._readers[reader])
            known[id_] = text

    def delete_item(self, reader: int, place: str, id_: str) -> None:
        """Removes an item, if it is there."""
        reader %= len(self._readers)
        from_thread.run(self._store.delete_thread_item, place, id_, self._readers[reader])
        self._items[reader].get(place, {}).pop(id_, None)

    def save_file(self, reader: int, id_: str, text: str) -> None:
        """Stores an attachment's record."""
        reader %= len(self._readers)
        from_thread.run(self._store.save_attachment, file(id_, text), self._readers[reader])
        self._files[reader][id_] = text

    def delete_file(self, reader: int, id_: str) -> None:
        """Removes an attachment's record, if it is there."""
        reader %= len(self._readers)
        from_thread.run(self._store.delete_attachment, id_, self._readers[reader])
        self._files[reader].pop(id_, None)

    def look(self, reader: int, place: str, size: int, order: str) -> None:
        """Both have the same rows in the same order, and the same texts in them."""
        reader %= len(self._readers)
        from_thread.run(self._look, reader, place, size, order)

    async def _look(self, reader: int, place: str, size: int, order: str) -> None:
        context = self._readers[reader]
        step = 1 if order == "asc" else -1
        assert await threads_of(self._store, context, order, size) == list(self._threads[reader])[::step]
        items = self._items[reader].get(place, {})
        assert await items_of(self._store, context, place, order, size) == list(items)[::step]
        for id_, text in items.items():
            assert text_of(await self._store.load_item(place, id_, context)) == text
        title = await _or_none(self._store.load_thread(place, context))
        assert (title and title.title) == self._threads[reader].get(place)
        for id_ in IDS:
            sent = await _or_none(self._store.load_attachment(id_, context))
            assert (sent and sent.name) == self._files[reader].get(id_)

    async def _empty(self) -> None:
        """What an earlier history has left is no part of this one."""
        for context in self._readers:
            for id_ in PLACES:
                await self._store.delete_thread(id_, context)
            for id_ in IDS:
                await self._store.delete_attachment(id_, context)
            assert await threads_of(self._store, context) == []

    def _time(self, known: bool, *key: Any) -> int:  # noqa: FBT001 - the key may be of any length
        """A moment behind all others for what is new; what is changed keeps its own."""
        if not known:
            self._clock += 1
            self._times[key] = self._clock
        return self._times[key]


async def _or_none(found: Coroutine[Any, Any, Result]) -> Result | None:
    with suppress(NotFoundError):
        return await found
    return None
