"""Text that arrived together, and is shown in the pieces that it came in. Pure."""

from collections.abc import Sequence


class Pieces(str):
    """A text that remembers where it was cut.

    What a model says while nobody looks arrives at once. It goes through a turn as one text, in one event, and leaves
    as an event for each piece: what is done once for a piece is only what its own bytes need. Everywhere between, it
    is a text like any other; whoever makes another one of it makes one of one piece.
    """

    __slots__ = ("pieces",)

    pieces: Sequence[str]
    """What it is joined of."""

    @classmethod
    def joined(cls, pieces: Sequence[str]) -> str:
        """The text of `pieces`."""
        if len(pieces) == 1:
            return pieces[0]
        text = cls("".join(pieces))
        text.pieces = pieces
        return text


def pieces_of(text: str) -> Sequence[str]:
    """What `text` is joined of; the text alone, where it came at once."""
    return text.pieces if type(text) is Pieces else (text,)
