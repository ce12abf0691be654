"""`EdgeIndex`: the Qdrant engine inside this process, over generations in a folder. No server, no model, no download.

The engine holds Python's lock in every call, so what takes long is done elsewhere or in small steps: a generation is
cut into slices, shards of the engine, which are written by processes of their own and opened one by one. Queries take
a fraction of a millisecond, and run where they are asked. The engine must be opened after a process forks, not before.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexUnreadable
from chatkit_rag.retrieval.edge_building import Content, build
from chatkit_rag.retrieval.edge_generation import OpenGeneration
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generation_index import GenerationIndex
from chatkit_rag.retrieval.generations import Generations, Published
from chatkit_rag.retrieval.index import Around, Matches
from chatkit_rag.retrieval.knowledge import Knowledge
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.vector_journal import JOURNAL, VectorJournal
from chatkit_rag.retrieval.vectors import embed_changed

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_TRY_AGAIN_SECONDS = 60.0


class EdgeIndex(GenerationIndex):
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
        super().__init__(language=language, embedder=embedder)
        self._directory = Path(directory)
        self._generations = Generations(self._directory, keep=keep)
        self._unpublished = VectorJournal(self._directory / JOURNAL)
        self._worker: ThreadPoolExecutor | None = None
        self._builder: ThreadPoolExecutor | None = None
        """What takes the lock of the directory, which may take long; who searches waits for the worker only."""
        self._opened: OpenGeneration | None = None
        self._refused: tuple[Published, float] | None = None
        """What could not be opened, and until when it is not tried again."""
        self._is_told = False
        """Whether the log says that `CURRENT` cannot be read."""
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    async def open(self) -> None:
        """See `PassageIndex.open`."""
        await self._current()

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            async with self._opening:
                opened, self._opened = self._opened, None
                if opened is not None:
                    await asyncio.wrap_future(self._submit(opened.close))
                builder, self._builder = self._builder, None
                worker, self._worker = self._worker, None
                for thread in filter(None, (builder, worker)):
                    # It may still be at work on what was cancelled; whoever waits for it lets the others go on.
                    await asyncio.wrap_future(thread.submit(_nothing))
                    thread.shutdown(wait=True)
            if self._embedder is not None:
                await self._embedder.close()

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
        content = Content(
            records=records,
            passages=passages,
            vectors=vectors,
            language=self._language,
            embedder=self._embedder.signature if self._embedder else "",
        )

        def build_and_name() -> str:
            with self._generations.building() as place:
                build(place, content)
            current = self._generations.current()
            return current.path.name if current else ""

        name = await self._change(build_and_name)
        if self._embedder is not None:
            await self._unpublished.clear()
        if self._opened is not None:  # who searches goes on with the new one; who only builds needs none
            await self._current(or_before=False)
        return name

    async def activate(self, generation: str) -> None:
        """See `PassageIndex.activate`."""
        await self._change(partial(self._generations.activate, generation))
        await self._current(or_before=False)

    async def _knowledge(self, *, at_once: bool = False) -> Knowledge | None:  # noqa: ARG002 - to look costs nothing
        generation = await self._current()
        return generation.knowledge if generation else None

    async def _kept_vectors(self) -> Any:
        """How to ask the generation that is served for its vectors; None where they are of another embedder."""
        try:
            generation = await self._current()
        except IndexUnreadable:
            return None  # publishing anew is what mends it
        if generation is None or self._embedder is None or generation.knowledge.embedder != self._embedder.signature:
            return None

        def look_up(ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
            # Another one may have been taken over since, and is closed by this worker, behind what it was given before.
            opened = self._opened
            same = opened is not None and opened.knowledge.embedder == generation.knowledge.embedder
            return opened.vectors(ids) if opened is not None and same else {}

        async def kept(ids: Sequence[str]) -> Mapping[str, tuple[str, Vector]]:
            return await asyncio.wrap_future(self._submit(partial(look_up, ids)))

        return kept

    async def _current(self, *, or_before: bool = True) -> "OpenGeneration | None":
        """The generation that `CURRENT` names, opened; a swap happens between two searches, never within one.

        Who finds a new one waits until it is open, and whoever asks meanwhile has the one before.

        One that cannot be opened is tried again each minute; `or_before` serves the one before meanwhile, if there is.
        """
        if self._serves(self._named(or_before=or_before), or_before=or_before):
            return self._opened
        if self._opened is not None and or_before and self._opening.locked():
            return self._opened  # somebody is opening it, and is the only one who waits
        async with self._opening:
            while (published := self._named(or_before=or_before)) is not None:
                if self._serves(published, or_before=or_before):
                    break
                try:
                    before, self._opened = self._opened, await self._open(published)
                    self._is_told = False
                except IndexUnreadable as exc:
                    if self._generations.current() != published:
                        continue  # a builder removed it while it was read, and has named the next one
                    if self._opened is None or not or_before:
                        raise
                    self._refused = published, time.monotonic() + _TRY_AGAIN_SECONDS
                    _log.warning("the index before is served: %s", exc)
                    break
                if before is not None:
                    await asyncio.wrap_future(self._submit(before.close))
            return self._opened

    def _named(self, *, or_before: bool) -> Published | None:
        """What `CURRENT` names; what is served, where that cannot be read."""
        try:
            return self._generations.current()
        except IndexUnreadable as exc:
            if self._opened is None or not or_before:
                raise
            if not self._is_told:
                self._is_told = True
                _log.warning("the index that is open is served: %s", exc)
            return self._opened.source

    def _serves(self, published: Published | None, *, or_before: bool) -> bool:
        if self._opened is None or self._opened.source == published:
            return self._opened is not None
        if self._refused is None or not or_before:
            return False
        refused, until = self._refused
        return refused == published and time.monotonic() < until

    async def _open(self, published: Published) -> "OpenGeneration":
        opening = self._submit(partial(OpenGeneration.open, published))
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)  # the worker does not stop half-way
            raise

    def _submit(self, work: "Callable[[], _Result]") -> "Future[_Result]":
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-index")
        return self._worker.submit(work)

    async def _change(self, change: "Callable[[], _Result]") -> "_Result":
        if self._builder is None:
            self._builder = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-build")
        return await asyncio.wrap_future(self._builder.submit(change))


def _nothing() -> None:
    pass


def _close_unwanted(opening: "Future[OpenGeneration]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
