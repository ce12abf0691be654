"""The documentation of the libraries that a course uses, as a source beside the course.

A library's documentation is asked for where the question names the library. Everything about it is bounded: the time
that an answer waits for it, how often it is asked, and how much of it is shown. Where it gives nothing, for whatever
reason, the course answers alone.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from cachetools import TTLCache

from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Hit, LibraryPassage
from chatkit_rag.errors import LibraryDocsUnavailable
from chatkit_rag.retrieval.breaker import CircuitBreaker
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.sources.libraries import ROBOTICS, LibraryNames

_log = logging.getLogger(__name__)

SWITCH = "use_library_docs"
"""What a request's metadata switches the source off by: `{"use_library_docs": false}`."""

_ASKED = 500
"""Characters of a question that are sent; Context7 takes no more."""
_NAMESPACE = uuid.UUID("5f0c8c4e-6d4a-4c53-9f6b-1f7a0b7f8a52")
_A_DAY = 86_400.0
_ADDRESS = 2_000
_NOTHING = Retrieved()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library, as a service knows it."""

    id: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A piece of a library's documentation."""

    title: str
    text: str
    url: str
    """Where people read it."""
    library: str = ""
    """The library's own name, where the service says it."""


class LibraryDocs(Protocol):
    """A service that knows the documentation of libraries. A call is cancelled where it takes its caller too long."""

    async def libraries(self, name: str, question: str) -> Sequence[Library]:
        """What is called `name`, best first for `question`. Raises LibraryDocsUnavailable."""
        ...

    async def snippets(self, library_id: str, question: str) -> Sequence[Snippet]:
        """What a library's documentation has on `question`, best first. Raises LibraryDocsUnavailable."""
        ...

    async def open(self) -> None:
        """Makes the service ready, as far as it can be reached; waits seconds at most, and never fails."""
        ...

    async def close(self) -> None:
        """Releases what `open` and the calls took."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryDocsOptions:
    """How much of a library's documentation an answer gets, and at what cost."""

    results: int = 2
    """Passages of one answer."""
    seconds: float = 3.0
    """How long an answer waits for them."""
    characters: int = 4_000
    """Of one passage; what is longer is cut at a line."""
    remembered: int = 1_000
    """So many questions are not asked again ..."""
    remembered_seconds: float = 6 * 3_600.0
    """... for so long."""


class LibraryDocsSource:
    """Searches the documentation of the library that a question names."""

    def __init__(
        self,
        service: LibraryDocs,
        *,
        libraries: Mapping[str, str] | Sequence[str] = ROBOTICS,
        options: LibraryDocsOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A source over `service`.

        Args:
            service: opened and closed with the source.
            libraries: the names of the libraries that the course uses, each with its id at the service; without one,
                the service is asked what is called so.
            options: how much of the documentation is looked up, and at what cost.
            clock: seconds that only grow.
        """
        self._service = service
        named = libraries if isinstance(libraries, Mapping) else dict.fromkeys(libraries, "")
        self._names = LibraryNames(named)
        self._ids = {name: Library(id=known) for name, known in named.items() if known}
        self._options = options = options or LibraryDocsOptions()
        self._breaker = CircuitBreaker(clock=clock)
        self._found = TTLCache[str, tuple[Library, ...]](len(named) or 1, _A_DAY, timer=clock)
        self._answers = TTLCache[tuple[str, str], tuple[Snippet, ...]](
            options.remembered, options.remembered_seconds, timer=clock
        )
        self._asking: dict[tuple[str, str], asyncio.Future[tuple[Snippet, ...] | None]] = {}

    @property
    def libraries(self) -> list[str]:
        """The names of the libraries that can be looked up."""
        return list(self._names)

    def named_in(self, text: str) -> str | None:
        """The one of `libraries` that `text` names."""
        return self._names.named_in(text)

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        """See `Source.search`. Finds nothing where the question names no library.

        Never fails, and takes no longer than the options allow.
        """
        name = self.named_in(question)
        return await self.look_up(name, question, context, limit=limit) if name else _NOTHING

    async def look_up(
        self, library: str, question: str, context: RequestContext, *, limit: int | None = None
    ) -> Retrieved:
        """As `search`, in the documentation of one of `libraries`."""
        if context.metadata.get(SWITCH) is False:
            return _NOTHING
        snippets = await self._answer(library, " ".join(question.split())[:_ASKED])
        passages = [self._passage(library, snippet, context) for snippet in snippets if _is_web_address(snippet.url)]
        shown = passages[: limit or self._options.results]
        hits = tuple(Hit(passage=passage, score=1 / (rank + 1)) for rank, passage in enumerate(shown))
        return Retrieved(hits=hits, weak=not hits)

    async def open(self) -> None:
        """Opens the service."""
        await self._service.open()

    async def close(self) -> None:
        """Closes the service; what is still asked for is given up."""
        asking = list(self._asking.values())
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._service.close()

    async def ping(self) -> None:
        """Does nothing: answers go on without this source."""

    async def _answer(self, library: str, question: str) -> tuple[Snippet, ...]:
        """What is remembered, or else what the service says: once to all who ask the same at the same time."""
        key = (library, question.casefold())
        if key in self._answers:
            return self._answers[key]
        if key not in self._asking:
            # Not a part of the first reader's answer, who may leave: it takes seconds at most, and `close` ends it.
            asking = self._asking[key] = asyncio.ensure_future(self._ask(library, question))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        said = await asyncio.shield(self._asking[key])
        if said is None:
            return ()
        self._answers[key] = said
        return said

    async def _ask(self, name: str, question: str) -> tuple[Snippet, ...] | None:
        """What the service says; None where it does not answer, or is not asked at the moment."""
        if not self._breaker.lets_through():
            return None
        try:
            async with asyncio.timeout(self._options.seconds):
                library = self._ids.get(name) or await self._resolved(name, question)
                snippets = await self._service.snippets(library.id, question) if library else ()
        except TimeoutError:
            _log.warning("the documentation of %s was not there within %s seconds", name, self._options.seconds)
            self._breaker.failed()
            return None
        except LibraryDocsUnavailable as exc:
            _log.warning("the documentation of %s cannot be looked into: %s", name, exc)
            if exc.retry_after is None:
                self._breaker.failed()
            else:
                self._breaker.pause_for(min(exc.retry_after, _A_DAY))
            return None
        self._breaker.succeeded()
        return tuple(snippets)

    async def _resolved(self, name: str, question: str) -> Library | None:
        """The first library at the service that is really called so."""
        if name not in self._found:
            known = await self._service.libraries(name, question)
            self._found[name] = tuple(one for one in known if self._names.fits(name, one.title, one.id))[:1]
        return next(iter(self._found.get(name, ())), None)

    def _passage(self, library: str, snippet: Snippet, context: RequestContext) -> LibraryPassage:
        text = snippet.text
        if len(text) > self._options.characters:
            text = text[: self._options.characters].rpartition("\n")[0] or text[: self._options.characters]
        title = snippet.library or library
        return LibraryPassage(
            id=str(uuid.uuid5(_NAMESPACE, f"{snippet.url}\n{snippet.title}\n{text}")),
            path="",
            anchor="",
            title=title,
            heading_path=(title, snippet.title) if snippet.title else (title,),
            text=text,
            url=snippet.url,
            site=context.site or "",
            library=library,
        )


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"https", "http"} and bool(parts.hostname) and len(url) <= _ADDRESS
    except ValueError:
        return False
