"""How many tokens a text is, about. Pure.

Exact counts need a model's own vocabulary, which libraries fetch when they run; a budget needs an estimate that seldom
says too little. This one cuts a text into pieces that are one token at most times: five letters of English, three
Cyrillic ones, one Chinese.

Against OpenAI's `o200k_base` it says 0.97 to 1.6 times the number for prose in 19 languages (2.2 for Vietnamese),
code, JSON and HTML. Of what no vocabulary holds it says too little: 0.83 for Base64, 0.64 for emoji, 0.38 for random
letters.
"""

import re

_PIECE = re.compile(
    r"[A-Z]?[a-z]{1,5}|[A-Z]{1,2}|[0-9]{1,3}|\n+|[ \t]{2,}|[!-/:-@\[-`{-~]{1,2}"
    r"|[\u0370-\u03ff]{1,2}|[\u0400-\u052f]{1,3}"  # Greek, Cyrillic
    r"|[\u0590-\u0e7f]{1,2}"  # Hebrew, Arabic, the scripts of India, Thai
    r"|[^\x00-\x7f]"
)


def estimated_tokens(text: str) -> int:
    """The estimate; never more than the text's bytes in UTF-8, which no vocabulary exceeds either."""
    return len(_PIECE.findall(text))
