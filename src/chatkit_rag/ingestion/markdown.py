"""What a Markdown or MDX page says: its front matter, its title, its sections. Text in, data out; no files.

The rules are Docusaurus': heading ids as github-slugger makes them, admonitions between colons, MDX. A `.md` page
is read as MDX as soon as it looks like it (it imports, or it has a component on a line of its own), since
Docusaurus reads all pages so; otherwise braces are text in it and indented lines are code, as in plain Markdown.
"""

import math
import re
from collections.abc import Iterator
from datetime import date, time
from functools import cache
from itertools import pairwise
from typing import Any, cast

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.container import container_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from chatkit_rag.documents import Section
from chatkit_rag.ingestion.blocks import BlockWriter
from chatkit_rag.ingestion.inline import plain_text
from chatkit_rag.ingestion.mdx_rules import html_plugin, mdx_plugin
from chatkit_rag.ingestion.slugs import GithubSlugs, Slugs

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<yaml>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FRONT_MATTER_VALUES = 10_000
_FRONT_MATTER_LONGEST = 100_000
"""Characters. YAML is read at some hundred thousand a second."""
_FRONT_MATTER_NESTING = 60
_LARGEST_INTEGER = 2**63
"""Neither JSON nor an index holds it, or more."""
_NESTING = 60
_MOST_BRACKETS = 10_000
"""Opening ones outside of code blocks. Those that nothing closes are looked at once for each level of nesting."""
_MOST_LINES = 100_000
_EXPLICIT_ID = re.compile(r"\s*\{#((?:(?!\{#|\}).)+)\}$")
_COMMENT_ID = re.compile(r"(?:\{\s*/\*|<!--)\s*#(\S+?)(?:\s.*?)?\s*(?:\*/\s*\}|-->)", re.DOTALL)
_FENCE = re.compile(r" *(`{3,}|~{3,})")
_MDX_LINE = re.compile(
    r"""import\s.*\bfrom\s*["']|import\s*["']|export\s+(?:const|default|function)\s
    |[ ]{0,3}</?(?:[A-Z][\w.]*(?:[\s/>]|$)|>\s*$)""",
    re.VERBOSE,
)


class BrokenPage(ValueError):
    """A page that cannot be read; the message completes the sentence "This page was left out: …"."""


def without_controls(text: str) -> str:
    """The text without characters that nobody sees, and that terminals obey; line ends and tabs stay."""
    return text if text.isprintable() else _UNSEEN.sub("", text)  # most are, and this tells so in no time


def holds_controls(text: str) -> bool:
    """Whether a name or an address holds such characters, line ends and tabs among them."""
    return bool(_CONTROLS.search(text))


def decode_markdown(data: bytes) -> str:
    """The text of a page, without control characters.

    Raises:
        BrokenPage: it is not UTF-8.
    """
    try:
        return without_controls(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BrokenPage(f"it is not UTF-8 (at byte {error.start}): save it in that encoding") from error


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""The page's front matter as JSON values (dates as ISO strings), and the Markdown below it.

    A page without front matter has an empty one. Line ends come out as `\n`, and a byte order mark is gone.

    Raises:
        BrokenPage: the front matter is no YAML, or no mapping.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    if len(found["yaml"]) > _FRONT_MATTER_LONGEST:
        raise BrokenPage(f"its front matter has more than {_FRONT_MATTER_LONGEST:,} characters: is it one?")
    try:
        values = yaml.safe_load(found["yaml"])
        if values is None:
            return {}, text[found.end() :]
        budget = iter(range(_FRONT_MATTER_VALUES))
        front_matter = _json(values, budget)
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 2})" if error.problem_mark else ""
        problem = f"its front matter is not valid YAML{line}: {error.problem}; quote values that hold a colon"
        raise BrokenPage(problem) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, LookupError, AttributeError) as error:
        # The last two are PyYAML's own slips over what is tagged as a number, a truth value or a time and is none.
        raise BrokenPage(f"its front matter is not valid YAML: {error}") from error
    if not isinstance(front_matter, dict):
        raise BrokenPage("its front matter is no mapping: write it as lines of `name: value`")
    return cast("dict[str, Any]", front_matter), text[found.end() :]


