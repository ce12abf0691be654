"""What a word is, in any script, and when two spellings are the same one.

Equal text gives equal words in every Unicode form. What readers type in other ways than authors is made one: letters
that look alike on Arabic and Urdu keyboards, vowel marks, lengthening strokes and joiners that may be left out, digits
of other scripts, the two ways to write a nasal in Hindi.

Scripts without spaces are cut where the kind of letter changes, and the rest is left to `pieces`: two letters in a
row. A dictionary would cut better and weigh more than everything else here; overlapping pairs find nearly as much
(Nie, Gao, Zhang, Zhou, 2000), know every new technical word, and are the same on both sides.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "\u3041-\u3096\u309d\u309e"
_KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_SOUTH_EAST = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
"""Thai, Lao, Burmese and Khmer."""
_UNSPACED = f"{_HAN}{_HIRAGANA}{_KATAKANA}{_HANGUL}{_SOUTH_EAST}"

_LAST_LATIN = "\u024f"
_LATIN_ADDITIONAL = "\u1e00", "\u1eff"
"""Where Vietnamese has its own."""

_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_IS_HAN = re.compile(f"[{_HAN}]")
_IS_HIRAGANA = re.compile(f"[{_HIRAGANA}]")

_ALIKE = {
    "\N{ARABIC LETTER KEHEH}": "\N{ARABIC LETTER KAF}",
    "\N{ARABIC LETTER FARSI YEH}": "\N{ARABIC LETTER YEH}",
    "\N{ARABIC LETTER HEH GOAL}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER HEH GOAL WITH HAMZA ABOVE}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER HEH WITH YEH ABOVE}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER TEH MARBUTA GOAL}": "\N{ARABIC LETTER TEH MARBUTA}",
    "\N{ARABIC LETTER YEH BARREE WITH HAMZA ABOVE}": "\N{ARABIC LETTER YEH BARREE}",
    "\N{DEVANAGARI SIGN CANDRABINDU}": "\N{DEVANAGARI SIGN ANUSVARA}",
    "\N{GREEK SMALL LETTER FINAL SIGMA}": "\N{GREEK SMALL LETTER SIGMA}",
}
"""Towards the letters that the Arabic stemmer expects."""

_OPTIONAL = (
    *(0x00AD, 0x034F, 0x061C, 0x0640, 0x0670, 0x093C, 0xFEFF),
    *range(0x0300, 0x0370),  # what is left of Latin accents when letters are composed
    *range(0x0610, 0x061B),
    *range(0x064B, 0x0660),  # the vowel marks of Arabic, and its hamza where it stands on nothing
    *range(0x06D6, 0x06DD),
    *range(0x06DF, 0x06E5),
    *range(0x06E7, 0x06E9),
    *range(0x06EA, 0x06EE),
    *range(0x0591, 0x05BE),  # and of Hebrew
    *(0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7),
    *range(0x200C, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
)
"""Marks, joiners and signs of direction that the same word is written with or without."""

_HINDI_NASAL = re.compile("[\u0919\u091e\u0923\u0928\u092e]\u094d(?=[\u0915-\u0939])")
_LETTER_THEN_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)")
_ASCII_WORD = re.compile("[0-9]+[a-z]*|[a-z]+")
_SPOKEN = {"c++": "cplusplus", "c#": "csharp", "f#": "fsharp"}
"""Names whose signs are letters to those who say them."""
_NAME = re.compile(r"(?<!\w)(?:c\+\+|[cf]#)(?!\w)")
_APOSTROPHES = str.maketrans("", "", "'\N{RIGHT SINGLE QUOTATION MARK}")

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATOR = re.compile(r"\.|::")
_CODE = re.compile(
    r"""
    \b[A-Za-z_]\w+(?:(?:\.|::)[A-Za-z_]\w+)+   # rclpy.spin, std::vector
    | \b\w*[A-Za-z]_\w+                          # no_grad
    | \b[A-Za-z]*[a-z][A-Z][A-Za-z]*\b           # createPublisher
    | (?<![\w-])--[A-Za-z]\w*(?:-\w+)+           # --no-cache
    """,
    re.ASCII | re.VERBOSE,
)
_MAY_BE_CODE = re.compile(r"[._:]\w|[a-z][A-Z]|--", re.ASCII)
"""Found in all that `_CODE` matches, and looked for in a fifth of the time."""
_GLUED = re.compile(r"\b(?:[A-Za-z]\d+|[A-Za-z]\w*(?:_|::)\w+)\b", re.ASCII)
"""Names whose parts nobody writes together by a slip: `ros2_control`, `std::mem`, G1."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order; `ROS2` is two, since `ROS 2` is the same thing to a student.

    In a script without spaces a "word" is as many letters of one kind as stand together: see `pieces`.
    """
    plain = normalised(text)
    if "+" in plain or "#" in plain:
        plain = _NAME.sub(lambda name: _SPOKEN[name[0]], plain)
    if plain.isascii():
        return _ASCII_WORD.findall(plain)
    return list(filter(is_word, _word().findall(_LETTER_THEN_DIGIT.sub(" ", plain))))


def pieces(word: str) -> list[str]:
    """A word of a script without spaces as pairs of letters; those of Han, which can be words alone, singly too."""
    found = letters(word)
    pairs = [first + second for first, second in pairwise(found)]
    return pairs + found if _IS_HAN.match(word) else pairs or found


def letters(word: str) -> list[str]:
    """The letters of a word, each with the marks on it."""
    return _letter().findall(word)


def names(
    text: str, *, is_term: Callable[[str], bool], is_found: Callable[[str], bool] = lambda _word: False
) -> list[str]:
    """What names of code in a text are found by, besides its `words`.

    `createPublisher` is one word, and found by its parts too. `torch.no_grad` and `is_some` are several; where one is
    no term (a stop word), nothing would say that they stood together, and they are found in one word too. A word that
    `is_found` as it stands needs no parts.
    """
    plain = composed(text)
    if not _MAY_BE_CODE.search(plain):
        return []
    return [word for name in _CODE.findall(plain) for word in _other_words(name, is_term, is_found)]


def glued_names(text: str) -> list[str]:
    """The names in a text that mean nothing in parts: `ros2_control` is neither ROS 2 nor control."""
    return _GLUED.findall(composed(text))


def normalised(text: str) -> str:
    """Lower case, without apostrophes, in one spelling of many; of the same text in every Unicode form the same."""
    if text.isascii():
        return text.replace("'", "").lower()
    plain = composed(text).translate(_APOSTROPHES).lower()
    return _HINDI_NASAL.sub("\N{DEVANAGARI SIGN ANUSVARA}", composed(plain).translate(_folds()))


def composed(text: str) -> str:
    """The text in the one form that all forms of it have in common (NFKC)."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def is_unspaced(word: str) -> bool:
    """Whether a word of `words` is of a script that puts no spaces between words."""
    return _IS_UNSPACED.match(word) is not None


