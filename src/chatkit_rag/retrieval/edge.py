"""`EdgeIndex`: the Qdrant engine inside this process, over generations in a folder. No server, no model, no download.

The engine holds Python's lock in every call, so passages go in by small batches on a worker thread, and queries, which
take a fraction of a millisecond, run where they are asked. It must be opened after a process forks, never before.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import orjson
import qdrant_edge as engine

from chatkit_rag.documents import Document, Hit, Passage
from chatkit_rag.errors import ConfigurationError, IndexUnreadable
from chatkit_rag.retrieval.analysis import Analyser, SparseVector, mean_length, question_vector
from chatkit_rag.retrieval.fusion import by_score
from chatkit_rag.retrieval.generations import Generations, PrivateCopy, Published, damaged
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
        try:
            Analyser(language=language)
        except ValueError as exc:
            raise ConfigurationError(f"no stemmer for the language {language!r}: {exc}") from exc
        self._language = language
        self._worker: ThreadPoolExecutor | None = None
        self._opened: _OpenGeneration | None = None
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    @property
    def signature(self) -> str:
        """See `PassageIndex.signature`."""
        return self._language

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """See `PassageIndex.open`."""
        await self._current()

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
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
        return generation.source.path.name if generation else ""

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`.

        Raises:
            IndexError_: another process is publishing, or the folder cannot be written.
        """
        building = self._submit(partial(_build, self._generations, self._language, records, passages))
        name = await asyncio.wrap_future(building)
        await self._current()
        return name

    async def _current(self) -> "_OpenGeneration | None":
        """The generation that `CURRENT` names, opened; a swap happens between two searches, never within one."""
        published = self._generations.current()
        if self._opened is not None and self._opened.source == published:
            return self._opened
        async with self._opening:
            while (published := self._generations.current()) is not None:
                if self._opened is not None and self._opened.source == published:
                    break
                try:
                    before, self._opened = self._opened, await self._open(published)
                except IndexUnreadable:
                    if self._generations.current() == published:
                        raise
                    continue  # a builder removed it while it was read, and has named the next one
                if before is not None:
                    before.close()
            return self._opened

    async def _open(self, published: Published) -> "_OpenGeneration":
        opening = self._submit(partial(_OpenGeneration.open, published))
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)  # the worker does not stop half-way
            raise

    def _submit(self, work: "partial[_Result]") -> "Future[_Result]":
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-index")
        return self._worker.submit(work)


@dataclass(frozen=True, slots=True)
class _Known:
    """A passage that was found before, and the terms of its heading: neither changes within a generation."""

    passage: Passage
    heading: frozenset[int]


@dataclass(frozen=True, slots=True)
class _OpenGeneration:
    """One generation, ready to be searched."""

    source: Published
    copy: PrivateCopy
    shard: engine.EdgeShard
    analyser: Analyser
    lexicon: Lexicon
    records: list[PageRecord]
    pages: dict[str, list[PageRecord]]
    known: dict[Any, _Known] = field(default_factory=dict[Any, _Known])
    """By the engine's id of the point."""

    @classmethod
    def open(cls, source: Published) -> "_OpenGeneration":
        path = source.path
        try:
            about = orjson.loads((path / "generation.json").read_bytes())
            if about["format"] > FORMAT:
                raise IndexUnreadable(f"{path} was written by a newer chatkit-rag; upgrade, or index the pages again")
            analyser = Analyser(language=about["language"], average_length=about["average_length"])
            counts = orjson.loads((path / "lexicon.json").read_bytes())
            lexicon = Lexicon(
                passages=about["passages"],
                frequencies={int(term): frequency for term, frequency in counts["frequencies"].items()},
                words=counts["words"],
            )
            records = load_records((path / "pages.jsonl").read_bytes())
            copy = PrivateCopy(path / "shard")
        except (FileNotFoundError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise damaged(path.parent) from exc
        except OSError as exc:
            raise IndexUnreadable(f"the index in {path.parent} cannot be read or copied: {exc}") from exc
        try:
            shard = engine.EdgeShard.load(str(copy.path))
        except Exception as exc:  # the engine raises bare exceptions only
            copy.remove()
            raise damaged(path.parent) from exc
        pages: dict[str, list[PageRecord]] = {}
        for record in records:
            pages.setdefault(record.document.path, []).append(record)
        return cls(
            source=source,
            copy=copy,
            shard=shard,
            analyser=analyser,
            lexicon=lexicon,
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
                query=engine.Query.Nearest(_to_engine(question_vector(asked)), using=_TERMS),
                filter=_of_site(site),
            )
        )
        self._get_to_know(point.id for point in points)
        hits = sorted((self._hit(point, asked) for point in points), key=by_score)
        return Matches(hits=tuple(hits), confidence=self.lexicon.confidence(asked, self._held(hits[:_COVERING])))

    def _get_to_know(self, ids: Iterable[Any]) -> None:
        """Reads the passages that were not found before: most of what a search costs is to make them."""
        unknown = [id_ for id_ in ids if id_ not in self.known]
        for record in self.shard.retrieve(unknown, with_payload=True, with_vector=False):
            passage = _to_passage(record.payload)
            self.known[record.id] = _Known(passage, frozenset(self.analyser.terms(passage.heading)))

    def _hit(self, point: engine.ScoredPoint, asked: list[int]) -> Hit:
        known = self.known[point.id]
        agreement = self.lexicon.agreement(asked, known.heading)
        return Hit(passage=known.passage, score=point.score * (1 + _HEADING_BONUS * agreement))

    def _held(self, hits: Sequence[Hit]) -> list[Sequence[int]]:
        """The terms of the passages, as they were indexed."""
        records = self.shard.retrieve([hit.passage.id for hit in hits], with_payload=False, with_vector=[_TERMS])
        vectors: Any = [record.vector for record in records]
        return [vector[_TERMS].indices for vector in vectors]


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
    return current.path.name if current else ""


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


def _close_unwanted(opening: "Future[_OpenGeneration]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
