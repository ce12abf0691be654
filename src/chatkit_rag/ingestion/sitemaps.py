"""Reading sitemaps: which pages a site names, and which further sitemaps. Bytes in, data out.

XML is read as events, without external or internal entities, within bounds: a sitemap comes from elsewhere.
"""

from typing import NamedTuple

from lxml import etree

from chatkit_rag.ingestion.markdown import BrokenPage

MOST_ENTRIES = 50_000
"""What the sitemap protocol allows in one file."""

_CHUNK = 65_536
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
        BrokenPage: it is no sitemap, or names more than 50,000 addresses.
    """
    parser = etree.XMLPullParser(events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False)
    found: dict[str, list[str]] = {"pages": [], "sitemaps": []}
    kind = ""
    try:
        for start in range(0, len(data), _CHUNK):
            parser.feed(data[start : start + _CHUNK])
            for event, element in parser.read_events():
                name = str(element.tag).rpartition("}")[2]
                if not kind:
                    kind = _KINDS.get(name, "")
                    if not kind:
                        raise BrokenPage(f"it is no sitemap: it begins with <{name}>")
                elif event == "end" and name in ("url", "sitemap"):
                    location = next(
                        (child.text for child in element if str(child.tag).endswith("}loc") or child.tag == "loc"), ""
                    )
                    if location and location.strip():
                        found[kind].append(location.strip())
                    element.clear()
                    if len(found[kind]) > MOST_ENTRIES:
                        raise BrokenPage(f"it names more than {MOST_ENTRIES:,} addresses: split it")
        parser.close()
    except etree.XMLSyntaxError as error:
        raise BrokenPage(f"it is no valid XML: {error.msg}") from error
    return Sitemap(**found)
