"""Reading sitemaps: which pages a site names, and which further sitemaps. Bytes in, data out.

XML is read as events, without external or internal entities, within bounds: a sitemap comes from elsewhere.
"""

import re
from typing import NamedTuple

from lxml import etree

from chatkit_rag.ingestion.markdown import BrokenPage

MOST_ENTRIES = 50_000
"""What the sitemap protocol allows in one file."""

_CHUNK = 65_536
_LONG_TAG = re.compile(rb"<[^<>]{65536}")
_MOST_MARKS = 3_000_000
"""Of elements and attributes, which take many times their size in memory: 50,000 pages, each in ten languages, fit."""
_KINDS = {"urlset": "pages", "sitemapindex": "sitemaps"}


class Sitemap(NamedTuple):
    """What one file names, in its order."""

    pages: list[str]
    sitemaps: list[str]


def is_sitemap(data: bytes) -> bool:
    """Whether it looks like a sitemap's XML, and not like a page."""
    start = data[:2_048].lower()
    return b"<urlset" in start or b"<sitemapindex" in start


def read_sitemap(data: bytes) -> Sitemap:
    """The addresses in a sitemap or in an index of sitemaps.

    Raises:
        BrokenPage: it is no sitemap, names more than 50,000 addresses, or holds more than belongs into one.
    """
    if _LONG_TAG.search(data) or data.count(b"<") + data.count(b"=") > _MOST_MARKS:
        raise BrokenPage("it holds more than belongs into a sitemap")
    parser = etree.XMLPullParser(
        events=("end",),
        tag=("{*}url", "{*}sitemap"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    found: list[str] = []
    try:
        for start in range(0, len(data), _CHUNK):
            parser.feed(data[start : start + _CHUNK])
            for _, entry in parser.read_events():
                named = (child.text for child in entry if str(child.tag).rpartition("}")[2] == "loc")
                if location := (next(named, None) or "").strip():
                    found.append(location)
                if len(found) > MOST_ENTRIES:
                    raise BrokenPage(f"it names more than {MOST_ENTRIES:,} addresses: split it")
                entry.clear()
        root = str(parser.close().tag).rpartition("}")[2]
    except etree.XMLSyntaxError as error:
        raise BrokenPage(f"it is no valid XML: {error.msg}") from error
    if root not in _KINDS:
        raise BrokenPage(f"it is no sitemap: it begins with <{root}>")
    nothing: dict[str, list[str]] = {"pages": [], "sitemaps": []}
    return Sitemap(**nothing | {_KINDS[root]: found})
