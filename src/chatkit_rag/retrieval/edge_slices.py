"""The slices of a generation: shards of the engine, each written once and from then on only searched.

    python -m chatkit_rag.retrieval.edge_slices [SCRATCH] < batches

The engine holds Python's lock in every call, and to put a slice in order takes it tenths of a second. So what is more
than a few passages is written by processes of their own, which get pickled batches, and end with what they read.
"""

import contextlib
import os
import pickle
import shutil
import signal
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, BinaryIO, NamedTuple, Self

import qdrant_edge as engine

from chatkit_rag.errors import IndexError_
from chatkit_rag.retrieval.generations import OwnFolder, copy_sparse
from chatkit_rag.retrieval.knowledge import MEANING, TERMS

_COMMAND = (sys.executable, "-P", "-m", "chatkit_rag.retrieval.edge_slices")

_MEMORY = Path("/dev/shm")  # noqa: S108 - for folders of our own, with names that nobody guesses
"""Where files are kept in memory, on Linux."""
_ROOM = 256 * 1024**2
"""Bytes that must be free there: a slice takes some ten million, and a process that finds none is killed."""


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

    def __init__(self, *, is_ordered: bool, scratch: Path | None = None) -> None:
        """A writer.

        Args:
            is_ordered: whether a slice is put in order, so that it is opened four times as fast and searched twice as
                fast. It takes longer than to write it.
            scratch: a folder in memory to write a slice in before it goes to its place. The engine waits for the disk
                a hundred times.
        """
        self._is_ordered = is_ordered
        self._scratch = scratch
        self._shard: engine.EdgeShard | None = None
        self._slice = ""

    def write(self, batch: Batch) -> None:
        """Writes a batch."""
        if self._shard is None or batch.slice != self._slice:
            self.end()
            self._slice = batch.slice
            self._shard = _begin(batch, Path(batch.slice) if self._scratch is None else self._scratch / "slice")
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
        if self._scratch is not None:
            shutil.copytree(self._scratch / "slice", self._slice, copy_function=copy_sparse)
            shutil.rmtree(self._scratch / "slice")


class SliceProcesses:
    """Processes that write slices side by side. They start at once, so that they are ready when the batches are."""

    def __init__(self, number: int) -> None:
        """So many processes.

        Raises:
            OSError: none can be started here.
        """
        self._processes: list[Popen[bytes]] = []
        self._scratches: list[OwnFolder] = []
        try:
            for _ in range(number):
                command = [*_COMMAND]
                if _has_room(_MEMORY):
                    self._scratches.append(OwnFolder(_MEMORY))
                    command.append(str(self._scratches[-1].path))
                self._processes.append(Popen(command, stdin=PIPE, stderr=PIPE))  # noqa: S603 - this very module
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()  # one that has ended does not mind
            process.communicate()
        for scratch in self._scratches:
            scratch.remove()

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


def _begin(batch: Batch, place: Path) -> engine.EdgeShard:
    meaning = engine.EdgeVectorParams(
        size=batch.dimension,
        distance=engine.Distance.Cosine,
        # Looked through as bytes; the nearest are then compared as they are (`edge_generation`).
        quantization_config=engine.ScalarQuantizationConfig(engine.ScalarType.Int8, always_ram=True),
    )
    place.mkdir()
    shard = engine.EdgeShard.create(
        str(place),
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


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM
    except OSError:
        return False


def main(batches: BinaryIO, scratch: Path | None) -> int:
    """Writes the batches that come in; 1 where they end in the middle, as they do when who sends them is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: ours ends with its pipe
    if hasattr(os, "nice"):
        os.nice(10)  # whoever answers readers on this machine goes first
    writer = SliceWriter(is_ordered=True, scratch=scratch)
    try:
        while (batch := pickle.load(batches)) is not None:  # noqa: S301 - from the process that started this one
            writer.write(batch)
    except EOFError:
        return 1
    writer.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, Path(sys.argv[1]) if len(sys.argv) > 1 else None))
