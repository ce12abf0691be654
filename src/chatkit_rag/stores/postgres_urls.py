"""URLs of Postgres as hosters hand them out, made into what a driver takes. No text here repeats a password."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from chatkit_rag.errors import ConfigurationError

Driver = Literal["asyncpg", "psycopg"]

_DRIVERS: dict[str, Driver] = {
    "postgres": "asyncpg",
    "postgresql": "asyncpg",
    "postgresql+asyncpg": "asyncpg",
    "postgresql+psycopg": "psycopg",
}
# What other tools put into such URLs, and no Postgres driver knows.
_OF_OTHER_TOOLS = {"pgbouncer", "connection_limit", "pool_timeout", "schema", "statement_cache_size"}
# What libpq takes, and asyncpg would hand to the server as a setting of the session, which that refuses.
_LIBPQ_ONLY = {
    "channel_binding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "require_auth",
    "requirepeer",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
}
# Neon's and Supabase's poolers, by their addresses.
_POOLER = re.compile(r"-pooler\.|\bpooler\.supabase\.com\b")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is."""

    driver: Driver
    dsn: str = field(repr=False)
    """What the driver connects to; holds the password."""
    pooled: bool
    """Whether a pooler hands each transaction to another connection."""
    label: str
    """Host and database, for people."""


def read_url(url: str, *, setting: str = "DATABASE_URL") -> Address:
    """The address that a URL names; `setting` is where somebody wrote it.

    Raises:
        ConfigurationError: it is none of Postgres, or cannot be read.
    """
    scheme, separator, rest = url.strip().partition("://")
    driver = _DRIVERS.get(scheme.lower()) if separator else None
    if driver is None:
        known = ", ".join(f"{name}://" for name in _DRIVERS)
        named = f"begins with {scheme}://" if separator else "has no scheme"
        also = " or sqlite:///" if setting == "DATABASE_URL" else ""
        raise ConfigurationError(f"{setting} {named}, which is no database that can be used there: use {known}{also}")
    place, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    pooled = options.get("pgbouncer", "").lower() in {"true", "1", "yes"}
    kept = {name: value for name, value in options.items() if name not in _OF_OTHER_TOOLS}
    if "ssl" in kept:  # as SQLAlchemy's users of asyncpg write it
        kept["sslmode"] = kept.pop("ssl")
    if driver == "asyncpg":
        kept = {name: value for name, value in kept.items() if name not in _LIBPQ_ONLY}
    dsn = f"postgresql://{place}" + (f"?{urlencode(kept)}" if kept else "")
    host = place.rpartition("@")[2]
    _check(dsn, query, setting)
    label = host if not host.startswith("/") else f"{kept.get('host', 'localhost')}{host}"
    return Address(driver, dsn, pooled or bool(_POOLER.search(host)), label)


def check_schema_name(name: str) -> str:
    """`name`, which may stand in statements.

    Raises:
        ConfigurationError: it is not a plain name.
    """
    if not _NAME.fullmatch(name) or name.startswith("pg_"):
        raise ConfigurationError(
            f"the schema {name!r} cannot be used: a name is of a-z, 0-9 and _, begins with no digit and not with pg_, "
            "and has up to 63 characters"
        )
    return name


def _check(dsn: str, query: str, setting: str) -> None:
    try:
        parts = urlsplit(dsn)
        ports = re.findall(r":([^:,\]]+)(?=,|$)", parts.netloc.rpartition("@")[2])
        # An `@` further back: what stands before it was meant to be the password.
        readable = all(port.isdigit() for port in ports) and not parts.fragment and "@" not in parts.path + query
    except ValueError:
        readable = False
    if not readable:
        # Without the error's own text: it would quote what stands where the port should be, part of a password perhaps.
        raise ConfigurationError(
            f"{setting} cannot be read: write characters like # / ? @ : in user and password as %23 %2F %3F %40 %3A"
        ) from None
