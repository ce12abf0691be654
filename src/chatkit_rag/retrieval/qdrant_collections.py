"""The collections of one alias on a Qdrant server: each step of `QdrantIndex`, and what goes wrong in it.

The only module that imports Qdrant's client; `QdrantIndex` imports it when there is an index to speak for.
"""

import asyncio
import base64
import contextlib
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import stamina
from grpc import StatusCode
from grpc.aio import AioRpcError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from chatkit_rag.errors import IndexError_, IndexMissing, IndexUnavailable
from chatkit_rag.retrieval.analysis import SparseVector
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.filters import key_of
from chatkit_rag.retrieval.index import MEANING, TERMS
from chatkit_rag.retrieval.knowledge import Knowledge

_PIECE = 1 << 20
"""Characters of a file in one point: a request holds 32 MiB."""
_ABOUT = "-about"
_ATTEMPTS = 4
_Result = TypeVar("_Result")


class _Taken(IndexError_):
    """A collection of that name is there already."""


class QdrantCollections:
    """What an alias means on a server, and the collections that it has meant or will mean.

    Each step raises IndexUnavailable where the server does not answer, or cannot now; IndexMissing where the collection
    is not there, or not any more; and IndexError_ where the server refuses.
    """

    def __init__(self, url: str, *, alias: str, api_key: str, prefer_grpc: bool, timeout: int) -> None:
        """Connects to nothing yet. `timeout` is a search's, in seconds; building grants twelve times as much a step."""
        self._url = url
        self._alias = alias
        self._api_key = api_key
        self._prefer_grpc = prefer_grpc
        self._timeout = timeout
        self._connected: tuple[asyncio.AbstractEventLoop, AsyncQdrantClient] | None = None

    @property
    def label(self) -> str:
        """Who answers, for people."""
        return f"Qdrant at {urlsplit(self._url).hostname or self._url}"

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection of the running event loop's."""
        return self._connected is not None and self._connected[0] is asyncio.get_running_loop()

    async def close(self) -> None:
        """Closes the connection, if it is the running event loop's."""
        ours = self.is_connected
        connected, self._connected = self._connected, None
        if connected is not None and ours:
            await connected[1].close()

    async def target(self) -> str | None:
        """The collection that the alias means."""
        aliases = await self._call(lambda client: client.get_aliases())
        return next((one.collection_name for one in aliases.aliases if one.alias_name == self._alias), None)

    async def point_at(self, name: str) -> None:
        """Lets the alias mean this collection, in one step."""
        operations: list[Any] = []
        if await self.target() is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias)))
        create = models.CreateAlias(collection_name=name, alias_name=self._alias)
        operations.append(models.CreateAliasOperation(create_alias=create))
        await self._call(lambda client: client.update_collection_aliases(operations), building=True)

    async def numbers(self) -> list[int]:
        """Of the generations that are there, whole or not."""
        return sorted({int(name) for name in await self._suffixes() if name.isdecimal()})

    async def whole(self) -> list[int]:
        """Of those that are whole, as far as a name tells: what is known is written when all points are."""
        suffixes = await self._suffixes()
        return sorted(int(name) for name in suffixes if name.isdecimal() and f"{name}{_ABOUT}" in suffixes)

    async def delete(self, number: int) -> None:
        """Removes a generation with what is known of it; nothing happens where there is none."""
        name = self.name_of(number)
        for collection in (f"{name}{_ABOUT}", name):
            with contextlib.suppress(IndexMissing):
                await self._call(
                    lambda client, collection=collection: client.delete_collection(collection), building=True
                )

    def name_of(self, number: int) -> str:
        """The collection of a generation."""
        return f"{self._alias}-gen-{number}"

    @contextlib.asynccontextmanager
    async def building(self, knowledge: Knowledge) -> AsyncGenerator[int]:
        """The number of a new generation, empty, with its payload indexes; it goes where the block fails."""
        number = await self._create(knowledge)
        try:
            site = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            await self._index(number, "site", site)
            for own in ("path", "flags"):
                await self._index(number, own, models.PayloadSchemaType.KEYWORD)
            for field, kind in knowledge.fields.items():
                if kind:
                    await self._index(number, key_of(field), models.PayloadSchemaType(kind))
            yield number
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(IndexError_):
                await self.delete(number)
            raise

    async def write(
        self,
        number: int,
        ids: Sequence[str],
        terms: Sequence[SparseVector],
        vectors: Sequence[Vector],
        payloads: Sequence[dict[str, Any]],
    ) -> None:
        """Adds points to a generation, in one request; `vectors` is empty where it has none."""
        points: list[models.PointStruct] = []
        for place, id_ in enumerate(ids):
            words = models.SparseVector(indices=list(terms[place].indices), values=list(terms[place].values))
            named: dict[str, Any] = {TERMS: words}
            if vectors:
                named[MEANING] = list(vectors[place])
            points.append(models.PointStruct(id=id_, vector=named, payload=payloads[place]))
        await self._upsert(self.name_of(number), points)

    async def write_about(self, number: int, files: Mapping[str, bytes]) -> None:
        """Keeps files beside a generation's points; it counts as whole from now on."""
        name = f"{self.name_of(number)}{_ABOUT}"
        await self._call(lambda client: client.create_collection(name, vectors_config={}), building=True)
        written = 0
        for file, content in files.items():
            coded = base64.b85encode(zlib.compress(content)).decode()
            for piece, start in enumerate(range(0, len(coded), _PIECE)):
                payload = {"file": file, "piece": piece, "data": coded[start : start + _PIECE]}
                await self._upsert(name, [models.PointStruct(id=written, vector={}, payload=payload)])
                written += 1

    async def read_about(self, name: str) -> dict[str, bytes]:
        """The files beside a collection's points. Raises ValueError or KeyError where they are not as we write them."""
        pieces: dict[str, dict[int, str]] = {}
        offset: Any = None
        while True:
            found, offset = await self._scroll(f"{name}{_ABOUT}", offset)
            for record in found:
                payload = record.payload or {}
                pieces.setdefault(str(payload.get("file")), {})[int(payload.get("piece", 0))] = str(payload.get("data"))
            if offset is None:
                return await anyio.to_thread.run_sync(_joined, pieces)

    async def query(
        self, name: str, terms: SparseVector, vector: Vector | None, restriction: Mapping[str, Any], limit: int
    ) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """Ids and scores by terms, and by meaning, best first, in one request; none by what is not asked for."""
        filter_ = models.Filter(**restriction) if restriction else None
        searches: list[models.QueryRequest] = []
        if terms.indices:
            words: Any = models.SparseVector(indices=list(terms.indices), values=list(terms.values))
            searches.append(models.QueryRequest(query=words, using=TERMS, filter=filter_, limit=limit))
        if vector is not None:
            searches.append(models.QueryRequest(query=list(vector), using=MEANING, filter=filter_, limit=limit))
        if not searches:
            return [], []
        answers = await self._call(lambda client: client.query_batch_points(name, requests=searches))
        found = [[(str(point.id), point.score) for point in answer.points] for answer in answers]
        by_terms = found.pop(0) if terms.indices else []
        return by_terms, found[0] if found else []

    async def payloads(self, name: str, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """What is kept with points, by id; those that are not there are left out."""
        found = await self._call(lambda client: client.retrieve(name, ids=ids, with_payload=True))
        return {str(record.id): record.payload or {} for record in found}

    async def vectors(self, name: str, ids: Sequence[str]) -> dict[str, tuple[str, Vector]]:
        """The text's signature and the vector of points, by id; those that are not there are left out."""
        records = await self._call(
            lambda client: client.retrieve(name, ids=ids, with_payload=["embedded"], with_vectors=[MEANING])
        )
        found: dict[str, tuple[str, Vector]] = {}
        for record in records:
            vectors: Any = record.vector
            found[str(record.id)] = str((record.payload or {}).get("embedded")), vectors[MEANING]
        return found

    async def _create(self, knowledge: Knowledge) -> int:
        meaning = models.VectorParams(size=knowledge.dimension, distance=models.Distance.COSINE)
        dense = {MEANING: meaning} if knowledge.dimension else {}
        sparse = {TERMS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        number = max(await self.numbers(), default=0)
        while True:
            number += 1
            name = self.name_of(number)
            with contextlib.suppress(_Taken):  # another indexer was quicker: the next name, and the alias will tell
                await self._call(
                    lambda client, name=name: client.create_collection(
                        name, vectors_config=dense, sparse_vectors_config=sparse
                    ),
                    building=True,
                )
                return number

    async def _index(self, number: int, field: str, schema: Any) -> None:
        name = self.name_of(number)
        await self._call(lambda client: client.create_payload_index(name, field, field_schema=schema), building=True)

    async def _upsert(self, name: str, points: list[models.PointStruct]) -> None:
        await self._call(lambda client: client.upsert(name, points=points, wait=True), building=True)

    async def _scroll(self, name: str, offset: Any) -> tuple[list[models.Record], Any]:
        return await self._call(lambda client: client.scroll(name, limit=8, offset=offset, with_payload=True))

    async def _suffixes(self) -> set[str]:
        found = await self._call(lambda client: client.get_collections())
        prefix = f"{self._alias}-gen-"
        return {one.name.removeprefix(prefix) for one in found.collections if one.name.startswith(prefix)}

    async def _call(self, act: Callable[[AsyncQdrantClient], Awaitable[_Result]], *, building: bool = False) -> _Result:
        """What the server answers; where it builds, with more time, and tried again while it is away."""
        if not building:
            async with self._translated(self._timeout):
                return await act(self._client())
        trying = stamina.retry_context(on=IndexUnavailable, attempts=_ATTEMPTS, timeout=None, wait_initial=0.2)
        async for attempt in trying:
            with attempt:
                async with self._translated(12 * self._timeout):
                    return await act(self._client())
        raise AssertionError("the last attempt returns or raises")

    def _client(self) -> AsyncQdrantClient:
        loop = asyncio.get_running_loop()
        if self._connected is None or self._connected[0] is not loop:
            client = AsyncQdrantClient(
                url=self._url,
                api_key=self._api_key or None,
                prefer_grpc=self._prefer_grpc,
                timeout=12 * self._timeout,
                check_compatibility=False,
            )
            self._connected = loop, client
        return self._connected[1]

    @contextlib.asynccontextmanager
    async def _translated(self, seconds: float) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as exc:
            raise IndexUnavailable(f"{self.label} did not answer within {seconds:g} s") from exc
        except ResponseHandlingException as exc:
            raise IndexUnavailable(f"{self.label} cannot be reached: {exc}") from exc
        except UnexpectedResponse as exc:
            said = exc.content.decode(errors="replace")[:300]
            raise _error(exc.status_code or 500, f"{self.label} answered {exc.status_code}: {said}") from exc
        except AioRpcError as exc:
            raise _error(_STATUSES.get(exc.code(), 500), f"{self.label} answered: {exc.details()}") from exc
        except QdrantException as exc:  # what the client makes of a 429
            raise IndexUnavailable(f"{self.label} asks to come again later: {exc}") from exc


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
        return IndexMissing(message)
    if status == 409 or "already exists" in message:
        return _Taken(message)
    if status in (401, 403):
        return IndexError_(f"{message}: check the API key, and what it may do")
    if status >= 500 or status in (408, 429):
        return IndexUnavailable(message)
    return IndexError_(message)


def _joined(pieces: Mapping[str, Mapping[int, str]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, parts in pieces.items():
        coded = "".join(parts[number] for number in range(len(parts)))
        try:
            files[name] = zlib.decompress(base64.b85decode(coded))
        except zlib.error as exc:
            raise ValueError(f"{name} is damaged: {exc}") from exc
    return files
