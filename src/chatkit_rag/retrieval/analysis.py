"""Text to weighted terms: one analyser for everything that is indexed and everything that is asked.

BM25 in two halves: a passage's vector holds the saturated, length-normalised term frequencies, the engine multiplies
by the inverse document frequency when it searches. Stop words and Snowball stems are the engine's own, so that the
same vectors serve in process and on a Qdrant server; three things are added to plain BM25:

- Frequencies are weighed by field before they are saturated (BM25F; Robertson, Zaragoza, Taylor, 2004). A word of the
  heading, or one that the text emphasises because it defines it, says more than a word in passing.
- Two terms in a row are a term of their own (the sequential dependence model; Metzler and Croft, 2005), so that
  "double support" is found where it says so, not where one thing is double and another supports.
- Words by which people ask ("how do I need to …") are no terms.

What stands in Latin letters on pages of another script is analysed as English: it is the names of things, and code.

Not here: what a word is in which script (`segmentation`), its stem (`stemming`), the numbers of `phrases`, how rare a
term is in a course, and what a misspelled word was meant to be (`lexicon`).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from chatkit_rag.documents import Passage, without_code
from chatkit_rag.memo import Memo
from chatkit_rag.retrieval.function_words import ASKING, BETWEEN, function_words
from chatkit_rag.retrieval.languages import find_language
from chatkit_rag.retrieval.phrases import phrases
from chatkit_rag.retrieval.segmentation import composed, is_unspaced, is_word, names, pieces, words
from chatkit_rag.retrieval.stemming import Stemmer

SATURATION = 2.0
"""BM25's k: how much a term's second occurrence still adds."""

LENGTH_NORMALISATION = 0.5
"""BM25's b. Passages are cut to like lengths; what still differs says little, so less than the usual 0.75."""

PHRASE_WEIGHT = 0.2
"""What two terms in a row weigh in a question, a term by itself weighing 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWeights:
    """Occurrences in a passage's text that one in another field counts for."""

    heading: float = 3.0
    title_as_heading: float = 2.0
    """The page's title, for what stands before the first heading."""
    enclosing: float = 1.0
    """The headings around the passage's own."""
    page: float = 0.5
    """The page's title and its section of the site, which all its passages share."""
    emphasis: float = 2.0
    """Bold and italic words in the text."""


WEIGHTS = FieldWeights()

_REMEMBERED = 100_000
"""Words whose terms are kept: more than a course has, and an end to what readers can make up."""
_REMEMBERED_AROUND = 1_000
"""Sections whose headings' terms are kept."""
_LONG = 64
"""Letters from which on what stands between two spaces is not kept: a sentence of a script without spaces."""

# Both begin with the same letter, by which a text is searched many times faster.
_EMPHASIS = re.compile(r"\*(?:\*([^*\n]+)\*\*|(?<![\w*]\*)([^*\s][^*\n]*)\*(?![\w*]))")

_LAST_LATIN = "\u024f"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Terms by number, each with its weight; numbers are distinct."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


class Token(NamedTuple):
    """What stands between two spaces, analysed: a course has few different ones, and each is looked at once."""

    terms: tuple[int, ...]
    """Of its words."""
    named: tuple[int, ...]
    """Of the further words that a name of code is found by."""
    spelled: tuple[str, ...]
    """Its words as they are written, stop words too, but for those of scripts without spaces."""


_Around = tuple[tuple[str, ...], str, str]
"""A passage's headings, the title of its page, and the section of the site."""

