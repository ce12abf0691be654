"""Who asks, from which page, in which language: what comes with every request.

Plain data. `auth` makes principals, `protocol.requests` reads page contexts from clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def utc_now() -> datetime:
    """The present moment, aware, in UTC: the one clock for everything that is stored or sent."""
    return datetime.now(UTC)  # noqa: TID251 - the place that the rule sends everybody to


@dataclass(frozen=True, slots=True)
class Principal:
    """A reader whose identity was verified, or who is anonymous and known by a signed token; never a mere claim."""

    id: str
    tenant: str = field(default="", kw_only=True)
    roles: tuple[str, ...] = field(default=(), kw_only=True)
    sites: tuple[str, ...] | None = field(default=None, kw_only=True)
    """The sites that they may ask about, and search; None for all."""
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any], kw_only=True)

    def __post_init__(self) -> None:
        if not self.id:
            msg = "a principal needs an id: without one, readers would share their threads"
            raise ValueError(msg)
        if not (_is_storable(self.id) and _is_storable(self.tenant)):
            msg = "a principal's id and tenant hold no NUL and no half of a surrogate pair: no database keeps those"
            raise ValueError(msg)

    @property
    def owner(self) -> tuple[str, str]:
        """`(tenant, id)`: the key that everything of theirs is stored under."""
        return (self.tenant, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """The page that the reader has in front of them, as their browser tells it: data, never instructions."""

    url: str = ""
    path: str = ""
    title: str = ""
    description: str = ""
    heading: str = ""
    headings: tuple[str, ...] = ()
    version: str = ""
    locale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What ChatKit calls the context: it goes through every operation, store call and hook of one request."""

    principal: Principal
    page: PageContext | None = None
    site: str | None = None
    request_id: str = ""
    base_url: str = ""
    """Where the client reached the chat's routes, by its own request; empty where that is not known."""
    profile: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the client says of the reader (`userInfo`): allowed fields only. A claim, never an identity."""
    languages: tuple[str, ...] = ()
    """What the reader reads, best first, as tags (`de-CH`): their browser's `Accept-Language`. A claim, too."""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the client sent as the request's `metadata`, limited in size and otherwise unchecked."""
    idempotency_key: str = ""
    """What the client calls this request, so that sending it again does not do it again."""
    began: datetime = field(default_factory=utc_now, repr=False, compare=False)
    """When the request came. What it would store is refused where its reader was deleted since."""
    turn: object = field(default=None, repr=False, compare=False)
    """What the turn engine keeps with a turn, for the store that hooks see. Nothing else reads it."""

    @property
    def owner(self) -> tuple[str, str]:
        """`(tenant, id)` of the principal."""
        return self.principal.owner


def _is_storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))
