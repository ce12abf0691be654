"""Search, measured on small collections in BEIR's format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.errors import EvaluationError
from chatkit_rag.evaluation.beir import evaluate_beir, read_collection

pytestmark = pytest.mark.anyio

CORPUS = [
    {
        "_id": "nodes.md",
        "title": "Nodes",
        "text": "# Nodes\n\nA node is a process that computes.\n\n## Names\n\nUnique.",
    },
    {"_id": "topics", "title": "Topics", "text": "A topic carries messages between publishers and subscribers."},
    {"_id": "with space/é", "title": "", "text": "# Bags\n\nA bag records what was published."},
]
QUERIES = [
    {"_id": "1", "text": "what does a topic carry"},
    {"_id": "2", "text": "recording a bag"},
    {"_id": "3", "text": "nobody judged this"},
]
QRELS = [("1", "topics", 1), ("1", "nodes.md", 0), ("2", "with space/é", 2)]


def collection(
    folder: Path,
    corpus: Sequence[Mapping[str, Any]] = CORPUS,
    queries: Sequence[Mapping[str, Any]] = QUERIES,
    qrels: str = "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{p}\t{g}\n" for q, p, g in QRELS),
) -> Path:
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
    (folder / "qrels.tsv").write_text(qrels, "utf-8")
    return folder


async def test_questions_that_find_their_pages_are_worth_1(tmp_path: Path):
    report = await evaluate_beir(collection(tmp_path))

    assert report.to_json() == {
        "ndcg@10": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "mrr@10": 1.0,
        "queries": 2,
        "seconds": report.to_json()["seconds"],
    }
    assert not report.misses


async def test_a_question_that_finds_another_page_is_a_miss(tmp_path: Path):
    report = await evaluate_beir(collection(tmp_path, qrels="1\ttopics\t1\n2\tnodes.md\t1\n"))

    assert report.figures["recall@10"] == 0.5
    [miss] = report.misses
    assert (miss.question, miss.expected) == ("recording a bag", "/nodes.md")
    assert "/with%20space/%C3%A9" in miss.found


async def test_the_questions_of_a_folder_with_splits_are_the_test_s(tmp_path: Path):
    folder = collection(tmp_path)
    (folder / "qrels").mkdir()
    (folder / "qrels.tsv").rename(folder / "qrels" / "test.tsv")

    assert read_collection(folder).questions == {"1": "what does a topic carry", "2": "recording a bag"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corpus": []}, "corpus.jsonl holds no page"),
        ({"corpus": [{"_id": "a"}]}, "corpus.jsonl, line 1"),
        ({"queries": [{"_id": 1, "text": "?"}]}, "queries.jsonl, line 1"),
        ({"qrels": "1\ttopics\t1\n1 topics 1\n"}, "qrels.tsv, line 2"),
        ({"qrels": "1\ttopics\tmuch\n1\ttopics\tmore\n"}, "qrels.tsv, line 2"),
        ({"qrels": "9\ttopics\t1\n"}, "judges no page right"),
    ],
)
async def test_what_is_not_in_the_format_is_named(tmp_path: Path, changes: dict[str, Any], told: str):
    with pytest.raises(EvaluationError, match=told):
        await evaluate_beir(collection(tmp_path, **changes))


async def test_a_byte_order_mark_and_a_title_that_is_a_number_are_no_mistake(tmp_path: Path):
    folder = collection(tmp_path, corpus=[{**CORPUS[1], "title": 2}], qrels="1\ttopics\t1\n")
    for file in folder.iterdir():
        file.write_text(file.read_text("utf-8"), "utf-8-sig")

    assert (await evaluate_beir(folder)).figures["recall@5"] == 1.0


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
async def test_a_file_that_is_missing_is_named(tmp_path: Path, missing: str):
    (collection(tmp_path) / missing).unlink()

    with pytest.raises(EvaluationError, match=missing):
        await evaluate_beir(tmp_path)


async def test_a_line_that_is_no_json_is_named(tmp_path: Path):
    with (collection(tmp_path) / "corpus.jsonl").open("a") as file:
        file.write("\n{\n")

    with pytest.raises(EvaluationError, match="line 5: not JSON"):
        await evaluate_beir(tmp_path)
