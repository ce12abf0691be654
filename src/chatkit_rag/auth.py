"""Who asks: a request in, a `Principal` out. An identity is verified or anonymous, never merely claimed."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from starlette.requests import HTTPConnection

from chatkit_rag.context import Principal, utc_now
from chatkit_rag.errors import ConfigurationError, Unauthenticated

Authenticate = Callable[[HTTPConnection], Principal | Awaitable[Principal | None] | None]
"""What a site gives: None means that nobody was recognised."""

_ALGORITHM = "HS256"
_AUDIENCE = "chatkit-rag/session"
_SHORTEST_SECRET = 32


def nobody(_connection: HTTPConnection) -> None:
    """Recognises no one: every reader is anonymous, or comes with a session token."""


@dataclass(frozen=True, slots=True)
class Session:
    """A token for a browser, and when it ends."""

    client_secret: str
    expires_at: datetime


class SessionTokens:
    """Signed, short-lived tokens that tell anonymous readers apart. Nothing of them is stored.

    A token is good for `lifetime`; an expired one can be exchanged for a new one of the same reader for `refreshable`.
    """

    def __init__(
        self,
        secret: str,
        *,
        lifetime: timedelta = timedelta(minutes=15),
        refreshable: timedelta = timedelta(days=30),
    ) -> None:
        """`secret` signs the tokens: all processes of an installation need the same, of 32 bytes or more."""
        if len(secret.encode()) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"the session secret is too short: {_SHORTEST_SECRET} bytes or more are needed "
                "(python -c 'import secrets; print(secrets.token_urlsafe(48))')"
            )
        self._secret = secret
        self._lifetime = lifetime
        self._refreshable = refreshable

    def issue(self, principal: Principal, *, now: datetime | None = None) -> Session:
        """A new token for `principal`."""
        issued_at = (now or utc_now()).replace(microsecond=0)
        expires_at = issued_at + self._lifetime
        claims = {
            "aud": _AUDIENCE,
            "sub": principal.id,
            "tenant": principal.tenant,
            "iat": issued_at,
            "exp": expires_at,
        }
        return Session(jwt.encode(claims, self._secret, algorithm=_ALGORITHM), expires_at)

    def issue_anonymous(self, *, now: datetime | None = None) -> Session:
        """A token for a reader who was never here before."""
        return self.issue(Principal(f"anon_{secrets.token_hex(16)}"), now=now)

    def verify(self, token: str) -> Principal:
        """The reader that the token was issued to. Raises Unauthenticated."""
        return self._principal(token, leeway=timedelta(0))

    def verify_refreshable(self, token: str) -> Principal:
        """As `verify`, also for a token that expired a while ago. Raises Unauthenticated."""
        return self._principal(token, leeway=self._refreshable)

    def _principal(self, token: str, *, leeway: timedelta) -> Principal:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["aud", "sub", "iat", "exp"], "verify_exp": False},
            )
            expires_at = datetime.fromtimestamp(claims["exp"], UTC)
            subject, tenant = claims["sub"], claims.get("tenant", "")
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as exc:
            raise Unauthenticated("the token is not valid") from exc
        if utc_now() >= expires_at + leeway:
            raise Unauthenticated("the token has expired")
        if not (isinstance(subject, str) and subject and isinstance(tenant, str)):
            raise Unauthenticated("the token is not valid")
        return Principal(subject, tenant=tenant)


def bearer_token(connection: HTTPConnection) -> str | None:
    """The token of the `Authorization` header; None without the header.

    Raises:
        Unauthenticated: the header is there, and is not `Bearer` with a token.
    """
    header = connection.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header must be `Bearer` and a token")
    return token.strip()
