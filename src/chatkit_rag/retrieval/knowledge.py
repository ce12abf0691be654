"""What is known of one generation besides its points: its words, its pages, and what its passages were embedded by.

Every engine keeps the same points and the same three files of knowledge, and leaves to it what is arithmetic: which
terms a question has, how well a heading agrees with it, and whether the course answers it. Does no IO.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from chatkit_rag.documents import Hit, Passage
from chatkit_rag.errors import IndexUnreadable
from chatkit_rag.retrieval.analysis import Analyser, analyser_of
from chatkit_rag.retrieval.counting import Counts
from chatkit_rag.retrieval.embedding import passage_text
from chatkit_rag.retrieval.filters import Filter, can_be_named, field_kinds, flags
from chatkit_rag.retrieval.fusion import by_score
from chatkit_rag.retrieval.index import Matches
from chatkit_rag.retrieval.lexicon import Lexicon
from chatkit_rag.retrieval.manifest import PageRecord, dump_records, load_records
from chatkit_rag.retrieval.phrases import PHRASES

FORMAT = 6
"""Of a generation's files and points; raised when older code could not read them."""

SECTION = ("site", "path", "anchor", "heading_path")
"""The fields that the pieces of one section have in common."""

FILES = ("generation.json", "lexicon.json", "pages.jsonl")

_HEADING_BONUS = 0.5
"""What a heading that says exactly what is asked adds to its passages' scores, as a share of them."""
_COVERING = 3
"""How many of the first passages are asked whether they cover the question."""


@dataclass(frozen=True, slots=True)
class Known:
    """A passage that was found before, with what does not change within a generation."""

    passage: Passage
    heading: frozenset[int]
    """The terms of its heading."""
    before: str = ""
    """The id of the piece before it in the same section; empty where it is the first."""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks for, in the corpus's own spelling."""

    terms: list[int]
    names: list[list[int]]
    """The phrases of each name that means nothing in parts."""


