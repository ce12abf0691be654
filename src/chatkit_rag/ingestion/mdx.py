"""Where MDX's own pieces end in a text: JSX and HTML tags, `{expressions}`, comments, `import` and `export`.

Nothing is evaluated, and nothing of Markdown is known here: `mdx_rules` asks these questions from within a parser.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Literal

_MISSES = 20
_NESTING = 1_000
"""Open brackets of JavaScript; where there are more, none of them closes."""
_TAG_START = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][\w$.-]*(?::[A-Za-z][\w-]*)?)?")
_ATTRIBUTE = re.compile(
    r"""\s*(?:(?P<end>/?>)
    |(?P<spread>\{)
    |(?<=[\s"'}])(?P<name>[A-Za-z_$:@][\w$.:@-]*)
     (?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<braces>\{)|(?P<bare>[^\s"'=<>`{}]+)))?)""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<![A-Za-z][^>]*>|\{\s*/\*.*?\*/\s*\}", re.DOTALL)
_COMMENT_START = re.compile(r"<[!?]|\{\s*/\*")
_BLANK_LINE = re.compile(r"\n[ \t]*(?:\n|\Z)")
_SCRIPT = re.compile(  # an apostrophe within a word is one: JSX has prose in it
    r"""(?<!:)//[^\n]*|/\*.*?(?:\*/|\Z)|(?<!\w)"(?:[^"\\\n]|\\.)*"?|(?<!\w)'(?:[^'\\\n]|\\.)*'?|[{}()\[\]`]""",
    re.DOTALL,
)
_TEMPLATE = re.compile(r"\\.|`|\$\{", re.DOTALL)
_CONSTANT = re.compile(
    r"""^export\s+const\s+([\w$]+)\s*=\s*(-?\d[\d._]*|(?P<quote>["'])(?P<text>[^"'\\\n]*)(?P=quote))\s*(?:;|$)""",
    re.MULTILINE,
)
_PAIRS = {"}": "{", ")": "(", "]": "["}
_MODULE = re.compile(
    r"""import\s*(?:["']|[\w$*{][^;"'`]*?\bfrom\s*["'])
    |export\s+(?:default\b|\{|\*|(?:async\s+)?function\b|class\s|(?:const|let|var|type|interface)\s+[\w${\[])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Tag:
    """A JSX or HTML tag."""

    name: str
    """As written; empty for a fragment."""
    kind: Literal["open", "close", "empty"]
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those whose value is a string; expressions and spreads are left out."""

    @property
    def is_component(self) -> bool:
        """Whether it is React's (`<Tabs>`, `<Foo.Bar>`) and not HTML's."""
        return self.name[:1].isupper() or "." in self.name


class Scanner:
    """Finds where tags, comments and expressions end in one text.

    A scan that reaches the end of the text in vain is a miss. After 20 of them every further opening is plain text,
    so that no text costs more than 20 passes over it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._misses = 0

    def tag(self, start: int, *, fragments: bool) -> tuple[Tag, int] | None:
        """The tag that begins at `start`, and the position behind it; with `fragments` also `<>` and `</>`."""
        head = _TAG_START.match(self.source, start)
        if head is None:
            return None
        name, position = head["name"] or "", head.end()
        if not name:
            found = fragments and self.source.startswith(">", position)
            return (Tag("", "close" if head["close"] else "open"), position + 1) if found else None
        attributes: dict[str, str] = {}
        while part := _ATTRIBUTE.match(self.source, position):
            position = part.end()
            if part["end"]:
                kind = "close" if head["close"] else "empty" if part["end"] == "/>" else "open"
                return Tag(name, kind, attributes), position
            if part["spread"] or part["braces"]:
                end = self.expression(position - 1)
                if end is None:
                    return None
                position = end
            else:
                attributes[part["name"]] = unescape(part["double"] or part["single"] or part["bare"] or "")
        return None

    def comment(self, start: int) -> int | None:
        """The position behind the comment, declaration or `{/* … */}` that begins at `start`."""
        if self._misses >= _MISSES or not _COMMENT_START.match(self.source, start):
            return None
        found = _COMMENT.match(self.source, start)
        self._misses += found is None
        return found.end() if found else None

    def expression(self, start: int) -> int | None:
        """The position behind the brace that closes the one at `start`, by JavaScript's lexical rules."""
        stack = ["{"]
        for lexeme in self._lexemes(start + 1, stack):
            _step(stack, lexeme[0], "{`")
            if not stack:
                return lexeme.end()
        return None

    def module(self, start: int) -> int | None:
        """The position of the blank line that ends the `import` or `export` at `start`; None where there is none."""
        if self._misses >= _MISSES or not _MODULE.match(self.source, start):
            self._misses += 1
            return None
        stack: list[str] = []
        first = end = self._blank_line(start)
        for lexeme in self._lexemes(start, stack):
            if lexeme.start() >= end:
                if not stack:
                    return end
                end = self._blank_line(lexeme.start())
            _step(stack, lexeme[0], "{([`")
        return first if stack else end

    def closing_tag(self, name: str, start: int) -> tuple[int, int] | None:
        """Where the next `</name>` begins and ends."""
        if self._misses >= _MISSES:
            return None
        found = re.compile(rf"</{re.escape(name)}\s*>", re.IGNORECASE).search(self.source, start)
        self._misses += found is None
        return found.span() if found else None

    def _lexemes(self, position: int, stack: list[str]) -> Iterator[re.Match[str]]:
        if self._misses >= _MISSES:
            return
        while found := (_TEMPLATE if stack[-1:] == ["`"] else _SCRIPT).search(self.source, position):
            yield found
            if len(stack) > _NESTING:
                break
            position = found.end()
        self._misses += 1

    def _blank_line(self, start: int) -> int:
        found = _BLANK_LINE.search(self.source, start)
        return found.start() if found else len(self.source)


def _step(stack: list[str], lexeme: str, openers: str) -> None:
    """Open or close what one piece of JavaScript opens or closes; strings, comments and escapes do neither."""
    if stack[-1:] == ["`"]:
        if lexeme == "`":
            stack.pop()
        elif lexeme == "${":
            stack.append("{")
    elif lexeme in openers:
        stack.append(lexeme)
    elif stack and _PAIRS.get(lexeme) == stack[-1]:
        stack.pop()


def plain_code(html: str) -> str:
    """The text of a `<pre>`."""
    text = unescape(re.sub(r"</?[A-Za-z][^<>]*>", "", html)).strip("\n")
    literal = string_literal(text.strip())
    return (text if literal is None else literal.strip("\n")) + "\n"


def string_literal(expression: str) -> str | None:
    """The value of an expression that is one plain string, as in `{" "}`; else None."""
    inner = expression.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1].strip()
    quote = inner[:1]
    if len(inner) < 2 or quote not in "\"'`" or inner[-1] != quote or "${" in inner:
        return None
    value = inner[1:-1]
    return None if re.search(rf"(?<!\\){quote}", value) else re.sub(r"\\(.)", r"\1", value)


def constants(module: str) -> dict[str, str]:
    """The strings and numbers that `export const` names in a piece of JavaScript, for `{NAME}` in the text."""
    return {found[1]: found["text"] or found[2] for found in _CONSTANT.finditer(module)}
