"""Entries in Redis that are never older than what was acknowledged; `CachedStore` says what that means.

An owner's entries are one hash, with a token that whoever would add to it must know: so taking the hash away takes
along what was kept, and what is about to be kept by those who read before. ("Leases" in "Scaling Memcache at Facebook",
NSDI 2013, section 3.2.1.)
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from chatkit.store import NotFoundError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError

from chatkit_rag.errors import ConfigurationError, RequestError, StoreUnavailable
from chatkit_rag.stores.cached_scripts import CHANGE, KEEP, LOOK

_CONNECTIONS = 32
_WRITE_SECONDS = 1.0
"""How long a write waits for a Redis that answered before: what it cannot tell is old for others."""
_CLOSED_SECONDS = 60
"""How long nothing is kept of an owner whose writer has not come back: longer than a store takes for any write."""
_BETWEEN_TRIES = 0.25
_ENTRIES = 64
"""Of one owner."""
_DEBTS = 1000
"""Of one process; where there are more, everything is forgotten instead."""
_FORMAT = 1
"""Of entries: another number for records that are written in another way."""

_log = logging.getLogger(__name__)


class CacheAway(StoreUnavailable):
    """The cache did not answer, or refused."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is forgotten together."""

    entries: str
    """The key of the entries."""
    writers: str
    """The key of those who are changing what the entries are of."""


