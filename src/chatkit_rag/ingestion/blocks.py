"""From Markdown's tokens to blocks of text that people can read.

A block is a paragraph, a list, a table, a quotation, a formula or a code fence. It keeps what a reader sees and
how it was emphasised, and loses what only a browser needs: link targets, tags, expressions.
"""

import re
from dataclasses import dataclass, field
from textwrap import dedent, indent

from markdown_it import MarkdownIt
from markdown_it.token import Token

from chatkit_rag.ingestion.inline import inline_text, label_of
from chatkit_rag.ingestion.mdx import Tag

_CONTAINERS = {
    "blockquote": "quote",
    "bullet_list": "list",
    "ordered_list": "list",
    "list_item": "item",
    "table": "table",
    "tr": "row",
    "footnote_reference": "footnote",
}
_ELEMENTS = {"table": "table", "tr": "row", "ul": "list", "ol": "list"}
_ADMONITION = re.compile(
    r"\s*(?P<kind>[A-Za-z][\w-]*)\s*(?:\[(?P<label>.*)\])?\s*(?:\{(?P<attributes>[^}]*)\})?\s*(?P<title>.*)"
)
_ALERT = re.compile(r"\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\s*")
_TITLE = re.compile(r"""\btitle=(?:"[^"]*"|'[^']*'|\{[^}]*\})""")
_CLOSE_TO_THE_LINE_BEFORE = re.compile(r"(?:[-*+]|\d+[.)]) |`{3}|~{3}")


@dataclass(slots=True)
class _Frame:
    """A container whose blocks are still being collected."""

    kind: str
    marker: str = ""
    from_tag: bool = False
    """Opened by an HTML tag, which may never be closed."""
    blocks: list[str] = field(default_factory=list[str])


class BlockWriter:
    """Takes a page's tokens one by one, and hands out the blocks that they make.

    What is said *about* a piece of text (an admonition's title, a tab's label) waits as a lead and goes in front
    of the first paragraph within, so that the two are never parted.
    """

    def __init__(self, parser: MarkdownIt) -> None:
        self._parser = parser
        self._frames = [_Frame("page")]
        self._lead: tuple[str, str] | None = None

    @property
    def nested(self) -> bool:
        """Whether a list, quotation or footnote is open: a heading in there begins no section."""
        return any(not frame.from_tag for frame in self._frames[1:])

    def take(self) -> tuple[str, ...]:
        """The blocks since the last call; closes what HTML tags have left open."""
        self._flush_lead()
        while len(self._frames) > 1:
            self._fold()
        blocks, self._frames[0].blocks = tuple(self._frames[0].blocks), []
        return blocks

    def add_text(self, text: str) -> None:
        """Add a paragraph."""
        if not text:
            return
        if self._lead:
            lead, joiner = self._lead
            text, self._lead = f"{lead}{joiner}{text}", None
        self._frames[-1].blocks.append(text)

    def add_verbatim(self, text: str) -> None:
        """Add what must keep its lines: code, a formula."""
        self._flush_lead()
        while self._frames[-1].from_tag:
            self._fold()  # a table's row has one line
        self._frames[-1].blocks.append(text)

    def feed(self, token: Token) -> None:
        """Take the next token; headings are the caller's."""
        name, _, end = token.type.rpartition("_")
        if name in _CONTAINERS:
            self._open_or_close(_CONTAINERS[name], token, closes=end == "close")
            return
        match token.type:
            case "inline":
                self._add_inline(token)
            case "fence" | "code_block":
                self.add_verbatim(_fence(token))
            case "math_block":
                self.add_verbatim(f"$$\n{token.content.strip()}\n$$")
            case "container_admonition_open":
                self._set_lead(*_admonition(token.info, self._parser))
            case "container_admonition_close":
                self._flush_lead()
            case "tag":
                self._feed_tag(token.meta["tag"])
            case "expression" if token.meta["shows"].strip():
                self.add_verbatim(dedent(token.meta["shows"]).strip("\n"))
            case _:
                pass

    def _add_inline(self, token: Token) -> None:
        text = inline_text(token.children or [])
        frame = self._frames[-1]
        if frame.kind == "row":
            frame.blocks.append(text.replace("\n", " ").replace("|", "\\|") if not frame.from_tag else text)
        elif frame.kind == "quote" and not frame.blocks and (alert := _ALERT.match(text)):
            self.add_text(f"{alert[1].capitalize()}: {text[alert.end() :]}".strip())
        else:
            self.add_text(text)

    def _feed_tag(self, tag: Tag) -> None:
        kind = _ELEMENTS.get(tag.name)
        if tag.kind == "close":
            if kind:
                self._close(kind)
            elif tag.is_component:
                self._flush_lead()
            return
        if label := label_of(tag):
            self._set_lead(label, "\n")
        if tag.kind == "empty":
            self._flush_lead()
        if alt := tag.attributes.get("alt", "").strip():
            self.add_text(f"Figure: {alt}")
        if kind and tag.kind == "open" and len(self._frames) < 100:
            self._flush_lead()
            self._frames.append(_Frame(kind, "- " if kind == "list" else "", from_tag=True))

    def _open_or_close(self, kind: str, token: Token, *, closes: bool) -> None:
        if closes:
            self._close(kind)
            return
        self._flush_lead()
        marker = ""
        if kind == "item":
            marker = f"{token.info}{token.markup} " if token.info else "- "
        elif kind == "footnote":
            marker = f"[^{token.meta['label']}]: "
        self._frames.append(_Frame(kind, marker))

    def _close(self, kind: str) -> None:
        """Close the innermost container of that kind, and what tags have left open within it."""
        for depth in range(len(self._frames) - 1, 0, -1):
            frame = self._frames[depth]
            if frame.kind == kind:
                self._flush_lead()
                while len(self._frames) > depth:
                    self._fold()
                return
            if not frame.from_tag:
                return

    def _fold(self) -> None:
        frame = self._frames.pop()
        if frame.from_tag and self._frames[-1].kind == "row":
            self._frames[-1].blocks += frame.blocks  # a table within a table's cell
        elif text := _folded(frame):
            self._frames[-1].blocks.append(text)

    def _set_lead(self, text: str, joiner: str) -> None:
        self._flush_lead()
        self._lead = (text, joiner)

    def _flush_lead(self) -> None:
        if self._lead:
            (text, _), self._lead = self._lead, None
            self._frames[-1].blocks.append(text)


