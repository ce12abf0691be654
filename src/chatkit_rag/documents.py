"""What a course is made of: pages, their sections, the passages that are searched, and citations.

Plain data. Reading pages is `ingestion`'s work, finding passages `retrieval`'s, numbering citations `agent`'s.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKS = re.compile(r"[*`]+|^[ \t]*(?:[-+]|\d+\.|>+|#+)[ \t]+", re.MULTILINE)
_EXCERPT = 200
_NOT_IN_A_FRAGMENT = re.compile(r"""[\x00-\x20"<>`\x7f]""")


def without_code(text: str) -> str:
    """A passage's text without its code fences; one that is not closed reaches to the end."""
    return _FENCE.sub(" ", text)


@lru_cache(maxsize=1024)  # passages are cited again and again
def excerpt(text: str) -> str:
    """How a passage begins, for a card: prose only, without marks of Markdown, cut between words."""
    prose = " ".join(_MARKS.sub("", without_code(text)).split())
    return prose if len(prose) <= _EXCERPT else f"{prose[:_EXCERPT].rsplit(' ', 1)[0]} …"


def page_url(base: str, path: str, anchor: str = "") -> str:
    """The address of a heading: `base` (without it, relative to the host), the page's path, and `#anchor`.

    The path is percent-encoded, since it may hold spaces and any script's letters; `anchor` stands as the site's HTML
    has it, which browsers match against the fragment letter by letter, but for what no address can hold.
    """
    address = base.rstrip("/") + quote(path, safe="/!$&'()*+,;=:@~")
    fragment = _NOT_IN_A_FRAGMENT.sub(lambda found: f"%{ord(found[0]):02X}", anchor)
    return f"{address}#{fragment}" if anchor else address


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading of a page with what stands under it, up to the next heading of any level."""

    heading_path: tuple[str, ...]
    """The page's title, then the headings down to this one; never empty."""
    anchor: str = ""
    """The id that the site gives the heading; empty for what stands before the first heading."""
    blocks: tuple[str, ...] = ()
    """Paragraphs, lists, tables, formulas and code fences, each one whole: Markdown for people, without JSX,
    comments or link targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One page of the course."""

    path: str
    """Where the page stands on the site, from its root: `/module-1/week-1/nodes`; no trailing slash but for `/`."""
    title: str
    sections: tuple[Section, ...]
    """In reading order; empty ones are there too, since their headings can be linked to."""
    source: str = ""
    """The file or address that it was read from, for messages."""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The front matter, with `module`, `week`, `version` and `locale` where the site has them; JSON values."""
    address: str = ""
    """What stands in links in place of `path` where the site writes it otherwise: `/module-1/week-1/nodes/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The unit of search and citation: a piece of one section of one page, never of two."""

    id: str
    """A UUID made of site, page, anchor and position: the same text at the same place keeps its id."""
    path: str
    anchor: str
    title: str
    heading_path: tuple[str, ...]
    text: str
    url: str
    site: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def heading(self) -> str:
        """The heading that the passage stands under; the page's title before the first one."""
        return self.heading_path[-1]

    @property
    def type(self) -> str:
        """Where it comes from, for those who show it."""
        return "course"


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryPassage(Passage):
    """A piece of the documentation of a library that the course uses."""

    library: str
    """The library, by the name that the site has for it."""

    @property
    def type(self) -> str:
        """Where it comes from."""
        return "library_docs"


def first_within(passages: Iterable[Passage], characters: int) -> list[Passage]:
    """The first passages that are so long together; one in any case."""
    shown: list[Passage] = []
    for passage in passages:
        characters -= len(passage.text)
        if shown and characters < 0:
            break
        shown.append(passage)
    return shown


class Hit(NamedTuple):
    """A passage that was found, and how well it fits; scores compare within one result only.

    A tuple, which is made in a third of the time: hundreds are for every question.
    """

    passage: Passage
    score: float
    before: Passage | None = None
    """What stands right before it in its own section, where that was asked for."""
    after: Passage | None = None

    @property
    def text(self) -> str:
        """The passage's text, between what stands around it."""
        pieces = (self.before, self.passage, self.after)
        return "\n\n".join(piece.text for piece in pieces if piece is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A numbered passage at a place in an answer."""

    number: int
    """What the model wrote between brackets; counts from 1 within one turn."""
    passage: Passage
    index: int
    """The position in the answer's text, in characters, that the citation stands behind."""
