"""`POST /session`: a short-lived token for a browser."""

from starlette.requests import Request
from starlette.responses import Response

from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.limits import read_json_body
from chatkit_rag.asgi.problems import json_response
from chatkit_rag.auth import SessionTokens
from chatkit_rag.errors import InvalidRequest, Unauthenticated
from chatkit_rag.protocol.requests import read_object


class SessionRoute:
    """Hands out tokens: for whom the site has signed in, for the same reader again, or for a new anonymous one."""

    def __init__(
        self, sessions: SessionTokens, identification: Identification, *, allow_anonymous: bool, body_bytes: int
    ) -> None:
        self._sessions = sessions
        self._identification = identification
        self._allow_anonymous = allow_anonymous
        self._body_bytes = body_bytes

    async def answer(self, request: Request) -> Response:
        """`{"existing": "…"?}` -> `{"client_secret", "expires_at"}`."""
        existing = _existing(await read_json_body(request, limit=self._body_bytes))
        if principal := await self._identification.signed_in(request):
            session = self._sessions.issue(principal)
        elif existing is not None:
            session = self._sessions.issue(self._sessions.verify_refreshable(existing))
        elif self._allow_anonymous:
            session = self._sessions.issue_anonymous()
        else:
            raise Unauthenticated("this site does not take anonymous readers: sign in first")
        return json_response({"client_secret": session.client_secret, "expires_at": session.expires_at})


def _existing(body: bytes) -> str | None:
    existing = read_object(body or b"{}").get("existing")
    if existing is not None and not isinstance(existing, str):
        raise InvalidRequest("`existing` must be a token", details={"field": "existing"})
    return existing
