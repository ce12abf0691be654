"""Ids that sort by time and cannot be guessed: `thr_` and 34 letters and digits; and ids that stand for others."""

import secrets
import time
from base64 import b32hexencode
from hashlib import sha256

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that looks like a digit, and in ASCII order, so that ids sort as their times do."""

_TO_ALPHABET = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", _ALPHABET.encode())
_TIME_LETTERS = 10
_RANDOM_LETTERS = 24
"""120 bits: a million ids a second for a century stay apart, and nobody finds one by trying."""


def new_id(prefix: str) -> str:
    """A new id: `prefix`, the time in milliseconds (50 bits), 120 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{_base32(milliseconds, _TIME_LETTERS)}{_base32(secrets.randbits(120), _RANDOM_LETTERS)}"


def derived_id(prefix: str, *parts: str) -> str:
    """The id that always comes of these parts: 120 bits of their hash."""
    digest = sha256("\0".join(parts).encode()).digest()
    return f"{prefix}_{_base32(int.from_bytes(digest[:15]), _RANDOM_LETTERS)}"


def _base32(number: int, letters: int) -> str:
    # Python's own encoder makes whole groups of eight letters; the ones too many are zeros in front.
    groups = -(-letters // 8)
    encoded = b32hexencode(number.to_bytes(5 * groups))[-letters:]
    return encoded.translate(_TO_ALPHABET).decode()
