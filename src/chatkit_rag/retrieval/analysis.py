"""Text to weighted terms: one analyser for everything that is indexed and everything that is asked.

BM25 in two halves: a passage's vector holds the saturated, length-normalised term frequencies, the engine multiplies
by the inverse document frequency when it searches. Stop words and Snowball stems are the engine's own, so that the
same vectors serve in process and on a Qdrant server; three things are added to plain BM25:

- Frequencies are weighed by field before they are saturated (BM25F; Robertson, Zaragoza, Taylor, 2004). A word of the
  heading, or one that the text emphasises because it defines it, says more than a word in passing.
- Two terms in a row are a term of their own (the sequential dependence model; Metzler and Croft, 2005), so that
  "double support" is found where it says so, not where one thing is double and another supports.
- Words by which people ask ("how do I need to …") are no terms.

Not here: how rare a term is in a course, and what a misspelled word was meant to be (`lexicon`).
"""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import qdrant_edge as engine

from chatkit_rag.documents import Passage, without_code
from chatkit_rag.errors import ConfigurationError

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

_LETTER_THEN_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)")
_CAMEL_CASE = re.compile(r"\b[A-Za-z]*[a-z][A-Z][A-Za-z]*\b")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_SPOKEN = {"c++": "cplusplus", "c#": "csharp", "f#": "fsharp"}
"""Names whose signs are letters to those who say them."""
_NAME = re.compile(r"(?<!\w)(?:c\+\+|[cf]#)(?!\w)")
_APOSTROPHE = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}]")
_EMPHASIS = re.compile(r"\*\*([^*\n]+)\*\*|(?<![\w*])\*([^*\s][^*\n]*)\*(?![\w*])")

_ASKING = {
    "english": frozenset(
        [
            *("anything", "arent", "cant", "could", "couldnt", "didnt", "doesnt", "dont", "explain", "help", "hows"),
            *("id", "im", "isnt", "ive", "just", "know", "may", "mean", "might", "must", "need", "please", "shall"),
            *("should", "shouldnt", "something", "tell", "thats", "want", "wasnt", "whats", "wheres", "wont", "would"),
            "wouldnt",
        ]
    )
}
"""Words by which people ask, and not what they ask about; the engine's stop words are those of written prose."""

_PHRASE_BIT = 1 << 31
"""Set in the number of a phrase, and never in that of a term."""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Terms by number, each with its weight; numbers are distinct."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyser:
    """Turns text into terms. Two analysers with equal fields give equal vectors, in any process."""

    language: str = "english"
    average_length: float = 100.0
    """Terms in the average passage of the corpus: `mean_length`."""
    _engine: engine.Bm25 = field(init=False, repr=False, compare=False)
    _known: dict[str, tuple[int, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict[str, tuple[int, ...]]
    )

    def __post_init__(self) -> None:
        config = engine.Bm25Config(language=self.language, ascii_folding=True, lowercase=True)
        object.__setattr__(self, "_engine", engine.Bm25(config))

    def terms(self, text: str) -> list[int]:
        """The terms of a text, in order, repeated as they are in it."""
        return [term for word in words(_CAMEL_CASE.sub(_spelled_out, text)) for term in self.word_terms(word)]

    def word_terms(self, word: str) -> tuple[int, ...]:
        """The terms of one word of `words`; none for a stop word."""
        terms = self._known.get(word)
        if terms is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            # The engine's embedding of a single word is its way to say which terms it has.
            terms = self._known[word] = tuple(self._engine.embed_query(word).indices)
        return terms

    def passage(self, passage: Passage, weights: FieldWeights = WEIGHTS) -> SparseVector:
        """The vector that a passage is indexed under."""
        text = self.terms(passage.text)
        is_start = len(passage.heading_path) == 1
        section = " ".join(segment.replace("-", " ") for segment in passage.path.split("/")[:-1])
        frequencies: dict[int, float] = defaultdict(float)
        for terms, weight in (
            (text, 1.0),
            (self.terms(passage.heading), weights.title_as_heading if is_start else weights.heading),
            (self.terms(" ".join(passage.heading_path[1:-1])), weights.enclosing),
            (self.terms(f"{passage.title} {section}"), weights.page),
            (self.terms(_emphasised(passage.text)), weights.emphasis),
        ):
            for term in terms:
                frequencies[term] += weight
        for terms, weight in ((text, 1.0), (self.terms(passage.heading), weights.heading)):
            for phrase in phrases(terms):
                frequencies[phrase] += weight
        relative_length = len(text) / self.average_length
        damping = SATURATION * (1 - LENGTH_NORMALISATION + LENGTH_NORMALISATION * relative_length)
        values = [frequency * (SATURATION + 1) / (frequency + damping) for frequency in frequencies.values()]
        return SparseVector(tuple(frequencies), tuple(values))

    def question_terms(self, question: str) -> list[int]:
        """What a question asks about, in order; all of its terms where it consists of asking words only."""
        asking = _ASKING.get(self.language, frozenset[str]())
        asked = words(question)
        topical = [word for word in asked if word not in asking] or asked
        return [term for word in topical for term in self.word_terms(word)]


def check_language(language: str) -> None:
    """Raises ConfigurationError where there is no stemmer for the language."""
    try:
        Analyser(language=language)
    except ValueError as exc:
        raise ConfigurationError(f"no stemmer for the language {language!r}: {exc}") from exc


def question_vector(terms: list[int]) -> SparseVector:
    """The vector that a question is searched with: every term weighs the same, however often it is said."""
    weights = dict.fromkeys(terms, 1.0) | dict.fromkeys(phrases(terms), PHRASE_WEIGHT)
    return SparseVector(tuple(weights), tuple(weights.values()))


def phrases(terms: Iterable[int]) -> list[int]:
    """Every two terms in a row, as one number each."""
    return [
        zlib.crc32(first.to_bytes(8) + second.to_bytes(8)) | _PHRASE_BIT
        for first, second in pairwise(terms)
        if first != second
    ]


def is_phrase(term: int) -> bool:
    """Whether the number stands for two terms in a row."""
    return bool(term & _PHRASE_BIT)


def mean_length(passages: Iterable[Passage], analyser: Analyser) -> float:
    """The mean number of terms in the passages' texts; never 0, so that it can stand below a fraction line."""
    lengths = [len(analyser.terms(passage.text)) for passage in passages]
    return max(1.0, sum(lengths) / len(lengths)) if lengths else 1.0


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order; `ROS2` is two, since `ROS 2` is the same thing to a student."""
    plain = _NAME.sub(lambda name: _SPOKEN[name[0]], _APOSTROPHE.sub("", text).lower())
    return _WORD.findall(_LETTER_THEN_DIGIT.sub(" ", plain))


def _spelled_out(name: re.Match[str]) -> str:
    """`createPublisher` and its parts; `PyTorch` stays findable as one word."""
    return f"{name[0]} {_HUMP.sub(' ', name[0])}"


def _emphasised(text: str) -> str:
    return " ".join(bold or italic for bold, italic in _EMPHASIS.findall(without_code(text)))
