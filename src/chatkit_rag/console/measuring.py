"""What `evaluate` does."""

import asyncio
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from chatkit_rag.console.opened import filled_index
from chatkit_rag.console.terminal import err, print_json
from chatkit_rag.evaluation.report import Miss, Report
from chatkit_rag.indexing import build_embedder
from chatkit_rag.settings import Settings


def evaluate_search(settings: Settings, folder: Path, bounds: Sequence[str]) -> bool:
    """Measures search on a BEIR collection; whether every bound is reached."""
    from chatkit_rag.evaluation.beir import evaluate_beir

    embedder = build_embedder(settings).embedder
    return _evaluated(asyncio.run(evaluate_beir(folder, language=settings.language, embedder=embedder)), bounds)


def evaluate_course(settings: Settings, file: Path, bounds: Sequence[str]) -> bool:
    """Measures the indexed course on golden questions, without a language model; whether every bound is reached."""
    from chatkit_rag.evaluation.golden import evaluate_golden, read_golden
    from chatkit_rag.wiring import build_evaluated_server

    questions = read_golden(file)

    async def measured() -> Report:
        async with filled_index(settings) as opened:
            return await evaluate_golden(build_evaluated_server(opened), questions)

    return _evaluated(asyncio.run(measured()), bounds)


def _evaluated(report: Report, bounds: Sequence[str]) -> bool:
    shortfalls = report.shortfalls(bounds)
    if report.misses:
        err.print(_table(report.misses))
    print_json(report.to_json())
    for shortfall in shortfalls:
        err.print(shortfall)
    return not shortfalls


def _table(misses: Sequence[Miss]) -> Table:
    table = Table("question", "expected", "found", title=f"{len(misses)} missed", title_justify="left")
    for miss in misses:
        found = ", ".join(miss.found) or "(declined)"
        table.add_row(_shortened(miss.question), miss.expected or "(to be declined)", _shortened(found))
    return table


def _shortened(text: str) -> Text:
    """One line, and as much of it as a column holds; brackets are brackets, not Rich's marks."""
    return Text(textwrap.shorten(text, 200, placeholder=" …"))
