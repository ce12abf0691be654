"""`QdrantIndex`: the same points on a Qdrant server or cluster, for courses that several hosts serve (extra `qdrant`).

    courses              an alias: the generation that is served
    courses-gen-3        its points, never changed again
    courses-gen-3-about  the files of its `Knowledge`, in pieces: what makes an index built elsewhere incremental

The alias is moved when a generation is whole, so a search sees all of one or all of the next. There are no locks on a
server: the name of a collection can be made once, and whoever finds the alias moved meanwhile does not move it back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexError_, IndexMissing, IndexUnavailable, IndexUnreadable, MissingExtra
from chatkit_rag.retrieval.analysis import question_vector
from chatkit_rag.retrieval.breaker import CircuitBreaker
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generation_index import GenerationIndex
from chatkit_rag.retrieval.index import Around, Matches
from chatkit_rag.retrieval.knowledge import Knowledge, make_payloads, read_payload
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.vector_journal import VectorJournal
from chatkit_rag.retrieval.vectors import embed_changed

if TYPE_CHECKING:
    from chatkit_rag.retrieval.qdrant_collections import QdrantCollections

_log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class _Served:
    name: str
    """The collection."""
    generation: str
    knowledge: Knowledge


class QdrantIndex(GenerationIndex):
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
        journal: Path | None = None,
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
            journal: a local file that keeps what the embedder has given until the server has it, so that a run that was
                interrupted goes on; None keeps nothing.
            options: how the server is spoken to.

        Raises:
            MissingExtra: qdrant-client is not installed.
            ConfigurationError: no such language is known.
        """
        super().__init__(language=language, embedder=embedder)
        options = options or QdrantOptions()
        self._server = _collections_at(url, collection, api_key, options)
        self._alias = collection
        self._keep = keep
        self._unpublished = VectorJournal(journal) if journal else None
        self._options = options
        self._served: _Served | None = None
        self._looked_up = -1.0
        self._opening = anyio.Lock(fast_acquire=True)
        self._breaker = CircuitBreaker(pause=self._options.refresh)

    async def open(self) -> None:
        """See `PassageIndex.open`."""
        await self._current(at_once=True)

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            self._served, self._looked_up = None, -1.0
            await self._server.close()
            if self._embedder is not None:
                await self._embedder.close()

    async def search(
        self, query: str, *, vector: Vector | None = None, limit: int = 100, where: Filter | None = None
    ) -> Matches:
        """See `PassageIndex.search`."""
        return await self._with_served(lambda served: self._search(served, query, vector, limit, where), Matches())

    async def around(self, passages: Sequence[Passage]) -> Mapping[str, Around]:
        """See `PassageIndex.around`."""
        nothing: Mapping[str, Around] = {}
        return await self._with_served(lambda served: self._around(served, passages), nothing)

    async def generation(self) -> str:
        """See `PassageIndex.generation`."""
        served = await self._current(at_once=True)
        return served.generation if served else ""

    async def edition(self) -> str:
        """See `PassageIndex.edition`."""
        served = await self._current()
        return served.generation if served else ""

    async def generations(self) -> Sequence[str]:
        """See `PassageIndex.generations`."""
        return [f"gen-{number}" for number in await self._server.whole()]

    async def publish(self, records: Sequence[PageRecord], passages: Sequence[Passage]) -> str:
        """See `PassageIndex.publish`."""
        before = await self._server.target()
        vectors: list[Vector] = []
        if self._embedder is not None:
            vectors = await embed_changed(passages, self._embedder, await self._kept_vectors(), self._unpublished)
        knowledge, terms = await anyio.to_thread.run_sync(self._read, records, passages, vectors)
        async with self._server.building(knowledge) as number:
            payloads = make_payloads(passages, embedded=bool(vectors))
            ids = [passage.id for passage in passages]
            for start in range(0, len(passages), self._options.batch):
                batch = slice(start, start + self._options.batch)
                own = list(islice(terms, self._options.batch))
                await self._server.write(number, ids[batch], own, vectors[batch], payloads[batch])
            await self._server.write_about(number, knowledge.dump())
            if await self._server.target() != before:
                raise IndexError_(
                    f"somebody else has published to {self._alias!r} meanwhile: index the pages again, so that "
                    "what they have changed is kept"
                )
            await self._server.point_at(self._server.name_of(number))
        if self._embedder is not None and self._unpublished is not None:
            await self._unpublished.clear()
        # It is published: what goes wrong from here on is mended by the next look, and the next builder.
        with contextlib.suppress(IndexError_):
            await self._remove_old(number, before)
            await self._current(at_once=True)
        return f"gen-{number}"

    async def activate(self, generation: str) -> None:
        """See `PassageIndex.activate`."""
        kept = await self.generations()
        if generation not in kept:
            there = ", ".join(kept) or "none"
            raise IndexMissing(f"there is no generation {generation!r} of {self._alias!r} (kept: {there})")
        await self._server.point_at(f"{self._alias}-{generation}")
        await self._current(at_once=True)

    async def remove(self) -> None:
        """Removes every generation of this collection from the server."""
        for number in await self._server.numbers():
            await self._server.delete(number)
        self._served, self._looked_up = None, -1.0

    async def _remove_old(self, current: int, before: str | None) -> None:
        """Removes what is neither kept nor under construction: a builder that is late finds the alias moved.

        What was served `before` is kept before newer ones: who has gone back to it may want to again.
        """
        whole = await self._server.whole()
        whole.sort(key=lambda number: (number >= current, self._server.name_of(number) == before, number))
        kept = whole[-self._keep :]
        for number in await self._server.numbers():
            if number not in kept and number < current:
                with contextlib.suppress(IndexError_):
                    await self._server.delete(number)

    # What is served

    async def _with_served(self, ask: Callable[[_Served], Awaitable[_Result]], nothing: _Result) -> _Result:
        """What `ask` gives for the generation that is served; once more where that one was removed meanwhile."""
        if not self._breaker.lets_through():
            raise IndexUnavailable(f"{self._server.label} has not answered for a while")
        try:
            served = await self._current()
            try:
                result = await ask(served) if served else nothing
            except IndexMissing:
                served = await self._current(at_once=True)
                result = await ask(served) if served else nothing
        except IndexUnavailable:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return result

    async def _knowledge(self, *, at_once: bool = False) -> Knowledge | None:
        served = await self._current(at_once=at_once)
        return served.knowledge if served else None

    async def _current(self, *, at_once: bool = False) -> _Served | None:
        """The generation that the alias means, as it was known `refresh` seconds ago; `at_once` looks it up."""
        if not at_once and self._is_fresh():
            return self._served
        async with self._opening:
            if not at_once and self._is_fresh():
                return self._served
            try:
                while (name := await self._server.target()) is not None and (
                    self._served is None or self._served.name != name
                ):
                    try:
                        self._served = await self._load(name)
                    except IndexMissing as exc:
                        if await self._server.target() == name:
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
        if self._looked_up < 0 or not self._server.is_connected:
            return False
        return asyncio.get_running_loop().time() - self._looked_up < self._options.refresh

    async def _load(self, name: str) -> _Served:
        generation = name.removeprefix(f"{self._alias}-")
        try:
            knowledge = await anyio.to_thread.run_sync(Knowledge.load, await self._server.read_about(name))
        except IndexUnreadable as exc:
            raise IndexUnreadable(f"the collection {name} cannot be read: {exc}") from exc
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise IndexUnreadable(f"the collection {name} is damaged, or not of this library: index again") from exc
        return _Served(name, generation, knowledge)

    # Searching

    async def _search(
        self, served: _Served, query: str, vector: Vector | None, limit: int, where: Filter | None
    ) -> Matches:
        knowledge = served.knowledge
        where = where or Filter()
        # A server may be set up to refuse conditions on fields that it has no index of: these are looked at here.
        unindexed = {field for field in where.fields if knowledge.fields.get(field) == ""}
        restriction = where.to_qdrant(fields=knowledge.fields, shared=knowledge.shared, without=unindexed)
        if restriction is None:
            return Matches()
        asked = knowledge.asked(query)
        comparable = vector if vector is not None and len(vector) == knowledge.dimension else None
        terms = question_vector(asked.terms)
        first, near = await self._server.query(served.name, terms, comparable, restriction, limit)
        await self._get_to_know(served, (id_ for id_, _ in (*first, *near)))
        if unindexed:
            first, near = knowledge.admitted(where, first), knowledge.admitted(where, near)
        return knowledge.matches(asked, first, near)

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
            for id_, payload in (await self._server.payloads(served.name, unknown)).items():
                served.knowledge.get_to_know(id_, *read_payload(payload))

    async def _kept_vectors(self) -> Any:
        """How to ask the generation that is served for its vectors; None where they are of another embedder."""
        try:
            served = await self._current(at_once=True)
        except IndexUnreadable:
            return None  # publishing anew is what mends it
        if served is None or self._embedder is None or served.knowledge.embedder != self._embedder.signature:
            return None

        return partial(self._server.vectors, served.name)


def _collections_at(url: str, alias: str, api_key: str, options: QdrantOptions) -> "QdrantCollections":
    if find_spec("qdrant_client") is None:
        raise MissingExtra("A Qdrant server", "qdrant")
    from chatkit_rag.retrieval.qdrant_collections import QdrantCollections

    return QdrantCollections(
        url, alias=alias, api_key=api_key, prefer_grpc=options.prefer_grpc, timeout=options.timeout
    )