PointId = Hashable
"""A passage's id, as the engine has it."""
Scored = tuple[PointId, float]
"""A point, and its score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """Of one generation; made by `of`, or by `load` from what `dump` gave."""

    analyser: Analyser
    lexicon: Lexicon
    records: Sequence[PageRecord]
    """In the order of their paths."""
    fields: Mapping[str, str]
    """The metadata that passages have -> the kind of index that it wants; see `field_kinds`."""
    shared: Mapping[str, str]
    """The site of its passages, where all have the same: `{"site": ...}`."""
    embedder: str = ""
    """The signature of what its passages were embedded by; empty where they were not."""
    dimension: int = 0
    unnamed: frozenset[str] = field(init=False, repr=False, compare=False)
    """The fields that an engine has no way to name."""
    pages: Mapping[str, Sequence[PageRecord]] = field(init=False, repr=False, compare=False)
    """Path -> the page of each site."""
    known: dict[PointId, Known] = field(init=False, repr=False, compare=False, default_factory=dict[PointId, Known])
    _terms: dict[str, frozenset[int]] = field(
        init=False, repr=False, compare=False, default_factory=dict[str, frozenset[int]]
    )

    def __post_init__(self) -> None:
        pages: dict[str, list[PageRecord]] = {}
        for record in self.records:
            pages.setdefault(record.document.path, []).append(record)
        object.__setattr__(self, "pages", pages)
        object.__setattr__(self, "unnamed", frozenset(name for name in self.fields if not can_be_named(name)))

    @classmethod
    def of(
        cls,
        records: Sequence[PageRecord],
        passages: Sequence[Passage],
        counts: Counts,
        *,
        language: str,
        embedder: str = "",
        dimension: int = 0,
    ) -> "Knowledge":
        """The knowledge of a generation to be, of whose passages all is counted."""
        return cls(
            analyser=analyser_of(language),
            lexicon=Lexicon(
                passages=counts.passages, frequencies=counts.terms, phrases=counts.phrases, words=counts.words
            ),
            records=sorted(records, key=lambda record: (record.document.path, record.site)),
            fields=field_kinds(passages),
            shared=shared_by(passages),
            embedder=embedder,
            dimension=dimension,
        )

    def dump(self) -> dict[str, bytes]:
        """The contents of `FILES`, by name."""
        lexicon = {
            "frequencies": {str(term): frequency for term, frequency in self.lexicon.frequencies.items()},
            "phrases": list(self.lexicon.phrases),
            "words": dict(self.lexicon.words),
        }
        about = {
            "format": FORMAT,
            "language": self.analyser.language,
            "passages": self.lexicon.passages,
            "fields": dict(self.fields),
            "shared": dict(self.shared),
            "embedder": self.embedder,
            "dimension": self.dimension,
        }
        return {
            "generation.json": orjson.dumps(about),
            "lexicon.json": orjson.dumps(lexicon),
            "pages.jsonl": dump_records(self.records),
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> "Knowledge":
        """The reverse of `dump`.

        Raises:
            IndexUnreadable: another version has written it.
            ValueError: the files are not what `dump` wrote (also as AttributeError, KeyError and TypeError).
        """
        about = orjson.loads(files["generation.json"])
        if about["format"] > FORMAT:
            raise IndexUnreadable("it was written by a newer chatkit-rag; upgrade, or index the pages again")
        if about["format"] < FORMAT:
            raise IndexUnreadable("it was written by an older chatkit-rag; remove it, and index the pages again")
        counts = orjson.loads(files["lexicon.json"])
        if len(counts["phrases"]) != PHRASES:
            raise ValueError("some phrases are missing")
        return cls(
            analyser=analyser_of(about["language"]),
            lexicon=Lexicon(
                passages=about["passages"],
                frequencies={int(term): frequency for term, frequency in counts["frequencies"].items()},
                phrases=counts["phrases"],
                words=counts["words"],
            ),
            records=load_records(files["pages.jsonl"]),
            fields=about.get("fields", {}),
            shared=about["shared"],
            embedder=about.get("embedder", ""),
            dimension=about.get("dimension", 0),
        )

    def asked(self, query: str) -> Asked:
        """What a question asks for, with slips of typing mended."""
        meant = self.lexicon.understood(self.lexicon.corrected(query, self.analyser), self.analyser)
        return Asked(self.analyser.question_terms(meant), self.lexicon.names(query, self.analyser))

    def get_to_know(self, id_: PointId, passage: Passage, before: str = "", after: str = "") -> None:
        """Remembers a passage, and the ids of those beside it: most of what a search costs is to make passages."""
        self.known[id_] = Known(passage, frozenset(self.analyser.terms(passage.heading)), before, after)

    def admitted(self, where: Filter, found: Iterable[Scored]) -> list[Scored]:
        """Those of known points that a filter admits, for what an engine could not be asked."""
        return [one for one in found if where.admits(self.known[one[0]].passage)]

    def forget(self) -> None:
        """Drops what it remembers of passages one by one; to free them all at once keeps the other threads waiting."""
        for remembered in (self.known, self._terms):
            while remembered:
                remembered.popitem()

    def matches(self, asked: Asked, by_words: Iterable[Scored], by_meaning: Iterable[Scored]) -> Matches:
        """What was found, of points that are all known: agreement with the heading added, ties in order."""
        hits: list[Hit] = []
        terms = frozenset(asked.terms)
        for id_, score in by_words:
            known = self.known[id_]
            if not terms.isdisjoint(known.heading):
                score *= 1 + _HEADING_BONUS * self.lexicon.agreement(terms, known.heading)  # noqa: PLW2901 - the same score
            hits.append(Hit(known.passage, score))
        near = [Hit(self.known[id_].passage, score) for id_, score in by_meaning]
        hits.sort(key=by_score)
        near.sort(key=by_score)
        held = [self._held(hit.passage) for hit in hits[:_COVERING]]
        confidence = self.lexicon.confidence(asked.terms, held, names=asked.names)
        return Matches(hits=tuple(hits), near=tuple(near), confidence=confidence)

    def _held(self, passage: Passage) -> frozenset[int]:
        """The terms that a passage is indexed under."""
        terms = self._terms.get(passage.id)
        if terms is None:
            terms = self._terms[passage.id] = self.analyser.passage_terms(passage)
        return terms


def shared_by(passages: Iterable[Passage]) -> Mapping[str, str]:
    """`Knowledge.shared` of passages."""
    sites = {passage.site for passage in passages}
    return {"site": sites.pop()} if len(sites) == 1 else {}


def make_payloads(passages: Sequence[Passage], *, embedded: bool) -> list[dict[str, Any]]:
    """What each point carries: the passage, the pieces of its section around it, and what was embedded of it."""
    payloads: list[dict[str, Any]] = [orjson.loads(orjson.dumps(passage)) for passage in passages]
    for payload in payloads:
        if truths := flags(payload["metadata"]):
            payload["flags"] = truths
    for first, second in pairwise(payloads):
        if all(first[name] == second[name] for name in SECTION):
            first["after"], second["before"] = second["id"], first["id"]
    if embedded:
        for payload, passage in zip(payloads, passages, strict=True):
            payload["embedded"] = text_digest(passage)
    return payloads


def read_payload(payload: Mapping[str, Any]) -> tuple[Passage, str, str]:
    """The passage, and the ids of the pieces before and after it."""
    fields = dict(payload)
    before, after = fields.pop("before", ""), fields.pop("after", "")
    for name in ("embedded", "flags"):
        fields.pop(name, None)
    heading_path: Any = tuple(fields["heading_path"])
    return Passage(**(fields | {"heading_path": heading_path})), before, after


def text_digest(passage: Passage) -> str:
    """Says whether a passage would be embedded anew: the same text has the same vector."""
    return hashlib.blake2b(passage_text(passage).encode(errors="surrogatepass"), digest_size=8).hexdigest()
