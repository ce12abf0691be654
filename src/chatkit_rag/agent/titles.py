"""What a thread is called, from its first question. Pure."""

import re
import unicodedata

LONGEST = 50
"""Characters of a title."""

_SHORTEST = 12
"""Of a sentence that is a title by itself; a greeting is shorter."""
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKS = re.compile(r"[*_`#>~]{2,}|^[ \t]*(?:[-+*>#]|\d+\.)[ \t]+|[*`]", re.MULTILINE)
_SENTENCE_END = re.compile(
    r"(?<=[.!?\N{ARABIC QUESTION MARK}])\s+|(?<=[\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH QUESTION MARK}])"
)
_ADDRESS = re.compile(r"\bhttps?://(?:www\.)?([^\s/]+)\S*")
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
"""Marks that would turn what stands around the title."""
_CUT = "…"


def title_of(question: str) -> str:
    """A line of 50 characters at most that says what was asked; empty where nothing was said."""
    prose = _FENCE.sub(" ", question)
    plain = _ADDRESS.sub(r"\1", _MARKS.sub("", _DIRECTION.sub("", prose if prose.strip() else question)))
    text = " ".join("".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in plain).split())
    sentences = [sentence for sentence in _SENTENCE_END.split(text) if sentence]
    first = next((sentence for sentence in sentences if len(sentence) >= _SHORTEST), text)
    shown = first.rstrip(" .,:;!")
    return shown[:1].upper() + shown[1:] if len(shown) <= LONGEST else _cut(shown)


def _cut(text: str) -> str:
    """The beginning, up to the end of a word; text that has no such ends is cut between letters."""
    beginning = text[: LONGEST - len(_CUT) + 1]
    words = beginning.rsplit(" ", 1)[0] if " " in beginning else beginning[:-1]
    while words and (unicodedata.combining(words[-1]) or words[-1] == "\N{ZERO WIDTH JOINER}"):
        words = words[:-1]
    shown = words.rstrip(" .,:;!")
    return f"{shown[:1].upper()}{shown[1:]}{_CUT}"
