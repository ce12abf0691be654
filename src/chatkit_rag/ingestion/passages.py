"""Cutting pages into passages: pieces of one section, long enough to say something and short enough to cite.

A section of up to 220 words is one passage. A longer one is cut between blocks into passages of 150 to 220 words
that are as even as its blocks allow; a block that is longer than that itself is cut at its items, rows or sentences.
Code fences stay whole, unless they are longer than anything that a model could be given.
"""

import json
import math
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

from chatkit_rag.documents import Document, Passage, page_url

MOST_WORDS = 220
"""What a passage holds at most, but for a longer fence."""
LEAST_WORDS = 150
"""What a piece of a longer section holds at least, where its blocks allow it."""

_NAMESPACE = uuid.UUID("5c3ac07e-3d0e-5b7c-8a53-0d6a3b6f9f0e")
_LONGEST = 20_000
"""Characters of a passage: logs and data in a fence, or in a word without an end, go on for megabytes."""
_SHORT_INTRODUCTION = 60
"""What may stand before a fence that is too long already."""
_CRUMB = 20
"""Short blocks, sentences, rows and items are taken together up to so many words: the cut need not be finer."""
_PARTED_FROM_ITS_INTRODUCTION = 4_000
_CUT_WITHIN_A_BLOCK = 400

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
SENTENCE_END = re.compile(r"[.!?…؟۔।][\"'”’)\]*_]*\s+(?![a-z])|[。！？]")  # noqa: RUF001 - these end sentences
_FENCE = re.compile(r"(?:[\s>]|[-*+] |\d+[.)] )*(`{3,}|~{3,})")
_ITEM = re.compile(r"(?:[-*+]|\d+[.)]) ")


def cut_passages(document: Document, *, site: str, base_url: str) -> list[Passage]:
    """The passages of a page, in reading order; a section without text has none.

    A passage's id depends on the site, the page, the anchor and the position under that anchor, and on nothing else.

    Args:
        document: the page.
        site: the name that the page is searched under.
        base_url: the site's public address, which citations begin with; may be empty.
    """
    metadata = _searchable(document.metadata)
    positions: Counter[str] = Counter()  # two headings of a page may share an anchor
    passages: list[Passage] = []
    for section in document.sections:
        for text in cut_blocks(section.blocks):
            position = positions[section.anchor]
            positions[section.anchor] += 1
            identity = json.dumps([site, document.path, section.anchor, position])
            passages.append(
                Passage(
                    id=str(uuid.uuid5(_NAMESPACE, identity)),
                    path=document.path,
                    anchor=section.anchor,
                    title=document.title,
                    heading_path=section.heading_path,
                    text=text,
                    url=page_url(base_url, document.address or document.path, section.anchor),
                    site=site,
                    metadata=metadata,
                )
            )
    return passages


def cut_blocks(blocks: tuple[str, ...]) -> list[str]:
    """One section's blocks as texts of at most 220 words, but for longer fences; no text is lost or moved."""
    parts = [part for block in blocks for part in _whole(block)]
    if sum(part.words for part in parts) > MOST_WORDS:
        parts = _gathered([piece for part in parts for piece in _split(part)])
        return [text for piece in _even_pieces(parts) for text in _bounded(_join(piece))]
    return [*_bounded(_join(parts))] if parts else []


