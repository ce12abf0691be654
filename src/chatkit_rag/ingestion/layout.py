"""What is known of every generator whose pages can be read from a folder."""

from pathlib import PurePosixPath
from typing import Protocol

from chatkit_rag.documents import Document


class Layout(Protocol):
    """How a generator lays out its pages in a folder."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of pages end in."""
        ...

    @property
    def starts(self) -> tuple[PurePosixPath, ...]:
        """The folders below the root that hold pages."""
        ...

    @property
    def settings(self) -> str:
        """What decides how a page is read, besides what is in it."""
        ...

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """The page in a file; None where it is left out in silence.

        Raises:
            BrokenPage: it cannot be read.
        """
        ...
