"""From the inside of an HTML paragraph to a line of text, with its emphasis, code and formulas as Markdown."""

import re
from collections.abc import Iterable, Iterator

from chatkit_rag.ingestion.html_regions import is_left_out
from chatkit_rag.ingestion.html_tree import Element

_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile("[\u200b\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
"""Zero-width spaces, soft hyphens, marks of direction and tags: no reader sees them, and no word is found with them."""
_MARKS = {"em": "*", "i": "*", "strong": "**", "b": "**", "s": "~~", "del": "~~", "strike": "~~"}
_TEX = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]|\$\$(.*)\$\$|\$(.*)\$", re.DOTALL)
_POWER = re.compile(r"[-+]?(?:\d+|[nkijmxy])")
_BEFORE_A_STOP = re.compile(r" (?=[.,](?:\s|$))")
"""What is left where a footnote's number stood."""
_NOT_COPIED = re.compile(r"user-select:\s*none")
"""Numbers of lines, where they have no class, as Hugo writes them unless it is told otherwise."""
_FOOTNOTE = re.compile(r"\[?\d+\]?")


def inline_text(nodes: Iterable[Element | str]) -> str:
    """The text of a paragraph: one line, but for hard breaks."""
    pieces: list[str] = []
    for piece, verbatim in _pieces(nodes):
        shown = piece
        if not verbatim and (not pieces or pieces[-1][-1:] in (" ", "\n")):
            shown = piece.lstrip(" ")
        if shown:
            pieces.append(shown)
    lines = (_BEFORE_A_STOP.sub("", line.strip()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def plain_text(element: Element) -> str:
    """The words alone, in one line: what a heading or a label says."""
    return " ".join(_UNSEEN.sub("", "".join(_words(element))).split())


def verbatim_text(element: Element) -> str:
    """The text as it stands, without what is left out: code. Elements that lines are made of end in line ends."""
    parts: list[str] = []
    waiting: list[Element | str | int] = [element]
    while waiting:
        node = waiting.pop()
        if isinstance(node, int):  # a line that began with so many parts is over
            if len(parts) == node or not parts[-1].endswith("\n"):
                parts.append("\n")
        elif isinstance(node, str):
            parts.append(node)
        elif node.tag == "br":
            parts.append("\n")
        elif not is_left_out(node) and not _NOT_COPIED.search(node.attributes.get("style", "")):
            if node.tag in ("div", "li", "tr", "p") and node is not element:
                waiting.append(len(parts))
            waiting.extend(reversed(node.children))
    return "".join(parts).replace("\u200b", "")


def formula(element: Element) -> tuple[str, bool] | None:
    """The TeX of an element that is a formula, and whether it stands on a line of its own; None where it is none."""
    classes = element.classes
    if element.tag == "math" or "katex" in classes or "katex-display" in classes or element.tag == "mjx-container":
        source = next(_tex_sources(element), "")
        if not source and element.tag == "math":
            source = plain_text(element)
        display = "katex-display" in classes or element.attributes.get("display") in (
            "block",
            "true",
        )  # MathML's, and MathJax 3's
        return (source.strip(), display) if source.strip() else None
    if element.tag == "script":
        kind, _, mode = element.attributes.get("type", "").partition(";")
        return (element.text().strip(), "display" in mode) if kind.strip() == "math/tex" else None
    if classes & {"math", "arithmatex"}:
        found = _TEX.fullmatch(element.text().strip())
        if found is not None:
            source = next(filter(None, found.groups()), "")
            return source.strip(), found[2] is not None or found[3] is not None
    return None


def _tex_sources(element: Element) -> Iterator[str]:
    for inner in element.walk():
        if inner.tag == "annotation" and "tex" in inner.attributes.get("encoding", "").lower():
            yield inner.text()
        elif source := inner.attributes.get("alttext") or inner.attributes.get("data-latex"):
            yield source


def _pieces(nodes: Iterable[Element | str]) -> Iterator[tuple[str, bool]]:
    """What stands in a line, and whether it must be kept to the letter."""
    for node in nodes:
        if isinstance(node, str):
            yield _SPACES.sub(" ", _UNSEEN.sub("", node)), False
        elif math := formula(node):
            source = " ".join(math[0].split())
            yield (f"$${source}$$" if math[1] else f"${source}$"), True
        elif node.tag == "br":
            yield "\n", True
        elif not is_left_out(node):
            yield from _element(node)


def _element(element: Element) -> Iterator[tuple[str, bool]]:
    match element.tag:
        case "code" | "tt" | "samp":
            yield _code(element), True
        case "img":
            yield _SPACES.sub(" ", element.attributes.get("alt", "")), False
        case "sup" | "sub":
            text = plain_text(element)
            if not _is_footnote(element, text):
                power = {"sup": "^", "sub": "_"}[element.tag] if _POWER.fullmatch(text) else ""
                yield power + text, False
        case "a" if _is_footnote(element, plain_text(element)):
            pass
        case tag if mark := _MARKS.get(tag):
            yield from _marked(mark, inline_text(element.children), element.text())
        case _:
            yield from _pieces(element.children)


def _marked(mark: str, inner: str, source: str) -> Iterator[tuple[str, bool]]:
    if not inner:
        yield " ", False
        return
    if source[:1].isspace():
        yield " ", False
    yield f"{mark}{inner}{mark}", False
    if source[-1:].isspace():
        yield " ", False


def _code(element: Element) -> str:
    code = _SPACES.sub(" ", verbatim_text(element)).strip()
    if not code:
        return ""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    ticks = "`" * (longest + 1)
    padding = " " if "`" in (code[0], code[-1]) else ""
    return f"{ticks}{padding}{code}{padding}{ticks}"


def _is_footnote(element: Element, text: str) -> bool:
    """Whether it is the number of a footnote, which says nothing without it."""
    links = [inner for inner in element.walk() if inner.tag == "a"]
    names = {name for link in links for name in link.classes} | {link.attributes.get("role", "") for link in links}
    return bool(
        links
        and _FOOTNOTE.fullmatch(text)
        and (names & {"footnote-ref", "footnote-reference", "doc-noteref"} or element.tag == "sup")
        and links[0].attributes.get("href", "").startswith("#")
    )


def _words(element: Element) -> Iterator[str]:
    waiting: list[Element | str] = list(reversed(element.children))
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
        elif math := formula(node):
            yield math[0]
        elif node.tag == "img":
            yield node.attributes.get("alt", "")
        elif node.tag == "br":
            yield " "
        elif not is_left_out(node):
            waiting.extend(reversed(node.children))
