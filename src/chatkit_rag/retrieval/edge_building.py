"""A generation for `EdgeIndex`, from pages and passages to its files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexError_
from chatkit_rag.retrieval.counting import Counts
from chatkit_rag.retrieval.edge_processes import SliceProcess, has_room
from chatkit_rag.retrieval.edge_slices import Share, SliceWriter
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.knowledge import Knowledge, shared_by
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.passage_file import write_passages

PASSAGES = "passages.jsonl"
SLICES = "slices"

_FEW = 300
"""Passages that are written by this process, which takes less time than to start another, and as they come: to open
them stops the other threads for some 14 ms. Where room is scarce, another one is put at risk all the same."""
_PROCESSES = 4
_SHARE = 2_000
"""Passages that another process is started for."""

_Writer = SliceWriter | SliceProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a generation is built of."""

    records: Sequence[PageRecord]
    passages: Sequence[Passage]
    vectors: Sequence[Vector]
    """One for each passage; empty where there is no embedder."""
    language: str
    embedder: str
    """Its signature; empty where there is none."""

    @property
    def dimension(self) -> int:
        """Of the vectors; 0 where there are none."""
        return len(self.vectors[0]) if self.vectors else 0


def build(place: Path, content: Content) -> None:
    """Writes the files of a generation into the empty folder `place`.

    Raises:
        IndexError_: the engine cannot write them.
        OSError: the files cannot be written.
    """
    shares = _share_out(place, content)
    with ExitStack() as started:
        writers = _start(shares, started)
        write_passages(place / PASSAGES, content.passages)
        (place / SLICES).mkdir()
        side_by_side = started.enter_context(ThreadPoolExecutor(len(shares)))
        counts = sum(side_by_side.map(_count, writers), Counts())
        knowledge = Knowledge.of(
            content.records,
            content.passages,
            counts,
            language=content.language,
            embedder=content.embedder,
            dimension=content.dimension,
        )
        for name, file in knowledge.dump().items():
            (place / name).write_bytes(file)
        vectors = [content.vectors[share.rows.start : share.rows.stop] for share in shares]
        list(side_by_side.map(_write, writers, repeat(counts.average_length), vectors))


def _share_out(place: Path, content: Content) -> list[Share]:
    """As many shares, alike in size, as can be written side by side; one at least."""
    passages = len(content.passages)
    is_more = passages > _FEW or not has_room(place)
    number = min(-(-passages // _SHARE), os.cpu_count() or 1, _PROCESSES) if is_more else 1
    size = -(-passages // number)
    has_sites = not shared_by(content.passages)
    return [
        Share(
            passages=place / PASSAGES,
            rows=range(start, min(start + size, passages)),
            slices=place / SLICES,
            language=content.language,
            dimension=content.dimension,
            has_sites=has_sites,
            is_ordered=is_more,
        )
        for start in range(0, max(passages, 1), max(size, 1))
    ]


def _start(shares: Sequence[Share], started: ExitStack) -> Sequence[_Writer]:
    """Who writes each share: processes of their own, unless it is little, or none may be started here."""
    if shares[0].is_ordered:
        with suppress(OSError):
            return [started.enter_context(SliceProcess(share)) for share in shares]
    return [SliceWriter(share) for share in shares]


def _count(writer: _Writer) -> Counts:
    return writer.count()


def _write(writer: _Writer, average_length: float, vectors: Sequence[Vector]) -> None:
    try:
        writer.write(average_length, vectors)
    except Exception as exc:
        if type(exc) is not Exception:
            raise
        raise IndexError_(f"the index cannot be written: {exc}") from exc  # the engine raises bare exceptions only
