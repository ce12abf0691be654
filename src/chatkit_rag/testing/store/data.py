"""Awkward values: kept as they are, or refused, and never anything between."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from math import inf, nan
from typing import Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ClientToolCallItem

from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.base import PatchesThreads, Store
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.store.part import (
    T0,
    Part,
    assert_refused,
    file,
    items_of,
    message,
    moment,
    same,
    text_of,
    thread,
    threads_of,
)

META = [
    "'; DROP TABLE threads; --",
    '"',
    "\\",
    "%",
    "_",
    "*?[a-z]^",
    "{x}:y",
    "$.title",
    "$",
    "a.b[0]",
    "a b/c#d?e=f&g",
    "%s :name ?1 $1",
    "\t\n\r",
    "\u2028\u202e\ufeff",
    "é",
    "e\u0301",
    "👩‍🚀",
    "x" * 255,
]
"""What SQL, JSON paths, globs, addresses and formats have a meaning for; and letters that look like others."""

HALF = "\ud83d"
"""Half of the pair of surrogates that UTF-16 makes of some letters: no text, and Python allows it in one."""

UNSTORABLE: dict[str, Any] = {
    "NUL": "a\0b",
    "half a pair": f"a{HALF}b",
    "NaN": nan,
    "infinity": inf,
    "minus infinity": -inf,
    "NUL, deep": {"a": [{"b": "\0"}]},
    "NUL in a key": {"a\0": 1},
    "half a pair in a key": {HALF: 1},
    "NaN, deep": [[nan]],
    "bytes": b"\xff",
    "no JSON": object(),
    "no end": [],
}
UNSTORABLE["no end"].append(UNSTORABLE["no end"])
UNSTORABLE_TEXT = ["a\0b", f"a{HALF}b"]


class _Autumn(tzinfo):
    """A zone whose clocks were just put back: the same hour comes twice, told apart by `fold`."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1 if moment is not None and moment.fold else 2)

    def dst(self, moment: datetime | None) -> timedelta:
        return self.utcoffset(moment) - timedelta(hours=1)

    def tzname(self, moment: datetime | None) -> str:
        return f"autumn {self.utcoffset(moment)}"


MOMENTS = {
    "utc": T0 + timedelta(microseconds=123_456),
    "india": T0.astimezone(timezone(timedelta(hours=5, minutes=30))),
    "naive": datetime(2025, 3, 1, 12),  # noqa: DTZ001 - as ChatKit's own hooks make it: local time
    "naive-summer": datetime(2025, 7, 1, 12),  # noqa: DTZ001 - likewise
    "first of two": datetime(2025, 10, 26, 2, 30, tzinfo=_Autumn()),
    "second of two": datetime(2025, 10, 26, 2, 30, tzinfo=_Autumn(), fold=1),
    "last": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "before 1970": datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
}