def _bounded(text: str) -> Iterator[str]:
    """The text, where it has at most 20,000 characters; else runs of its lines, a fence opened again in each."""
    if len(text) <= _LONGEST:
        yield text
        return
    run: list[str] = []
    size = 0
    opening = fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        closes = bool(fence and found and found[1].startswith(fence))
        for start in range(0, max(len(line), 1), _LONGEST):
            piece = line[start : start + _LONGEST]
            if run and not closes and size + len(piece) > _LONGEST:
                yield "\n".join([*run, fence] if fence else run)
                run = [opening] if fence else []
                size = 0
            run.append(piece)
            size += len(piece) + 1
        if closes:
            fence = ""
        elif found and not fence:
            opening, fence = (line if len(line) < _LONGEST // 100 else found[1]), found[1]
    yield "\n".join(run)


def count_words(text: str) -> int:
    """How many words a text has; two characters make one where the script puts no spaces between words."""
    return len(text.split()) + len(_UNSPACED.findall(text)) // 2


@dataclass(frozen=True, slots=True)
class _Part:
    """What is never cut: a block, or a piece of a long one."""

    text: str
    words: int
    kind: str
    joiner: str = "\n\n"
    """What stands before it where it follows another part."""
    header: str = ""
    """What is repeated before it where a passage begins with it: a table's first two lines."""

    def introduces(self, following: "_Part") -> bool:
        """Whether the two belong together: words and the code, list or table that they announce."""
        return following.joiner == "\n\n" and (
            (self.kind == "text" and following.kind == "fence") or self.text.endswith((":", "\uff1a"))
        )


def _whole(block: str) -> Iterator[_Part]:
    if not block.strip():
        return
    if block.startswith(("```", "~~~")):
        kind = "fence"
    elif block.startswith("| ") and "\n| ---" in block:
        kind = "table"
    else:
        kind = "list" if _ITEM.match(block) else "text"
    yield _Part(block, count_words(block), kind)


def _split(part: _Part) -> Iterator[_Part]:
    """The pieces that a part may be cut into: itself, where it is short enough or a fence."""
    if part.words <= MOST_WORDS or part.kind == "fence":
        yield part
        return
    match part.kind:
        case "table":
            crumbs = _rows(part.text)
        case "list":
            crumbs = [crumb for item in _items(part.text) for crumb in _shortened(item, "list")]
        case _:
            crumbs = _shortened(part.text, "text")
    yield replace(crumbs[0], joiner=part.joiner)
    yield from crumbs[1:]


def _rows(table: str) -> list[_Part]:
    header, separator, *rows = table.split("\n")
    repeated = f"{header}\n{separator}\n"
    begun = repeated + rows[0] if rows else table
    first = _Part(begun, count_words(begun), "table")
    return [first, *(_Part(row, count_words(row), "table", "\n", repeated) for row in rows[1:])]


def _items(text: str) -> list[str]:
    """A list's items, each with what stands under it."""
    items: list[str] = []
    for line in _lines(text):
        if items and not _ITEM.match(line):
            items[-1] += f"\n{line}"
        else:
            items.append(line)
    return items


def _lines(text: str) -> list[str]:
    """A text's lines; a fence within, which may be indented or quoted, counts as one."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            lines[-1] += f"\n{line}"
            if found and found[1].startswith(fence):
                fence = ""
        else:
            lines.append(line)
            fence = found[1] if found else ""
    return lines


def _shortened(text: str, kind: str) -> list[_Part]:
    """A text as it is, where it is short enough; else its lines, and the sentences of long ones."""
    if count_words(text) <= MOST_WORDS:
        return [_Part(text, count_words(text), kind, "\n")]
    parts: list[_Part] = []
    for line in _lines(text):
        sentences = [(line, "\n")] if "\n" in line or count_words(line) <= MOST_WORDS else _sentences(line)
        parts += [_Part(sentence, count_words(sentence), kind, joiner) for sentence, joiner in sentences]
    return parts


def _sentences(line: str) -> Iterator[tuple[str, str]]:
    """The sentences of a line, and what stands before each; one without an end in sight is cut between words."""
    start, joiner = 0, "\n"
    ends = [found.end() for found in SENTENCE_END.finditer(line)]
    for end in [*ends, len(line)]:
        sentence = line[start:end]
        words = sentence.split() if count_words(sentence) > MOST_WORDS else []
        for piece in _runs(words) if words else [sentence.rstrip()]:
            if piece:
                yield piece, joiner
                joiner = " "
        joiner = " " if sentence[-1:].isspace() else ""
        start = end


def _runs(words: list[str]) -> Iterator[str]:
    for first in range(0, len(words), _CRUMB):
        run = " ".join(words[first : first + _CRUMB])
        step = len(run) if count_words(run) <= MOST_WORDS else MOST_WORDS  # a script without spaces
        yield from (run[start : start + step] for start in range(0, len(run), step))


def _gathered(parts: list[_Part]) -> list[_Part]:
    """The same text in fewer parts."""
    gathered = parts[:1]
    for part in parts[1:]:
        last = gathered[-1]
        if last.words + part.words <= _CRUMB:
            text = last.text + part.joiner + part.text
            gathered[-1] = replace(last, text=text, words=last.words + part.words, kind=part.kind)
        else:
            gathered.append(part)
    return gathered


def _even_pieces(parts: list[_Part]) -> Iterator[list[_Part]]:
    """The parts in runs of up to 220 words, so that the runs are even and cuts fall where the text has them.

    Every way to cut is weighed (dynamic programming over the last cut), which stays linear since a run is short.
    """
    sums = [0]
    for part in parts:
        sums.append(sums[-1] + part.words)
    ideal = sums[-1] / math.ceil(sums[-1] / MOST_WORDS)
    costs, cuts = [0.0], [0]
    for end in range(1, len(parts) + 1):
        best, cut = math.inf, end - 1
        for start in range(end - 1, -1, -1):
            words = sums[end] - sums[start] + count_words(parts[start].header)
            if words > MOST_WORDS and not _may_be_long(parts[start:end]):
                break
            cost = costs[start] + _cost(parts, start, words, ideal)
            if cost < best:
                best, cut = cost, start
        costs.append(best)
        cuts.append(cut)
    bounds = [len(parts)]
    while bounds[-1]:
        bounds.append(cuts[bounds[-1]])
    for end, start in reversed(list(pairwise(bounds))):
        yield parts[start:end]


def _may_be_long(run: list[_Part]) -> bool:
    """What cannot be cut may be, and so may a long fence with a few words that introduce it."""
    if len(run) == 2 and run[1].words > MOST_WORDS and run[0].words <= _SHORT_INTRODUCTION:
        return run[0].introduces(run[1])
    return len(run) == 1


def _cost(parts: list[_Part], start: int, words: int, ideal: float) -> float:
    cost = max(0, LEAST_WORDS - words) ** 2 + min(abs(words - ideal), MOST_WORDS) ** 2 / 10
    if start and parts[start - 1].introduces(parts[start]):
        cost += _PARTED_FROM_ITS_INTRODUCTION
    if start and parts[start].joiner != "\n\n":
        cost += _CUT_WITHIN_A_BLOCK
    return cost


def _join(parts: list[_Part]) -> str:
    first, *others = parts
    return first.header + first.text + "".join(part.joiner + part.text for part in others)


def _searchable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that an index can filter by: plain values, and lists of them."""

    def is_plain(value: Any) -> bool:
        return isinstance(value, str | int | float | bool)

    return {
        name: value
        for name, value in metadata.items()
        if is_plain(value) or (isinstance(value, list) and all(is_plain(item) for item in cast("list[Any]", value)))
    }
