"""From Markdown's tokens to blocks of text that people can read.

A block keeps what a reader sees and how it was emphasised, and loses what only a browser needs: link targets, tags,
expressions.
"""

import re
from textwrap import dedent

from markdown_it import MarkdownIt
from markdown_it.token import Token

from chatkit_rag.ingestion.gathering import Blocks, fence
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


class BlockWriter(Blocks):
    """Takes a page's tokens one by one, and hands out the blocks that they make."""

    def __init__(self, parser: MarkdownIt) -> None:
        super().__init__()
        self._parser = parser

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
                self.set_lead(*_admonition(token.info, self._parser))
            case "container_admonition_close":
                self.flush_lead()
            case "tag":
                self._feed_tag(token.meta["tag"])
            case "expression" if token.meta["shows"].strip():
                self.add_verbatim(dedent(token.meta["shows"]).strip("\n"))
            case _:
                pass

    def _add_inline(self, token: Token) -> None:
        text = inline_text(token.children or [])
        container = self.innermost
        if container.kind == "row":
            container.blocks.append(text.replace("\n", " ").replace("|", "\\|") if not container.from_tag else text)
        elif container.kind == "quote" and not container.blocks and (alert := _ALERT.match(text)):
            self.add_text(f"{alert[1].capitalize()}: {text[alert.end() :]}".strip())
        else:
            self.add_text(text)

    def _feed_tag(self, tag: Tag) -> None:
        kind = _ELEMENTS.get(tag.name)
        if tag.kind == "close":
            if kind:
                self.close(kind)
            elif tag.is_component:
                self.flush_lead()
            return
        if label := label_of(tag):
            self.set_lead(label, "\n")
        if tag.kind == "empty":
            self.flush_lead()
        if alt := tag.attributes.get("alt", "").strip():
            self.add_text(f"Figure: {alt}")
        if kind and tag.kind == "open" and not self.is_full:
            self.open(kind, "- " if kind == "list" else "", from_tag=True)

    def _open_or_close(self, kind: str, token: Token, *, closes: bool) -> None:
        if closes:
            self.close(kind)
            return
        marker = ""
        if kind == "item":
            marker = f"{token.info}{token.markup} " if token.info else "- "
        elif kind == "footnote":
            marker = f"[^{token.meta['label']}]: "
        self.open(kind, marker)


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
    if shown and kind == "Tab":
        return shown, "\n"
    return (f"{kind}: {shown}", "\n") if shown else (f"{kind}:", " ")


def _fence(token: Token) -> str:
    language = token.info.split(maxsplit=1)[:1]
    title = _TITLE.search(token.info)
    info = " ".join([*language, title[0]] if title else language)
    return fence(token.content, info, token.markup)
