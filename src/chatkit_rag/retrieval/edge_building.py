"""A generation for `EdgeIndex`, from pages and passages to its files."""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

import orjson

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.analysis import SparseVector
from chatkit_rag.retrieval.edge_slices import Batch, SliceProcesses, SliceWriter
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.filters import flags
from chatkit_rag.retrieval.knowledge import Knowledge
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.passage_file import write_passages

PASSAGES = "passages.jsonl"
SLICES = "slices"

_SLICE = 80_000
"""What a slice may hold, counted by what it takes to open: its different terms, and `_PASSAGE` for each passage. A full
one stops the other threads for some 15 ms."""
_PASSAGE = 12
_FEW = 300
"""Passages that are written here, as they come; to open them stops the other threads for some 14 ms."""
_BATCH = 64
"""Passages a write: one of this size stops the other threads for a few milliseconds, of thousands for a second."""
_PROCESSES = 4
_SHARE = 2_000
"""Passages that another process is started for."""


def build(
    place: Path,
    records: Sequence[PageRecord],
    passages: Sequence[Passage],
    vectors: Sequence[Vector],
    *,
    language: str,
    embedder: str,
) -> None:
    """Writes the files of a generation into the empty folder `place`.

    Raises:
        IndexError_: the engine cannot write them.
        OSError: the files cannot be written.
    """
    prepare = partial(_prepare, place, records, passages, vectors, language=language, embedder=embedder)
    if len(passages) <= _FEW:
        _write_here(prepare(), is_ordered=False)
        return
    number = min(-(-len(passages) // _SHARE), os.cpu_count() or 1, _PROCESSES)
    try:
        processes = SliceProcesses(number)
    except OSError:  # where no process may be started, the others wait longer for each other
        _write_here(prepare(), is_ordered=True)
        return
    with processes:
        processes.write(prepare(shares=number))


def _prepare(
    place: Path,
    records: Sequence[PageRecord],
    passages: Sequence[Passage],
    vectors: Sequence[Vector],
    *,
    language: str,
    embedder: str,
    shares: int = 1,
) -> list[Iterator[Batch]]:
    """Writes everything but the slices, and gives what these are made of."""
    dimension = len(vectors[0]) if vectors else 0
    knowledge, terms, frequencies = Knowledge.of(
        records, passages, language=language, embedder=embedder, dimension=dimension
    )
    for name, content in knowledge.dump().items():
        (place / name).write_bytes(content)
    write_passages(place / PASSAGES, passages)
    (place / SLICES).mkdir()
    # An engine knows how rare a term is in its own slice only, so the rarity among all passages is in the vectors.
    rarities = {term: knowledge.lexicon.rarity_at(frequency) for term, frequency in frequencies.items()}
    return [
        _batches(place / SLICES / f"{number:05}", rows, passages, terms, rarities, vectors)
        for number, rows in enumerate(_cut(terms, shares))
    ]


def _cut(terms: Sequence[SparseVector], shares: int) -> list[range]:
    """The rows of each slice, as many as can be shared out, and alike in length."""
    needed, passages, held = 1, 0, set[int]()
    for vector in terms:
        passages += 1
        held.update(vector.indices)
        if passages > 1 and len(held) + _PASSAGE * passages > _SLICE:
            needed, passages, held = needed + 1, 1, set(vector.indices)
    number = -(-needed // shares) * shares
    size = max(1, -(-len(terms) // number))
    return [range(start, min(start + size, len(terms))) for start in range(0, len(terms), size)]


def _batches(
    place: Path,
    rows: range,
    passages: Sequence[Passage],
    terms: Sequence[SparseVector],
    rarities: Mapping[int, float],
    vectors: Sequence[Vector],
) -> Iterator[Batch]:
    rarity = rarities.__getitem__
    for start in range(rows.start, rows.stop, _BATCH):
        own = slice(start, min(start + _BATCH, rows.stop))
        numbers, weights, meanings = array("I"), array("f"), array("f")
        for vector in terms[own]:
            numbers.extend(vector.indices)
            weights.extend(map(mul, vector.values, map(rarity, vector.indices)))
        for meaning in vectors[own]:
            meanings.extend(meaning)
        yield Batch(
            slice=str(place),
            first=start,
            lengths=[len(vector.indices) for vector in terms[own]],
            terms=numbers,
            weights=weights,
            dimension=len(vectors[0]) if vectors else 0,
            vectors=meanings,
            payloads=[_payload(passage) for passage in passages[own]],
        )


def _payload(passage: Passage) -> dict[str, Any]:
    """What a passage may be filtered by."""
    payload: dict[str, Any] = {
        "site": passage.site,
        "path": passage.path,
        "anchor": passage.anchor,
        "title": passage.title,
        "url": passage.url,
    }
    if passage.metadata:
        payload["metadata"] = orjson.loads(orjson.dumps(passage.metadata))  # front matter has dates, and JSON has not
        if truths := flags(passage.metadata):
            payload["flags"] = truths
    return payload


def _write_here(slices: Sequence[Iterator[Batch]], *, is_ordered: bool) -> None:
    writer = SliceWriter(is_ordered=is_ordered)
    for batches in slices:
        for batch in batches:
            writer.write(batch)
    writer.end()
