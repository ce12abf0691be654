"""Reading a site over HTTP: the pages that its sitemaps name, or one page. The site's `robots.txt` is kept."""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from urllib.parse import urljoin

import anyio
import anyio.to_thread
from protego import Protego

from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.addresses import BadAddress, path_of, read_address
from chatkit_rag.ingestion.built import built_document
from chatkit_rag.ingestion.fetching import USER_AGENT, Fetched, FetchFailed, FetchOptions, SiteFetcher, unpack
from chatkit_rag.ingestion.folders import SkippedPage
from chatkit_rag.ingestion.html import read_html
from chatkit_rag.ingestion.html_tree import decode_html
from chatkit_rag.ingestion.markdown import BrokenPage
from chatkit_rag.ingestion.resolving import Resolve
from chatkit_rag.ingestion.sitemaps import is_sitemap, read_sitemap
from chatkit_rag.ingestion.sites import PageRead, ReadingPlan, fingerprint, two_at_one_address, was_read_like_now
from chatkit_rag.retrieval.manifest import Origin, PageRecord

_SITEMAP_BYTES = 50_000_000
_ROBOTS_BYTES = 500_000
_MOST_SITEMAPS = 500
_MOST_PAGES = 100_000
_AT_ONCE = 4
_UNANSWERED = 12
"""Pages in a row, each asked for several times, after which a server is taken to be away."""
_GZIP = b"\x1f\x8b"
_SITEMAP_NAMES = (".xml", ".xml.gz")


class _Entry(NamedTuple):
    """A page that is to be read."""

    url: str
    record: PageRecord | None
    fetched: Fetched | None = None
    """What was fetched of it already."""


async def read_url(
    url: str,
    *,
    base_url: str = "",
    plan: ReadingPlan | None = None,
    options: FetchOptions | None = None,
    resolve: Resolve | None = None,
) -> AsyncIterator[PageRead | SkippedPage]:
    """The pages of the sitemap at `url`, or the one page there.

    A page that cannot be fetched or read, that lies on another host, or that `robots.txt` forbids comes as a
    `SkippedPage`. Pages that ask not to be found are left out in silence.

    Args:
        url: a sitemap, an index of sitemaps, or a page.
        base_url: the site's public address; paths of pages begin below it where theirs do.
        plan: what is wanted, and known already; a server is asked for what has changed only.
        options: bounds, and whether private addresses are allowed.
        resolve: looks up a host's addresses; the system's resolver by default.

    Raises:
        IngestionError: `url` itself, or the site's `robots.txt`, cannot be fetched.
    """
    plan = plan or ReadingPlan()
    try:
        fetcher = SiteFetcher(url, options=options, resolve=resolve)
    except BadAddress as error:
        raise IngestionError(f"{url} was not fetched: {error}") from error
    async with fetcher:
        crawl = _Crawl(fetcher, base_url, plan, options or FetchOptions())
        async for page in crawl.pages(url):
            yield page


