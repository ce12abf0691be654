"""MDX and HTML as rules for markdown-it; because they run inside the parser, code is safe from them.

They leave tokens of two types: `tag` (its `meta["tag"]` is a `Tag`) and `expression` (its `content` is the source,
with a heading's id in it, and its `meta["shows"]` what a reader sees, as far as that is known). `import`, `export`
and what stands in `<script>` and `<style>` leave none; a `<pre>` becomes a fence. Whether braces and fragments count
is told by `env["mdx"]`.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.common.html_blocks import block_names
from markdown_it.rules_block import StateBlock, html_block
from markdown_it.rules_inline import StateInline

from chatkit_rag.ingestion.mdx import Scanner, Tag, constants, plain_code, string_literal

_BLOCK_ELEMENTS = frozenset(block_names)
_MODULE_START = re.compile(r"(?:im|ex)port\b")
_FORMATTED = re.compile(r"\.to(?:Fixed|String|LocaleString)\(\d*\)$")


def mdx_plugin(parser: MarkdownIt) -> None:
    """Read MDX: every tag on a line of its own is a block of its own, braces are expressions, no indented code."""
    parser.disable("code")
    parser.block.ruler.before("table", "module", _module)
    parser.block.ruler.at("html_block", _flow, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.inline.ruler.at("html_inline", _inline_tag)
    parser.inline.ruler.before("html_inline", "expression", _inline_expression)


def html_plugin(parser: MarkdownIt, content: MarkdownIt) -> None:
    """Read Markdown with HTML in it: what stands in an HTML block, up to its blank line, is read by `content`."""

    def block(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's signature
        if not html_block(state, first, last, silent):
            return False
        if not silent:
            content.block.parse(state.tokens.pop().content, content, state.env, state.tokens)
        return True

    parser.block.ruler.at("html_block", block, {"alt": ["paragraph", "reference", "blockquote"]})
    parser.inline.ruler.at("html_inline", _inline_tag)
    parser.inline.ruler.before("html_inline", "expression", _inline_comment)


def _scanner(state: StateBlock | StateInline) -> Scanner:
    """The scanner of the text at hand, kept between rules for its count of misses."""
    known = state.env.get("scanner")
    if not isinstance(known, Scanner) or known.source is not state.src:
        state.env["scanner"] = known = Scanner(state.src)
    return known


def _module(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001
    start = state.bMarks[first]
    if silent or state.level or state.tShift[first] or not state.env["mdx"]:
        return False
    if not _MODULE_START.match(state.src, start):
        return False
    end = _scanner(state).module(start)
    if end is None:
        return False
    state.env.setdefault("constants", {}).update(constants(state.src[start:end]))
    state.line = _line_of(state, end, first, last) + 1
    return True


def _flow(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001
    """A line that holds nothing but tags, comments and expressions; each may go on over more lines."""
    position = state.bMarks[first] + state.tShift[first]
    if position >= state.eMarks[first] or state.src[position] not in "<{" or state.is_code_block(first):
        return False
    line, found = first, list[tuple[str, Tag | str]]()
    while position < state.eMarks[line]:
        part = _flow_part(_scanner(state), position, state.eMarks[last - 1], mdx=state.env["mdx"])
        if part is None:
            return False
        kind, value, position = part
        found.append((kind, value))
        line = _line_of(state, position, line, last)
        position = state.skipSpaces(position) if line < last else position
        if line >= last:
            return False
    if silent:
        return any(
            isinstance(value, Tag) and (value.is_component or value.name in _BLOCK_ELEMENTS) for _, value in found
        )
    for kind, value in found:
        token = state.push(kind, "", 0)
        if isinstance(value, Tag):
            token.meta["tag"] = value
        else:
            token.content = value
            token.meta["shows"] = _shown(state, value)
    state.line = line + 1
    return True


def _flow_part(scanner: Scanner, position: int, limit: int, *, mdx: bool) -> tuple[str, Tag | str, int] | None:
    source = scanner.source
    if end := scanner.comment(position):
        return "comment", "", end
    if source.startswith("<!--", position):
        return "comment", "", limit  # as in HTML, it hides what follows
    if source.startswith("{", position):
        end = scanner.expression(position) if mdx and not source.startswith("{#", position) else None
        return ("expression", source[position + 1 : end - 1], end) if end else None
    if not source.startswith("<", position) or (tag := scanner.tag(position, fragments=mdx)) is None:
        return None
    name = tag[0].name.lower()
    if name in ("script", "style", "pre") and tag[0].kind == "open" and (span := scanner.closing_tag(name, tag[1])):
        content = source[tag[1] : span[0]]
        return ("fence", plain_code(content), span[1]) if name == "pre" else ("comment", "", span[1])
    return ("tag", *tag)


def _line_of(state: StateBlock, position: int, line: int, last: int) -> int:
    while line < last and state.eMarks[line] < position:
        line += 1
    return line


def _inline_tag(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    if state.src[state.pos] != "<":
        return False
    scanner = _scanner(state)
    if end := scanner.comment(state.pos):
        return _push_expression(state, end, silent=silent)
    found = scanner.tag(state.pos, fragments=state.env["mdx"])
    if found is None or found[1] > state.posMax:
        return False
    if not silent:
        state.push("tag", "", 0).meta["tag"] = found[0]
    state.pos = found[1]
    return True


def _inline_comment(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    end = _scanner(state).comment(state.pos) if state.src[state.pos] == "{" else None
    return bool(end) and _push_expression(state, end, silent=silent)


def _inline_expression(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    if state.src[state.pos] != "{" or state.src.startswith("{#", state.pos):
        return False  # `{#id}` is Docusaurus' own, and no JavaScript
    end = _scanner(state).expression(state.pos)
    return bool(end) and _push_expression(state, end, silent=silent)


def _push_expression(state: StateInline, end: int, *, silent: bool) -> bool:
    if end > state.posMax:
        return False
    if not silent:
        token = state.push("expression", "", 0)
        token.content = state.src[state.pos : end]
        token.meta["shows"] = _shown(state, token.content)
    state.pos = end
    return True


def _shown(state: StateBlock | StateInline, expression: str) -> str:
    """What a reader sees of an expression, as far as that is known without running it."""
    name = _FORMATTED.sub("", expression.strip("{} \n"))
    return state.env.get("constants", {}).get(name) or string_literal(expression) or ""
