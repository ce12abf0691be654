"""The slices of a generation: shards of the engine, each written once and from then on only searched.

Passages are shared out. Who has a share reads it, hears how long all texts are on average, and writes its slices.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import qdrant_edge as engine

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.analysis import SparseVector, analyser_of
from chatkit_rag.retrieval.copying import copy_sparse
from chatkit_rag.retrieval.counting import Counts, Reading
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.filters import flags
from chatkit_rag.retrieval.index import MEANING, TERMS
from chatkit_rag.retrieval.passage_file import PassageFile

_SLICE = 60_000
"""What a slice may hold, counted by what it takes to open: its different terms, and `_PASSAGE` for each passage. A full
one stops the other threads for some 11 ms."""
_PASSAGE = 5
_BATCH = 64
"""Passages a write: one of this size stops the other threads for a few milliseconds, of thousands for a second."""


class Share(NamedTuple):
    """What one writer reads, and where it writes."""

    passages: Path
    """The file with all passages of the generation."""
    rows: range
    """Those of the share."""
    slices: Path
    """The folder of the generation's slices."""
    language: str
    dimension: int
    """Of the vectors; 0 where there are none."""
    has_sites: bool
    """Whether the generation's passages are of several sites."""
    is_ordered: bool
    """Whether slices are put in order, so that they are opened four times as fast and searched twice as fast. It takes
    longer than to write them."""


class SliceWriter:
    """Reads a share, and writes its slices."""

    def __init__(self, share: Share, *, scratch: Path | None = None) -> None:
        """A writer; the file with its passages is there when it is asked to `count`.

        Args:
            share: what it writes.
            scratch: a folder in memory to write a slice in before it goes to its place. The engine waits for the disk
                a hundred times.
        """
        self._share = share
        self._scratch = scratch

    @cached_property
    def _passages(self) -> Sequence[Passage]:
        with closing(PassageFile(self._share.passages)) as file:
            return [file.read(row) for row in self._share.rows]

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._passages, analyser_of(self._share.language))

    def count(self) -> Counts:
        """Reads the share."""
        return self._reading.counts

    def write(self, average_length: float, vectors: Iterable[Vector]) -> None:
        """Writes the slices.

        Args:
            average_length: the mean number of terms in a passage's text, over all shares.
            vectors: those of the share's passages, in their order, where they have any.
        """
        points = self._points(average_length, iter(vectors))
        for rows in self._cut():
            self._write_slice(self._share.slices / f"{rows.start:08}", islice(points, len(rows)))

    def _points(self, average_length: float, vectors: Iterator[Vector]) -> Iterator[engine.Point]:
        words = self._reading.vectors(average_length)
        for row, passage, said in zip(self._share.rows, self._passages, words, strict=True):
            vector: dict[str, Any] = {TERMS: engine_vector(said)}
            if self._share.dimension:
                vector[MEANING] = list(next(vectors))
            yield engine.Point(row, vector, _payload(passage, has_sites=self._share.has_sites))

    def _write_slice(self, place: Path, points: Iterator[engine.Point]) -> None:
        made = place if self._scratch is None else self._scratch / place.name
        shard = _create(made, self._share)
        while batch := list(islice(points, _BATCH)):
            shard.update(engine.UpdateOperation.upsert_points(batch))
        if self._share.is_ordered:
            shard.optimize()
        shard.flush()
        shard.close()
        if made != place:
            shutil.copytree(made, place, copy_function=copy_sparse)
            shutil.rmtree(made)

    def _cut(self) -> list[range]:
        """The rows of each slice: as few slices as may be, alike in length."""
        rows = self._share.rows
        if self._reading.distinct + _PASSAGE * len(rows) <= _SLICE:
            return [rows] if rows else []
        number, passages, held, start = 1, 0, set[int](), 0
        for size in self._reading.sizes:
            terms = self._reading.terms[start : start + size]
            start += size
            passages += 1
            held.update(terms)
            if passages > 1 and len(held) + _PASSAGE * passages > _SLICE:
                number, passages, held = number + 1, 1, set(terms)
        length = -(-len(rows) // number)
        return [rows[first : first + length] for first in range(0, len(rows), length)]


def engine_vector(vector: SparseVector) -> engine.SparseVector:
    """The vector as the engine takes it."""
    return engine.SparseVector(list(vector.indices), list(vector.values))


def _create(place: Path, share: Share) -> engine.EdgeShard:
    meaning = engine.EdgeVectorParams(
        size=share.dimension,
        distance=engine.Distance.Cosine,
        # Looked through as bytes; the nearest are then compared as they are (`edge_generation`).
        quantization_config=engine.ScalarQuantizationConfig(engine.ScalarType.Int8, always_ram=True),
    )
    place.mkdir()
    shard = engine.EdgeShard.create(
        str(place),
        engine.EdgeConfig(
            vectors={MEANING: meaning} if share.dimension else None,
            sparse_vectors={TERMS: engine.EdgeSparseVectorParams(memory=engine.Memory.Cached)},
            # No graph: a slice is small enough to be looked through, and nothing is missed.
            hnsw_config=engine.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10),
            optimizers=engine.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1),
            # Flushed once, then never written: a log would only reserve another 64 MB in every copy.
            wal_enabled=False,
            # A slice has one segment: the way to a pool of threads and back takes as long as the search.
            max_search_threads=1,
        ),
    )
    if share.has_sites:  # the engine is never asked for a single one (see `Knowledge.shared`), and opens the sooner
        shard.update(engine.UpdateOperation.create_field_index("site", engine.KeywordIndexParams(is_tenant=True)))
    return shard


def _payload(passage: Passage, *, has_sites: bool) -> dict[str, Any]:
    """What a passage may be filtered by."""
    payload: dict[str, Any] = {"path": passage.path}
    if has_sites:
        payload["site"] = passage.site
    if passage.metadata:
        payload["metadata"] = passage.metadata
        if truths := flags(passage.metadata):
            payload["flags"] = truths
    return payload