class _Crawl:
    """One reading of one site."""

    def __init__(self, fetcher: SiteFetcher, base_url: str, plan: ReadingPlan, options: FetchOptions) -> None:
        self._fetcher = fetcher
        self._base_path = path_of(base_url).rstrip("/")
        self._plan = plan
        self._options = options
        self._robots = Protego.parse("")
        self._taken: dict[str, str] = {}
        self._unanswered = 0

    async def pages(self, url: str) -> AsyncIterator[PageRead | SkippedPage]:
        await self._keep_robots(url)
        record = self._plan.known.get(url)
        try:
            first = await self._fetch(url, record, most_bytes=_SITEMAP_BYTES)
            is_page = first.unchanged or not is_sitemap(_unpacked(first))
        except (BadAddress, FetchFailed) as error:
            raise IngestionError(f"{url} was not fetched: {error}") from error
        if is_page:
            if path_of(first.url).endswith(_SITEMAP_NAMES):  # what a site shows in place of what it does not have
                raise IngestionError(f"{url} was not read: it is no sitemap, but {first.content_type}")
            if len(first.data) > self._options.page_bytes:
                raise IngestionError(f"{url} is too large for a page, and no sitemap")
            yield await self._page(_Entry(url, record, first)) or SkippedPage(url, "it asks not to be found")
            return
        entries: list[_Entry] = []
        async for found in self._named(url, first):
            if isinstance(found, SkippedPage):
                yield found
            else:
                entries.append(found)
        self._plan.on_total(len(entries))
        async for page in self._read_all(entries):
            yield page

    async def _keep_robots(self, url: str) -> None:
        robots = urljoin(url, "/robots.txt")
        try:
            text = (await self._fetcher.fetch(robots, most_bytes=_ROBOTS_BYTES)).data.decode("utf-8", "replace")
        except BadAddress as error:
            raise IngestionError(f"{url} was not fetched: {error}") from error
        except FetchFailed as error:
            if not 400 <= error.status < 500:
                raise IngestionError(f"{url} was not fetched: its {robots} cannot be read, {error}") from error
            return
        self._robots = Protego.parse(text)
        delay = self._robots.crawl_delay(USER_AGENT)
        if delay and delay > self._options.longest_wait_seconds:
            raise IngestionError(
                f"{url} was not fetched: {robots} asks for {delay:g} seconds between requests; "
                "index the folder of the built site"
            )
        self._fetcher.pause_seconds = max(self._fetcher.pause_seconds, delay or 0)

    async def _named(self, url: str, first: Fetched) -> AsyncIterator[_Entry | SkippedPage]:
        """The pages of a sitemap and of those that it names, each once."""
        waiting, seen = deque([url]), {url}
        pages: set[str] = set()
        fetched: Fetched | None = first
        while waiting:
            place = waiting.popleft()
            try:
                sitemap = read_sitemap(_unpacked(fetched or await self._fetch(place, None, most_bytes=_SITEMAP_BYTES)))
            except (BadAddress, FetchFailed, BrokenPage) as error:
                if place == url:
                    raise IngestionError(f"{url} was not read: {error}") from error
                yield SkippedPage(place, f"the sitemap was left out: {error}", partial=True)
                continue
            fetched = None
            for further in dict.fromkeys(sitemap.sitemaps):
                if further in seen:
                    continue
                if reason := self._why_not(further) or _over(len(seen), _MOST_SITEMAPS, "sitemaps"):
                    unseen = self._fetcher.belongs(further)  # what another host names is none of the site's
                    yield SkippedPage(further, f"the sitemap was left out: {reason}", partial=unseen)
                    continue
                seen.add(further)
                waiting.append(further)
            for found in self._entries(sitemap.pages, pages):
                yield found

    def _entries(self, urls: list[str], seen: set[str]) -> Iterator[_Entry | SkippedPage]:
        for url in urls:
            if url in seen or not self._plan.wants(url):
                continue
            if reason := _over(len(seen) + 1, _MOST_PAGES, "pages"):
                yield SkippedPage(url, reason, partial=True)
                return
            seen.add(url)
            if reason := self._why_not(url):
                yield SkippedPage(url, reason)
            else:
                yield _Entry(url, self._plan.known.get(url))

    def _why_not(self, url: str) -> str:
        try:
            address = read_address(url)
        except BadAddress as error:
            return str(error)
        if not self._fetcher.belongs(url):
            return f"it is on another host than the site, {self._fetcher.origin.host}"
        if not self._robots.can_fetch(address.url, USER_AGENT):
            return "the site's robots.txt asks not to fetch it"
        return "it has a query, and pages are known by their paths" if address.query else ""

    async def _fetch(self, url: str, record: PageRecord | None, *, most_bytes: int | None = None) -> Fetched:
        origin = record.origin if record and was_read_like_now(record.origin) else Origin()
        if not self._robots.can_fetch(url, USER_AGENT):
            raise FetchFailed("the site's robots.txt asks not to fetch it")
        return await self._fetcher.fetch(
            url, etag=origin.etag, last_modified=origin.last_modified, most_bytes=most_bytes
        )

    async def _read_all(self, entries: list[_Entry]) -> AsyncIterator[PageRead | SkippedPage]:
        """The pages in their order, a few at once."""
        for start in range(0, len(entries), _AT_ONCE):
            if self._unanswered >= _UNANSWERED:
                left = len(entries) - start
                reason = f"the server did not answer {self._unanswered} pages in a row, so {left:,} were not asked for"
                yield SkippedPage(entries[start].url, f"{reason}: index again later", partial=True)
                return
            for page in await self._read_some(entries[start : start + _AT_ONCE]):
                if page is not None:
                    yield page

    async def _read_some(self, entries: list[_Entry]) -> list[PageRead | SkippedPage | None]:
        results: list[PageRead | SkippedPage | None] = [None] * len(entries)

        async def read(number: int) -> None:
            results[number] = await self._page(entries[number])

        async with anyio.create_task_group() as tasks:
            for number in range(len(entries)):
                tasks.start_soon(read, number)
        return [self._once(page, entry.url) for page, entry in zip(results, entries, strict=True)]

    def _once(self, page: PageRead | SkippedPage | None, url: str) -> PageRead | SkippedPage | None:
        """The page, unless another was read at its address."""
        if isinstance(page, PageRead):
            if first := self._taken.get(page.document.path):
                return two_at_one_address(first, url, page.document.path)
            self._taken[page.document.path] = url
        return page

    async def _page(self, entry: _Entry) -> PageRead | SkippedPage | None:
        """What a page says; None where it asks not to be found."""
        if entry.url in self._plan.fresh and entry.record is not None:
            return PageRead(document=entry.record.document, origin=entry.record.origin)
        try:
            fetched = entry.fetched or await self._fetch(entry.url, entry.record)
            self._unanswered = 0
            return await anyio.to_thread.run_sync(self._read, entry, fetched)
        except (BadAddress, FetchFailed, BrokenPage) as error:
            if isinstance(error, FetchFailed):
                self._unanswered = self._unanswered + 1 if error.unanswered else 0
            return SkippedPage(entry.url, str(error))

    def _read(self, entry: _Entry, fetched: Fetched) -> PageRead | None:
        record = entry.record
        if fetched.unchanged and record is not None:
            return PageRead(document=record.document, origin=record.origin)
        origin = Origin(
            fingerprint=fingerprint("http " + self._base_path, fetched.url, fetched.data),
            etag=fetched.etag,
            last_modified=fetched.last_modified,
        )
        if record is not None and record.origin.fingerprint == origin.fingerprint:
            return PageRead(document=record.document, origin=origin)
        if fetched.content_type not in ("text/html", "application/xhtml+xml"):
            raise BrokenPage(f"it is no HTML page, but {fetched.content_type}")
        path = path_of(fetched.url)
        page = read_html(
            decode_html(fetched.data, charset=fetched.charset), fallback=path.strip("/").rpartition("/")[2]
        )
        if page.unlisted:
            return None
        address = path.removeprefix(self._base_path) or "/"
        document = built_document(page, address=address if address.startswith("/") else path, source=entry.url)
        return PageRead(document=document, origin=origin)


def _over(count: int, most: int, what: str) -> str:
    return f"the site's sitemaps name more than {most:,} {what}" if count > most else ""


def _unpacked(fetched: Fetched) -> bytes:
    """A sitemap's XML, which may itself be a gzip file."""
    return unpack(fetched.data, most_bytes=_SITEMAP_BYTES) if fetched.data.startswith(_GZIP) else fetched.data
