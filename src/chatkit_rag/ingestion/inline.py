"""From Markdown's inline tokens to a line of text."""

import re
from collections.abc import Sequence

from markdown_it.common.html_blocks import block_names
from markdown_it.token import Token

from chatkit_rag.ingestion.mdx import Tag

_EMPHASIS = ("em", "strong", "s")
_FOOTNOTE_REFERENCE = re.compile(r"\[\^[^\s\[\]]+\]")
_VERBATIM = ("code_inline", "math_inline", "math_inline_double")


def inline_text(tokens: Sequence[Token]) -> str:
    """The text of a paragraph: one line, but for hard breaks; a picture that stands alone is a `Figure: …`."""
    shown = [token for token in tokens if token.content.strip() or token.type in ("image", "tag", "softbreak")]
    if len(shown) == 1 and shown[0].type == "image":
        alt = plain_text(shown[0].children or [])
        return f"Figure: {alt}" if alt else ""
    pieces: list[str] = []
    cells = False
    for token in tokens:
        piece = _piece(token)
        cells = cells or piece == " | "
        if token.type not in _VERBATIM and pieces and pieces[-1][-1:] in (" ", "\n"):
            piece = piece.lstrip(" ")
        if piece:
            pieces.append(piece)
    lines = [line.strip() for line in "".join(pieces).split("\n")]
    if cells:
        lines = [line.strip("| ") for line in lines]
    return "\n".join(line for line in lines if line)


def plain_text(tokens: Sequence[Token], *, expressions: bool = False) -> str:
    """The words alone, without emphasis; with `expressions`, their source too, as Docusaurus' heading ids have it."""
    parts: list[str] = []
    for token in tokens:
        match token.type:
            case "text":
                parts.append(_FOOTNOTE_REFERENCE.sub("", token.content))
            case "code_inline" | "math_inline" | "math_inline_double":
                parts.append(token.content)
            case "image":
                parts.append(plain_text(token.children or []))
            case "softbreak" | "hardbreak":
                parts.append("\n" if expressions else " ")
            case "expression":
                source = token.content.removeprefix("{").removesuffix("}")
                parts.append(source if expressions else token.meta["shows"])
            case _:
                pass
    return "".join(parts).strip()


def _piece(token: Token) -> str:
    match token.type:
        case "text":
            piece = token.content
        case "code_inline":
            padding = " " if "`" in (token.content[:1], token.content[-1:]) else ""
            piece = f"{token.markup}{padding}{token.content}{padding}{token.markup}"
        case "math_inline" | "math_inline_double":
            piece = token.markup + token.content.replace("\n", " ") + token.markup
        case "softbreak" | "hardbreak":
            piece = " " if token.type == "softbreak" else "\n"
        case "image":
            piece = plain_text(token.children or [])
        case "expression":
            piece = token.meta["shows"]
        case "tag":
            piece = _tag(token.meta["tag"])
        case _:
            piece = token.markup if token.tag in _EMPHASIS else ""
    return piece


def _tag(tag: Tag) -> str:
    if tag.name in ("td", "th"):
        return " | " if tag.kind == "close" else ""
    if tag.name == "br" or tag.name in block_names:
        return "\n- " if tag.name == "li" and tag.kind == "open" else "\n"
    if tag.kind == "open" and (tag.name == "TabItem" or "label" in tag.attributes) and (label := label_of(tag)):
        return f"\n{label}\n"
    return tag.attributes.get("alt", "")


def label_of(tag: Tag) -> str:
    """What a component shows above its children."""
    if not tag.is_component:
        return ""
    shown = tag.attributes.get("label") or tag.attributes.get("title")
    if tag.name == "TabItem":
        shown = shown or tag.attributes.get("value")
    if tag.name == "Admonition" and (kind := tag.attributes.get("type")):
        shown = f"{kind.capitalize()}: {shown}" if shown else f"{kind.capitalize()}:"
    return " ".join((shown or "").split())
