"""A generation of `EdgeIndex`, open: what the engine finds in its slices, and what is known of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import qdrant_edge as engine

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexUnreadable
from chatkit_rag.retrieval.analysis import question_vector
from chatkit_rag.retrieval.edge_building import PASSAGES, SLICES
from chatkit_rag.retrieval.edge_slices import engine_vector
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generations import PrivateCopy, Published, damaged
from chatkit_rag.retrieval.index import MEANING, TERMS, Around, Matches
from chatkit_rag.retrieval.knowledge import FILES, SECTION, Knowledge, text_digest
from chatkit_rag.retrieval.passage_file import PassageFile

_EXACTLY = engine.SearchParams(
    # Twice as many as are asked for are chosen by their vectors' bytes, and compared as they are.
    quantization=engine.QuantizationSearchParams(rescore=True, oversampling=2.0)
)


_BREATH = 0.001
"""Seconds between two long calls of the engine, which would otherwise keep Python's lock from one to the next."""

_Row = tuple[int, float]
"""A passage's row, and its score."""


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """One generation, ready to be searched. Points are rows of `passages`."""

    source: Published
    copy: PrivateCopy
    slices: list[engine.EdgeShard]
    knowledge: Knowledge
    passages: PassageFile

    @classmethod
    def open(cls, source: Published) -> "OpenGeneration":
        """Opens a generation slice by slice; other threads stand still for no longer than one takes. For a worker.

        Raises:
            IndexUnreadable: it is not as it was written, of another version, or cannot be copied.
        """
        path = source.path
        try:
            knowledge = Knowledge.load({name: (path / name).read_bytes() for name in FILES})
            passages = PassageFile(path / PASSAGES)
            copy = PrivateCopy(path / SLICES)
        except IndexUnreadable as exc:
            raise IndexUnreadable(f"{path.parent} cannot be read: {exc}") from exc
        except (FileNotFoundError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise damaged(path.parent) from exc
        except OSError as exc:
            raise IndexUnreadable(f"the index in {path.parent} cannot be read or copied: {exc}") from exc
        opened = cls(source=source, copy=copy, slices=[], knowledge=knowledge, passages=passages)
        try:
            for place in sorted(copy.path.iterdir()):
                opened.slices.append(engine.EdgeShard.load(str(place)))
                time.sleep(_BREATH)
            opened.check_completeness()
        except BaseException as exc:  # the engine raises bare exceptions, and its panics are no `Exception`
            opened.close()
            raise damaged(path.parent) from exc
        return opened

    def check_completeness(self) -> None:
        """Raises ValueError where a slice, or a part of the passages, is missing."""
        found = sum(slice_.info().points_count for slice_ in self.slices)
        if not found == len(self.passages) == self.knowledge.lexicon.passages:
            raise ValueError("some of the passages are missing")

    def close(self) -> None:
        """Closes it slice by slice, and removes the copy. For a worker."""
        for slice_ in self.slices:
            slice_.close()
            time.sleep(_BREATH)
        self.knowledge.forget()
        self.passages.close()
        self.copy.remove()

    def search(self, query: str, vector: Vector | None, limit: int, where: Filter | None) -> Matches:
        """See `PassageIndex.search`."""
        knowledge = self.knowledge
        restriction: Mapping[str, Any] | None = {}
        if where:
            restriction = where.to_qdrant(fields=knowledge.fields, shared=knowledge.shared, without=knowledge.unnamed)
        if restriction is None:
            return Matches()
        filter_ = to_engine_filter(restriction) if restriction else None
        asked = knowledge.asked(query)
        # A slice would only know how rare terms are in it, so it does not weigh them: all passages count.
        weighed = knowledge.lexicon.weighed(question_vector(asked.terms))
        by_words = self._nearest(engine_vector(weighed), TERMS, limit, filter_)
        by_meaning: list[_Row] = []
        if vector is not None and len(vector) == knowledge.dimension:
            by_meaning = self._nearest(list(vector), MEANING, limit, filter_)
        for row, _ in (*by_words, *by_meaning):
            if row not in knowledge.known:
                knowledge.get_to_know(row, self.passages.read(row))
        if where and not knowledge.unnamed.isdisjoint(where.fields):
            return knowledge.matches(asked, knowledge.admitted(where, by_words), knowledge.admitted(where, by_meaning))
        return knowledge.matches(asked, by_words, by_meaning)

    def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """See `PassageIndex.around`."""
        rows = self.passages.rows
        return {
            passage.id: Around(self._beside(rows[passage.id], -1), self._beside(rows[passage.id], 1))
            for passage in passages
            if passage.id in rows
        }

    def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
        """The digest of what was embedded of the passages, and their vectors."""
        rows = {self.passages.rows[id_]: id_ for id_ in ids if id_ in self.passages.rows}
        found: dict[str, tuple[str, Vector]] = {}
        for slice_ in self.slices:
            records: list[Any] = slice_.retrieve(list(rows), with_payload=False, with_vector=[MEANING])
            for record in records:
                found[rows[record.id]] = text_digest(self.passages.read(record.id)), record.vector[MEANING]
        return found

    def _nearest(self, vector: Any, using: str, limit: int, filter_: engine.Filter | None) -> list[_Row]:
        request = engine.QueryRequest(
            limit=limit,
            query=engine.Query.Nearest(vector, using=using),
            filter=filter_,
            params=_EXACTLY if using == MEANING else None,
        )
        try:
            found: list[Any] = [point for slice_ in self.slices for point in slice_.query(request)]
        except Exception as exc:
            raise damaged(self.source.path.parent) from exc
        if len(self.slices) > 1:
            found = sorted(found, key=attrgetter("score"), reverse=True)[:limit]
        return [(point.id, point.score) for point in found]

    def _beside(self, row: int, step: int) -> Passage | None:
        """The passage right before or after another, where it is of the same section."""
        if not 0 <= row + step < len(self.passages):
            return None
        here, beside = self.passages.read(row), self.passages.read(row + step)
        is_same = all(getattr(here, name) == getattr(beside, name) for name in SECTION)
        return beside if is_same else None


def check(place: Path, *, called: str) -> None:
    """Raises IndexUnreadable for files that are whole, and no generation that can be served: another version's, say.

    Args:
        place: the folder of the files.
        called: what the error calls that which they are from.
    """
    try:
        OpenGeneration.open(Published(place, 0)).close()
    except IndexUnreadable as exc:
        # What is damaged here is of no use to mend: it is gone when this is told.
        reason = exc.__cause__ if isinstance(exc.__cause__, IndexUnreadable) else "it holds something else"
        raise IndexUnreadable(f"{called} is no index that can be served here: {reason}") from exc


def to_engine_filter(filter_: Mapping[str, Any]) -> engine.Filter:
    """A filter as Qdrant's REST interface writes it (what `Filter.to_qdrant` gives), as the engine takes it."""

    def conditions(clause: str) -> list[Any] | None:
        return [_to_engine_condition(condition) for condition in filter_.get(clause, ())] or None

    return engine.Filter(must=conditions("must"), should=conditions("should"), must_not=conditions("must_not"))


def _to_engine_condition(condition: Mapping[str, Any]) -> Any:
    if "is_empty" in condition:
        return engine.IsEmptyCondition(condition["is_empty"]["key"])
    if "key" not in condition:
        return to_engine_filter(condition)
    key, match = condition["key"], condition.get("match")
    bounds: Mapping[str, Any] = condition.get("range") or {}
    if match is not None:
        wanted: Any = engine.MatchValue(match["value"]) if "value" in match else engine.MatchAny(match["any"])
        return engine.FieldCondition(key=key, match=wanted)
    of_time = any(isinstance(bound, str) for bound in bounds.values())
    kind: Any = engine.RangeDateTime if of_time else engine.RangeFloat
    return engine.FieldCondition(key=key, range=kind(**bounds))
