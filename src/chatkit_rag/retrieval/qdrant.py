"""`QdrantIndex`: the same points on a Qdrant server or cluster, for courses that several hosts serve (extra `qdrant`).

    courses              an alias: the generation that is served
    courses-gen-3        its points, never changed again
    courses-gen-3-about  the files of its `Knowledge`, in pieces: what makes an index built elsewhere incremental

The alias is moved when a generation is whole, so a search sees all of one or all of the next. There are no locks on a
server: the name of a collection can be made once, and whoever finds the alias moved meanwhile does not move it back.
"""

import asyncio
import base64
import contextlib
import logging
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import stamina

from chatkit_rag.documents import Document, Passage
from chatkit_rag.errors import IndexError_, IndexMissing, IndexUnavailable, IndexUnreadable, MissingExtra
from chatkit_rag.retrieval.analysis import question_vector
from chatkit_rag.retrieval.breaker import CircuitBreaker
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter, key_of
from chatkit_rag.retrieval.index import Around, Matches, index_signature
from chatkit_rag.retrieval.knowledge import FILES, MEANING, TERMS, Knowledge, make_payloads
from chatkit_rag.retrieval.languages import find_language
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.vectors import embed_changed

try:
    from grpc import StatusCode
    from grpc.aio import AioRpcError
    from qdrant_client import AsyncQdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as exc:
    raise MissingExtra("A Qdrant server", "qdrant") from exc

_log = logging.getLogger(__name__)

_PIECE = 1 << 20
"""Characters of a file in one point: a request holds 32 MiB."""
_ABOUT = "-about"
_ATTEMPTS = 4
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class QdrantOptions:
    """How a server is spoken to; times in seconds."""

    prefer_grpc: bool = False
    """gRPC, at port 6334, instead of REST."""
    timeout: int = 5
    """For a search; building grants twelve times as much for each step."""
    refresh: float = 5.0
    """How old the knowledge of which generation is served may be; a search then looks it up."""
    batch: int = 256
    """Points in one request."""


class _Gone(IndexMissing):
    """The collection is not there, or not any more."""


class _Taken(IndexError_):
    """A collection of that name is there already."""


@dataclass(frozen=True, slots=True)
class _Served:
    name: str
    """The collection."""
    generation: str
    knowledge: Knowledge


