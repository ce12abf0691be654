"""From HTML's elements to blocks of text that people can read: the counterpart of `blocks`, for built pages."""

import re
from collections.abc import Callable, Iterable
from itertools import islice
from textwrap import dedent

from chatkit_rag.ingestion.gathering import Blocks, fence
from chatkit_rag.ingestion.html_inline import formula, inline_text, plain_text, verbatim_text
from chatkit_rag.ingestion.html_regions import is_left_out
from chatkit_rag.ingestion.html_tree import HEADINGS, Element

_LANGUAGE = re.compile(r"(?:language|lang|highlight-source|highlight|brush)[-:]\s*([\w+#.-]+)")
_NO_LANGUAGE = frozenset(
    ("default", "none", "notranslate", "plaintext", "text", "wrapper", "plain", "txt", "nohighlight")
)
_ADMONITIONS = frozenset(
    ("admonition", "theme-admonition", "starlight-aside", "markdown-alert", "blockquote-tag", "alert", "book-hint")
)
_ADMONITION_KIND = re.compile(
    r"(?:theme-admonition-|starlight-aside--|markdown-alert-|blockquote-tag-|alert-)?"
    r"(note|tip|info|warning|danger|caution|important|hint|attention|error|seealso|example|question|success|failure|bug"
    r"|abstract|quote|todo|versionadded|versionchanged|deprecated)"
)
_TITLES = ("admonition-title", "admonitionHeading", "starlight-aside__title", "markdown-alert-title", "alert-heading")
_TITLE_ENDINGS = ("__title", "-title", "-heading")
_CAPTIONS = frozenset(("filename", "code-block-caption"))
_CAPTION_BEGINNINGS = ("codeBlockTitle",)
_TAB_LABELS = frozenset(("tabbed-labels",))
_TAB_LABEL = frozenset(("sd-tab-label", "tab-label"))
_TAB_PANELS = frozenset(("tabbed-block",))
_NEAR = 50
"""Elements of an admonition that its title is looked for among: it goes first."""
_FIGURES_IN_FIGURES = 2
"""What is deeper has no caption of its own: each is looked through as a whole."""
_LAYOUT_TABLES = frozenset(("highlighttable", "lntable", "rouge-table"))


