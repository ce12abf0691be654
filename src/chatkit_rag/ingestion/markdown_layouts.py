"""The layouts of MkDocs, mdBook and plain folders of Markdown. Pure: their settings are read by `kinds`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from chatkit_rag.documents import Document
from chatkit_rag.ingestion.docusaurus import with_places
from chatkit_rag.ingestion.markdown import decode_markdown, read_sections, split_front_matter
from chatkit_rag.ingestion.slugs import GithubSlugs, MdBookSlugs, MkDocsSlugs, Slugs

_HERE = (PurePosixPath(),)
_DIRECTIVE = re.compile(r"\{\{#\w+[^}]*\}\}|^[ \t]*-{1,}8<-{1,}.*$|^\[TOC\][ \t]*$", re.MULTILINE)
"""What a generator puts other files or a list of headings in the place of."""
_HIDDEN_RUST = re.compile(r"^(?P<fence>`{3,})rust\b[^\n]*\n(?P<code>.*?)^(?P=fence)", re.MULTILINE | re.DOTALL)
_HIDDEN_LINE = re.compile(r"^[ \t]*#(?: .*)?\n", re.MULTILINE)
_ATTRIBUTES = re.compile(r"^(?P<heading>#{1,6} .*?)[ \t]*\{:?(?P<attributes>[^{}\n]*)\}[ \t]*$")
_ATTRIBUTE_LINE = re.compile(r"^[ \t]*\{:[^{}\n]*\}[ \t]*$")
_BLOCK = re.compile(
    r"""^(?P<indent>[ ]*)(?P<mark>!!!|\?\?\?\+?|===[!+]{0,2})[ ]+(?P<kind>[\w-]*)[^"\n]*(?:"(?P<title>[^"\n]*)")?"""
)
_FENCE = re.compile(r"^ *(`{3,}|~{3,})")
_DEEPEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainLayout:
    """Pages at the places of their files, with ids as GitHub makes them."""

    name: str = ""
    suffixes: tuple[str, ...] = (".md", ".markdown")
    starts: tuple[PurePosixPath, ...] = _HERE
    settings: str = "plain"

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """See `Layout.read`."""
        front_matter, body = split_front_matter(decode_markdown(data))
        path = _folder(place) if _is_index(place) else f"/{place.with_suffix('')}"
        return _document(place, body, front_matter, slugs=GithubSlugs(), path=path, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MkDocsLayout:
    """Pages as MkDocs publishes its `docs_dir`."""

    name: str = ""
    directory_urls: bool = True
    """`use_directory_urls`: whether `nodes.md` is published as `nodes/`."""
    unicode_slugs: bool = False
    """Whether the settings name pymdownx' slugs."""
    lower_slugs: bool = True
    suffixes: tuple[str, ...] = (".md", ".markdown")
    starts: tuple[PurePosixPath, ...] = _HERE

    @property
    def settings(self) -> str:
        """See `Layout.settings`."""
        return f"mkdocs {self.directory_urls} {self.unicode_slugs} {self.lower_slugs}"

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """See `Layout.read`."""
        front_matter, body = split_front_matter(decode_markdown(data))
        if _is_index(place):
            path = _folder(place)
            address = f"{path.rstrip('/')}/" if self.directory_urls else f"/{place.with_name('index.html')}"
        elif self.directory_urls:
            path, address = f"/{place.with_suffix('')}", f"/{place.with_suffix('')}/"
        else:
            path = address = f"/{place.with_suffix('.html')}"
        slugs = MkDocsSlugs(unicode=self.unicode_slugs, lower=self.lower_slugs)
        body = "\n".join(_as_containers(_DIRECTIVE.sub("", body).split("\n")))
        return _document(place, body, front_matter, slugs=slugs, path=path, name=self.name, address=address)


@dataclass(frozen=True, slots=True, kw_only=True)
class MdBookLayout:
    """The chapters that mdBook's `SUMMARY.md` names; other files are not published."""

    chapters: Mapping[PurePosixPath, str] = field(default_factory=dict[PurePosixPath, str])
    """Their files, and what the summary calls them."""
    suffixes: tuple[str, ...] = (".md",)
    starts: tuple[PurePosixPath, ...] = _HERE
    settings: str = "mdbook"

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """See `Layout.read`."""
        if place not in self.chapters:
            return None
        body = _HIDDEN_RUST.sub(_without_hidden_lines, _DIRECTIVE.sub("", decode_markdown(data).replace("\r\n", "\n")))
        path = _folder(place) if _is_index(place) else f"/{place.with_suffix('.html')}"
        address = f"{path.rstrip('/')}/" if _is_index(place) else path
        title = self.chapters[place]
        return _document(place, body, {}, slugs=MdBookSlugs(), path=path, name=title, address=address, called=title)


def _document(
    place: PurePosixPath,
    body: str,
    front_matter: dict[str, Any],
    *,
    slugs: Slugs,
    path: str,
    name: str,
    address: str = "",
    called: str = "",
) -> Document:
    title = front_matter.get("title")
    words = called or re.sub(r"[-_\s]+", " ", place.parent.name or name if _is_index(place) else place.stem).strip()
    title, sections = read_sections(
        body,
        title=None if title is None else str(title),
        fallback=words[:1].upper() + words[1:] or place.name,
        mdx=False,
        slugs=slugs,
    )
    return Document(
        path=path,
        title=title,
        sections=sections,
        source=str(place),
        metadata=with_places(place, front_matter),
        address="" if address == path else address,
    )


def _is_index(place: PurePosixPath) -> bool:
    return place.stem.lower() in ("index", "readme")


def _folder(place: PurePosixPath) -> str:
    return "/" + "/".join(place.parent.parts)


def _without_hidden_lines(found: re.Match[str]) -> str:
    start = found.start("code") - found.start()
    end = found.end("code") - found.start()
    return found[0][:start] + _HIDDEN_LINE.sub("", found["code"]) + found[0][end:]


def _as_containers(lines: list[str], depth: int = 0) -> Iterator[str]:
    """Python-Markdown's indented blocks (`!!! note`, `??? tip`, `=== "Tab"`) as containers between colons."""
    fence = ""
    waiting = iter(range(len(lines)))
    for number in waiting:
        line = lines[number]
        if marks := _FENCE.match(line):
            fence = "" if fence and marks[1].startswith(fence) else fence or marks[1]
        found = None if fence or depth > _DEEPEST else _BLOCK.match(line)
        if found is None or not (found["kind"] or found["title"]):
            yield line if fence else _without_attributes(line)
            continue
        inside = list(_inside(lines[number + 1 :], len(found["indent"]) + 4))
        for _ in inside:
            next(waiting)
        kind = "tab" if found["mark"].startswith("===") else found["kind"] or "note"
        colons = found["indent"] + ":" * (_DEEPEST + 4 - depth)
        yield ""
        yield f"{colons}{kind}[{found['title']}]" if found["title"] else f"{colons}{kind}"
        yield from (found["indent"] + within for within in _as_containers(inside, depth + 1))
        yield colons
        yield ""


def _inside(lines: list[str], indent: int) -> Iterator[str]:
    """The lines that are indented at least so far, without that."""
    for line in lines:
        if line.strip() and not line.startswith(" " * indent):
            return
        yield line[indent:]


def _without_attributes(line: str) -> str:
    if _ATTRIBUTE_LINE.match(line):
        return ""
    found = _ATTRIBUTES.match(line)
    if found is None:
        return line
    named = re.search(r"#([^\s}]+)", found["attributes"])
    return f"{found['heading']} {{#{named[1]}}}" if named else found["heading"]
