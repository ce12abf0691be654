"""HTML as a small tree, within bounds, whatever the page holds. Text in, data out; no files.

libxml2's parser is used for its events alone: they cost the same per byte however many attributes an element has, where
the trees of HTML libraries take time with the square of their number. Depth is bounded, since an end tag is looked for
among all elements that are open.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

from chatkit_rag.ingestion.markdown import BrokenPage, without_controls

MOST_DEPTH = 100
"""Elements deeper than this are not told apart: their text belongs to the one that they stand in."""
MOST_NESTED = 1_000
"""A page that nests deeper was not written for people."""
MOST_ELEMENTS = 150_000


def names(text: str) -> frozenset[str]:
    """The words of a text, as a set that is easy to read and to add to."""
    return frozenset(text.split())


_CHUNK = 65_536
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_BLOCKS = names(
    "address article aside blockquote dd details dialog div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 "
    "h5 h6 header hgroup hr li main nav ol p pre search section summary table tbody td tfoot th thead tr ul"
)


@dataclass(slots=True, eq=False)
class Element:
    """An element, and what stands in it."""

    tag: str
    attributes: Mapping[str, str]
    parent: "Element | None" = None
    position: int = 0
    """Among the children of its parent."""
    children: "list[Element | str]" = field(default_factory=list["Element | str"])
    holds_blocks: bool = False
    """Whether an element that begins a line of its own is in it, at any depth."""

    @property
    def id(self) -> str:
        """The id, which a fragment can name; empty where there is none."""
        return self.attributes.get("id", "").strip()

    @property
    def classes(self) -> frozenset[str]:
        """The names in `class`."""
        return frozenset(self.attributes.get("class", "").split())

    @property
    def is_block(self) -> bool:
        """Whether it begins a line of its own, or holds what does."""
        return self.tag in _BLOCKS or self.holds_blocks

    @property
    def elements(self) -> "Iterator[Element]":
        """The elements that stand in it directly."""
        return (child for child in self.children if isinstance(child, Element))

    def walk(self) -> "Iterator[Element]":
        """It and all that is in it, in the order of the page."""
        waiting: list[Element] = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(list(element.elements)))

    def text(self) -> str:
        """All text in it, as it stands there."""
        return "".join(self.walk_text())

    def walk_text(self) -> Iterator[str]:
        """The pieces of text in it, in the order of the page."""
        waiting: list[Element | str] = [self]
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                yield node
            else:
                waiting.extend(reversed(node.children))

    def enclosing(self) -> "Iterator[Element]":
        """What it stands in, from the inside out."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent


def decode_html(data: bytes, *, charset: str = "") -> str:
    """The text of a page: in UTF-8 where it can be, else in the encoding that `charset` or the page names.

    Raises:
        BrokenPage: it is in none of these.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        declared = _DECLARED.search(data[:4096])
        name = charset or (declared[1].decode("ascii") if declared else "")
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            name = "utf-16"
        try:
            return data.decode(name or "utf-8")
        except (LookupError, UnicodeError):  # Python has a codec that is called `undefined`
            problem = f"it is not UTF-8 (at byte {error.start}), nor what it says it is: save it in UTF-8"
            raise BrokenPage(problem) from error


def parse_html(text: str) -> Element:
    """The page's `html` element. Any text can be read; a broken one as browsers would, more or less.

    Raises:
        BrokenPage: it has more than 150,000 elements, or nests them more than 1,000 deep.
    """
    builder = _Builder()
    # What else the stubs ask of a target, libxml2 does not need.
    parser = etree.HTMLParser(target=builder, encoding="utf-8", huge_tree=True)  # pyright: ignore[reportArgumentType]
    data = text.encode(errors="replace")
    try:
        for start in range(0, len(data), _CHUNK):
            parser.feed(data[start : start + _CHUNK])
        parser.close()
    except etree.XMLSyntaxError:
        pass  # an empty page
    return builder.root


class _Builder:
    """Takes libxml2's events."""

    def __init__(self) -> None:
        self.root = Element("html", {})
        self._open = self.root
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str], /) -> None:
        self._depth += 1
        self._elements += 1
        if self._elements > MOST_ELEMENTS:
            raise BrokenPage(f"it has more than {MOST_ELEMENTS:,} elements: split the page")
        if self._depth > MOST_NESTED:
            raise BrokenPage(f"its elements nest more than {MOST_NESTED:,} deep: is a tag never closed?")
        if tag == "html" and self._open is self.root:
            self.root.attributes = attributes
        if self._depth > MOST_DEPTH:
            return
        attributes = {name: without_controls(value) for name, value in attributes.items()}
        element = Element(tag, attributes, self._open, len(self._open.children))
        self._open.children.append(element)
        self._open = element

    def end(self, _tag: str, /) -> None:
        if self._depth <= MOST_DEPTH and self._open.parent is not None:
            closed, self._open = self._open, self._open.parent
            self._open.holds_blocks |= closed.is_block
        self._depth -= 1

    def data(self, text: str, /) -> None:
        self._open.children.append(without_controls(text))

    def comment(self, _text: str, /) -> None:
        pass

    def close(self) -> Element:
        return self.root
