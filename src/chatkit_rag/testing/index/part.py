"""What the parts of the contract share: capabilities, a small course, and an embedder that needs no model."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from chatkit_rag.documents import Document, Hit, Passage, Section
from chatkit_rag.retrieval.embedding import Embedder, Vector
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.testing.embeddings import embed

CAPABILITIES = {
    "meaning": "it takes an `embedder`, and searches by vectors too",
    "generations": "`generations` and `activate`: what was served before can be served again",
    "shared": "indexes that are made for one place see what any of them publishes",
}
"""What an index may be able to do, and what a subclass of the contract gives for it."""


class MakeIndex(Protocol):
    """Makes an index over the test's own place, empty at first; not opened yet."""

    def __call__(self, *, embedder: Embedder | None = None) -> PassageIndex:
        """Another index over the same place."""
        ...


class WordsEmbedder:
    """An `Embedder` without a model, which counts what it is asked and can be made to fail."""

    def __init__(self, dimension: int = 64, *, name: str = "words") -> None:
        self._dimension = dimension
        self._name = name
        self.embedded: list[str] = []
        """The texts of passages so far."""
        self.vectors: Sequence[Vector] | None = None
        """What it gives for passages instead, however many there are."""

    @property
    def signature(self) -> str:
        """Its name."""
        return f"{self._name}:{self._dimension}"

    @property
    def dimension(self) -> int:
        """As it was made."""
        return self._dimension

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Vector]:
        """Hashed words."""
        self.embedded += texts
        return [embed(text, self._dimension) for text in texts] if self.vectors is None else self.vectors

    async def embed_query(self, text: str) -> Vector:
        """Hashed words."""
        return embed(text, self._dimension)

    async def close(self) -> None:
        """Does nothing."""


class Part:
    """A part of the contract."""


NODES = "A node is a process that does one thing in a robot."
COURSE = [
    ("/nodes", "Nodes", NODES, {"week": 1, "unit": 2, "level": "beginner", "tags": ["ros", "graph"]}),
    (
        "/topics",
        "Topics",
        "Nodes send messages over a topic; any number may subscribe.",
        {"week": 2, "unit": "2b", "level": "expert"},
    ),
    ("/gait", "Gait", "Walking has a double support phase and a swing phase.", {"week": 3.5, "draft": True}),
    (
        "/spin",
        "Quaternions",
        "A quaternion turns a robot without gimbal lock.",
        {"tags": ["maths"], "draft": False, 'a "b"': "x"},
    ),
    ("/old", "Old nodes", "Old nodes had a master.", {"version": "1.0", "released": "2019-05-01", "a b": "x"}),
    ("/new", "New nodes", "New nodes find each other.", {"version": "2.0", "released": "2024-05-01T12:00:00+02:00"}),
]


def passage(
    path: str, title: str, text: str, metadata: Mapping[str, Any] | None = None, *, site: str = "a", number: int = 0
) -> Passage:
    """A passage of the page's first section."""
    return Passage(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{site} {path} {number}")),
        path=path,
        anchor="about",
        title=title,
        heading_path=(title, f"About {title.lower()}"),
        text=text,
        url=f"https://course.test{path}#about",
        site=site,
        metadata=dict(metadata or {}),
    )


def record(of: Passage) -> PageRecord:
    """The record of a page that consists of one passage."""
    section = Section(heading_path=of.heading_path, anchor=of.anchor, blocks=(of.text,))
    document = Document(path=of.path, title=of.title, sections=(section,), metadata=of.metadata)
    return PageRecord.of(document, site=of.site, base_url="https://course.test")


def course(*sites: str) -> tuple[list[PageRecord], list[Passage]]:
    """The small course, of each site."""
    passages = [passage(*page, site=site) for site in sites or ("a",) for page in COURSE]
    return [record(one) for one in passages], passages


def paths(hits: Sequence[Hit]) -> list[str]:
    """The pages of hits, in order."""
    return [hit.passage.path for hit in hits]
