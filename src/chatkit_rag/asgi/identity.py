"""Who asks: the host's own word, a session token, or the reader at this very machine."""

import inspect
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from chatkit_rag.auth import Authenticate, SessionTokens, bearer_token
from chatkit_rag.context import Principal
from chatkit_rag.errors import Unauthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """The ways in which a reader can be known, in order."""

    authenticate: Authenticate
    sessions: SessionTokens | None = None
    local_reader: bool = False
    """Whether a request without credentials is the reader `local`: for an app that only its own machine can reach."""

    async def reader(self, connection: HTTPConnection) -> Principal:
        """Who asks. Raises Unauthenticated."""
        if principal := await self.signed_in(connection):
            return principal
        if self.local_reader:
            return Principal("local")
        raise Unauthenticated("sign in, or get a token from the session route first")

    async def signed_in(self, connection: HTTPConnection) -> Principal | None:
        """Who asks, by what they show; None where they show nothing.

        Raises:
            Unauthenticated: they show a token, and it is not valid.
        """
        token = bearer_token(connection)
        principal = self.authenticate(connection)
        if inspect.isawaitable(principal):
            principal = await principal
        if principal is None and token is not None:
            if self.sessions is None:
                raise Unauthenticated("the token is not valid")
            return self.sessions.verify(token)
        return principal
