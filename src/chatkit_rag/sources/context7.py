"""Context7, which has read the documentation of many libraries, over its HTTP interface.

Its address is a setting, never a reader's; nothing is followed from there, and an answer has a bound. What is sent is
the reader's question and the library's name or id.
"""

import logging
from itertools import chain, zip_longest
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from chatkit_rag.errors import LibraryDocsUnavailable
from chatkit_rag.sources.library_docs import Library, Snippet

CONTEXT7 = "https://context7.com/api"

_log = logging.getLogger(__name__)

_UNKNOWN = {202, 301, 308, 404, 422}
"""The library is not there: not read yet, moved, never heard of, or without any documentation."""
_REFUSED = {401, 402, 403}
"""The key is wrong, or what may be spent is spent: it is of no use to ask again soon."""
_REFUSED_SECONDS = 600.0
_QUOTA_SECONDS = 60.0
"""How long a quota lasts whose end is not told."""
_ANSWER_BYTES = 1024 * 1024
_SEARCH = "/v2/libs/search"
_CONTEXT = "/v2/context"


class _Read(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Library(_Read):
    id: str
    title: str = ""


class _Libraries(_Read):
    results: list[_Library] = []


class _Code(_Read):
    language: str = ""
    code: str = ""


class _CodeSnippet(_Read):
    code_title: str = ""
    code_description: str = ""
    code_id: str = ""
    code_list: list[_Code] = []


class _InfoSnippet(_Read):
    page_id: str | None = None
    breadcrumb: str | None = None
    content: str = ""


class _Snippets(_Read):
    code_snippets: list[_CodeSnippet] = []
    info_snippets: list[_InfoSnippet] = []


Shape = TypeVar("Shape", bound=_Read)


class Context7:
    """A `LibraryDocs` service. Made without IO; the connection is opened by the first question."""

    def __init__(self, *, api_key: str = "", url: str = CONTEXT7) -> None:
        """Context7 at `url`. Without a key, it answers a few questions only."""
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def libraries(self, name: str, question: str) -> list[Library]:
        """See `LibraryDocs.libraries`."""
        read = await self._get(_SEARCH, _Libraries, libraryName=name, query=question)
        return [Library(id=one.id, title=one.title) for one in read.results] if read else []

    async def snippets(self, library_id: str, question: str) -> list[Snippet]:
        """See `LibraryDocs.snippets`. What is explained and what is shown in code take turns, each best first."""
        read = await self._get(_CONTEXT, _Snippets, libraryId=library_id, query=question, type="json")
        if read is None:
            return []
        explained = [
            Snippet(title=one.breadcrumb or "", text=one.content.strip(), url=one.page_id or page_of(library_id))
            for one in read.info_snippets
        ]
        shown = [
            Snippet(title=one.code_title, text=_text_of(one), url=one.code_id or page_of(library_id))
            for one in read.code_snippets
        ]
        return [one for one in chain(*zip_longest(explained, shown)) if one is not None and one.text]

    async def open(self) -> None:
        """Does nothing: the first question connects."""

    async def close(self) -> None:
        """Closes the connection; a later question opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, path: str, shape: type[Shape], **query: str) -> Shape | None:
        """What is at `path`; None where the library is not known."""
        try:
            async with self._connected().get(self._url + path, params=query, allow_redirects=False) as response:
                body = await _read(response)
        except TimeoutError as exc:
            raise LibraryDocsUnavailable("Context7 did not answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise LibraryDocsUnavailable(f"Context7 cannot be reached: {type(exc).__name__}") from exc
        if response.status in _UNKNOWN:
            library = query.get("libraryId") or query["libraryName"]
            _log.warning("Context7 has nothing on %s: status %s", library, response.status)
            return None
        if response.status != 200:
            raise LibraryDocsUnavailable(
                f"Context7 answered {response.status}", retry_after=_pause_after(response.status, response.headers)
            )
        try:
            return shape.model_validate_json(body)
        except ValidationError as exc:
            raise LibraryDocsUnavailable("Context7 does not answer as it is documented: check its address") from exc

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._session = aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def page_of(library_id: str) -> str:
    """Where people read what Context7 has of a library."""
    return f"https://context7.com{library_id}"


def _text_of(snippet: _CodeSnippet) -> str:
    blocks = [f"```{one.language}\n{one.code.strip()}\n```" for one in snippet.code_list if one.code.strip()]
    return "\n\n".join([snippet.code_description.strip(), *blocks] if snippet.code_description.strip() else blocks)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _ANSWER_BYTES:
            raise LibraryDocsUnavailable(f"Context7 answered more than {_ANSWER_BYTES} bytes")
    return bytes(body)


def _pause_after(status: int, headers: Any) -> float | None:
    """For how long it is of no use to ask again; None where the next time may be different."""
    if status in _REFUSED:
        return _REFUSED_SECONDS
    if status != 429:
        return None
    try:
        return max(1.0, float(headers.get("Retry-After", "")))
    except ValueError:  # a date, or nothing
        return _QUOTA_SECONDS
