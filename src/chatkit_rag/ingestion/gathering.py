"""Blocks of text in the making: containers that are open, what stands in them, and how each becomes one block.

A block is a paragraph, a list, a table, a quotation, a formula or a code fence, as Markdown for people. Markdown's
tokens (`blocks`) and HTML's elements (`html`) are both written through this.
"""

import re
from dataclasses import dataclass, field
from textwrap import indent

MOST_OPEN = 100
"""Containers that may be open at once; what would be deeper is not wrapped any more."""

_CLOSE_TO_THE_LINE_BEFORE = re.compile(r"(?:[-*+]|\d+[.)]) |`{3}|~{3}")


@dataclass(slots=True)
class Container:
    """What is open, and its blocks so far."""

    kind: str
    """`page`, `list`, `item`, `table`, `row`, `quote` or `footnote`."""
    marker: str = ""
    from_tag: bool = False
    """Opened by an HTML tag in Markdown, which may never be closed."""
    blocks: list[str] = field(default_factory=list[str])


class Blocks:
    """The blocks of a page, taken section by section.

    What is said *about* a piece of text (an admonition's title, a tab's label) waits as a lead and goes in front
    of the first paragraph within, so that the two are never parted.
    """

    def __init__(self) -> None:
        self._open = [Container("page")]
        self._lead: tuple[str, str] | None = None

    @property
    def innermost(self) -> Container:
        """The container that the next block goes into."""
        return self._open[-1]

    @property
    def nested(self) -> bool:
        """Whether a list, quotation or footnote is open: a heading in there begins no section."""
        return any(not container.from_tag for container in self._open[1:])

    def take(self) -> tuple[str, ...]:
        """The blocks since the last call; closes what is still open."""
        self.flush_lead()
        while len(self._open) > 1:
            self._fold()
        blocks, self._open[0].blocks = tuple(self._open[0].blocks), []
        return blocks

    def add_text(self, text: str) -> None:
        """Add a paragraph."""
        if not text:
            return
        if self._lead:
            lead, joiner = self._lead
            text, self._lead = f"{lead}{joiner}{text}", None
        self.innermost.blocks.append(text)

    def add_verbatim(self, text: str) -> None:
        """Add what must keep its lines: code, a formula."""
        self.flush_lead()
        while self.innermost.from_tag:
            self._fold()  # a table's row has one line
        self.innermost.blocks.append(text)

    def set_lead(self, text: str, joiner: str) -> None:
        """Let `text` go before the next paragraph, with `joiner` between the two."""
        self.flush_lead()
        self._lead = (text, joiner)

    def flush_lead(self) -> None:
        """Make a lead that still waits a paragraph of its own."""
        if self._lead:
            (text, _), self._lead = self._lead, None
            self.innermost.blocks.append(text)

    def open(self, kind: str, marker: str = "", *, from_tag: bool = False) -> None:
        """Let the next blocks go into a container of this kind."""
        self.flush_lead()
        self._open.append(Container(kind, marker, from_tag))

    @property
    def is_full(self) -> bool:
        """Whether as many containers are open as may be."""
        return len(self._open) >= MOST_OPEN

    def close(self, kind: str) -> None:
        """Close the innermost container of that kind, and what tags have left open within it."""
        for depth in range(len(self._open) - 1, 0, -1):
            container = self._open[depth]
            if container.kind == kind:
                self.flush_lead()
                while len(self._open) > depth:
                    self._fold()
                return
            if not container.from_tag:
                return

    def _fold(self) -> None:
        container = self._open.pop()
        if container.from_tag and self.innermost.kind == "row":
            self.innermost.blocks += container.blocks  # a table within a table's cell
        elif text := _folded(container):
            self.innermost.blocks.append(text)


def fence(content: str, info: str = "", markup: str = "") -> str:
    """A code block as Markdown, with a fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    markup = markup or "`" * max(3, longest + 1)
    content = content if content.endswith("\n") or not content else content + "\n"
    return f"{markup}{info}\n{content}{markup}"


def _folded(container: Container) -> str:
    """A container's blocks as one."""
    blocks = container.blocks
    match container.kind:
        case _ if not blocks:
            text = ""
        case "row":
            text = f"| {' | '.join(blocks)} |"
        case "table":
            text = _table(blocks)
        case "list" if container.from_tag:
            text = "\n".join(f"- {line.removeprefix('- ')}" for block in blocks for line in block.split("\n"))
        case "list":
            text = "\n".join(blocks)
        case "quote":
            text = indent("\n\n".join(blocks), "> ", lambda _: True).replace("> \n", ">\n")
        case _:
            joiners = ("\n" if _CLOSE_TO_THE_LINE_BEFORE.match(block) else "\n\n" for block in blocks)
            text = "".join(joiner + block for joiner, block in zip(joiners, blocks, strict=True)).lstrip("\n")
            text = container.marker + indent(text, " " * len(container.marker))[len(container.marker) :]
    return text


def _table(rows: list[str]) -> str:
    lines = [row if row.startswith("| ") else f"| {row} |" for block in rows for row in block.split("\n")]
    columns = lines[0].replace("\\|", "").count("|") - 1
    return "\n".join([lines[0], "| " + " | ".join(["---"] * columns) + " |", *lines[1:]])
