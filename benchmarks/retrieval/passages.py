"""What is searched: the passages of real collections, and a large corpus made of our own course's sentences."""

import asyncio
import random
import uuid
from pathlib import Path

import numpy as np

from chatkit_rag import ingest
from chatkit_rag.documents import Passage
from chatkit_rag.evaluation.beir import Collection, read_collection
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.retrieval import MemoryIndex

COURSE = Path(__file__).parents[2] / "examples" / "course"
DIMENSION = 384
"""Of the vectors: that of the small models that run in a process."""
_SENTENCES = (4, 12)
"""A passage of the large corpus has so many sentences: some 120 words, as those of real courses."""


def cut(collection: Collection) -> list[Passage]:
    """A collection's passages, as ours are cut: everybody searches the same ones."""
    return [passage for page in collection.pages for passage in cut_passages(page, site="default", base_url="")]


def of_course() -> list[Passage]:
    """The passages of the example course."""

    async def read() -> list[Passage]:
        index = MemoryIndex()
        await ingest(COURSE / "docs", index)
        pages = [record.document for record in await index.records()]
        return [passage for page in pages for passage in cut_passages(page, site="default", base_url="")]

    return asyncio.run(read())


def recombined(number: int, *, seed: int = 7) -> list[Passage]:
    """So many passages of the course's sentences, drawn anew: its words, in its proportions."""
    chance = random.Random(seed)
    real = of_course()
    sentences = [line for passage in real for line in passage.text.replace(". ", ".\n").split("\n") if line.strip()]
    headings = [passage.heading_path for passage in real]
    made: list[Passage] = []
    for position in range(number):
        heading_path = chance.choice(headings)
        path = f"/made/{position // 8}"
        made.append(
            Passage(
                id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                path=path,
                anchor=f"a{position}",
                title=heading_path[0],
                heading_path=heading_path,
                text=" ".join(chance.choices(sentences, k=chance.randint(*_SENTENCES))),
                url=f"{path}#a{position}",
            )
        )
    return made


def questions(passages: list[Passage], number: int, *, seed: int = 8) -> list[str]:
    """Eight words in a row out of passages drawn by chance."""
    chance = random.Random(seed)
    asked: list[str] = []
    for passage in chance.choices(passages, k=number):
        said = passage.text.split()
        start = chance.randrange(max(1, len(said) - 8))
        asked.append(" ".join(said[start : start + 8]))
    return asked


def vectors(number: int, *, seed: int) -> list[list[float]]:
    """Unit vectors in any direction: their meaning is nothing, their cost is the same."""
    made = np.random.default_rng(seed).normal(size=(number, DIMENSION)).astype(np.float32)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).tolist()


def text_of(passage: Passage) -> str:
    """A passage as the others index it: its headings, then its text."""
    return f"{' > '.join(passage.heading_path)}\n{passage.text}"


def collection_at(folder: Path) -> Collection:
    return read_collection(folder)