class Entries:
    """What `CachedStore` keeps; see there for the arguments. Only `ping` raises: a cache may always be away."""

    def __init__(self, redis: str | Redis, *, prefix: str, ttl: float, entry_bytes: int, patience: float) -> None:
        self._ours = isinstance(redis, str)
        self._redis = _client(redis) if isinstance(redis, str) else redis
        # In braces: a Redis cluster keeps these keys on one node, where scripts reach them all.
        self._prefix = f"{{{prefix}}}"
        self._milliseconds = max(1, round(ttl * 1000))
        self._entry_bytes = entry_bytes
        self._patience = patience
        self._look = self._redis.register_script(LOOK)
        self._keep = self._redis.register_script(KEEP)
        self._change = self._redis.register_script(CHANGE)
        self.everything = Place(f"{self._prefix}:epoch", f"{self._prefix}:writers")
        """All entries of all owners."""
        self._probe = Place(f"{self._prefix}:probe", f"{self._prefix}:probe:writers")
        self._debts: dict[str, Place] = {}
        """By writer: what was changed and could not be told."""
        self._mending: asyncio.Task[None] | None = None
        """Runs while Redis is not asked for anything that is kept."""

    def of(self, owner: tuple[str, str]) -> Place:
        """The place of an owner's entries."""
        # A hash of what cannot be read in two ways: no name meets another's key, nor stands in Redis for all to read.
        name = _digest(owner)
        return Place(f"{self._prefix}:entries:{name}", f"{self._prefix}:writers:{name}")

    async def open(self) -> None:
        """Looks whether Redis is there, and says so in the log where it is not."""
        with suppress(CacheAway):
            await self.ping()

    async def close(self) -> None:
        """Tells Redis what it was not told, where it can be reached now, and closes the connections that are ours."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait({self._mending})
            self._mending = None
            with suppress(Exception):
                await self._settle()
        if self._ours:
            await self._redis.aclose()

    async def ping(self) -> None:
        """Returns where entries are read and kept. Raises CacheAway."""
        if self._mending is not None:
            raise CacheAway("Redis did not answer, and is tried again in a moment")
        await self._ask(self._look, self._probe, "", uuid4().hex, self._milliseconds)

    async def look(self, place: Place, name: Sequence[str | int]) -> tuple[bytes | str | None, str | None]:
        """What is kept under the name; else, where something may be, the token to keep it with."""
        if self._mending is not None:
            return None, None
        try:
            kept, token = await self._ask(self._look, place, _digest((_FORMAT, *name)), uuid4().hex, self._milliseconds)
        except CacheAway:
            return None, None
        return kept, token

    async def keep(self, place: Place, name: Sequence[str | int], token: str, value: bytes) -> None:
        """Keeps what was read after the token was given, if nothing has changed since."""
        if self._mending is None and len(value) <= self._entry_bytes:
            with suppress(CacheAway):
                await self._ask(self._keep, place, _digest((_FORMAT, *name)), token, value, _ENTRIES)

    @asynccontextmanager
    async def changing(self, place: Place) -> AsyncGenerator[None]:
        """Within it, what the entries are of may change: nothing older is found in them afterwards."""
        writer = uuid4().hex
        if self._mending is None:  # else it is told once, afterwards: that is what counts
            with suppress(CacheAway):
                await self._ask(self._change, place, writer, _CLOSED_SECONDS, patience=_WRITE_SECONDS)
        # Whoever cannot say whether a change was made leaves the place closed: it may still be made.
        closed = _CLOSED_SECONDS
        try:
            yield
            closed = 0
        except (RequestError, NotFoundError):
            closed = 0
            raise
        finally:
            patience = _WRITE_SECONDS if self._mending is None else None
            try:
                await self._ask(self._change, place, writer, closed, patience=patience)
            except BaseException as exc:
                self._owe(writer, place, exc)
                if not isinstance(exc, CacheAway):
                    raise

    async def _ask(self, script: Any, place: Place, *arguments: Any, patience: float | None = None) -> Any:
        keys = [self.everything.entries, self.everything.writers, place.entries, place.writers]
        try:
            async with asyncio.timeout(patience or self._patience):
                return await script(keys=keys, args=arguments)
        except OutOfMemoryError:
            return None, None  # full: what is there can be read, and forgotten
        except Exception as exc:
            # Whatever goes wrong with a cache, the store has the answer.
            self._leave_alone(exc)
            raise CacheAway(f"Redis does not answer: {_reason(exc)}") from exc

    def _owe(self, writer: str, place: Place, reason: BaseException) -> None:
        if len(self._debts) >= _DEBTS:
            self._debts = {"": self.everything}
        self._debts[writer] = place
        self._leave_alone(reason)

    def _leave_alone(self, reason: BaseException) -> None:
        """Asks for nothing that is kept from now on, until Redis works and was told everything."""
        if self._mending is None:
            _log.warning("Redis does not answer (%s): threads are read from the store alone for now", _reason(reason))
            self._mending = asyncio.ensure_future(self._mend())

    async def _mend(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN_TRIES)
            # Anything at all: it is tried again, and the log has said why.
            with suppress(Exception):
                await self._settle()
                if not self._debts:
                    break
        _log.warning("Redis answers again")
        self._mending = None

    async def _settle(self) -> None:
        """Makes Redis forget what was changed, and tries whether it can be used. Raises whatever goes wrong."""
        debts = dict(self._debts)
        async with asyncio.timeout(max(self._patience, _BETWEEN_TRIES)):
            if debts:
                await self._redis.delete(*{place.entries for place in debts.values()})
            keys = [self.everything.entries, self.everything.writers, self._probe.entries, self._probe.writers]
            with suppress(OutOfMemoryError):
                await self._look(keys=keys, args=["", uuid4().hex, self._milliseconds])
        for writer in debts:
            self._debts.pop(writer, None)


def _client(url: str) -> Redis:
    try:
        pool = BlockingConnectionPool.from_url(  # type: ignore[no-untyped-call] - it leaves its options untyped
            url,
            max_connections=_CONNECTIONS,
            timeout=None,  # waited for as long as for everything else together
            retry=Retry(NoBackoff(), 1),  # a connection that was kept may be closed: a new one is tried
        )
    except ValueError as exc:
        raise ConfigurationError(
            "the address of Redis cannot be used: it looks like redis://:password@host:6379/0"
        ) from exc
    return Redis.from_pool(pool)


def _digest(parts: Sequence[str | int]) -> str:
    # The standard library's JSON: it escapes what is no text, half of a surrogate pair for one.
    return sha256(json.dumps(parts).encode()).hexdigest()


def _reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
