"""Which part of an HTML page is its content, and what in there is none: what the generators of sites wrap pages in.

The content is the first of the known places that holds text; on a page of unknown make, what HTML itself calls the main
part. Within it, navigation, tables of contents, links to edit, buttons, permalinks and all that is hidden is left out.
"""

import re
from collections.abc import Iterator

from chatkit_rag.ingestion.html_tree import HEADINGS, Element, names

_PLACES = (
    ".theme-doc-markdown",  # Docusaurus
    "article .markdown",  # its blog and single pages
    ".book-page .markdown",  # Hugo Book
    ".sl-markdown-content",  # Starlight
    ".md-content__inner",  # Material for MkDocs, Zensical
    "#furo-main-content",
    ".bd-article",  # PyData
    "[itemprop=articleBody]",  # Read the Docs' theme, for Sphinx and MkDocs
    ".document .body",  # Sphinx' own themes
    ".td-content",  # Docsy
    ".vp-doc",  # VitePress
    "#content main",  # mdBook
    ".markdown-body",
    "main article",
    "main",
    "[role=main]",
    "article",
    "#content",
    "body",
)
"""CSS selectors of at most two parts, the best first."""
_OF_ANY_MAKE = _PLACES.index("main article")
"""From here on they are HTML's own, and on a page of a known make they may hold what is around the content."""

_TAGS = names(
    "audio button canvas embed footer form iframe input link meta nav noscript object script select style svg template "
    "textarea title video"
)
"""Elements that show no text, or none of the page's."""

_CLASSES = names(
    """
    visually-hidden sr-only screen-reader-text
    hash-link headerlink header-anchor heading-anchor anchorjs-link sl-anchor-link td-heading-self-link
    edit-this-page editthispage theme-edit-this-page theme-doc-footer theme-doc-version-badge theme-doc-version-banner
    theme-doc-toc-mobile theme-doc-breadcrumbs breadcrumbs breadcrumb pagination-nav pagination prev-next-area
    toctree-wrapper md-nav md-tags md-source-file md-content__button md-feedback md-annotation__index md-clipboard
    copybtn copy-button clipboard-button btn-clipboard clip-button buttons
    linenos linenodiv linenumber lineno lnt ln boring viewcode-link viewcode-back
    katex-html MathJax_Preview MJX_Assistive_MathML footnote-backref data-footnote-backref
    nav-wrapper nav-chapters mobile-nav-chapters back-to-top td-page-meta page-meta
    book-toc book-footer sidebar-toc toc table-of-contents skip-link
    """
)
_CLASS_BEGINNINGS = ("generatedIndexPage", "docCardList", "lineNumber", "buttonGroup", "rst-footer-buttons")
_IDS = frozenset(("toc", "TableOfContents", "table-of-contents", "breadcrumbs", "searchbox"))
_ROLES = frozenset(("navigation", "search", "contentinfo", "menu", "menubar"))
_HIDING = re.compile(r"display:\s*none|visibility:\s*hidden", re.IGNORECASE)


def main_region(page: Element) -> Element:
    """The element that holds what the page says; `page` itself where nothing says what does.

    A page of a known make that says nothing, as lists of other pages do, has an element that holds no text.
    """
    best, region = len(_PLACES), page
    empty: Element | None = None
    for element in page.walk():
        for place in _keys(element):
            for rank, above in _RANKS.get(place, ()):
                if rank >= best or (above and not _is_within(element, above)):
                    continue
                if _says_something(element):
                    best, region = rank, element
                elif rank < _OF_ANY_MAKE:
                    empty = element
    return empty if empty is not None and best >= _OF_ANY_MAKE else region


def is_left_out(element: Element) -> bool:
    """Whether it is no content, or none that a reader sees."""
    attributes = element.attributes
    if element.tag in _TAGS or attributes.get("role") in _ROLES or attributes.get("id") in _IDS:
        return True
    if not attributes:
        return False
    classes = element.classes
    return (
        not _CLASSES.isdisjoint(classes)
        or classes >= {"contents", "topic"}  # Sphinx
        or any(name.startswith(_CLASS_BEGINNINGS) for name in classes)
        or (_is_hidden(element) and not _is_tab(element))
        or _is_permalink(element)
    )


def _is_permalink(element: Element) -> bool:
    """Whether it is a sign alone (`#`, `\u00b6`) that leads to a place on the page, and not a heading of one emoji."""
    if element.tag != "a" or not element.attributes.get("href", "").startswith("#"):
        return False
    text = element.text().strip()
    is_sign = bool(text) and not any(letter.isalnum() for letter in text)
    return is_sign and not (element.parent and element.parent.tag in HEADINGS and element.parent.text().strip() == text)


def _is_hidden(element: Element) -> bool:
    attributes = element.attributes
    return (
        attributes.get("hidden", "until-found") != "until-found"
        or attributes.get("aria-hidden") == "true"
        or bool(_HIDING.search(attributes.get("style", "")))
    )


def _is_tab(element: Element) -> bool:
    """Whether it is hidden only until its tab is chosen."""
    return element.attributes.get("role") == "tabpanel" or any("tab" in name for name in element.classes)


def _keys(element: Element) -> Iterator[str]:
    yield element.tag
    for name in element.attributes.get("class", "").split():
        yield f".{name}"
    for attribute in ("role", "itemprop"):
        if value := element.attributes.get(attribute):
            yield f"[{attribute}={value}]"
    if element.id:
        yield f"#{element.id}"


def _is_within(element: Element, place: str) -> bool:
    return any(place in _keys(above) for above in element.enclosing())


def _says_something(element: Element) -> bool:
    return any(text.strip() for text in element.walk_text())


def _by_last_part() -> dict[str, list[tuple[int, str]]]:
    ranks: dict[str, list[tuple[int, str]]] = {}
    for rank, place in enumerate(_PLACES):
        above, _, own = place.rpartition(" ")
        ranks.setdefault(own, []).append((rank, above))
    return ranks


_RANKS = _by_last_part()