class HtmlBlocks(Blocks):
    """Takes the elements of a page, and hands out the blocks that they make.

    What begins a section is the caller's: `heads` is asked of every element, and is true for what it has dealt with.
    """

    def __init__(self, heads: Callable[[Element], bool]) -> None:
        super().__init__()
        self._heads = heads
        self._tabs: list[list[str]] = []
        """The labels of tabs whose panels are still to come, of the outermost tabs first."""

    def add(self, nodes: Iterable[Element | str]) -> None:
        """Take what stands in an element: lines are paragraphs, and blocks what they are."""
        line: list[Element | str] = []
        for node in nodes:
            if isinstance(node, str) or not (node.is_block or _is_display(node)):
                line.append(node)
                continue
            self._add_line(line)
            line = []
            self._add_block(node)
        self._add_line(line)

    def _add_line(self, nodes: list[Element | str]) -> None:
        shown = [node for node in nodes if not (isinstance(node, str) and not node.strip())]
        if len(shown) == 1 and isinstance(shown[0], Element) and (alt := _picture(shown[0])) is not None:
            self._add_figure(alt)
            return
        if len(shown) == 1 and isinstance(shown[0], Element) and shown[0].classes >= {"label"}:
            self.set_lead(plain_text(shown[0]), " ")  # the number of Sphinx' footnotes
            return
        text = inline_text(self._without_labels_of_tabs(nodes))
        if self.innermost.kind == "row":
            text = text.replace("\n", " ").replace("|", "\\|")
        self.add_text(text)

    def _add_figure(self, alt: str) -> None:
        alt = " ".join(alt.split())
        self.add_text(f"Figure: {alt}" if alt else "")

    def _without_labels_of_tabs(self, nodes: list[Element | str]) -> list[Element | str]:
        """Sphinx' tabs have each label in the line before its panel."""
        others: list[Element | str] = []
        label: Element | None = None
        for node in nodes:
            if isinstance(node, Element) and node.classes & _TAB_LABEL:
                label = node
            else:
                others.append(node)
        if label is not None:
            self._tabs.append([plain_text(label)])
        return others

    def _add_block(self, element: Element) -> None:  # noqa: C901, PLR0912 - one case an element, as HTML has them
        if is_left_out(element) or self._heads(element):
            return
        if math := formula(element):
            self.add_verbatim(f"$$\n{math[0]}\n$$")
            return
        if self._add_by_class(element):
            return
        match element.tag:
            case "pre":
                self._add_code(element)
            case "ul" | "ol":
                self._add_list(element)
            case "table" if not element.classes & _LAYOUT_TABLES:
                self._add_table(element)
            case "blockquote" if not self.is_full:
                self.open("quote")
                self.add(element.children)
                self.close("quote")
            case "dt":
                self.set_lead(plain_text(element).rstrip(" :") + ":", " ")
            case "dd" | "details":
                self.add(element.children)
                self.flush_lead()
            case "summary":
                self.set_lead(plain_text(element), "\n")
            case "figure":
                self._add_picture(element)
            case tag if tag in HEADINGS:
                self.add_text(plain_text(element))
            case _:
                self.add(element.children)

    def _add_by_class(self, element: Element) -> bool:
        """Deal with what is known by its class or role alone; false where it is nothing of the kind."""
        classes = element.classes
        if element.attributes.get("role") == "tablist" or classes & _TAB_LABELS:
            labels = [
                plain_text(inner)
                for inner in element.walk()
                if inner.attributes.get("role") == "tab" or (inner.tag == "label" and classes & _TAB_LABELS)
            ]
            self._tabs.append(labels)
        elif element.attributes.get("role") == "tabpanel" or classes & _TAB_PANELS or _follows_its_label(element):
            self._add_tab(element)
        elif classes & _ADMONITIONS or (element.tag == "details" and _kind(element)):
            self._add_admonition(element)
        elif classes & _CAPTIONS or any(name.startswith(_CAPTION_BEGINNINGS) for name in classes):
            self.set_lead(plain_text(element), "\n")
        else:
            return False
        return True

    def _add_tab(self, panel: Element) -> None:
        while self._tabs and not self._tabs[-1]:
            self._tabs.pop()
        if self._tabs:
            self.set_lead(self._tabs[-1].pop(0), "\n")
        self.add(panel.children)
        self.flush_lead()

    def _add_admonition(self, element: Element) -> None:
        kind = _kind(element)
        near = islice(element.walk(), 1, _NEAR)
        title = next(filter(_is_title, near), None)
        shown = plain_text(title) if title is not None else ""
        if not kind and element.tag == "details":
            self.set_lead(shown, "\n")
        elif not kind or shown.lower() in ("", kind):
            name = shown or kind or "note"
            self.set_lead(f"{name[0].upper()}{name[1:].rstrip(':')}:", " ")
        else:
            self.set_lead(f"{kind.capitalize()}: {shown}", "\n")
        if title is not None:
            title.attributes = {"hidden": ""}  # said already
        self.add(element.children)
        self.flush_lead()

    def _add_code(self, pre: Element) -> None:
        code = verbatim_text(pre).strip("\n")
        if not code.strip():
            return
        if self.innermost.kind == "row":
            self.add_text(" ".join(code.split()).replace("|", "\\|"))
            return
        self.add_verbatim(fence(dedent(code) if code.startswith(" ") else code, _language(pre)))

    def _add_list(self, element: Element) -> None:
        if self.is_full or self.innermost.kind == "row":
            self.add(element.children)
            return
        self.open("list")
        start = element.attributes.get("start", "")
        number = int(start) if start.isdecimal() and len(start) < 9 else 1
        for item in element.elements:
            if is_left_out(item):
                continue
            self.open("item", f"{number}. " if element.tag == "ol" else "- ")
            self.add(item.children if item.tag == "li" else [item])
            self.close("item")
            number += 1
        self.close("list")

    def _add_table(self, element: Element) -> None:
        rows = [row for row in element.walk() if row.tag == "tr" and _table_of(row) is element]
        cells = [[cell for cell in row.elements if cell.tag in ("td", "th")] for row in rows]
        only_places = max(map(len, cells), default=0) < 2 or (
            len(rows) == 1 and any(inner.tag == "pre" for inner in element.walk())  # code beside its numbers
        )
        if self.is_full or self.innermost.kind == "row" or only_places:
            self.add(element.children)
            return
        self.open("table")
        for row in filter(None, cells):
            self.open("row")
            texts = [_cell(cell) for cell in row]
            self.innermost.blocks += texts
            self.close("row")
        self.close("table")

    def _add_picture(self, figure: Element) -> None:
        """A figure whose caption says what its alternative text does says it once."""
        if sum(above.tag == "figure" for above in figure.enclosing()) > _FIGURES_IN_FIGURES:
            self.add(figure.children)
            return
        caption = next((plain_text(inner) for inner in figure.walk() if inner.tag == "figcaption"), "")
        for inner in figure.walk():
            if inner.tag == "img" and " ".join(inner.attributes.get("alt", "").split()) == caption:
                inner.attributes = {}
        if any(inner.tag == "pre" for inner in figure.walk()):
            self.set_lead(caption, "\n") if caption else None
            self.add(
                [inner for inner in figure.children if not (isinstance(inner, Element) and inner.tag == "figcaption")]
            )
            return
        self.add(figure.children)