class QdrantIndex:
    """A `PassageIndex` on a server. Any number of hosts may search it while one publishes."""

    def __init__(
        self,
        url: str,
        *,
        collection: str = "courses",
        api_key: str = "",
        language: str = "english",
        embedder: Embedder | None = None,
        keep: int = 2,
        options: QdrantOptions | None = None,
    ) -> None:
        """An index on the server at `url`; nothing is sent before it is opened.

        Args:
            url: the server's address, with its port unless that is 6333.
            collection: what the generations' collections, and the alias, are called.
            api_key: empty where the server asks for none.
            language: the course's, by its English name or its code.
            embedder: what passages and questions are embedded by; None to search by words only.
            keep: how many generations stay on the server.
            options: how the server is spoken to.
        """
        self._url = url
        self._host = urlsplit(url).hostname or url
        self._api_key = api_key
        self._alias = collection
        self._language = find_language(language).name
        self._embedder = embedder
        self._keep = keep
        self._options = options or QdrantOptions()
        self._connected: tuple[asyncio.AbstractEventLoop, AsyncQdrantClient] | None = None
        self._served: _Served | None = None
        self._looked_up = -1.0
        self._opening = anyio.Lock(fast_acquire=True)
        self._breaker = CircuitBreaker(pause=self._options.refresh)

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
        await self._current(at_once=True)

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            connected, self._connected = self._connected, None
            self._served, self._looked_up = None, -1.0
            if connected is not None and connected[0] is asyncio.get_running_loop():
                await connected[1].close()
            if self._embedder is not None:
                await self._embedder.close()

    async def embedded_by(self) -> str:
        """See `PassageIndex.embedded_by`."""
        served = await self._current()
        return served.knowledge.embedder if served else ""

    async def search(
        self, query: str, *, vector: Vector | None = None, limit: int = 100, where: Filter | None = None
    ) -> Matches:
        """See `PassageIndex.search`."""
        return await self._with_served(lambda served: self._search(served, query, vector, limit, where), Matches())

    async def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """See `PassageIndex.around`."""
        nothing: Mapping[str, Around] = {}
        return await self._with_served(lambda served: self._around(served, passages), nothing)

    async def page(self, path: str, *, site: str | None = None) -> Document | None:
        """See `PassageIndex.page`."""
        served = await self._current()
        found = served.knowledge.pages.get(path, ()) if served else ()
        return next((record.document for record in found if site in (None, record.site)), None)

    async def records(self, *, site: str | None = None) -> Sequence[PageRecord]:
        """See `PassageIndex.records`."""
        served = await self._current(at_once=True)
        return [record for record in served.knowledge.records if site in (None, record.site)] if served else []

    async def generation(self) -> str:
        """See `PassageIndex.generation`."""
        served = await self._current(at_once=True)
        return served.generation if served else ""

    async def generations(self) -> Sequence[str]:
        """See `PassageIndex.generations`."""
        return [f"gen-{number}" for number in await self._whole()]

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`."""
        before = await self._target()
        vectors: list[Vector] = []
        if self._embedder is not None:
            vectors = await embed_changed(passages, self._embedder, await self._kept_vectors())
        knowledge, terms = await anyio.to_thread.run_sync(
            lambda: Knowledge.of(
                records,
                passages,
                language=self._language,
                embedder=self._embedder.signature if self._embedder else "",
                dimension=len(vectors[0]) if vectors else 0,
            )
        )
        async with self._building(knowledge) as name:
            payloads = make_payloads(passages, embedded=bool(vectors))
            for start in range(0, len(passages), self._options.batch):
                points: list[models.PointStruct] = []
                for number in range(start, min(start + self._options.batch, len(passages))):
                    named: dict[str, Any] = {
                        TERMS: models.SparseVector(
                            indices=list(terms[number].indices), values=list(terms[number].values)
                        )
                    }
                    if vectors:
                        named[MEANING] = list(vectors[number])
                    points.append(models.PointStruct(id=passages[number].id, vector=named, payload=payloads[number]))
                await self._write(name, points)
            await self._write_about(f"{name}{_ABOUT}", knowledge)
            if await self._target() != before:
                raise IndexError_(
                    f"somebody else has published to {self._alias!r} meanwhile: index the pages again, so that "
                    "what they have changed is kept"
                )
            await self._point_at(name)
        await self._remove_old(name)
        served = await self._current(at_once=True)
        return served.generation if served else ""

    async def activate(self, generation: str) -> None:
        """See `PassageIndex.activate`."""
        kept = await self.generations()
        if generation not in kept:
            there = ", ".join(kept) or "none"
            raise IndexMissing(f"there is no generation {generation!r} of {self._alias!r}: {there} is kept")
        await self._point_at(f"{self._alias}-{generation}")
        await self._current(at_once=True)

    async def remove(self) -> None:
        """Removes every generation of this collection from the server."""
        for number in await self._numbers():
            await self._delete(f"{self._alias}-gen-{number}")
        self._served, self._looked_up = None, -1.0

    # What is served

    async def _with_served(self, ask: Callable[[_Served], Awaitable[_Result]], nothing: _Result) -> _Result:
        """What `ask` gives for the generation that is served; once more where that one was removed meanwhile."""
        if not self._breaker.lets_through():
            raise IndexUnavailable(f"Qdrant at {self._host} has not answered for a while")
        try:
            served = await self._current()
            try:
                result = await ask(served) if served else nothing
            except _Gone:
                served = await self._current(at_once=True)
                result = await ask(served) if served else nothing
        except IndexUnavailable:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return result

    async def _current(self, *, at_once: bool = False) -> _Served | None:
        """The generation that the alias means, as it was known `refresh` seconds ago; `at_once` looks it up."""
        if not at_once and self._is_fresh():
            return self._served
        async with self._opening:
            if not at_once and self._is_fresh():
                return self._served
            try:
                while (name := await self._target()) is not None and (
                    self._served is None or self._served.name != name
                ):
                    try:
                        self._served = await self._load(name)
                    except _Gone as exc:
                        if await self._target() == name:
                            raise IndexUnreadable(
                                f"the collection {name}, or what is known of it, is missing: index the pages again"
                            ) from exc
            except IndexUnavailable as exc:
                if self._served is None:
                    raise
                # Knowing an older generation is better than nothing, should only this look-up have failed.
                _log.warning("going on with %s: %s", self._served.name, exc)
            self._looked_up = asyncio.get_running_loop().time()
            return self._served

    def _is_fresh(self) -> bool:
        if self._looked_up < 0 or self._connected is None:
            return False
        loop = asyncio.get_running_loop()
        return self._connected[0] is loop and loop.time() - self._looked_up < self._options.refresh

    async def _target(self) -> str | None:
        aliases = await self._call(lambda client: client.get_aliases())
        return next((one.collection_name for one in aliases.aliases if one.alias_name == self._alias), None)

    async def _load(self, name: str) -> _Served:
        pieces: dict[str, dict[int, str]] = {}
        offset: Any = None
        while True:
            found, offset = await self._scroll(f"{name}{_ABOUT}", offset)
            for record in found:
                payload = record.payload or {}
                pieces.setdefault(str(payload.get("file")), {})[int(payload.get("piece", 0))] = str(payload.get("data"))
            if offset is None:
                break
        generation = name.removeprefix(f"{self._alias}-")
        try:
            knowledge = await anyio.to_thread.run_sync(_read_pieces, pieces)
        except IndexUnreadable as exc:
            raise IndexUnreadable(f"the collection {name} cannot be read: {exc}") from exc
        except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as exc:
            raise IndexUnreadable(f"the collection {name} is damaged, or not of this library: index again") from exc
        return _Served(name, generation, knowledge)

    async def _scroll(self, name: str, offset: Any) -> tuple[list[models.Record], Any]:
        return await self._call(lambda client: client.scroll(name, limit=8, offset=offset, with_payload=True))

    # Searching

    async def _search(
        self, served: _Served, query: str, vector: Vector | None, limit: int, where: Filter | None
    ) -> Matches:
        knowledge = served.knowledge
        restriction = where.to_qdrant(indexed=knowledge.fields) if where else {}
        if restriction is None:
            return Matches()
        filter_ = models.Filter(**restriction) if restriction else None
        asked = knowledge.asked(query)
        question = question_vector(asked)
        searches: list[models.QueryRequest] = []
        if question.indices:
            words: Any = models.SparseVector(indices=list(question.indices), values=list(question.values))
            searches.append(models.QueryRequest(query=words, using=TERMS, filter=filter_, limit=limit))
        by_meaning = vector is not None and len(vector) == knowledge.dimension
        if vector is not None and by_meaning:
            searches.append(models.QueryRequest(query=list(vector), using=MEANING, filter=filter_, limit=limit))
        if not searches:
            return Matches()
        answers = await self._call(lambda client: client.query_batch_points(served.name, requests=searches))
        found = [[(str(point.id), point.score) for point in answer.points] for answer in answers]
        await self._get_to_know(served, (id_ for points in found for id_, _ in points))
        first = found.pop(0) if question.indices else []
        return knowledge.matches(asked, first, found[0] if by_meaning else [])

    async def _around(self, served: _Served, passages: Sequence[Passage]) -> Mapping[str, Around]:
        known = served.knowledge.known
        await self._get_to_know(served, (passage.id for passage in passages))
        found = {passage.id: known[passage.id] for passage in passages if passage.id in known}
        await self._get_to_know(served, (id_ for one in found.values() for id_ in (one.before, one.after) if id_))
        return {
            id_: Around(
                known[one.before].passage if one.before else None, known[one.after].passage if one.after else None
            )
            for id_, one in found.items()
        }

    async def _get_to_know(self, served: _Served, ids: Iterable[str]) -> None:
        unknown = list({id_ for id_ in ids if id_ not in served.knowledge.known})
        if unknown:
            found = await self._call(lambda client: client.retrieve(served.name, ids=unknown, with_payload=True))
            for record in found:
                served.knowledge.get_to_know(str(record.id), record.payload or {})

    async def _kept_vectors(self) -> Any:
        """How to ask the generation that is served for its vectors; None where they are of another embedder."""
        try:
            served = await self._current(at_once=True)
        except IndexUnreadable:
            return None  # publishing anew is what mends it
        if served is None or self._embedder is None or served.knowledge.embedder != self._embedder.signature:
            return None

        async def kept(ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
            records = await self._call(
                lambda client: client.retrieve(
                    served.name, ids=list(ids), with_payload=["embedded"], with_vectors=[MEANING]
                )
            )
            found: dict[str, tuple[str, Vector]] = {}
            for record in records:
                vectors: Any = record.vector
                found[str(record.id)] = str((record.payload or {}).get("embedded")), vectors[MEANING]
            return found

        return kept

    # Building

    @contextlib.asynccontextmanager
    async def _building(self, knowledge: Knowledge) -> AsyncGenerator[str]:
        """A new collection, with its indexes, and one for what is known of it; both go where the block fails."""
        name = await self._create(knowledge)
        try:
            site = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            await self._index(name, "site", site)
            for own in ("path", "flags"):
                await self._index(name, own, models.PayloadSchemaType.KEYWORD)
            for field, kind in knowledge.fields.items():
                await self._index(name, key_of(field), models.PayloadSchemaType(kind))
            yield name
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(IndexError_):
                await self._delete(name)
            raise

    async def _create(self, knowledge: Knowledge) -> str:
        meaning = models.VectorParams(size=knowledge.dimension, distance=models.Distance.COSINE)
        dense = {MEANING: meaning} if knowledge.dimension else {}
        sparse = {TERMS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        number = max(await self._numbers(), default=0)
        while True:
            number += 1
            name = f"{self._alias}-gen-{number}"
            with contextlib.suppress(_Taken):  # another indexer was quicker: the next name, and the alias will tell
                await self._call(
                    lambda client, name=name: client.create_collection(
                        name, vectors_config=dense, sparse_vectors_config=sparse
                    ),
                    building=True,
                )
                return name

    async def _index(self, name: str, field: str, schema: Any) -> None:
        await self._call(lambda client: client.create_payload_index(name, field, field_schema=schema), building=True)

    async def _write(self, name: str, points: list[models.PointStruct]) -> None:
        await self._call(lambda client: client.upsert(name, points=points, wait=True), building=True)

    async def _write_about(self, name: str, knowledge: Knowledge) -> None:
        await self._call(lambda client: client.create_collection(name, vectors_config={}), building=True)
        number = 0
        for file, content in knowledge.dump().items():
            coded = base64.b85encode(zlib.compress(content)).decode()
            for piece, start in enumerate(range(0, len(coded), _PIECE)):
                payload = {"file": file, "piece": piece, "data": coded[start : start + _PIECE]}
                await self._write(name, [models.PointStruct(id=number, vector={}, payload=payload)])
                number += 1

    async def _point_at(self, name: str) -> None:
        operations: list[Any] = []
        if await self._target() is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias)))
        create = models.CreateAlias(collection_name=name, alias_name=self._alias)
        operations.append(models.CreateAliasOperation(create_alias=create))
        await self._call(lambda client: client.update_collection_aliases(operations), building=True)

    async def _remove_old(self, name: str) -> None:
        """Removes what is neither kept nor under construction: a builder that is late finds the alias moved."""
        current = int(name.rpartition("-")[2])
        kept = (await self._whole())[-self._keep :]
        for number in await self._numbers():
            if number not in kept and number < current:
                with contextlib.suppress(IndexError_):
                    await self._delete(f"{self._alias}-gen-{number}")

    async def _delete(self, name: str) -> None:
        for collection in (f"{name}{_ABOUT}", name):
            with contextlib.suppress(_Gone):
                await self._call(
                    lambda client, collection=collection: client.delete_collection(collection), building=True
                )

    async def _numbers(self) -> list[int]:
        """Of the generations that are there, whole or not."""
        return sorted({int(name) for name in await self._suffixes() if name.isdecimal()})

    async def _whole(self) -> list[int]:
        """Of those that are whole, as far as a name tells: what is known is written when all points are."""
        suffixes = await self._suffixes()
        return sorted(int(name) for name in suffixes if name.isdecimal() and f"{name}{_ABOUT}" in suffixes)

    async def _suffixes(self) -> set[str]:
        found = await self._call(lambda client: client.get_collections())
        prefix = f"{self._alias}-gen-"
        return {one.name.removeprefix(prefix) for one in found.collections if one.name.startswith(prefix)}

    # The connection

    async def _call(self, act: Callable[[AsyncQdrantClient], Awaitable[_Result]], *, building: bool = False) -> _Result:
        """What the server answers; where it builds, with more time, and tried again while it is away.

        Raises:
            IndexUnavailable: it does not answer, or says that it cannot now.
            IndexError_: it refuses.
        """
        if not building:
            async with self._translated(self._options.timeout):
                return await act(self._client())
        trying = stamina.retry_context(on=IndexUnavailable, attempts=_ATTEMPTS, timeout=None, wait_initial=0.2)
        async for attempt in trying:
            with attempt:
                async with self._translated(12 * self._options.timeout):
                    return await act(self._client())
        raise AssertionError("the last attempt returns or raises")

    def _client(self) -> AsyncQdrantClient:
        loop = asyncio.get_running_loop()
        if self._connected is None or self._connected[0] is not loop:
            client = AsyncQdrantClient(
                url=self._url,
                api_key=self._api_key or None,
                prefer_grpc=self._options.prefer_grpc,
                timeout=12 * self._options.timeout,
                check_compatibility=False,
            )
            self._connected = loop, client
        return self._connected[1]

    @contextlib.asynccontextmanager
    async def _translated(self, seconds: float) -> AsyncGenerator[None]:
        where = f"Qdrant at {self._host}"
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as exc:
            raise IndexUnavailable(f"{where} did not answer within {seconds:g} s") from exc
        except ResponseHandlingException as exc:
            raise IndexUnavailable(f"{where} cannot be reached: {exc}") from exc
        except UnexpectedResponse as exc:
            said = exc.content.decode(errors="replace")[:300]
            raise _error(exc.status_code or 500, f"{where} answered {exc.status_code}: {said}") from exc
        except AioRpcError as exc:
            raise _error(_STATUSES.get(exc.code(), 500), f"{where} answered: {exc.details()}") from exc


_STATUSES = {
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
}


def _error(status: int, message: str) -> IndexError_:
    """The error that a status is."""
    if status == 404:
        return _Gone(message)
    if status == 409 or "already exists" in message:
        return _Taken(message)
    if status in (401, 403):
        return IndexError_(f"{message}: check the API key, and what it may do")
    if status >= 500 or status in (408, 429):
        return IndexUnavailable(message)
    return IndexError_(message)


def _read_pieces(pieces: Mapping[str, Mapping[int, str]]) -> Knowledge:
    files: dict[str, bytes] = {}
    for name in FILES:
        parts = pieces[name]
        coded = "".join(parts[number] for number in range(len(parts)))
        files[name] = zlib.decompress(base64.b85decode(coded))
    return Knowledge.load(files)
