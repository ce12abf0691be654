"""Ids that sort by time and cannot be guessed."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.stores import ids
from chatkit_rag.stores.ids import new_id


def test_an_id_is_its_prefix_and_34_letters_that_no_address_escapes():
    prefix, _, rest = new_id("thr").partition("_")

    assert prefix == "thr"
    assert len(rest) == 34
    assert set(rest) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_ids_made_in_one_moment_stay_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)

    made = [new_id("msg") for _ in range(20_000)]

    assert len({name[:14] for name in made}) == 1
    assert len(set(made)) == len(made)


# Until the year 9999: beyond what `datetime` knows, and far from the 50 bits' end.
moments = st.integers(0, 253_402_300_799_999)


@given(earlier=moments, later=moments)
def test_ids_sort_as_their_milliseconds_do(earlier: int, later: int):
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for moment in (earlier, later):
            patch.setattr(time, "time_ns", lambda moment=moment: moment * 1_000_000)
            made.append(new_id("msg"))

    if earlier != later:
        assert (made[0] < made[1]) == (earlier < later)


@given(st.integers(0, 2**120 - 1))
def test_no_two_random_numbers_read_the_same(number: int):
    text = ids._base32(number, 24)

    assert sum(ids._ALPHABET.index(letter) << (5 * place) for place, letter in enumerate(reversed(text))) == number