def _admonition(info: str, parser: MarkdownIt) -> tuple[str, str]:
    """The line above an admonition's text, and what stands between the two."""
    found = _ADMONITION.fullmatch(info)
    if found is None:
        return info.strip(), "\n"
    kind = found["kind"].replace("-", " ").capitalize()
    attribute = _TITLE.search(found["attributes"] or "")
    title = found["label"] or found["title"] or (attribute[0].partition("=")[2].strip("\"'{}") if attribute else "")
    children = parser.parseInline(title, {"mdx": False})[0].children or []
    shown = inline_text(children).replace("\n", " ")
    return (f"{kind}: {shown}", "\n") if shown else (f"{kind}:", " ")


def _fence(token: Token) -> str:
    language = token.info.split(maxsplit=1)[:1]
    title = _TITLE.search(token.info)
    info = " ".join([*language, title[0]] if title else language)
    longest = max((len(run) for run in re.findall("`+", token.content)), default=0)
    markup = token.markup or "`" * max(3, longest + 1)
    content = token.content if token.content.endswith("\n") or not token.content else token.content + "\n"
    return f"{markup}{info}\n{content}{markup}"


def _folded(frame: _Frame) -> str:
    """A container's blocks as one."""
    blocks = frame.blocks
    match frame.kind:
        case _ if not blocks:
            text = ""
        case "row":
            text = f"| {' | '.join(blocks)} |"
        case "table":
            text = _table(blocks)
        case "list" if frame.from_tag:
            text = "\n".join(f"- {line.removeprefix('- ')}" for block in blocks for line in block.split("\n"))
        case "list":
            text = "\n".join(blocks)
        case "quote":
            text = indent("\n\n".join(blocks), "> ", lambda _: True).replace("> \n", ">\n")
        case _:
            joiners = ("\n" if _CLOSE_TO_THE_LINE_BEFORE.match(block) else "\n\n" for block in blocks)
            text = "".join(joiner + block for joiner, block in zip(joiners, blocks, strict=True)).lstrip("\n")
            text = frame.marker + indent(text, " " * len(frame.marker))[len(frame.marker) :]
    return text


def _table(rows: list[str]) -> str:
    lines = [row if row.startswith("| ") else f"| {row} |" for block in rows for row in block.split("\n")]
    columns = lines[0].replace("\\|", "").count("|") - 1
    return "\n".join([lines[0], "| " + " | ".join(["---"] * columns) + " |", *lines[1:]])
