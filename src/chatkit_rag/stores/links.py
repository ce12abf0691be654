"""Signed links to one file of one reader, for one purpose and a while: a credential for what cannot send another."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import jwt

from chatkit_rag.context import Principal, utc_now
from chatkit_rag.errors import ConfigurationError, Forbidden

Purpose = Literal["upload", "preview"]

_ALGORITHM = "HS256"
_SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class Link:
    """What a signature stands for."""

    attachment_id: str
    owner: Principal


class SignedLinks:
    """Makes and reads signatures. One for a purpose is worthless for another, and as a session token."""

    def __init__(self, secret: str, *, clock: Callable[[], datetime] = utc_now) -> None:
        """`secret`, of 32 bytes or more, may be that of the session tokens; all processes need the same."""
        if len(secret.encode()) < _SHORTEST_SECRET:
            raise ConfigurationError(f"the secret that signs links is too short: {_SHORTEST_SECRET} bytes are needed")
        self._secret = secret
        self._clock = clock

    def sign(self, purpose: Purpose, link: Link, *, lifetime: timedelta) -> str:
        """A signature that is good for `lifetime` from now."""
        claims = {
            "aud": _audience(purpose),
            "jti": link.attachment_id,
            "sub": link.owner.id,
            "tenant": link.owner.tenant,
            "exp": self._clock() + lifetime,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, purpose: Purpose, signature: str) -> Link:
        """What the signature stands for.

        Raises:
            Forbidden: it is not ours, not for this purpose, or too old.
        """
        try:
            claims = jwt.decode(
                signature,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_audience(purpose),
                # The time is compared below, by the clock that was passed in.
                options={"require": ["aud", "jti", "sub", "exp"], "verify_exp": False},
            )
        except jwt.InvalidTokenError as exc:
            raise Forbidden("the link is not valid") from exc
        if self._clock() >= datetime.fromtimestamp(claims["exp"], UTC):
            raise Forbidden("the link has expired")
        return Link(claims["jti"], Principal(claims["sub"], tenant=claims["tenant"]))


def _audience(purpose: Purpose) -> str:
    return f"chatkit-rag/{purpose}"