def _cell(cell: Element) -> str:
    """What a cell says, in one line."""
    within = HtmlBlocks(lambda _: False)
    within.add(cell.children)
    text = " ".join(
        " ".join(block.split()) if not block.startswith("```") else _unfenced(block) for block in within.take()
    )
    return text.replace("|", "\\|")


def _unfenced(block: str) -> str:
    return " ".join(block.split("\n", 1)[1].rsplit("\n", 1)[0].split())


def _table_of(row: Element) -> Element | None:
    return next((above for above in row.enclosing() if above.tag == "table"), None)


def _is_display(element: Element) -> bool:
    math = formula(element)
    return math is not None and math[1]


def _picture(element: Element) -> str | None:
    """The alternative text of a picture that stands alone, also within a link; None where there is more or none."""
    while element.tag in ("a", "picture", "span", "p"):
        inner = [child for child in element.children if not (isinstance(child, str) and not child.strip())]
        pictures = [child for child in inner if isinstance(child, Element) and child.tag != "source"]
        if (
            len(pictures) != 1
            or len(pictures) != len([child for child in inner if isinstance(child, Element) is False]) + 1
        ):
            return None
        element = pictures[0]
    return element.attributes.get("alt", "") if element.tag == "img" else None


def _language(pre: Element) -> str:
    """The language that the code is marked with: on it, in it, or around it."""
    near = [*(inner for inner in pre.elements if inner.tag == "code"), pre]
    for above in pre.enclosing():
        if len(near) > 9 or above.tag in ("article", "body", "li", "main", "section"):
            break
        near.append(above)
    for element in near:
        attributes = element.attributes
        named = attributes.get("data-lang") or attributes.get("data-language") or ""
        found = named or next((found[1] for name in element.classes if (found := _LANGUAGE.fullmatch(name))), "")
        if found:
            return "" if found.lower() in _NO_LANGUAGE else found.lower()
    return ""


def _kind(element: Element) -> str:
    kinds = (
        found[1] for name in element.attributes.get("class", "").split() if (found := _ADMONITION_KIND.fullmatch(name))
    )
    return next(kinds, "")


def _is_title(element: Element) -> bool:
    return element.tag == "summary" or any(
        name.startswith(_TITLES) or name.endswith(_TITLE_ENDINGS) for name in element.classes
    )


def _follows_its_label(element: Element) -> bool:
    if not element.classes & {"sd-tab-content", "tab-content"} or element.parent is None:
        return False
    return any(inner.classes & _TAB_LABEL for inner in element.parent.elements)
