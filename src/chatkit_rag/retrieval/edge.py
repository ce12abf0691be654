"""`EdgeIndex`: the Qdrant engine inside this process, over generations in a folder. No server, no model, no download.

The engine holds Python's lock in every call, so what takes long is done in small steps on a worker thread: passages go
in by small batches, and a generation is cut into slices, shards of the engine, that are opened one by one. Queries,
which take a fraction of a millisecond, run where they are asked. The engine must be opened after a process forks,
never before.

An engine knows how rare a term is in its own slice only, so the rarity in the whole corpus is in the vectors already.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import anyio
import qdrant_edge as engine

from chatkit_rag.documents import Document, Passage
from chatkit_rag.errors import IndexUnreadable
from chatkit_rag.retrieval.analysis import SparseVector, question_vector
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generations import Generations, PrivateCopy, Published, damaged
from chatkit_rag.retrieval.index import Around, Matches, index_signature
from chatkit_rag.retrieval.knowledge import FILES, MEANING, TERMS, Knowledge, Scored, make_payloads
from chatkit_rag.retrieval.languages import find_language
from chatkit_rag.retrieval.lexicon import Lexicon
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.vector_journal import VectorJournal
from chatkit_rag.retrieval.vectors import embed_changed

_BATCH = 64
"""Points an update: one call of this size stops the other threads for a few milliseconds, of thousands for a second."""
_SLICE = 1_500
"""Passages a shard: to open one of so many stops the other threads for some 17 ms, of 10,000 for 70 and more."""
_SLICES = "slices"
_WHOLE = "shard"
"""Where generations of format 2 and before have all their passages."""

_Result = TypeVar("_Result")


class EdgeIndex:
    """A `PassageIndex` in a folder. Any number of processes may search it while one publishes."""

    def __init__(
        self,
        directory: str | Path,
        *,
        language: str = "english",
        embedder: Embedder | None = None,
        keep: int = 2,
    ) -> None:
        """An index in `directory`.

        Args:
            directory: made by the first `publish`.
            language: the course's, by its English name or its code.
            embedder: what passages and questions are embedded by; None to search by words only.
            keep: how many generations stay on disk.
        """
        self._directory = Path(directory)
        self._generations = Generations(self._directory, keep=keep)
        self._unpublished = VectorJournal(self._directory / "vectors.db")
        self._language = find_language(language).name
        self._embedder = embedder
        self._worker: ThreadPoolExecutor | None = None
        self._opened: _OpenGeneration | None = None
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    @property
    def signature(self) -> str:
        """See `PassageIndex.signature`."""
        return index_signature(self._language, self._embedder)

    @property
    def embedder(self) -> Embedder | None:
        """See `PassageIndex.embedder`."""
        return self._embedder

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
            if self._embedder is not None:
                await self._embedder.close()

    async def embedded_by(self) -> str:
        """See `PassageIndex.embedded_by`."""
        generation = await self._current()
        return generation.knowledge.embedder if generation else ""

    async def search(
        self, query: str, *, vector: Vector | None = None, limit: int = 100, where: Filter | None = None
    ) -> Matches:
        """See `PassageIndex.search`."""
        generation = await self._current()
        return generation.search(query, vector, limit, where) if generation else Matches()

    async def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """See `PassageIndex.around`."""
        generation = await self._current()
        return generation.around(passages) if generation else {}

    async def page(self, path: str, *, site: str | None = None) -> Document | None:
        """See `PassageIndex.page`."""
        generation = await self._current()
        found = generation.knowledge.pages.get(path, ()) if generation else ()
        return next((record.document for record in found if site in (None, record.site)), None)

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        """See `PassageIndex.records`."""
        generation = await self._current()
        records = generation.knowledge.records if generation else ()
        return [record for record in records if site in (None, record.site)]

    async def generation(self) -> str:
        """See `PassageIndex.generation`."""
        generation = await self._current()
        return generation.source.path.name if generation else ""

    async def edition(self) -> str:
        """See `PassageIndex.edition`."""
        generation = await self._current()
        return f"{generation.source.path.name} {generation.source.at}" if generation else ""

    async def generations(self) -> Sequence[str]:
        """See `PassageIndex.generations`."""
        return self._generations.names()

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`."""
        vectors: list[Vector] = []
        if self._embedder is not None:
            vectors = await embed_changed(passages, self._embedder, await self._kept_vectors(), self._unpublished)
        signature = self._embedder.signature if self._embedder else ""
        build = partial(_build, self._generations, self._language, signature, records, passages, vectors)
        name = await asyncio.wrap_future(self._submit(build))
        if self._embedder is not None:
            await self._unpublished.clear()
        await self._current()
        return name

    async def activate(self, generation: str) -> None:
        """See `PassageIndex.activate`."""
        await asyncio.wrap_future(self._submit(partial(self._generations.activate, generation)))
        await self._current()

    async def _kept_vectors(self) -> Any:
        """How to ask the generation that is served for its vectors; None where they are of another embedder."""
        try:
            generation = await self._current()
        except IndexUnreadable:
            return None  # publishing anew is what mends it
        if generation is None or self._embedder is None or generation.knowledge.embedder != self._embedder.signature:
            return None

        async def kept(ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
            return await asyncio.wrap_future(self._submit(partial(generation.vectors, ids)))

        return kept

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
                    await asyncio.wrap_future(self._submit(partial(before.close)))
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
class _OpenGeneration:
    """One generation, ready to be searched."""

    source: Published
    copy: PrivateCopy
    slices: Sequence[engine.EdgeShard]
    knowledge: Knowledge

    @classmethod
    def open(cls, source: Published) -> "_OpenGeneration":
        path = source.path
        try:
            knowledge = Knowledge.load({name: (path / name).read_bytes() for name in FILES})
            is_whole = (path / _WHOLE).exists()
            copy = PrivateCopy(path / (_WHOLE if is_whole else _SLICES))
        except IndexUnreadable as exc:
            raise IndexUnreadable(f"{path} cannot be read: {exc}") from exc
        except (FileNotFoundError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise damaged(path.parent) from exc
        except OSError as exc:
            raise IndexUnreadable(f"the index in {path.parent} cannot be read or copied: {exc}") from exc
        slices: list[engine.EdgeShard] = []
        try:
            places = [copy.path] if is_whole else sorted(copy.path.iterdir())
            slices.extend(engine.EdgeShard.load(str(place)) for place in places)
        except Exception as exc:  # the engine raises bare exceptions only
            for opened in slices:
                opened.close()
            copy.remove()
            raise damaged(path.parent) from exc
        return cls(source=source, copy=copy, slices=slices, knowledge=knowledge)

    def close(self) -> None:
        for slice_ in self.slices:
            slice_.close()
        self.copy.remove()

    def search(self, query: str, vector: Vector | None, limit: int, where: Filter | None) -> Matches:
        knowledge = self.knowledge
        restriction = where.to_qdrant(indexed=knowledge.fields) if where else {}
        if restriction is None:
            return Matches()
        filter_ = to_engine_filter(restriction) if restriction else None
        asked = knowledge.asked(query)
        by_words = self._nearest(_to_engine(question_vector(asked.terms)), TERMS, limit, filter_)
        by_meaning: list[Scored] = []
        if vector is not None and len(vector) == knowledge.dimension:
            by_meaning = self._nearest(list(vector), MEANING, limit, filter_)
        self._get_to_know(id_ for found in (by_words, by_meaning) for id_, _ in found)
        return knowledge.matches(asked, by_words, by_meaning)

    def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        ids: dict[str, Any] = {passage.id: UUID(passage.id) for passage in passages}
        self._get_to_know(ids.values())
        known = self.knowledge.known
        found = {id_: known[point] for id_, point in ids.items() if point in known}
        self._get_to_know(UUID(id_) for one in found.values() for id_ in (one.before, one.after) if id_)
        return {
            id_: Around(
                known[UUID(one.before)].passage if one.before else None,
                known[UUID(one.after)].passage if one.after else None,
            )
            for id_, one in found.items()
        }

    def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
        """What was embedded of the passages, and their vectors."""
        found: dict[str, tuple[str, Vector]] = {}
        for slice_ in self.slices:
            for record in slice_.retrieve(list(ids), with_payload=["embedded"], with_vector=[MEANING]):
                vector: Any = record.vector
                found[str(record.id)] = (record.payload or {})["embedded"], vector[MEANING]
        return found

    def _nearest(self, vector: Any, using: str, limit: int, filter_: engine.Filter | None) -> list[Scored]:
        query = engine.Query.Nearest(vector, using=using)
        request = engine.QueryRequest(limit=limit, query=query, filter=filter_)
        found = [point for slice_ in self.slices for point in slice_.query(request)]
        if len(self.slices) > 1:
            found = sorted(found, key=attrgetter("score"), reverse=True)[:limit]
        return [(point.id, point.score) for point in found]  # the engine makes an id when it is asked for one

    def _get_to_know(self, ids: Iterable[Any]) -> None:
        known = self.knowledge.known
        unknown = {id_ for id_ in ids if id_ not in known}
        for slice_ in self.slices:
            if not unknown:
                break
            for record in slice_.retrieve(list(unknown), with_payload=True, with_vector=False):
                self.knowledge.get_to_know(record.id, record.payload or {})
                unknown.discard(record.id)


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


def _build(
    generations: Generations,
    language: str,
    embedder: str,
    records: Sequence[PageRecord],
    passages: Sequence[Passage],
    vectors: Sequence[Vector],
) -> str:
    dimension = len(vectors[0]) if vectors else 0
    knowledge, terms = Knowledge.of(records, passages, language=language, embedder=embedder, dimension=dimension)
    payloads = make_payloads(passages, embedded=bool(vectors))
    terms = _with_rarities(terms, knowledge.lexicon)
    with generations.building() as place:
        (place / _SLICES).mkdir()
        for number, start in enumerate(range(0, len(passages), _SLICE)):
            own = slice(start, start + _SLICE)
            shard_path = place / _SLICES / f"{number:05}"
            shard_path.mkdir()
            _build_slice(shard_path, [passage.id for passage in passages[own]], terms[own], vectors[own], payloads[own])
        for name, content in knowledge.dump().items():
            (place / name).write_bytes(content)
    current = generations.current()
    return current.path.name if current else ""


def _build_slice(
    place: Path,
    ids: Sequence[str],
    terms: Sequence[SparseVector],
    vectors: Sequence[Vector],
    payloads: Sequence[dict[str, Any]],
) -> None:
    meaning = engine.EdgeVectorParams(size=len(vectors[0]), distance=engine.Distance.Cosine) if vectors else None
    shard = engine.EdgeShard.create(
        str(place),
        engine.EdgeConfig(
            vectors={MEANING: meaning} if meaning else None,
            sparse_vectors={TERMS: engine.EdgeSparseVectorParams()},
            # Flushed once, then never written: a log would only reserve another 64 MB in every copy.
            wal_enabled=False,
            # A shard has one segment here: the way to a pool of threads and back takes as long as the search.
            max_search_threads=1,
        ),
    )
    shard.update(engine.UpdateOperation.create_field_index("site", engine.KeywordIndexParams(is_tenant=True)))
    for start in range(0, len(ids), _BATCH):
        points: list[engine.Point] = []
        for number in range(start, min(start + _BATCH, len(ids))):
            named: dict[str, Any] = {TERMS: _to_engine(terms[number])}
            if vectors:
                named[MEANING] = list(vectors[number])
            points.append(engine.Point(ids[number], named, payloads[number]))
        shard.update(engine.UpdateOperation.upsert_points(points))
    shard.flush()
    shard.close()


def _with_rarities(vectors: Sequence[SparseVector], lexicon: Lexicon) -> list[SparseVector]:
    """The vectors with each term's weight multiplied by its rarity in all of them."""
    frequencies = Counter(chain.from_iterable(vector.indices for vector in vectors))
    rarities = {term: lexicon.rarity_at(frequency) for term, frequency in frequencies.items()}
    return [
        SparseVector(
            vector.indices,
            tuple(value * rarities[term] for term, value in zip(vector.indices, vector.values, strict=True)),
        )
        for vector in vectors
    ]


def _to_engine(vector: SparseVector) -> engine.SparseVector:
    return engine.SparseVector(list(vector.indices), list(vector.values))


def _close_unwanted(opening: "Future[_OpenGeneration]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
