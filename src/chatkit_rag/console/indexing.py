"""What `index` does: brings the index in step with pages, packs it, or takes an older one."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from chatkit_rag.console.opened import opened_index
from chatkit_rag.console.terminal import err, print_json
from chatkit_rag.errors import ConfigurationError, IndexUnreadable
from chatkit_rag.indexing import build_index
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.pipeline import IngestProgress, IngestReport, ingest
from chatkit_rag.retrieval.archive import pack, unpack
from chatkit_rag.retrieval.edge_generation import check
from chatkit_rag.retrieval.generations import Generations
from chatkit_rag.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChoice:
    """What is indexed of a source, and what is kept."""

    kind: str = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_removals: bool = False
    allow_private: bool = False
    dry_run: bool = False
    keep: int = 2


def index(settings: Settings, docs: str, choice: IndexChoice, *, output: Path | None = None) -> None:
    """Indexes a folder or address, and prints the report as JSON; `output` is a file for what is served then.

    Where nothing is indexed yet, `output` as it was before is what that is compared with.
    """
    if settings.index:
        raise ConfigurationError(
            f"the index is fetched from {settings.index}, and served as it is: "
            "--output writes another one into a file, and --to puts it on a Qdrant server"
        )
    if output is None:
        print_json(index_pages(settings, docs, choice).to_json())
        return
    if settings.qdrant_url:
        raise ConfigurationError("an index on a Qdrant server needs no file: give --output, or --to and QDRANT_URL")
    with ExitStack() as stack:
        if output.is_file() and Generations(settings.index_dir).current() is None:
            if choice.dry_run:  # which leaves nothing: what the pages are compared with lies elsewhere
                elsewhere = stack.enter_context(TemporaryDirectory(prefix="chatkit-rag-"))
                settings = settings.model_copy(update={"data_dir": Path(elsewhere)})
            _begin_with(output, settings)
        report = index_pages(settings, docs, choice)
        if not choice.dry_run and (current := Generations(settings.index_dir).current()):
            pack(current.path, output)
    print_json(report.to_json())


def _begin_with(archive: Path, settings: Settings) -> None:
    try:
        with Generations(settings.index_dir).building() as place:
            unpack(archive, place)
            check(place, called=str(archive))
    except IndexUnreadable as exc:
        err.print(f"everything is indexed anew: {exc}")


def activate(settings: Settings, generation: str) -> None:
    """Makes a generation that is kept the current one, and prints its name as JSON."""

    async def run() -> str:
        opened = build_index(settings)
        try:
            await opened.activate(generation)
            return await opened.generation()
        finally:
            await opened.close()

    print_json({"generation": asyncio.run(run())})


def index_pages(settings: Settings, docs: str, choice: IndexChoice) -> IngestReport:
    """Brings the index in step with a folder or address, shows how far it is, and names the pages left out."""
    columns = (
        TextColumn("Indexing"),
        BarColumn(),
        TextColumn("{task.completed} pages, {task.fields[passages]} passages"),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style="dim"),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None, passages=0)

        def show(now: IngestProgress) -> None:
            progress.update(task, total=now.total, completed=now.pages, passages=now.passages, description=now.page)

        async def run() -> IngestReport:
            async with opened_index(settings, keep=choice.keep) as opened:
                return await ingest(
                    docs,
                    opened,
                    site=settings.site,
                    url=settings.url,
                    kind=choice.kind,
                    include=choice.include,
                    exclude=choice.exclude,
                    allow_removals=choice.allow_removals,
                    fetching=FetchOptions(allow_private=choice.allow_private),
                    journal=settings.index_dir / f"reading-{quote(settings.site, safe='')}.jsonl",
                    dry_run=choice.dry_run,
                    on_progress=show,
                )

        report = asyncio.run(run())
    for page in report.skipped:
        err.print(f"skipped {page.page}: {page.reason}")
    return report


class _RateColumn(ProgressColumn):
    """Pages a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "", style="dim")
