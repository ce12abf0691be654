"""`EdgeIndex`: the Qdrant engine inside this process, over generations in a folder. No server, no model, no download.

The engine holds Python's lock in every call, so passages go in by small batches on a worker thread, and queries, which
take a fraction of a millisecond, run where they are asked. It must be opened after a process forks, never before.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
import qdrant_edge as engine

from chatkit_rag.documents import Document, Hit, Passage
from chatkit_rag.errors import IndexUnreadable
from chatkit_rag.retrieval.analysis import Analyser, SparseVector, mean_length, question_vector
from chatkit_rag.retrieval.fusion import by_score
from chatkit_rag.retrieval.generations import Generations, PrivateCopy
from chatkit_rag.retrieval.index import Matches
from chatkit_rag.retrieval.lexicon import Lexicon
from chatkit_rag.retrieval.manifest import PageRecord, dump_records, load_records

FORMAT = 1
"""Of a generation's files; raised when older code could not read them."""

_BATCH = 64
"""Points an update: one call of this size stops the other threads for a few milliseconds, of thousands for a second."""

_TERMS = "terms"
_Result = TypeVar("_Result")
_HEADING_BONUS = 0.5
"""What a heading that says exactly what is asked adds to its passages' scores, as a share of them."""

_COVERING = 3
"""How many of the first passages are asked whether they cover the question."""


