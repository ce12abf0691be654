"""Addresses out of a model's text, unless they are known. Pure.

An address that a model writes is invented, or is where somebody else wants the reader to go, or carries away what was
said. So it is replaced by its host, which is text. A link to what is not known keeps its label in brackets, and an
image its description. This holds in code as well: where a fence ends is for whoever renders it to decide.

The text comes in pieces that may be cut anywhere. What may become an address or a link's target is held back.
"""

import re
from collections.abc import Callable

_LONGEST = 2_000
"""Characters that are held back at most."""

# As Markdown reads it: a character may be escaped, or written as an entity.
_COLON = r"(?:\\?:|&(?:colon|\#0*58|\#x0*3a);)"
_SLASH = r"(?:\\?/|&(?:sol|\#0*47|\#x0*2f);)"
_AT_START = r"(?<![a-z0-9])"
_SCHEME = rf"{_AT_START}(?:(?:https?|ftp){_COLON}{_SLASH}{{2}}|www\.)"
_REST = r"[^\s<>\"'`)\]]*"
_DEFINITION = r"^[ ]{0,3}(?:[>*+-][ ]*)*\["
_TARGET = r"[^()]*(?:\([^()]*\)[^()]*)*"

_FOUND = re.compile(
    rf"(?P<scheme>{_SCHEME})(?P<rest>{_REST})"
    rf"|\]\((?P<target>{_TARGET})\)"
    rf"|(?P<definition>{_DEFINITION}[^\]\n]+\]):",
    re.IGNORECASE | re.MULTILINE,
)
_UNDECIDED = re.compile(
    rf"(?:{_SCHEME}{_REST}"
    rf"|{_AT_START}(?:h(?:t(?:tp?)?)?|f(?:tp?)?|ww?w?|(?:https?|ftp)(?:[\\&:][\\&:/\#\w;]{{0,24}})?)"
    rf"|\](?:\({_TARGET}(?:\([^()]*)?)?"
    rf"|{_DEFINITION}[^\]\n]*\]?)\Z",
    re.IGNORECASE | re.MULTILINE,
)
"""The end of a piece that the next one may turn into something to be replaced."""
_PERHAPS = re.compile(r"[\]\[:&\\]|ww|(?<![a-z0-9])(?:h(?:t(?:tps?)?)?|htt|ft?p?|w)\Z", re.IGNORECASE)
"""Where it is not found, a piece is text and nothing else."""

_BEFORE = 8
"""Characters of what was passed on that say what the next piece begins in the middle of."""
_MID_LINE = "x"
"""Stands before them, unless the text begins with them."""
_LEADS_AWAY = re.compile(r"[:/\\&]|^[#?]")
"""What a target has that is none of code's: `handlers[name](event)` is a call."""
_TRAILING = ".,;:!?*_~"
_HOST = re.compile(r"(?:[^/?#\\&]*@)?(?:www\.)*([^/?#\\&]*)", re.IGNORECASE)


class LinkReader:
    """Reads one answer, piece by piece."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        """`is_known` says of an address or a link's target whether it may stay."""
        self.removed = 0
        """How many addresses and links were replaced."""
        self._is_known = is_known
        self._held = ""
        self._before = ""
        self._since: list[str] = []
        """What was passed on behind `_before`: looked at when that is needed."""

    def feed(self, piece: str) -> str:
        """The text that is certain now, without what may not stay."""
        if not self._held and not _PERHAPS.search(piece):
            self._since.append(piece)
            return piece
        self._look_back()
        buffer = self._before + self._held + piece
        undecided = _UNDECIDED.search(buffer)
        end = max(undecided.start(), len(self._before)) if undecided else len(buffer)
        end = end if len(buffer) - end <= _LONGEST else len(buffer)
        text, self._held = buffer[:end], buffer[end:]
        if undecided and not self._held:
            # Too long to be waited for: it is no link any more, whatever comes.
            text = f"{text[: undecided.start()]}{undecided[0].replace('](', '] (', 1)}"
        return self._passed(text)

    def close(self) -> str:
        """What was still held back; the answer is complete."""
        rest, self._held = self._held, ""
        self._look_back()
        return self._passed(self._before + rest)

    def _look_back(self) -> None:
        if self._since:
            self._before = _end(self._before + "".join(self._since))
            self._since.clear()

    def _passed(self, text: str) -> str:
        """What is new in `text`, which begins with `_before`."""
        known = len(self._before)

        def replaced(found: re.Match[str]) -> str:
            # Of what was passed on already, only a definition may still become whole.
            is_old = found.end() <= known or (found.start() < known and not found["definition"])
            return found[0] if is_old else self._replaced(found)

        self._before = _end(text)
        return _FOUND.sub(replaced, text)[known:]

    def _replaced(self, found: re.Match[str]) -> str:
        if found["scheme"]:
            address = found[0].rstrip(_TRAILING)
            if self._is_known(address):
                return found[0]
            self.removed += 1
            host = _HOST.match(found["rest"])
            return (host[1].rstrip(_TRAILING) if host else "") + found[0][len(address) :]
        if found["definition"]:
            self.removed += 1
            return f"{found['definition']} :"
        target = (found["target"].split() or [""])[0].strip("<>")
        if not _LEADS_AWAY.search(target) or self._is_known(target):
            return found[0]
        self.removed += 1
        return "]"


def _end(text: str) -> str:
    return text if len(text) <= _BEFORE else _MID_LINE + text[-_BEFORE:]