class Data(Part):
    """Awkward values."""

    @pytest.mark.parametrize("text", META, ids=ascii)
    async def test_ids_and_titles_and_keys_mean_nothing_but_themselves(self, store: Store, text: str) -> None:
        other = thread("other", 1, title="Other")
        mine = thread(text, title=text, metadata={text: text, "deep": {text: [text]}})
        item = message(text, text, thread_id=text)
        await store.save_thread(other, self.ada)

        await store.save_thread(mine.model_copy(update={"created_at": moment()}), self.ada)
        await store.add_thread_item(text, item, self.ada)
        await store.save_attachment(file(text, text), self.ada)

        assert same(await store.load_thread(text, self.ada), mine)
        assert same(await store.load_item(text, text, self.ada), item)
        assert await store.load_attachment(text, self.ada) == file(text, text)
        assert sorted(await threads_of(store, self.ada, size=1)) == sorted(["other", text])

        await store.delete_attachment(text, self.ada)
        await store.delete_thread_item(text, text, self.ada)
        assert await items_of(store, self.ada, text) == []
        await store.delete_thread(text, self.ada)
        assert await threads_of(store, self.ada) == ["other"]
        assert same(await store.load_thread("other", self.ada), other)

    async def test_a_text_of_a_million_letters_comes_back(self, store: Store) -> None:
        await store.save_thread(thread(), self.ada)
        text = "Zürich, 'why' \"so\" \\ 👩‍🚀\n" * 40_000

        await store.add_thread_item("thr_1", message(text=text), self.ada)

        assert text_of(await store.load_item("thr_1", "msg_1", self.ada)) == text

    async def test_ten_thousand_keys_come_back(self, store: Store) -> None:
        metadata = {f"key {number}": {"n": number} for number in range(10_000)}

        await store.save_thread(thread(metadata=metadata), self.ada)

        assert (await store.load_thread("thr_1", self.ada)).metadata == metadata

    @requires("big_integers")
    @pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40])
    async def test_an_integer_of_any_size_comes_back(self, store: Store, number: int) -> None:
        await store.save_thread(thread(metadata={"n": [number]}), self.ada)
        call = ClientToolCallItem(
            id="tc_1", thread_id="thr_1", created_at=T0, call_id="c", name="n", arguments={"n": number}
        )
        await store.add_thread_item("thr_1", call, self.ada)

        assert (await store.load_thread("thr_1", self.ada)).metadata == {"n": [number]}
        assert same(await store.load_item("thr_1", "tc_1", self.ada), call)

    @requires("refusals")
    @pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE.keys())
    async def test_what_some_store_cannot_hold_is_refused_and_changes_nothing(self, store: Store, value: Any) -> None:
        await store.save_thread(thread(metadata={"a": 1}), self.ada)
        call = ClientToolCallItem(
            id="tc_1", thread_id="thr_1", created_at=T0, call_id="c", name="n", arguments={"a": value}
        )

        await assert_refused(
            InvalidRequest,
            store.save_thread(thread(metadata={"a": value}), self.ada),
            store.add_thread_item("thr_1", call, self.ada),
            store.save_item("thr_1", call, self.ada),
        )

        assert (await store.load_thread("thr_1", self.ada)).metadata == {"a": 1}
        assert await items_of(store, self.ada) == []

    @requires("refusals")
    @pytest.mark.parametrize("text", UNSTORABLE_TEXT, ids=ascii)
    async def test_a_text_that_is_none_is_refused_wherever_it_stands(self, store: Store, text: str) -> None:
        await store.save_thread(thread(), self.ada)

        await assert_refused(
            InvalidRequest,
            store.save_thread(thread(text), self.ada),
            store.save_thread(thread(title=text), self.ada),
            store.add_thread_item("thr_1", message(text), self.ada),
            store.add_thread_item("thr_1", message(text=text), self.ada),
            store.save_item("thr_1", message(quoted_text=text), self.ada),
            store.save_attachment(file(text), self.ada),
            store.save_attachment(file(name=text), self.ada),
        )

        assert await threads_of(store, self.ada) == ["thr_1"]
        assert (await store.load_thread("thr_1", self.ada)).title is None
        assert await items_of(store, self.ada) == []

    @requires("refusals")
    @pytest.mark.parametrize("text", UNSTORABLE_TEXT, ids=ascii)
    async def test_nothing_is_found_under_an_id_that_is_no_text(self, store: Store, text: str) -> None:
        await store.save_thread(thread(), self.ada)
        await store.add_thread_item("thr_1", message(), self.ada)

        await assert_refused(
            NotFoundError,
            store.load_thread(text, self.ada),
            store.load_item(text, "msg_1", self.ada),
            store.load_item("thr_1", text, self.ada),
            store.load_attachment(text, self.ada),
            store.load_threads(10, text, "asc", self.ada),
            store.load_thread_items("thr_1", text, 10, "asc", self.ada),
        )
        assert await items_of(store, self.ada, text) == []
        await store.delete_thread(text, self.ada)
        await store.delete_thread_item("thr_1", text, self.ada)
        await store.delete_attachment(text, self.ada)
        assert await items_of(store, self.ada) == ["msg_1"]

    @requires("refusals", "patches")
    @pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE.keys())
    async def test_what_some_store_cannot_hold_is_no_patch(self, store: Store, value: Any) -> None:
        assert isinstance(store, PatchesThreads)
        await store.save_thread(thread(metadata={"a": 1}), self.ada)

        with pytest.raises(InvalidRequest):
            await store.patch_thread("thr_1", {"metadata": {"a": value}}, self.ada)

        assert (await store.load_thread("thr_1", self.ada)).metadata == {"a": 1}

    @requires("refusals")
    @pytest.mark.parametrize("method", ["add_thread_item", "save_item"])
    async def test_an_item_of_another_thread_is_refused(self, store: Store, method: str) -> None:
        await store.save_thread(thread(), self.ada)
        await store.save_thread(thread("thr_2", 1), self.ada)

        with pytest.raises(InvalidRequest):
            await getattr(store, method)("thr_2", message(thread_id="thr_1"), self.ada)

        assert await items_of(store, self.ada, "thr_2") == []

    @requires("utc")
    @pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
    async def test_times_come_back_aware_and_in_utc(self, store: Store, moment: datetime) -> None:
        await store.save_thread(thread(created_at=moment), self.ada)
        await store.add_thread_item("thr_1", message(created_at=moment), self.ada)

        for loaded in (
            await store.load_thread("thr_1", self.ada),
            await store.load_item("thr_1", "msg_1", self.ada),
            (await store.load_threads(1, None, "asc", self.ada)).data[0],
            (await store.load_thread_items("thr_1", None, 1, "asc", self.ada)).data[0],
        ):
            assert loaded.created_at.utcoffset() == timedelta(0)
            assert loaded.created_at == moment.astimezone(UTC)
