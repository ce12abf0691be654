"""Ids that sort by time and cannot be guessed: `thr_` and 34 letters and digits."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that looks like a digit, and in ASCII order, so that ids sort as their times do."""

_TIME_LETTERS = 10
_RANDOM_LETTERS = 24
"""120 bits: a million ids a second for a century stay apart, and nobody finds one by trying."""


def new_id(prefix: str) -> str:
    """A new id: `prefix`, the time in milliseconds (50 bits), 120 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{_base32(milliseconds, _TIME_LETTERS)}{_base32(secrets.randbits(120), _RANDOM_LETTERS)}"


def _base32(number: int, letters: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (letters - 1), -1, -5))
