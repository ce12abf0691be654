"""What must be counted over all passages before the vector of one can be made.

How much a term weighs in a passage depends on the mean length of all texts, and what it is worth on how many passages
have it. So passages are read first, in one process or in several; the counts are added up; then vectors are made.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import add

from chatkit_rag.documents import Passage
from chatkit_rag.memo import Memo
from chatkit_rag.retrieval.analysis import Analyser, SparseVector, saturated, spelled_in, terms_of
from chatkit_rag.retrieval.phrases import PHRASES, is_phrase, phrase_place

_HEADINGS = 1_000
"""Headings whose words are kept."""


def rarity(frequency: int, passages: int) -> float:
    """BM25's inverse document frequency of a term that `frequency` of so many passages hold; never negative."""
    return math.log(1 + (passages - frequency + 0.5) / (frequency + 0.5))


@dataclass(frozen=True, slots=True)
class Counts:
    """Of some passages; `+` gives those of two parts of a corpus together."""

    passages: int = 0
    length: int = 0
    """Terms of their texts, together."""
    terms: Counter[int] = field(default_factory=Counter[int])
    """Term -> passages that hold it."""
    phrases: "array[int]" = field(default_factory=lambda: array("I", bytes(4 * PHRASES)))
    """Passages that hold each phrase, by its `phrase_place`."""
    words: Counter[str] = field(default_factory=Counter[str])
    """Word in lower case, stop words too -> passages that hold it; none of a script without spaces."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.passages + other.passages,
            self.length + other.length,
            self.terms + other.terms,
            array("I", map(add, self.phrases, other.phrases)),
            self.words + other.words,
        )

    @property
    def average_length(self) -> float:
        """The mean number of terms in a passage's text; never 0, so that it can stand below a fraction line."""
        return max(1.0, self.length / self.passages) if self.passages else 1.0


class Reading:
    """Passages that have been read, in their order.

    Kept flat, and nothing of their texts: as many lists as there are passages would take ten times as much, and send
    Python looking for garbage in the whole process, which stops it for some 80 ms.
    """

    def __init__(self, passages: Iterable[Passage], analyser: Analyser) -> None:
        self._lengths = array("I")
        self.sizes = array("I")
        """How many terms and phrases each passage holds."""
        self.terms = array("I")
        """Those of each passage, distinct, one passage after the other."""
        self._occurrences = array("f")
        """How often it holds each; in halves, which have no rounding."""
        words: Counter[str] = Counter()
        headings = Memo[tuple[str, ...], set[str]](
            lambda path: set(spelled_in(analyser.tokens(" ".join(path)))), most=_HEADINGS
        )
        for passage in passages:
            tokens = analyser.tokens(passage.text)
            text = terms_of(tokens)
            occurrences = analyser.occurrences(passage, text)
            self._lengths.append(len(text))
            self.sizes.append(len(occurrences))
            self.terms.fromlist([*occurrences])
            self._occurrences.fromlist([*occurrences.values()])
            spelled = set(spelled_in(tokens))
            spelled |= headings[passage.heading_path]
            words.update(spelled)
        self.counts = Counts(len(self.sizes), sum(self._lengths), words=words)
        frequencies = Counter(self.terms)
        self.distinct = len(frequencies)
        """How many different terms and phrases all passages hold together."""
        for term, frequency in frequencies.items():
            if is_phrase(term):
                self.counts.phrases[phrase_place(term)] = frequency
            else:
                self.counts.terms[term] = frequency

    def vectors(self, average_length: float) -> Iterator[SparseVector]:
        """The vector of each passage, where a text of the corpus has so many terms on average."""
        start = 0
        for length, size in zip(self._lengths, self.sizes, strict=True):
            own = slice(start, start + size)
            start += size
            weights = saturated(self._occurrences[own].tolist(), length, average_length)
            yield SparseVector(tuple(self.terms[own]), tuple(weights))
