"""Questions without a language model: a term that the page itself marks is left out of one of its sentences. Pure.

The other options are terms that the page marks elsewhere. The same page gives the same questions.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from chatkit_rag.agent.quiz.questions import FEWEST, MOST, Question, plain
from chatkit_rag.documents import Passage, without_code
from chatkit_rag.ingestion.passages import SENTENCE_END, count_words

BLANK = "_____"

_MARKED = re.compile(r"(?<![\w*`])(\*\*|\*|`)(?=[^\s*`])([^*`\n]{2,40})(?<=[^\s*`])\1(?![\w*`])")
_MARKS = re.compile(r"[*`]+")
_LINE_MARKS = re.compile(r"^(?:[-+*]|\d+[.)]|>+)\s+")
_NO_PROSE = ("|", "#", "$$", ":::")
_SHORTEST, _LONGEST = 6, 45
"""Words of a sentence that is asked about."""
_TERM_WORDS = 4
_LONG_WORD = re.compile(r"[^\W\d_]{7,}")
"""Of a heading: as long as this it is hardly ever a word that stands everywhere."""
_WRONG = 3
_ANNOUNCES = (":", "\N{FULLWIDTH COLON}")


@dataclass(frozen=True, slots=True)
class _Term:
    text: str
    is_code: bool


def cloze_questions(passages: Sequence[Passage]) -> list[Question]:
    """Up to five questions on a page's passages, in its order; fewer than three where it names too few terms."""
    by_marks = _questions(passages, _short_headings)
    return by_marks if len(by_marks) >= FEWEST else _questions(passages, _heading_words)


_Headings = Callable[[Iterable[Passage]], list[_Term]]


def _questions(passages: Sequence[Passage], headings: _Headings) -> list[Question]:
    """Questions on the terms that are marked, and on those of the headings."""
    sentences = [(passage, sentence) for passage in passages for sentence in _sentences(passage.text)]
    terms = list(dict.fromkeys([term for _, sentence in sentences for term in _terms(sentence)] + headings(passages)))
    by_passage: dict[str, list[Question]] = {}
    asked: set[str] = set()
    for passage, sentence in sentences:
        question = _question(passage, sentence, [*_terms(sentence), *headings([passage])], terms, asked)
        if question is not None:
            asked.add(plain(question.answer))
            by_passage.setdefault(passage.id, []).append(question)
    chosen = {question.answer for question in islice(_in_turns(list(by_passage.values())), MOST)}
    return [question for questions in by_passage.values() for question in questions if question.answer in chosen]


def _question(
    passage: Passage, sentence: str, here: Iterable[_Term], terms: Sequence[_Term], asked: set[str]
) -> Question | None:
    """A question on the first of the terms `here` that the sentence has, and that was not asked for yet."""
    whole = _MARKS.sub("", sentence)
    if not _SHORTEST <= count_words(whole) <= _LONGEST or whole.endswith(_ANNOUNCES):
        return None
    for term in here:
        if plain(term.text) in asked or not _occurs(term.text, whole):
            continue
        others = [
            other.text
            for other in _near(term, terms)
            if other.is_code == term.is_code and not _occurs(other.text, whole) and not _alike(other.text, term.text)
        ]
        wrong = tuple(_distinct(others)[:_WRONG])
        if len(wrong) >= 2:
            text = _place_of(term.text).sub(BLANK, whole)
            return Question(text=text, answer=term.text, wrong=wrong, explanation=whole, passage=passage)
    return None


def _sentences(text: str) -> Iterator[str]:
    for line in without_code(text).splitlines():
        prose = _LINE_MARKS.sub("", line.strip())
        if not prose or prose.startswith(_NO_PROSE):
            continue
        ends = [found.end() for found in SENTENCE_END.finditer(prose)]
        yield from filter(None, (prose[start:end].strip() for start, end in pairwise([0, *ends, len(prose)])))


def _terms(sentence: str) -> list[_Term]:
    found = [_Term(marked[2].strip(".,:;"), marked[1] == "`") for marked in _MARKED.finditer(sentence)]
    return [term for term in found if plain(term.text) and count_words(term.text) <= _TERM_WORDS]


def _short_headings(passages: Iterable[Passage]) -> list[_Term]:
    """Headings below the page's title that are a term themselves."""
    return [_Term(heading, is_code=False) for heading in _headings(passages) if count_words(heading) < _TERM_WORDS]


def _heading_words(passages: Iterable[Passage]) -> list[_Term]:
    """These, and the longer words of all headings, for pages that mark little."""
    several = list(passages)
    long_words = (word for heading in _headings(several) for word in _LONG_WORD.findall(heading))
    return [*_short_headings(several), *(_Term(word, is_code=False) for word in dict.fromkeys(long_words))]


def _headings(passages: Iterable[Passage]) -> list[str]:
    return list(dict.fromkeys(_MARKS.sub("", one) for passage in passages for one in passage.heading_path[1:]))


def _near(term: _Term, terms: Sequence[_Term]) -> list[_Term]:
    """The terms, those first that stand nearest to this one on the page: they are the hardest to tell from it."""
    place = terms.index(term) if term in terms else 0
    return [terms[other] for other in sorted(range(len(terms)), key=lambda other: abs(other - place))]


def _distinct(texts: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(plain(text), text)
    return list(first.values())


def _alike(one: str, other: str) -> bool:
    first, second = plain(one), plain(other)
    return first in second or second in first


def _occurs(term: str, sentence: str) -> bool:
    return _place_of(term).search(sentence) is not None


def _place_of(term: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(term)}(?!\w)", re.IGNORECASE)


def _in_turns(lists: Sequence[Sequence[Question]]) -> Iterator[Question]:
    """The first of each list, then the second of each, and so on."""
    for place in range(max(map(len, lists), default=0)):
        yield from (one[place] for one in lists if place < len(one))