# Of a token, by their places: names would take half as long again, a million times.
_TERMS: Callable[[Token], tuple[int, ...]] = itemgetter(0)
_NAMED: Callable[[Token], tuple[int, ...]] = itemgetter(1)
_SPELLED: Callable[[Token], tuple[str, ...]] = itemgetter(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyser:
    """Turns text into terms. Two analysers with equal fields give equal vectors, in any process."""

    language: str = "english"
    """By any name that `find_language` knows."""
    _native: Stemmer = field(init=False, repr=False, compare=False)
    _latin: Stemmer = field(init=False, repr=False, compare=False)
    _function_words: frozenset[str] = field(init=False, repr=False, compare=False)
    _asking: frozenset[str] = field(init=False, repr=False, compare=False)
    _between: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _words: Memo[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)
    _tokens: Memo[str, Token] = field(init=False, repr=False, compare=False)
    _around: Memo[_Around, Sequence[tuple[int, float]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        language = find_language(self.language)
        native = Stemmer(language.name)
        object.__setattr__(self, "language", language.name)
        object.__setattr__(self, "_native", native)
        object.__setattr__(self, "_latin", native if language.is_latin else Stemmer("english"))
        between = sorted(BETWEEN.get(language.name, ()), key=len, reverse=True)
        object.__setattr__(self, "_between", re.compile("|".join(between)) if between else None)
        object.__setattr__(self, "_function_words", function_words(language.name))
        object.__setattr__(self, "_asking", ASKING.get(language.name, frozenset()))
        object.__setattr__(self, "_words", Memo(self._word, most=_REMEMBERED, keeps=_is_short))
        object.__setattr__(self, "_tokens", Memo(self._token, most=_REMEMBERED, keeps=_is_short))
        object.__setattr__(self, "_around", Memo(self._around_text, most=_REMEMBERED_AROUND))

    @property
    def is_latin(self) -> bool:
        """Whether the corpus is in a language of Latin letters."""
        return self._latin is self._native

    def tokens(self, text: str) -> list[Token]:
        """A text cut at its spaces: no word, and no name of code, reaches over one."""
        return list(map(self._tokens.__getitem__, text.split()))

    def terms(self, text: str) -> list[int]:
        """The terms of a text, in order, repeated as they are in it; those of names of code behind the others."""
        return terms_of(self.tokens(text))

    def names(self, text: str, *, is_found: Callable[[str], bool] = lambda _word: False) -> list[str]:
        """Further words that the names of code in a text are found by; see `segmentation.names`."""
        return names(text, is_term=lambda word: bool(self.word_terms(word)), is_found=is_found)

    def word_terms(self, word: str) -> tuple[int, ...]:
        """The terms of one word of `words`; none for a stop word."""
        return self._words[word]

    def _token(self, token: str) -> Token:
        said = words(token)
        return Token(
            terms=tuple(term for word in said for term in self.word_terms(word)),
            named=tuple(term for word in self.names(token) for term in self.word_terms(word)),
            spelled=tuple(word for word in said if not is_unspaced(word)),
        )

    def _word(self, word: str) -> tuple[int, ...]:
        if word in self._function_words:
            return ()
        if not is_unspaced(word):
            return (self._latin if word[0] <= _LAST_LATIN else self._native).terms(word)
        found = (piece for part in self.parts(word) for piece in pieces(part))
        return tuple(term for piece in found for term in self.piece_terms(piece))

    def parts(self, word: str) -> list[str]:
        """A word of a script without spaces, cut at what stands between words and says nothing."""
        return [part for part in self._between.split(word) if is_word(part)] if self._between else [word]

    def piece_terms(self, piece: str) -> tuple[int, ...]:
        """The terms of one of `pieces`."""
        if piece in self._function_words:
            return ()
        return (ord(piece),) if len(piece) == 1 else self._native.hashed(piece)

    def passage_terms(self, passage: Passage) -> frozenset[int]:
        """The terms and phrases that a passage is indexed under."""
        return frozenset(self.occurrences(passage, self.terms(passage.text)))

    def occurrences(self, passage: Passage, text: Sequence[int]) -> dict[int, float]:
        """How often a passage says each term and phrase, weighed by field; `text` are the `terms` of its text."""
        found: dict[int, float] = dict(Counter(chain(text, phrases(text))))
        around = self._around[passage.heading_path, passage.title, passage.path.rpartition("/")[0]]
        for term, weight in around:
            found[term] = found.get(term, 0.0) + weight
        if emphasised := _emphasised(passage.text):
            for term in self.terms(emphasised):
                found[term] = found.get(term, 0.0) + WEIGHTS.emphasis
        return found

    def _around_text(self, around: _Around) -> Sequence[tuple[int, float]]:
        """The terms of a passage's headings and page, with what each weighs; pieces of a section have the same."""
        heading_path, title, section = around
        heading = self.terms(heading_path[-1])
        weight = WEIGHTS.title_as_heading if len(heading_path) == 1 else WEIGHTS.heading
        page = f"{title} {section.replace('-', ' ').replace('/', ' ')}"
        weighed: dict[int, float] = {}
        for terms, each in (
            (heading, weight),
            (self.terms(" ".join(heading_path[1:-1])), WEIGHTS.enclosing),
            (self.terms(page), WEIGHTS.page),
            (phrases(heading), WEIGHTS.heading),
        ):
            for term in terms:
                weighed[term] = weighed.get(term, 0.0) + each
        return tuple(weighed.items())

    def question_terms(self, asked: Sequence[str]) -> list[int]:
        """What a question of such `words` is about, in order; all of its terms where it has asking words only."""
        topical = [word for word in asked if word not in self._asking] or asked
        return list(chain.from_iterable(map(self._words.__getitem__, topical)))


@cache
def analyser_of(language: str) -> Analyser:
    """The one analyser of a language: what it has looked at for one index, it knows for the next."""
    return Analyser(language=language)


def question_vector(terms: list[int]) -> SparseVector:
    """The vector that a question is searched with: every term weighs the same, however often it is said."""
    weights = dict.fromkeys(terms, 1.0) | dict.fromkeys(phrases(terms), PHRASE_WEIGHT)
    return SparseVector(tuple(weights), tuple(weights.values()))


def terms_of(tokens: Sequence[Token]) -> list[int]:
    """The terms of a text's `tokens`."""
    # Few tokens are names of code.
    return [*chain.from_iterable(map(_TERMS, tokens)), *chain.from_iterable(filter(None, map(_NAMED, tokens)))]


def spelled_in(tokens: Iterable[Token]) -> Iterator[str]:
    """The words of a text's `tokens`, as they are written."""
    return chain.from_iterable(map(_SPELLED, tokens))


def saturated(occurrences: Collection[float], length: int, average_length: float) -> Iterator[float]:
    """What terms weigh that occur so often in a text of so many terms, where the average one has `average_length`."""
    damping = SATURATION * (1 - LENGTH_NORMALISATION + LENGTH_NORMALISATION * length / average_length)
    # Most terms are there once or twice.
    weights = {often: often * (SATURATION + 1) / (often + damping) for often in set(occurrences)}
    return map(weights.__getitem__, occurrences)


def _is_short(token: str) -> bool:
    return len(token) < _LONG


def _emphasised(text: str) -> str:
    text = composed(text)
    if "*" not in text:
        return ""
    return " ".join(map("".join, _EMPHASIS.findall(without_code(text))))
