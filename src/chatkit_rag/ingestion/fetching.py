"""Fetching from one site, with care: what is asked for comes from pages that others wrote.

A host's name is resolved by us, all its addresses are checked, and the connection is made to one of those, under the
host's own name (Host, SNI, certificate). Redirects are followed by us, five at most, each one checked again. Bytes are
bounded before and after they are unpacked, and so is time. No cookies, no proxy, no credentials.
"""

import asyncio
import math
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import anyio

from chatkit_rag.ingestion.addresses import Address, BadAddress, Origin, read_address, refusal, target_of
from chatkit_rag.ingestion.folders import MOST_BYTES, too_large
from chatkit_rag.ingestion.resolving import CheckedResolver, Resolve, is_not_resolved, refusal_behind, system_resolve

USER_AGENT = "chatkit-rag"
"""What sites know us by; `robots.txt` may say something to it."""

_REDIRECTS = (301, 302, 303, 307, 308)
_UNCHANGED = 304
_TRY_AGAIN = (429, 502, 503, 504)
_RATIO_COUNTS_FROM = 1_000_000
_UNPACK_AT_ONCE = 65_536
_WORDS = 200
"""Characters of what is told of an answer that is none."""


class FetchFailed(Exception):
    """Something could not be fetched; the message completes "… was left out: "."""

    def __init__(self, reason: str, *, status: int = 0, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        """What the server answered; 0 where there was no answer."""
        self.unanswered = unanswered
        """Whether the server was asked again and again, and was away or busy each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How a site is fetched; times in seconds."""

    allow_private: bool = False
    """Whether private and loopback addresses may be connected to."""
    redirects: int = 5
    connect_seconds: float = 10.0
    total_seconds: float = 30.0
    """One request, from the first byte of the name's resolution to the last of the answer."""
    page_bytes: int = MOST_BYTES
    """The largest page, packed and unpacked."""
    ratio: int = 100
    """How many times larger than sent an answer of more than 1 MB may become."""
    attempts: int = 3
    """Requests in all, where the server is busy or does not answer."""
    retry_wait_seconds: float = 1.0
    """The wait before the second attempt, doubled for each further one."""
    longest_wait_seconds: float = 60.0
    """The longest wait that a server's Retry-After or Crawl-delay is granted."""
    requests_per_second: float = 10.0
    """What is asked for at most, where the site does not ask for less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a server sent."""

    url: str
    """Where it was found, after redirects."""
    data: bytes
    """Unpacked; empty where it has not changed."""
    content_type: str = ""
    charset: str = ""
    etag: str = ""
    last_modified: str = ""
    unchanged: bool = False
    """Whether it is what the caller has already."""


class SiteFetcher:
    """Fetches from the origin of one URL, and from nowhere else."""

    def __init__(self, url: str, *, options: FetchOptions | None = None, resolve: Resolve | None = None) -> None:
        """Takes the origin of `url` as the site's own.

        Raises:
            BadAddress: `url` is none that may be fetched.
        """
        self.origin = read_address(url).origin
        self._options = options or FetchOptions()
        self._resolver = CheckedResolver(resolve or system_resolve, allow_private=self._options.allow_private)
        self._session: aiohttp.ClientSession | None = None
        self._next = -math.inf
        self._turn = anyio.Lock()
        self.pause_seconds = 1 / self._options.requests_per_second
        """Between the beginnings of two requests."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, limit=8),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "User-Agent": USER_AGENT,
                "Accept-Encoding": "gzip",
                "Accept": "text/html, application/xml, */*;q=0.1",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_seconds),
        )
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def belongs(self, url: str) -> bool:
        """Whether the URL lies on the site."""
        try:
            return _same_site(read_address(url).origin, self.origin)
        except BadAddress:
            return False

    async def fetch(
        self, url: str, *, etag: str = "", last_modified: str = "", most_bytes: int | None = None
    ) -> Fetched:
        """What is at `url`, unless it is what `etag` or `last_modified` names.

        Raises:
            BadAddress: it, or what it redirects to, is not on the site, or its host has an address that is refused.
            FetchFailed: it is not there, too large, or could not be read in time.
        """
        wait = self._options.retry_wait_seconds
        for attempt in range(1, self._options.attempts + 1):
            try:
                return await self._follow(url, _conditions(etag, last_modified), most_bytes or self._options.page_bytes)
            except _Busy as busy:
                if attempt == self._options.attempts or busy.wait > self._options.longest_wait_seconds:
                    raise FetchFailed(str(busy), status=busy.status, unanswered=True) from busy
                await anyio.sleep(max(wait, busy.wait))
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                if refused := refusal_behind(error):
                    raise refused from error
                if attempt == self._options.attempts:
                    raise FetchFailed(_said(error, self._options.total_seconds), unanswered=True) from error
                await anyio.sleep(wait)
            wait *= 2
        raise AssertionError("at least one attempt is made")

    async def _follow(self, url: str, conditions: Mapping[str, str], most_bytes: int) -> Fetched:
        seen: set[str] = set()
        address = self._checked(url)
        while True:
            if address.url in seen:
                raise FetchFailed("it redirects in a circle")
            if len(seen) > self._options.redirects:
                raise FetchFailed(f"it redirects more than {self._options.redirects} times")
            seen.add(address.url)
            target = await self._request(address, conditions, most_bytes)
            if isinstance(target, Fetched):
                return target
            address = self._checked(target_of(address.url, target), is_target=True)

    def _checked(self, url: str, *, is_target: bool = False) -> Address:
        address = read_address(url)
        what = f"it redirects to {address.url}, which" if is_target else "it"
        if not _same_site(address.origin, self.origin):
            raise BadAddress(f"{what} is not on {Address(self.origin, '', '').url}")
        if address.origin.scheme == "http" and self.origin.scheme == "https":
            raise BadAddress(f"{what} leads from https to http")
        return address

    async def _request(self, address: Address, conditions: Mapping[str, str], most_bytes: int) -> Fetched | str:
        """The answer, or where it redirects to."""
        if self._session is None:
            raise RuntimeError("`async with` begins a session")
        host = address.origin.host
        if is_not_resolved(host) and (reason := refusal(host, allow_private=self._options.allow_private)):
            raise BadAddress(f"the address {host} {reason}")
        await self._wait_for_turn()
        async with (
            asyncio.timeout(self._options.total_seconds),
            self._session.get(address.url, headers=conditions, allow_redirects=False) as answer,
        ):
            if answer.status in _REDIRECTS:
                if target := answer.headers.get("Location", ""):
                    return target
                raise FetchFailed("it redirects to nowhere", status=answer.status)
            if answer.status in _TRY_AGAIN:
                raise _Busy(answer.status, _header(answer, "Retry-After"))
            if answer.status == _UNCHANGED and conditions:
                return Fetched(url=address.url, data=b"", unchanged=True)
            if answer.status != 200:
                reason = _as_text(answer.reason or "")
                raise FetchFailed(f"the server answers {answer.status} ({reason})", status=answer.status)
            data = await _body(answer, most_bytes, self._options.ratio)
            return Fetched(
                url=address.url,
                data=data,
                content_type=_as_text(answer.content_type),
                charset=answer.charset or "",
                etag=_header(answer, "ETag"),
                last_modified=_header(answer, "Last-Modified"),
            )

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            now = anyio.current_time()
            if self._next > now:
                await anyio.sleep(self._next - now)
            self._next = max(now, self._next) + self.pause_seconds


class _Busy(Exception):
    """The server asks to come again later."""

    def __init__(self, status: int, retry_after: str) -> None:
        super().__init__(f"the server is busy: it answers {status}")
        self.status = status
        self.wait = float(retry_after) if retry_after.isdecimal() else 0.0


def _header(answer: aiohttp.ClientResponse, name: str) -> str:
    return _as_text(answer.headers.get(name, ""))


def _as_text(sent: str) -> str:
    """What a server sent in front of its answer, where bytes that are no UTF-8 come as halves of surrogate pairs."""
    return sent.encode(errors="replace").decode()


async def _body(answer: aiohttp.ClientResponse, most_bytes: int, ratio: int) -> bytes:
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", ""):
        raise FetchFailed(f"it is packed in a way that was not asked for: {packing}")
    sent = bytearray()
    async for chunk in answer.content.iter_chunked(_UNPACK_AT_ONCE):
        sent += chunk
        if len(sent) > most_bytes:
            raise FetchFailed(too_large(most_bytes))
    return unpack(bytes(sent), most_bytes=most_bytes, ratio=ratio) if "gzip" in packing else bytes(sent)


def unpack(data: bytes, *, most_bytes: int, ratio: int = 100) -> bytes:
    """What gzip has packed, within bounds.

    Raises:
        FetchFailed: it is no gzip, or becomes larger than `most_bytes`, or than `ratio` times what it was.
    """
    unpacked = bytearray()
    waiting = data
    try:
        while waiting:  # a file may hold several streams, one after the other
            stream = zlib.decompressobj(wbits=31)
            while waiting and not stream.eof:
                unpacked += stream.decompress(waiting, _UNPACK_AT_ONCE)
                waiting = stream.unconsumed_tail
                if len(unpacked) > most_bytes:
                    raise FetchFailed(too_large(most_bytes) + " (unpacked)")
                if len(unpacked) > _RATIO_COUNTS_FROM and len(unpacked) > ratio * len(data):
                    raise FetchFailed(f"it unpacks to more than {ratio} times its size")
            if not stream.eof:
                raise FetchFailed("it is cut off: the gzip stream has no end")
            waiting = stream.unused_data
    except zlib.error as error:
        raise FetchFailed(f"it is not the gzip that it says it is: {error}") from error
    return bytes(unpacked)


def _conditions(etag: str, last_modified: str) -> dict[str, str]:
    named = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    return {name: value for name, value in named.items() if value}


def _same_site(one: Origin, other: Origin) -> bool:
    """Whether two origins are of one site: equal, or the same host on the usual ports of http and https."""
    usual = ((("http", 80)), ("https", 443))
    return one == other or (
        one.host == other.host and (one.scheme, one.port) in usual and (other.scheme, other.port) in usual
    )


def _said(error: BaseException, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"it was not there within {seconds:g} seconds"
    return f"it could not be fetched: {textwrap.shorten(str(error), _WORDS, placeholder=' …')}"
