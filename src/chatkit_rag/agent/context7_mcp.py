"""Context7 over its MCP server. It answers in text for models, which is read back into libraries and snippets here.

Trouble is told in words where a result is expected, so what does not have a result's form is none.
"""

import re

from chatkit_rag.agent.mcp_servers import McpConnection, McpUnavailable
from chatkit_rag.errors import LibraryDocsUnavailable
from chatkit_rag.sources.context7 import page_of
from chatkit_rag.sources.library_docs import Library, Snippet

CONTEXT7_MCP = "https://mcp.context7.com/mcp"

_RESOLVE = "resolve-library-id"
_QUERY = "query-docs"
_QUERY_BEFORE = "get-library-docs"
"""What the tool was called, with other arguments, in the first major version of Context7's server."""

_LIBRARY = re.compile(r"^- Title: (?P<title>.+)\n- Context7-compatible library ID: (?P<id>/\S+)$", re.MULTILINE)
_SNIPPET = re.compile(r"^#{2,3} (?P<title>.+)\n+Source: *(?P<url>\S+) *$", re.MULTILINE | re.IGNORECASE)
_RULE = re.compile(r"(?:^(?:[-=]{3,}|[A-Z ]{3,})\s*)+\Z", re.MULTILINE)
"""What stands between snippets."""
_REFUSAL = re.compile(r"rate limit|quota|api key|unauthorized", re.IGNORECASE)
_REFUSAL_SECONDS = 60.0
_CHARACTERS = 1024 * 1024


class Context7Mcp:
    """A `LibraryDocs` service over MCP. Its questions follow one another on one connection."""

    def __init__(
        self, *, api_key: str = "", url: str = CONTEXT7_MCP, connect_seconds: float = 3.0, retry_seconds: float = 30.0
    ) -> None:
        """Context7's MCP server at `url`. Without a key, it answers a few questions only."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._server = McpConnection(url, headers=headers, seconds=connect_seconds, retry_seconds=retry_seconds)

    async def libraries(self, name: str, question: str) -> list[Library]:
        """See `LibraryDocs.libraries`."""
        text = await self._text(_RESOLVE, libraryName=name, query=question)
        found = [Library(id=one["id"], title=one["title"]) for one in _LIBRARY.finditer(text)]
        if not found:
            _raise_where_refused(text)
        return found

    async def snippets(self, library_id: str, question: str) -> list[Snippet]:
        """See `LibraryDocs.snippets`."""
        if any(tool.name == _QUERY for tool in self._server.tools) or not self._server.tools:
            text = await self._text(_QUERY, libraryId=library_id, query=question)
        else:
            text = await self._text(_QUERY_BEFORE, context7CompatibleLibraryID=library_id, topic=question)
        begins = list(_SNIPPET.finditer(text))
        ends = [*(begin.start() for begin in begins[1:]), len(text)]
        found = [
            Snippet(
                title=begin["title"].strip(),
                text=_RULE.sub("", text[begin.end() : end]).strip(),
                url=begin["url"] if "://" in begin["url"] else page_of(library_id),
            )
            for begin, end in zip(begins, ends, strict=True)
        ]
        if not found:
            _raise_where_refused(text)
        return [one for one in found if one.text]

    async def open(self) -> None:
        """Connects, if the server is there."""
        await self._server.open()

    async def close(self) -> None:
        """Takes the connection down."""
        await self._server.close()

    async def _text(self, tool: str, **arguments: str) -> str:
        try:
            return (await self._server.call(tool, arguments))[:_CHARACTERS]
        except McpUnavailable as exc:
            raise LibraryDocsUnavailable(str(exc)) from exc


def _raise_where_refused(text: str) -> None:
    if _REFUSAL.search(text[:500]):
        raise LibraryDocsUnavailable("Context7 refused: a quota or a key", retry_after=_REFUSAL_SECONDS)
