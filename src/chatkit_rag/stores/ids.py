"""Ids that sort by time and cannot be guessed: `thr_` and 34 letters and digits; and ids that stand for others."""

import re
import secrets
import time
from base64 import b32hexencode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that looks like a digit, and in ASCII order, so that ids sort as their times do."""

_TO_ALPHABET = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", _ALPHABET.encode())
_TIME_LETTERS = 10
_RANDOM_LETTERS = 24
_RANDOM_BITS = 5 * _RANDOM_LETTERS
"""120: a million ids a second for a century stay apart, and nobody finds one by trying."""

_NEW_ID = re.compile(rf"[a-z]+_[{_ALPHABET}]{{{_TIME_LETTERS + _RANDOM_LETTERS}}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(prefix: str) -> str:
    """A new id: `prefix`, the time in milliseconds (50 bits), 120 random bits."""
    number = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_{_base32(number, _TIME_LETTERS + _RANDOM_LETTERS)}"


def time_of(id_: str) -> datetime | None:
    """When an id of `new_id` was made; None for any other."""
    if not _NEW_ID.fullmatch(id_):
        return None
    milliseconds = 0
    for letter in id_.rpartition("_")[2][:_TIME_LETTERS]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(letter)
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def derived_id(prefix: str, *parts: str) -> str:
    """The id that always comes of these parts: 120 bits of their hash."""
    digest = sha256("\0".join(parts).encode()).digest()
    return f"{prefix}_{_base32(int.from_bytes(digest[:15]), _RANDOM_LETTERS)}"


def _base32(number: int, letters: int) -> str:
    # Python's own encoder makes whole groups of eight letters; the ones too many are zeros in front.
    groups = -(-letters // 8)
    encoded = b32hexencode(number.to_bytes(5 * groups))[-letters:]
    return encoded.translate(_TO_ALPHABET).decode()