class EdgeIndex:
    """A `PassageIndex` in a folder. Any number of processes may search it while one publishes."""

    def __init__(self, directory: str | Path, *, language: str = "english", keep: int = 2) -> None:
        """`language` is the course's, as Snowball spells it; `keep` is how many generations stay on disk."""
        self._generations = Generations(Path(directory), keep=keep)
        self._language = language
        self._worker: ThreadPoolExecutor | None = None
        self._opened: _OpenGeneration | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """See `PassageIndex.open`."""
        await self._current()

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        async with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
            if self._worker is not None:
                self._worker.shutdown(wait=True)
                self._worker = None

    async def search(self, query: str, *, limit: int = 100, site: str | None = None) -> Matches:
        """See `PassageIndex.search`."""
        generation = await self._current()
        return generation.search(query, limit, site) if generation else Matches()

    async def page(self, path: str, *, site: str | None = None) -> Document | None:
        """See `PassageIndex.page`."""
        generation = await self._current()
        found = generation.pages.get(path, ()) if generation else ()
        return next((record.document for record in found if site in (None, record.site)), None)

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        """See `PassageIndex.records`."""
        generation = await self._current()
        return [record for record in generation.records if site in (None, record.site)] if generation else []

    async def generation(self) -> str:
        """See `PassageIndex.generation`."""
        generation = await self._current()
        return generation.source.name if generation else ""

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`.

        Raises:
            IndexError_: another process is publishing, or the folder cannot be written.
        """
        name = await self._on_worker(partial(_build, self._generations, self._language, records, passages))
        await self._current()
        return name

    async def _current(self) -> "_OpenGeneration | None":
        """The generation that `CURRENT` names, opened; a swap happens between two searches, never within one."""
        path = self._generations.current()
        if self._opened is not None and self._opened.source == path:
            return self._opened
        async with self._opening:
            path = self._generations.current()
            if path is not None and (self._opened is None or self._opened.source != path):
                before, self._opened = self._opened, await self._on_worker(partial(_OpenGeneration.open, path))
                if before is not None:
                    before.close()
            return self._opened

    async def _on_worker(self, work: "partial[_Result]") -> _Result:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-index")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


@dataclass(frozen=True, slots=True)
class _OpenGeneration:
    """One generation, ready to be searched."""

    source: Path
    copy: PrivateCopy
    shard: engine.EdgeShard
    analyser: Analyser
    lexicon: Lexicon
    records: list[PageRecord]
    pages: dict[str, list[PageRecord]]

    @classmethod
    def open(cls, path: Path) -> "_OpenGeneration":
        try:
            about = orjson.loads((path / "generation.json").read_bytes())
            if about["format"] > FORMAT:
                raise IndexUnreadable(f"{path} was written by a newer chatkit-rag; upgrade, or index the pages again")
            lexicon = orjson.loads((path / "lexicon.json").read_bytes())
            records = load_records((path / "pages.jsonl").read_bytes())
            copy = PrivateCopy(path / "shard")
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise _unreadable(path) from exc
        try:
            shard = engine.EdgeShard.load(str(copy.path))
        except Exception as exc:  # the engine raises bare exceptions only
            copy.remove()
            raise _unreadable(path) from exc
        pages: dict[str, list[PageRecord]] = {}
        for record in records:
            pages.setdefault(record.document.path, []).append(record)
        return cls(
            source=path,
            copy=copy,
            shard=shard,
            analyser=Analyser(language=about["language"], average_length=about["average_length"]),
            lexicon=Lexicon(
                passages=about["passages"],
                frequencies={int(term): frequency for term, frequency in lexicon["frequencies"].items()},
                words=lexicon["words"],
            ),
            records=records,
            pages=pages,
        )

    def close(self) -> None:
        self.shard.close()
        self.copy.remove()

    def search(self, query: str, limit: int, site: str | None) -> Matches:
        asked = self.analyser.question_terms(self.lexicon.corrected(query, self.analyser))
        points = self.shard.query(
            engine.QueryRequest(
                limit=limit,
                with_payload=True,
                query=engine.Query.Nearest(_to_engine(question_vector(asked)), using=_TERMS),
                filter=_of_site(site),
            )
        )
        hits = sorted((self._hit(point, asked) for point in points), key=by_score)
        held = [self.analyser.passage(hit.passage).indices for hit in hits[:_COVERING]]
        return Matches(hits=tuple(hits), confidence=self.lexicon.confidence(asked, held))

    def _hit(self, point: engine.ScoredPoint, asked: list[int]) -> Hit:
        passage = _to_passage(point.payload)
        agreement = self.lexicon.agreement(asked, self.analyser.terms(passage.heading))
        return Hit(passage=passage, score=point.score * (1 + _HEADING_BONUS * agreement))


def _build(generations: Generations, language: str, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
    analyser = Analyser(language=language, average_length=mean_length(passages, Analyser(language=language)))
    vectors = [analyser.passage(passage) for passage in passages]
    lexicon = Lexicon.of(passages, vectors)
    with generations.building() as place:
        shard_path = place / "shard"
        shard_path.mkdir()
        shard = engine.EdgeShard.create(
            str(shard_path),
            engine.EdgeConfig(
                sparse_vectors={_TERMS: engine.EdgeSparseVectorParams(modifier=engine.Modifier.Idf)},
                # Flushed once, then never written: a log would only reserve another 64 MB in every copy.
                wal_enabled=False,
            ),
        )
        shard.update(engine.UpdateOperation.create_field_index("site", engine.KeywordIndexParams(is_tenant=True)))
        for start in range(0, len(passages), _BATCH):
            batch = zip(passages[start : start + _BATCH], vectors[start : start + _BATCH], strict=True)
            points = [
                engine.Point(passage.id, {_TERMS: _to_engine(vector)}, _to_payload(passage))
                for passage, vector in batch
            ]
            shard.update(engine.UpdateOperation.upsert_points(points))
        shard.flush()
        shard.close()
        ordered = sorted(records, key=lambda record: (record.document.path, record.site))
        (place / "pages.jsonl").write_bytes(dump_records(ordered))
        frequencies = {str(term): frequency for term, frequency in lexicon.frequencies.items()}
        (place / "lexicon.json").write_bytes(orjson.dumps({"frequencies": frequencies, "words": dict(lexicon.words)}))
        about = {
            "format": FORMAT,
            "language": analyser.language,
            "average_length": analyser.average_length,
            "passages": len(passages),
        }
        (place / "generation.json").write_bytes(orjson.dumps(about))
    current = generations.current()
    return current.name if current else ""


def _to_engine(vector: SparseVector) -> engine.SparseVector:
    return engine.SparseVector(list(vector.indices), list(vector.values))


def _to_payload(passage: Passage) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(passage))


def _to_passage(payload: dict[str, Any] | None) -> Passage:
    fields: dict[str, Any] = payload or {}
    heading_path: Any = tuple(fields["heading_path"])
    return Passage(**(fields | {"heading_path": heading_path}))


def _of_site(site: str | None) -> engine.Filter | None:
    if site is None:
        return None
    return engine.Filter(must=[engine.FieldCondition(key="site", match=engine.MatchValue(site))])


def _unreadable(path: Path) -> IndexUnreadable:
    return IndexUnreadable(f"the index in {path} is damaged; remove {path.parent} and index the pages again")
