"""Plain JSON routes beside the ChatKit protocol."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.limits import read_json_body
from chatkit_rag.asgi.problems import json_response
from chatkit_rag.context import RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.protocol.requests import read_object, site_of
from chatkit_rag.server import RagChatServer

QUERY_CHARACTERS = 1_000


class SearchRoute:
    """`GET /search?q=&limit=&site=` and `POST /search`: the passages that a question finds."""

    def __init__(self, server: RagChatServer, identification: Identification, *, body_bytes: int) -> None:
        self._server = server
        self._identification = identification
        self._body_bytes = body_bytes

    async def answer(self, request: Request) -> Response:
        """See `Retrieved.to_json`."""
        principal = await self._identification.reader(request)
        asked: Mapping[str, Any] = request.query_params
        if request.method == "POST":
            asked = read_object(await read_json_body(request, limit=self._body_bytes))
        query = asked.get("q", asked.get("query"))
        if not isinstance(query, str) or not query.strip() or "\0" in query:
            raise InvalidRequest("`q` must say what to search for", details={"field": "q"})
        if len(query) > QUERY_CHARACTERS:
            raise InvalidRequest("`q` is too long", details={"field": "q", "limit": QUERY_CHARACTERS})
        context = RequestContext(principal=principal, site=site_of(asked.get("site"), principal))
        found = await self._server.sources[0].search(query, context, limit=_limit(asked.get("limit")))
        return json_response(found.to_json(query))


def _limit(asked: Any) -> int:
    """The number of hits: 5 unless asked, 1..100 whatever is asked."""
    if asked is None:
        return 5
    if isinstance(asked, int | str) and not isinstance(asked, bool):
        with suppress(ValueError):
            return max(1, min(int(asked), 100))
    raise InvalidRequest("`limit` must be a whole number", details={"field": "limit"})