def read_sections(
    body: str, *, title: str | None, fallback: str, mdx: bool, slugs: Slugs | None = None
) -> tuple[str, tuple[Section, ...]]:
    """The page's title and its sections in reading order.

    The title is `title` (the front matter's), else the first heading of level 1, else `fallback`. The first section
    is the page's start, with the anchor ""; so is the anchor of every heading of level 1, which Docusaurus gives no
    id. What is nested deeper than 60 levels is left out.

    Args:
        body: Markdown without its front matter.
        title: the title that goes before one in the text.
        fallback: the title for want of any other.
        mdx: whether it is MDX for certain; see the module on pages that only look like it.
        slugs: makes the headings' ids, as the page's generator does; as Docusaurus does for want of another.

    Raises:
        BrokenPage: it has more than 100,000 lines, or 10,000 opening brackets, which would take minutes to read.
    """
    if body.count("\n") > _MOST_LINES:
        raise BrokenPage(f"it has more than {_MOST_LINES:,} lines: split the page")
    slugs = slugs or GithubSlugs()
    mdx = mdx or (slugs.mdx and _looks_like_mdx(body))
    parser = _parser(mdx)
    tokens = parser.parse(body, {"mdx": mdx})
    title = " ".join((title or "").split()) or _first_title(tokens) or fallback
    writer = BlockWriter(parser)
    sections: list[Section] = []
    enclosing: list[tuple[int, str]] = []
    anchor = ""

    def finish_section() -> None:
        path = (title, *(text for _, text in enclosing if text))
        sections.append(Section(heading_path=path, anchor=anchor, blocks=writer.take()))

    stream = iter(tokens)
    for token in stream:
        if token.type != "heading_open":
            writer.feed(token)
            continue
        text, explicit, words = _heading(next(stream).children or [])
        next(stream)
        slug = slugs.slug(words) if explicit is None else explicit  # Docusaurus does not reserve explicit ids
        level = int(token.tag[1:])
        if writer.nested:
            writer.add_text(text)
        elif sections or level > 1 or text != title:
            finish_section()
            enclosing = [*((depth, above) for depth, above in enclosing if depth < level), (level, text)]
            anchor = slug if level > 1 or slugs.titles else ""
    finish_section()
    return title, tuple(sections)


def _heading(children: list[Token]) -> tuple[str, str | None, str]:
    """A heading's text, its explicit id, and the words that an id is made of otherwise."""
    last = children[-1] if children else None
    if last is not None and last.type == "expression" and (comment := _COMMENT_ID.fullmatch(last.content)):
        return plain_text(children[:-1]), comment[1], ""
    words = plain_text(children, expressions=True)
    if explicit := _EXPLICIT_ID.search(words):
        return _EXPLICIT_ID.sub("", plain_text(children)), explicit[1].strip(), ""
    return plain_text(children), None, words


def _first_title(tokens: list[Token]) -> str:
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open" and heading.tag == "h1":
            return _heading(inline.children or [])[0]
    return ""


@cache
def _parser(mdx: bool) -> MarkdownIt:  # noqa: FBT001 - the cache's key
    """The parser for pages of one kind; building it costs more than reading a short page."""
    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    footnote_plugin(parser, inline=False, move_to_end=False)
    parser.disable("footnote_ref")  # `[^1]` in a line is kept as it is written
    container_plugin(parser, "admonition", validate=_begins_admonition)
    parser.core.ruler.before("inline", "brackets", _count_brackets)
    if mdx:
        mdx_plugin(parser)
    else:
        html_plugin(parser, content=_parser(mdx=True))
    return parser


def _count_brackets(state: StateCore) -> None:
    found = sum(token.content.count("[") for token in state.tokens if token.type == "inline")
    state.env["brackets"] = state.env.get("brackets", 0) + found
    if state.env["brackets"] > _MOST_BRACKETS:
        raise BrokenPage(f"it has more than {_MOST_BRACKETS:,} opening brackets: was something else saved as Markdown?")


def _begins_admonition(info: str, _markup: str) -> bool:
    return info.strip()[:1].isalpha()


def _looks_like_mdx(body: str) -> bool:
    fence = ""
    for line in body.split("\n"):
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence) and line.strip() == found[1]:
                fence = ""
        elif not fence and _MDX_LINE.match(line):
            return True
    return False


def _json(value: Any, budget: Iterator[int], depth: int = 0) -> Any:
    """YAML's values as JSON's. Aliases can make a small text large, or endless: `budget` bounds what is written."""
    if next(budget, None) is None:
        raise ValueError("it holds too many values")
    if depth > _FRONT_MATTER_NESTING:
        raise ValueError("its values are nested too deep")
    match value:
        case dict():
            plain = {
                _json(str(key), budget): _json(item, budget, depth + 1)
                for key, item in cast("dict[Any, Any]", value).items()
            }
        case list() | tuple():
            plain = [_json(item, budget, depth + 1) for item in cast("list[Any]", value)]
        case set():
            plain = [_json(item, budget) for item in sorted(map(str, cast("set[Any]", value)))]
        case _:
            plain = _json_scalar(value)
    return plain


def _json_scalar(value: Any) -> Any:
    match value:
        case date() | time():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return str(value)
        case int() if not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
            return str(value)
        case bytes():
            return value.decode("latin-1")
        case str():
            return without_controls(value.encode(errors="replace").decode())  # half a surrogate pair is no text
        case _:
            return value
