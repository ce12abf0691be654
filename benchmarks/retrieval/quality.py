"""What is found: collections in BEIR's format by nDCG@10, and the example course by its golden questions."""

import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders import CONTENDERS, Contender
from passages import COURSE, collection_at, cut, of_course

from chatkit_rag.documents import Passage
from chatkit_rag.evaluation.golden import read_golden
from chatkit_rag.evaluation.measures import mean, ndcg

ASKED = ("ours, ranked", "qdrant local", "qdrant BM25", "LangChain", "LlamaIndex", "bm25s", "FTS5")
GOLDEN = ("golden", "golden-indirect", "golden-misspelled")
_CANDIDATES = 100


def measure(folders: Sequence[Path], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Collection -> contender -> figure; everybody searches the same passages, a page counts by its best one."""
    found: dict[str, dict[str, float]] = {}
    for folder in folders:
        collection = collection_at(folder)
        passages = cut(collection)
        row = found[f"{folder.name}: nDCG@10"] = {}
        for name in names:
            ranked = _ranked(CONTENDERS[name], passages, collection.questions)
            row[name] = mean([ndcg(ranked[id_], gains, 10) for id_, gains in collection.judgements.items()])
    passages = of_course()
    for file in GOLDEN:
        asked = [question for question in read_golden(COURSE / f"{file}.jsonl") if question.page is not None]
        row = found[f"{file}: hits@5"] = {}
        for name in names:
            ranked = _ranked(CONTENDERS[name], passages, {one.question: one.question for one in asked}, limit=5)
            row[name] = mean([one.page in ranked[one.question] for one in asked])
    return found


def _ranked(
    kind: type[Contender], passages: Sequence[Passage], questions: Mapping[str, str], *, limit: int = _CANDIDATES
) -> dict[str, list[str]]:
    """The pages that each question finds, best first."""
    pages = {passage.id: passage.path for passage in passages}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        contender = kind(Path(folder))
        contender.build(passages)
        contender.open()
        found = {
            id_: list(dict.fromkeys(pages[one] for one in contender.query(question, [], min(limit, len(passages)))))
            for id_, question in questions.items()
        }
        contender.close()
    return found