def is_latin(word: str) -> bool:
    """Whether a word of `words` begins with a Latin letter, or a digit."""
    return word[0] <= _LAST_LATIN or _LATIN_ADDITIONAL[0] <= word[0] <= _LATIN_ADDITIONAL[1]


def is_word(letters: str) -> bool:
    """Whether letters of one kind can be a word: one hiragana alone is a particle, or an ending."""
    return len(letters) > 1 or (letters != "" and not _IS_HIRAGANA.match(letters))


def is_spelled(word: str) -> bool:
    """Whether a word can be misspelled: in a number every other digit is another number."""
    return not is_unspaced(word) and not any(letter.isdigit() for letter in word)


def _other_words(name: str, is_term: Callable[[str], bool], is_found: Callable[[str], bool]) -> list[str]:
    segments = [segment for segment in _SEPARATOR.split(name) if segment]
    humped = [segment for segment in segments if _HUMP.search(segment) and not is_found(segment.lower())]
    others = [hump for segment in humped for hump in _HUMP.sub(" ", segment).split()]
    for compound in segments if len(segments) == 1 else [*segments, name]:
        parts = words(compound)
        if len(parts) > 1 and not all(map(is_term, parts)):
            others.append("".join(parts))
    return words(" ".join(others))


@cache
def _folds() -> dict[int, str | None]:
    folds: dict[int, str | None] = dict.fromkeys(_OPTIONAL)
    folds |= {ord(letter): same for letter, same in _ALIKE.items()}
    digits = filter(str.isdecimal, map(chr, range(0x80, 0x10000)))
    folds |= {ord(digit): str(unicodedata.decimal(digit)) for digit in digits}
    return folds


@cache
def _word() -> re.Pattern[str]:
    # `\w` holds no combining marks, without which most words of India fall to pieces.
    spaced = rf"[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{_marks()}])*"
    kinds = (_HAN, _HIRAGANA, _KATAKANA, _HANGUL, _SOUTH_EAST)
    return re.compile("|".join([spaced, *(f"[{kind}]+" for kind in kinds)]))


@cache
def _letter() -> re.Pattern[str]:
    return re.compile(f".[{_marks()}]*", re.DOTALL)


@cache
def _marks() -> str:
    return "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark).startswith("M"))
