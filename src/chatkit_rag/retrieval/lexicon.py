"""What the words of one corpus are worth: how rare they are, and what a misspelled one was meant to be.

From that, how well a heading fits a question, and whether the corpus answers it at all. Arithmetic over counts; no IO.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import mul

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from chatkit_rag.memo import Memo
from chatkit_rag.retrieval.analysis import Analyser, SparseVector
from chatkit_rag.retrieval.counting import rarity
from chatkit_rag.retrieval.phrases import is_phrase, phrase_place, phrases
from chatkit_rag.retrieval.segmentation import glued_names, is_latin, is_spelled, is_unspaced, is_word, letters, words

_LEAST_COVERED = 0.25
"""The share of a question's weight below which a passage is about something else, however common its words are."""

_REMEMBERED = 10_000
"""Terms whose rarities are kept, and sets of terms whose weights are: headings, and what they share with questions."""

_SMALL = 32
"""Terms of the largest set that is kept: a heading has fewer, and what somebody pastes may have thousands."""

_SHORT = 3
"""Words of so few letters are mended only where a letter is missing or two are swapped: GPU is not CPU."""
_LONG = 8
"""From so many letters on two slips are forgiven."""
_MOST_MENDED = 20
"""Words of one question that are mended: where more are unknown, it is in another language, or a heap of letters."""
_MOST_NAMES = 8
"""Names in one piece that a question is looked through for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Counted over the passages of one generation."""

    passages: int
    frequencies: Mapping[int, int]
    """Term number -> passages that hold it."""
    phrases: Sequence[int]
    """Passages that hold each phrase, by its `phrase_place`."""
    words: Mapping[str, int]
    """Word in lower case, stop words too -> passages that hold it; none of a script without spaces."""
    _alike: dict[tuple[int, str], list[str]] = field(init=False, repr=False, compare=False)
    """Words by their length and first letter."""
    _rarities: Memo[int, float] = field(init=False, repr=False, compare=False)
    _highest: float = field(init=False, repr=False, compare=False)
    _weights: Memo[frozenset[int], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        alike: dict[tuple[int, str], list[str]] = {}
        for word in self.words:
            alike.setdefault((len(word), word[0]), []).append(word)
        object.__setattr__(self, "_alike", alike)
        object.__setattr__(self, "_rarities", Memo(self.rarity, most=_REMEMBERED))
        object.__setattr__(self, "_highest", rarity(0, self.passages))
        object.__setattr__(self, "_weights", Memo(self._weigh, most=_REMEMBERED, keeps=_is_small))

    def rarity(self, term: int) -> float:
        """How rare a term or phrase is; the highest that there is where no passage holds it."""
        held = self.phrases[phrase_place(term)] if is_phrase(term) else self.frequencies.get(term, 0)
        return rarity(held, self.passages)

    def weighed(self, question: SparseVector) -> SparseVector:
        """A question's vector with rarities multiplied in, for an engine that does not know them."""
        values = map(mul, question.values, map(self._rarities.__getitem__, question.indices))
        return SparseVector(question.indices, tuple(values))

    def weight(self, terms: Iterable[int]) -> float:
        """The rarities of distinct terms, summed."""
        return self._weights[frozenset(terms)]

    def _weigh(self, terms: frozenset[int]) -> float:
        return sum(map(self._rarities.__getitem__, terms))

    def agreement(self, asked: Collection[int], heading: Collection[int]) -> float:
        """How well a heading says what is asked: 1 where it says that and nothing else, 0 where nothing of it.

        The harmonic mean of the heading's share in the question and the question's share in the heading, by weight.
        """
        common = frozenset(asked).intersection(heading)
        return 2 * self.weight(common) / (self.weight(asked) + self.weight(heading)) if common else 0.0

    def confidence(
        self, asked: Collection[int], held: Iterable[Collection[int]], *, names: Iterable[Collection[int]] = ()
    ) -> float:
        """Whether the corpus answers a question: 0 where it holds nothing of it, 1 where one passage holds all.

        The mean of two shares: of the question's weight, that the best passage holds; and of its terms, that the
        corpus uses anywhere. The first alone fails long questions, whose words no passage holds together; the second
        alone lets everything through that is asked in the corpus's own words.

        A name in one piece is one thing more to be known: where no passage has it, its parts help little. Where not
        even a quarter of the weight is held, that share alone counts.

        Args:
            asked: the question's terms.
            held: the terms of each of the best passages, its phrases among them.
            names: the phrases of each name that the question holds.
        """
        terms = frozenset(asked)
        if not terms:
            return 0.0
        passages = [frozenset(passage) for passage in held]
        whole = [any(passage.issuperset(name) for passage in passages) for name in names]
        covered = max((self.weight(terms & passage) for passage in passages), default=0.0)
        known = [*map(self.frequencies.__contains__, terms), *whole]
        share = covered / (self.weight(terms) + whole.count(False) * self._highest)
        if share < _LEAST_COVERED:
            return share
        return (share + sum(known) / len(known)) / 2

    def names(self, question: str, analyser: Analyser) -> list[list[int]]:
        """The phrases of each name in a question that means nothing in parts; see `segmentation.glued_names`."""
        asked = glued_names(question)[:_MOST_NAMES]
        parts = ([self._corrected_word(word, analyser) for word in words(name)] for name in asked)
        found = [phrases([term for word in name for term in analyser.word_terms(word)]) for name in parts]
        return [name for name in found if name]

    def corrected(self, question: str, analyser: Analyser) -> list[str]:
        """The question's `words`, with those that the corpus does not know replaced by the nearest that it does.

        One slip is forgiven (letters swapped, changed, added or left out), two in long words; the first letter must
        stand, or be swapped with the second. Between equally near words the commoner one is taken, then the first by
        alphabet. Where many are unknown, only the first few are mended. Where a script has no spaces, words are cut
        instead where two letters meet that the corpus never puts side by side, next to some that it does: that is where
        one word ends.

        Behind them stand the other words of names of code (`Analyser.names`), as far as the corpus has them. A name
        that it has in one word is asked for in one word: with its parts, "PyTorch" would count three times.
        """
        others = analyser.names(question, is_found=lambda word: self._is_known(word, analyser))
        named = [name for name in others if self._is_known(name, analyser)]
        meant: list[str] = []
        left = _MOST_MENDED
        for word in words(question):
            if word in self.words:
                meant.append(word)
            elif is_unspaced(word):
                cut = (piece for part in analyser.parts(word) for piece in self._cut(part, analyser))
                meant.extend(filter(is_word, cut))
            elif left and self._may_be_a_slip(word, analyser):
                left -= 1
                meant.append(self._nearest(word))
            else:
                meant.append(word)
        return meant + named

    def understood(self, asked: list[str], analyser: Analyser) -> list[str]:
        """A question's words without those of other scripts that a course in Latin letters never uses.

        A reader may ask in their own language about what the course calls by Latin names. Their other words cannot be
        in it, so they say nothing of whether it covers the question.
        """
        if not analyser.is_latin or all(map(str.isascii, asked)):
            return asked
        return [word for word in asked if is_latin(word) or self._is_known(word, analyser)]

    def _cut(self, word: str, analyser: Analyser) -> list[str]:
        found = letters(word)
        known = [self._holds(first + second, analyser) for first, second in pairwise(found)]
        parts = [[found[0]]]
        for letter, (before, here, after) in zip(
            found[1:], zip([False, *known], known, [*known[1:], False], strict=False), strict=True
        ):
            if not here and (before or after):
                parts.append([letter])
            else:
                parts[-1].append(letter)
        kept = ["".join(part) for part in parts if len(part) > 1 or self._holds(part[0], analyser)]
        return kept or [word]

    def _holds(self, piece: str, analyser: Analyser) -> bool:
        return any(term in self.frequencies for term in analyser.piece_terms(piece))

    def _is_known(self, word: str, analyser: Analyser) -> bool:
        return any(term in self.frequencies for term in analyser.word_terms(word))

    def _corrected_word(self, word: str, analyser: Analyser) -> str:
        return self._nearest(word) if self._may_be_a_slip(word, analyser) else word

    def _may_be_a_slip(self, word: str, analyser: Analyser) -> bool:
        if len(word) < _SHORT or not is_spelled(word):
            return False
        return bool(analyser.word_terms(word)) and not self._is_known(word, analyser)

    def _nearest(self, word: str) -> str:
        slips = 2 if len(word) >= _LONG else 1
        near: list[str] = []
        for length in range(len(word) - slips, len(word) + slips + 1):
            near += self._alike.get((length, word[0]), ())
            if word[0] != word[1]:
                near += [other for other in self._alike.get((length, word[1]), ()) if other[1:2] == word[0]]
        if len(word) == _SHORT:
            near = [candidate for candidate in near if _is_short_slip(word, candidate)]
        # `limit=None` gives every one within the bound: the choice between them is ours.
        found = extract(word, near, scorer=OSA.distance, score_cutoff=slips, limit=None)
        best = min(found, key=lambda match: (match[1], -self.words[match[0]], match[0]), default=None)
        return best[0] if best else word


def _is_small(terms: frozenset[int]) -> bool:
    return len(terms) <= _SMALL


def _is_short_slip(word: str, candidate: str) -> bool:
    return len(candidate) > len(word) or sorted(candidate) == sorted(word)
