"""The slices of a generation: shards of the engine, each written once and from then on only searched.

    python -m chatkit_rag.retrieval.edge_slices < batches

The engine holds Python's lock in every call, and to put a slice in order takes it tenths of a second. So what is more
than a few passages is written by processes of their own, which get pickled batches, and end with what they read.
"""

import contextlib
import pickle
import signal
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, BinaryIO, NamedTuple, Self

import qdrant_edge as engine

from chatkit_rag.errors import IndexError_
from chatkit_rag.retrieval.knowledge import MEANING, TERMS

_COMMAND = (sys.executable, "-P", "-m", "chatkit_rag.retrieval.edge_slices")


class Batch(NamedTuple):
    """Some passages in a row, on their way into a slice. Flat arrays: they are pickled in no time."""

    slice: str
    """The folder of the slice."""
    first: int
    """The row of the first passage."""
    lengths: Sequence[int]
    """How many terms each passage has."""
    terms: "array[int]"
    weights: "array[float]"
    dimension: int
    """Of the vectors; 0 where there are none."""
    vectors: "array[float]"
    payloads: Sequence[Mapping[str, Any]]
    """What passages are filtered by."""


class SliceWriter:
    """Writes batches into slices; a slice is complete when a batch of the next one comes, or at the end."""

    def __init__(self, *, is_ordered: bool) -> None:
        """A writer.

        Args:
            is_ordered: whether a slice is put in order, so that it is opened four times as fast and searched twice as
                fast. It takes longer than to write it.
        """
        self._is_ordered = is_ordered
        self._shard: engine.EdgeShard | None = None
        self._slice = ""

    def write(self, batch: Batch) -> None:
        """Writes a batch."""
        if self._shard is None or batch.slice != self._slice:
            self.end()
            self._slice, self._shard = batch.slice, _begin(batch)
        terms, weights = batch.terms.tolist(), batch.weights.tolist()
        points: list[engine.Point] = []
        start = 0
        for number, (length, payload) in enumerate(zip(batch.lengths, batch.payloads, strict=True)):
            own = slice(start, start + length)
            start += length
            vectors: dict[str, Any] = {TERMS: engine.SparseVector(terms[own], weights[own])}
            if batch.dimension:
                at = number * batch.dimension
                vectors[MEANING] = batch.vectors[at : at + batch.dimension].tolist()
            points.append(engine.Point(batch.first + number, vectors, dict(payload)))
        self._shard.update(engine.UpdateOperation.upsert_points(points))

    def end(self) -> None:
        """Ends the slice that is being written."""
        if self._shard is None:
            return
        if self._is_ordered:
            self._shard.optimize()
        self._shard.flush()
        self._shard.close()
        self._shard = None


class SliceProcesses:
    """Processes that write slices side by side. They start at once, so that they are ready when the batches are."""

    def __init__(self, number: int) -> None:
        """So many processes.

        Raises:
            OSError: none can be started here.
        """
        with ExitStack() as starting:
            self._processes: list[Popen[bytes]] = []
            for _ in range(number):
                process = Popen(_COMMAND, stdin=PIPE, stderr=PIPE)  # noqa: S603 - this very module
                self._processes.append(starting.enter_context(process))
            starting.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for process in self._processes:
            process.kill()  # one that has ended does not mind
            process.communicate()

    def write(self, slices: Sequence[Iterable[Batch]]) -> None:
        """Writes the slices, each process those that are its turn, and waits until they are complete.

        Raises:
            IndexError_: the engine cannot write them.
        """
        shares = [slices[number :: len(self._processes)] for number in range(len(self._processes))]
        with ThreadPoolExecutor(len(self._processes)) as feeders:
            list(feeders.map(self._feed, self._processes, shares))

    def _feed(self, process: "Popen[bytes]", slices: Iterable[Iterable[Batch]]) -> None:
        with contextlib.suppress(BrokenPipeError):  # what it stumbled over, it says itself
            for batch in chain.from_iterable(slices):
                self._send(process, batch)
            self._send(process, None)
        _, said = process.communicate()
        if process.returncode != 0:
            why = said.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {process.returncode}"
            raise IndexError_(f"the index cannot be written: {why}")

    def _send(self, process: "Popen[bytes]", batch: Batch | None) -> None:
        if process.stdin is not None:
            process.stdin.write(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))


def _begin(batch: Batch) -> engine.EdgeShard:
    meaning = engine.EdgeVectorParams(
        size=batch.dimension,
        distance=engine.Distance.Cosine,
        # Looked through as bytes; the nearest are then compared as they are (`edge_generation`).
        quantization_config=engine.ScalarQuantizationConfig(engine.ScalarType.Int8, always_ram=True),
    )
    Path(batch.slice).mkdir(parents=True)
    shard = engine.EdgeShard.create(
        batch.slice,
        engine.EdgeConfig(
            vectors={MEANING: meaning} if batch.dimension else None,
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
    shard.update(engine.UpdateOperation.create_field_index("site", engine.KeywordIndexParams(is_tenant=True)))
    return shard


def main(batches: BinaryIO) -> int:
    """Writes the batches that come in; 1 where they end in the middle, as they do when who sends them is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: ours ends with its pipe
    writer = SliceWriter(is_ordered=True)
    try:
        while (batch := pickle.load(batches)) is not None:  # noqa: S301 - from the process that started this one
            writer.write(batch)
    except EOFError:
        return 1
    writer.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer))
