"""Search measured on a collection in BEIR's format: a folder of pages, questions, and which pages answer which.

Every record of the corpus is a page, in Markdown or plain text, which is cut and indexed as a site's pages are; the
judgements are of pages, and so a page's rank is its best passage's.
"""

import csv
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from chatkit_rag.documents import Document, page_url
from chatkit_rag.errors import EvaluationError
from chatkit_rag.evaluation.measures import mean, ndcg, recall, reciprocal_rank
from chatkit_rag.evaluation.report import Miss, Report
from chatkit_rag.ingestion.markdown import read_sections
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.embedding import Embedder
from chatkit_rag.retrieval.retriever import Retriever

_DEPTH = 10
_JUDGEMENTS = ("qrels.tsv", "qrels/test.tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Pages, questions, and judgements."""

    pages: Sequence[Document]
    """Each at the path of its record's id."""
    questions: Mapping[str, str]
    """By id; those that nothing was judged right for are left out."""
    judgements: Mapping[str, Mapping[str, float]]
    """Question's id -> page's path -> gain, above 0."""


def read_collection(folder: Path) -> Collection:
    """The collection in a folder: `corpus.jsonl`, `queries.jsonl`, and `qrels.tsv` or `qrels/test.tsv`.

    Raises:
        EvaluationError: a file is missing or not in the format, or no question has a judgement.
    """
    pages = [_page(record) for record in _records(folder / "corpus.jsonl", "_id", "text")]
    if not pages:
        raise EvaluationError(f"{folder / 'corpus.jsonl'} holds no page")
    asked = {record["_id"]: record["text"] for record in _records(folder / "queries.jsonl", "_id", "text")}
    place = next((folder / name for name in _JUDGEMENTS if (folder / name).is_file()), folder / _JUDGEMENTS[0])
    judgements: dict[str, dict[str, float]] = {}
    for question, page, gain in _judgements(place):
        if gain > 0 and question in asked:
            judgements.setdefault(question, {})[_path(page)] = gain
    if not judgements:
        raise EvaluationError(f"{place} judges no page right for any question of {folder / 'queries.jsonl'}")
    return Collection(pages=pages, questions={name: asked[name] for name in judgements}, judgements=judgements)


async def evaluate_beir(folder: Path, *, language: str = "english", embedder: Embedder | None = None) -> Report:
    """Indexes the collection in `folder` aside, asks its questions, and measures the pages that are found.

    Raises:
        EvaluationError: the folder holds no such collection.
        ConfigurationError: no language is called so.
    """
    collection = read_collection(folder)
    with tempfile.TemporaryDirectory(prefix="chatkit-rag-") as place:
        async with EdgeIndex(place, language=language, embedder=embedder) as index:
            await ingest(_each(collection.pages), index)
            return await _measured(Retriever(index), collection)


async def _measured(retriever: Retriever, collection: Collection) -> Report:
    figures: dict[str, list[float]] = {name: [] for name in ("ndcg@10", "recall@5", "recall@10", "mrr@10")}
    misses: list[Miss] = []
    started = time.monotonic()
    for name, question in collection.questions.items():
        found = await retriever.retrieve(question, limit=retriever.options.candidates)
        ranked = list(dict.fromkeys(hit.passage.path for hit in found.hits))[:_DEPTH]
        gains = collection.judgements[name]
        figures["ndcg@10"].append(ndcg(ranked, gains, 10))
        figures["recall@5"].append(recall(ranked, gains, 5))
        figures["recall@10"].append(recall(ranked, gains, 10))
        figures["mrr@10"].append(reciprocal_rank(ranked, gains, 10))
        if not gains.keys() & set(ranked):
            misses.append(Miss(question=question, expected=max(gains, key=gains.__getitem__), found=tuple(ranked[:5])))
    seconds = time.monotonic() - started
    means = {name: mean(values) for name, values in figures.items()}
    return Report(figures=means, questions=len(collection.questions), seconds=seconds, misses=misses)


def _page(record: Mapping[str, Any]) -> Document:
    name = record["_id"]
    title, sections = read_sections(record["text"], title=str(record.get("title") or ""), fallback=name, mdx=False)
    return Document(path=_path(name), title=title, sections=sections, source=name)


def _path(name: str) -> str:
    return page_url("", f"/{name}")


async def _each(pages: Sequence[Document]) -> AsyncIterator[Document]:
    for page in pages:
        yield page


def _records(file: Path, *texts: str) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON; each has a text under every one of the names `texts`."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except ValueError as exc:
            raise EvaluationError(f"{file}, line {number}: not JSON ({exc})") from exc
        fields = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
        if not all(isinstance(fields.get(name), str) for name in texts):
            raise EvaluationError(f"{file}, line {number}: an object with the texts {' and '.join(texts)} belongs here")
        yield fields


def _judgements(file: Path) -> Iterator[tuple[str, str, float]]:
    """Question, page and gain of every line; the first line may be a heading."""
    for number, row in enumerate(csv.reader(_lines(file), delimiter="\t"), 1):
        if not row:
            continue
        try:
            question, page, gain = row
            yield question, page, float(gain)
        except ValueError as exc:
            if number > 1:
                raise EvaluationError(f"{file}, line {number}: question, page and gain belong here") from exc


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(f"{file} cannot be read: {exc}") from exc
