"""Citations out of a model's text: `[2]` becomes a numbered reference at that place. Pure.

The model writes the number of a passage between brackets, in pieces that may be cut anywhere. The reader takes the
markers out of the text, checks each number against the turn's passages, and says where it stood. Numbers that name no
passage vanish and are counted; brackets in code are code.
"""

import re
from collections.abc import Sequence

from chatkit_rag.documents import Citation, Passage

_TOKEN = re.compile(
    r"""
    (?P<ticks>`+)
    | (?P<blank>\n[ \t]*\n)
    | [ \t]*\[ (?P<numbers> \d{1,3} (?:[ ]*,[ ]*\d{1,3})* ) \]
    """,
    re.VERBOSE,
)
_UNDECIDED = re.compile(r"(?: `+ | (?:\n[ \t]*)+ | [ \t]*\[[\d, ]* | [ \t]+ )\Z", re.VERBOSE)
"""The end of a piece that the next one may turn into a token."""

_PERHAPS = re.compile(r"[`\[\n\0]|[ \t]\Z")
"""Where it is not found, a piece is text and nothing else."""

_FENCE = 3


class CitationReader:
    """Reads one answer, piece by piece."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """`passages` are numbered from 1; the list may grow while the answer is read."""
        self.citations: list[Citation] = []
        self.unknown = 0
        """How many numbers named no passage."""
        self._passages = passages
        self._texts: list[str] = []
        self._held = ""
        self._open_ticks = 0

    @property
    def text(self) -> str:
        """What was read so far, without markers."""
        self._texts = ["".join(self._texts)]
        return self._texts[0]

    def take(self, text: str) -> None:
        """Text of ours: what looks like a marker in it is none."""
        self._texts.append(text)

    def feed(self, piece: str) -> list[str | Citation]:
        """Text and citations that are certain now, in order. What may still become a marker is held back."""
        if not self._held and not _PERHAPS.search(piece):
            self._texts.append(piece)
            return [piece] if piece else []
        # No database's text holds a NUL, and no reader misses one.
        buffer = self._held + piece.replace("\0", "")
        undecided = _UNDECIDED.search(buffer)
        end = undecided.start() if undecided else len(buffer)
        self._held = buffer[end:]
        return self._read(buffer[:end])

    def close(self) -> list[str | Citation]:
        """What was still held back; the answer is complete."""
        rest, self._held = self._held, ""
        return self._read(rest)

    def _read(self, text: str) -> list[str | Citation]:
        output: list[str | Citation] = []
        plain_from = 0
        for token in _TOKEN.finditer(text):
            if token["ticks"]:
                self._see_ticks(len(token["ticks"]))
            elif token["blank"]:
                # A backtick that is not closed within its paragraph is no code.
                self._open_ticks = self._open_ticks if self._open_ticks >= _FENCE else 0
            elif not self._open_ticks:
                output += self._text(text[plain_from : token.start()])
                output += self._cite(token["numbers"])
                plain_from = token.end()
        return output + self._text(text[plain_from:])

    def _see_ticks(self, count: int) -> None:
        if not self._open_ticks:
            self._open_ticks = count
        elif count == self._open_ticks or (self._open_ticks >= _FENCE and count > self._open_ticks):
            self._open_ticks = 0

    def _text(self, text: str) -> list[str | Citation]:
        self._texts.append(text)
        return [text] if text else []

    def _cite(self, numbers: str) -> list[str | Citation]:
        found: list[str | Citation] = []
        for number in map(int, numbers.split(",")):
            if not 1 <= number <= len(self._passages):
                self.unknown += 1
                continue
            citation = Citation(number=number, passage=self._passages[number - 1], index=len(self.text))
            if citation not in self.citations:
                self.citations.append(citation)
                found.append(citation)
        return found
