"""What a built HTML page says: its title, its sections with the anchors that the site really has, what it is about.

Text in, data out; no files. Navigation and the like is left out (`html_regions`), the rest written as Markdown
(`html_blocks`), so that passages of built pages and of Markdown sources look alike.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from chatkit_rag.documents import Section
from chatkit_rag.ingestion.html_blocks import HtmlBlocks
from chatkit_rag.ingestion.html_inline import plain_text
from chatkit_rag.ingestion.html_regions import is_left_out, main_region
from chatkit_rag.ingestion.html_tree import HEADINGS, Element, parse_html

_SITE_NAME = re.compile(r"\s+[-|\u2013\u2014\u00b7\u2022\u00bb]\s+[^|\u2013\u2014\u00b7\u2022\u00bb]*$")
"""What a head's title says after the page's own: ` | The site`, with any of the usual dashes and dots."""
_FEW = 5
"""How many elements an anchor is looked for among."""
_LEVEL_OF_DEFINITIONS = 7
"""What defines a name in a reference (Sphinx' `dt`) stands below every heading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlPage:
    """One page as it is built."""

    title: str
    sections: tuple[Section, ...]
    canonical: str = ""
    """The address that the page gives itself; empty where it gives none."""
    unlisted: bool = False
    """Whether it asks not to be found, leads on to another page, or only lists other pages."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """`locale`, `version` and `description`, as far as the page names them."""


def read_html(text: str, *, fallback: str) -> HtmlPage:
    """What the page says; its title is its first heading of level 1, else what its head says, else `fallback`.

    Sections are in reading order, the first one the page's start with the anchor "". The anchor of another is the id
    of its heading, or of what the heading begins, or of what stands in or right before it; a heading that has none of
    these goes by the anchor of the heading above it.

    Raises:
        BrokenPage: it has more elements than any page that people read.
    """
    page = parse_html(text)
    head = _Head(page)
    region = main_region(page)
    title = _title(region, page) or head.title or fallback
    return HtmlPage(
        title=title,
        sections=_Sections(title, region, page).read(),
        canonical=head.canonical,
        unlisted=head.unlisted,
        metadata=head.metadata,
    )


class _Head:
    """What a page's head says about it."""

    def __init__(self, page: Element) -> None:
        self._names: dict[str, str] = {}
        self.canonical = ""
        title = ""
        refreshes = False
        for element in page.walk():
            attributes = element.attributes
            if element.tag == "meta":
                name = attributes.get("name") or attributes.get("property") or ""
                self._names.setdefault(name.lower(), attributes.get("content", "").strip())
                refreshes = refreshes or attributes.get("http-equiv", "").lower() == "refresh"
            elif element.tag == "link" and "canonical" in attributes.get("rel", "").split():
                self.canonical = attributes.get("href", "").strip()
            elif element.tag == "title" and not title:
                title = " ".join(element.text().split())
        self.title = _SITE_NAME.sub("", title)
        lists = self._names.get("docusaurus_tag", "").startswith(("doc_tag", "blog_tag"))
        self.unlisted = refreshes or lists or "noindex" in self._names.get("robots", "").lower()
        self.metadata = dict(self._described(page))

    def _described(self, page: Element) -> Iterator[tuple[str, str]]:
        for field_, names in {
            "locale": ("docusaurus_locale", "docsearch:language"),
            "version": ("docusaurus_version", "docsearch:version", "readthedocs-version-slug"),
            "description": ("description",),
        }.items():
            named = next(filter(None, (self._names.get(name) for name in names)), "")
            if not named and field_ == "locale":
                named = page.attributes.get("lang", "").strip()
            if named:
                yield field_, named


def _title(region: Element, page: Element) -> str:
    for place in (region, page):
        for element in place.walk():
            if element.tag == "h1" and not _is_around_the_page(element, region) and (text := plain_text(element)):
                return text
    return ""


def _is_around_the_page(heading: Element, region: Element) -> bool:
    """Whether it is the site's name, or hidden, and not the page's heading."""
    if is_left_out(heading) or "menu-title" in heading.classes:
        return True
    above = list(heading.enclosing())
    return region not in above and any(is_left_out(place) or place.tag in ("aside", "header") for place in above)


class _Sections:
    """Cuts a page at its headings."""

    def __init__(self, title: str, region: Element, page: Element) -> None:
        self._title = title
        self._region = region
        self._ids = {element.id for element in page.walk() if element.id}
        self._blocks = HtmlBlocks(self._begins_section)
        self._sections: list[Section] = []
        self._seen: set[tuple[tuple[str, ...], str]] = set()
        self._enclosing: list[tuple[int, str, str]] = []
        """Level, text and anchor of the headings that the next block stands under."""

    def read(self) -> tuple[Section, ...]:
        self._blocks.add([self._region])
        self._finish()
        return tuple(self._sections)

    def _begins_section(self, element: Element) -> bool:
        if element.tag in HEADINGS:
            return self._heading(element, int(element.tag[1]))
        if element.tag == "dt" and element.id and "sig" in element.classes:
            depth = sum(above.tag == "dl" for above in element.enclosing())
            return self._heading(element, _LEVEL_OF_DEFINITIONS + depth)
        if element.tag == "dl" and any("sig" in term.classes for term in element.elements):
            self._definitions(element)
            return True
        return False

    def _heading(self, element: Element, level: int) -> bool:
        text = plain_text(element)
        if not text or self._blocks.nested:
            return not text
        if not self._sections and not self._enclosing and level == 1 and text == self._title:
            return True
        self._finish()
        above = [heading for heading in self._enclosing if heading[0] < level]
        anchor = self._anchor(element) or (above[-1][2] if above else "")
        self._enclosing = [*above, (level, text, anchor)]
        return True

    def _definitions(self, element: Element) -> None:
        """Names that are defined, each a section; what follows the list stands under the heading from before again."""
        before = self._enclosing
        self._blocks.add(element.children)
        self._finish()
        self._enclosing = before

    def _finish(self) -> None:
        blocks = self._blocks.take()
        anchor = self._enclosing[-1][2] if self._enclosing else ""
        path = (self._title, *(text for _, text, _ in self._enclosing))
        if not blocks and (path, anchor) in self._seen:
            return  # a heading that was left for a list of definitions, and has nothing after it
        self._seen.add((path, anchor))
        self._sections.append(Section(heading_path=path, anchor=anchor, blocks=blocks))

    def _anchor(self, heading: Element) -> str:
        return (
            heading.id
            or next(filter(None, (_named(inner) for inner in heading.walk())), "")
            or self._id_around(heading)
            or _id_before(heading)
            or next(filter(self._ids.__contains__, _permalinks(heading)), "")
        )

    def _id_around(self, heading: Element) -> str:
        """The id of what the heading begins: Sphinx' `section`, or a `div`."""
        inner = heading
        for above in heading.enclosing():
            if above is self._region or above.tag not in ("section", "div", "header", "hgroup"):
                return ""
            first = next((child for child in islice(above.elements, _FEW) if not _is_empty(child)), None)
            if first is not inner:
                return ""
            if above.id:
                return above.id
            inner = above
        return ""


def _named(element: Element) -> str:
    return element.id or (element.attributes.get("name", "").strip() if element.tag == "a" else "")


def _id_before(heading: Element) -> str:
    """The id of an empty element right before the heading, as hand-written pages have it."""
    siblings = heading.parent.children if heading.parent else []
    for sibling in reversed(siblings[max(0, heading.position - _FEW) : heading.position]):
        if isinstance(sibling, str):
            if sibling.strip():
                return ""
        else:
            names = [name for inner in sibling.walk() if (name := _named(inner))]
            return names[-1] if names and _is_empty(sibling) else ""
    return ""


def _is_empty(element: Element) -> bool:
    return not any(text.strip() for text in element.walk_text()) and not any(
        inner.tag in ("img", "pre", "table") for inner in element.walk()
    )


def _permalinks(heading: Element) -> Iterator[str]:
    near = [heading, *([heading.parent] if heading.parent and len(heading.parent.children) <= 3 else [])]
    for element in near:
        for inner in element.walk():
            if inner.tag == "a" and inner.attributes.get("href", "").startswith("#"):
                yield inner.attributes["href"][1:]
