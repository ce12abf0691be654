"""What the commands of `cli` do on a terminal."""

import asyncio
import socket
import textwrap
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from chatkit_rag.errors import ConfigurationError, IndexMissing, IndexUnreadable, ModelFailed
from chatkit_rag.evaluation.report import Miss, Report
from chatkit_rag.indexing import build_embedder, build_index
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.pipeline import IngestProgress, IngestReport, ingest
from chatkit_rag.retrieval.archive import pack, unpack
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generations import Generations
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.retriever import Retrieved, Retriever
from chatkit_rag.settings import Settings
from chatkit_rag.stores.imports import ImportReport, take_over

_out = Console(soft_wrap=True, highlight=False, markup=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportChoice:
    """Whose threads are taken over, and how."""

    url: str = field(repr=False)
    """Of the database to take them from; holds its password."""
    layout: str | None = None
    tenant_from: str = ""
    dry_run: bool = False


def index(settings: Settings, docs: str, choice: IndexChoice, *, output: Path | None = None) -> None:
    """Indexes a folder or address, and prints the report as JSON; `output` is a file for what is served then.

    Where nothing is indexed yet, `output` as it was before is what that is compared with.
    """
    if output is None:
        _print_json(_index(settings, docs, choice).to_json())
        return
    if settings.qdrant_url:
        raise ConfigurationError("an index on a Qdrant server needs no file: give --output, or --to and QDRANT_URL")
    generations = Generations(settings.index_dir)
    if output.is_file() and generations.current() is None:
        try:
            with generations.building() as place:
                unpack(output, place)
        except IndexUnreadable as exc:
            _err.print(f"everything is indexed anew: {exc}")
    report = _index(settings, docs, choice)
    if not choice.dry_run and (current := generations.current()):
        pack(current.path, output)
    _print_json(report.to_json())


def activate(settings: Settings, generation: str) -> None:
    """Makes a generation that is kept the current one, and prints its name as JSON."""

    async def run() -> str:
        opened = build_index(settings)
        try:
            await opened.activate(generation)
            return await opened.generation()
        finally:
            await opened.close()

    _print_json({"generation": asyncio.run(run())})


def search(settings: Settings, query: str, *, limit: int, site: str | None) -> None:
    """Searches the index, and prints the passages as JSON."""

    async def found() -> Retrieved:
        async with _indexed(settings) as opened:
            where = Filter(site=site) if site is not None else None
            return await Retriever(opened).retrieve(query, limit=limit, where=where)

    _print_json(asyncio.run(found()).to_json(query))


def ask(settings: Settings, question: str, *, thread_id: str | None, as_json: bool) -> None:
    """Answers a question as the reader `local`, in a thread that is kept, and prints the answer as it comes.

    Raises:
        ModelFailed: no answer came; what came of it is printed and kept.
        NotFound: there is no such thread.
    """
    from chatkit_rag.context import Principal, RequestContext
    from chatkit_rag.wiring import build_server

    content = [{"type": "input_text", "text": question}]
    message: dict[str, Any] = {"content": content, "attachments": [], "inference_options": {}}
    operation = "threads.add_user_message" if thread_id else "threads.create"
    params: dict[str, Any] = {"input": message} | ({"thread_id": thread_id} if thread_id else {})

    async def answered() -> dict[str, Any]:
        async with _indexed(settings) as index:
            server = build_server(settings, index)
            await server.open()
            try:
                # Both operations stream.
                context = RequestContext(principal=Principal("local"))
                result = await server.process(orjson.dumps({"type": operation, "params": params}), context)
                said = await _said(cast("AsyncIterable[bytes]", result), thread_id or "", as_it_comes=not as_json)
            finally:
                await server.close()
            return {**said, "model": server.chosen_model.label}

    answer = asyncio.run(answered())
    if as_json:
        _print_json(answer)
        return
    _out.print()
    for number, source in enumerate(answer["sources"], 1):
        _out.print(f"{number}. {source['title']}  {source['url']}")
    _err.print(f"To go on: --thread {answer['thread_id']}")


async def _said(frames: AsyncIterable[bytes], thread_id: str, *, as_it_comes: bool) -> dict[str, Any]:
    """What the events of an answer say: thread, text and sources. Raises ModelFailed for one that ends in an error."""
    pieces: list[str] = []
    sources: dict[str, dict[str, Any]] = {}
    async for frame in frames:
        event = orjson.loads(frame.removeprefix(b"data: "))
        update = event.get("update", {})
        if event["type"] == "thread.created":
            thread_id = event["thread"]["id"]
        elif event["type"] == "error":
            raise ModelFailed(event["message"])
        elif update.get("type", "").endswith(".text_delta"):
            pieces.append(update["delta"])
            if as_it_comes:
                _out.print(update["delta"], end="")
        elif update.get("type", "").endswith(".annotation_added"):
            source = update["annotation"]["source"]
            sources.setdefault(source["url"], source)
    if as_it_comes:
        _out.print()
    return {"thread_id": thread_id, "answer": "".join(pieces), "sources": list(sources.values())}


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
        async with _indexed(settings) as opened:
            return await evaluate_golden(build_evaluated_server(opened), questions)

    return _evaluated(asyncio.run(measured()), bounds)


def serve(settings: Settings, docs: str | None) -> None:
    """Indexes a folder or address, if there is one, and serves the chat until it is stopped."""
    if docs is not None and settings.index:
        raise ConfigurationError("an index that is fetched is served as it is: give DOCS, or --index")
    # Bound first: a port in use should be told before a thousand pages are read.
    listening = _bind(settings)
    if docs is not None:
        # What is served is what was named last: another course in the same data directory takes the place of the first.
        report = _index(settings, docs, IndexChoice(allow_removals=True))
        _out.print(f"Indexed    {_summary(report)}")
    else:
        asyncio.run(_check_index(settings))
    if docs is None and not _is_indexed(settings):
        _out.print("Indexed    nothing yet: `chatkit-rag index FOLDER` fills the index, also while this server runs")
    from chatkit_rag.serving import run  # the SDKs behind it take seconds to import: not before the first error is told

    run(settings, listening, say=_out.print)


def migrate(settings: Settings, *, sql: bool) -> None:
    """Brings the tables to the newest version, or prints what would make them."""
    from chatkit_rag.stores.postgres_schema import VERSIONS, migrate_at, migration_script
    from chatkit_rag.stores.postgres_urls import check_schema_name, read_url

    schema = check_schema_name(settings.database_schema)
    if sql:
        _out.print(migration_script(schema), end="")
    elif url := settings.server_url:
        address = read_url(url)
        asyncio.run(migrate_at(address, schema))
        _out.print(f"The schema {schema} in {address.label} is of version {VERSIONS[-1]}")
    else:
        _out.print(f"{settings.threads_file} needs no migration: its tables are made when it is opened")


@asynccontextmanager
async def _opened(settings: Settings, *, keep: int = 2) -> AsyncGenerator[PassageIndex]:
    index = build_index(settings, keep=keep)
    try:
        await index.open()
        yield index
    finally:
        await index.close()


async def _check_index(settings: Settings) -> None:
    """Fetches the index, where it is fetched, and opens it: what cannot work is told here, and not by the server."""
    async with _opened(settings):
        pass


@asynccontextmanager
async def _indexed(settings: Settings) -> AsyncGenerator[PassageIndex]:
    """The index, open. Raises IndexMissing where nothing is in it."""
    async with _opened(settings) as opened:
        if not await opened.generation():
            place = settings.qdrant_url or settings.index_dir
            raise IndexMissing(f"nothing is indexed in {place}: run `chatkit-rag index FOLDER` first")
        yield opened


def import_threads(settings: Settings, choice: ImportChoice) -> None:
    """Takes over the threads of an earlier assistant, and prints the report as JSON."""
    from chatkit_rag.stores.postgres_first_systems import first_system
    from chatkit_rag.wiring import build_import_target

    columns = (TextColumn("Importing"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def tell(report: ImportReport) -> None:
            progress.update(task, description=_done(report))

        async def run() -> ImportReport:
            async with (
                first_system(choice.url, layout=choice.layout, tenant=choice.tenant_from) as source,
                build_import_target(settings, dry_run=choice.dry_run) as target,
            ):
                _err.print(f"From {source.label}")
                return await take_over(source, target, dry_run=choice.dry_run, on_progress=tell)

        report = asyncio.run(run())
    for row in report.skipped:
        _err.print(f"skipped {row.id}: {row.reason}")
    _err.print(f"{'Would take over' if choice.dry_run else 'Took over'} {_done(report)}")
    _print_json(report.to_json())


def _done(report: ImportReport) -> str:
    parts = ((report.threads, "threads"), (report.items, "items"), (report.attachments, "attachments"))
    return ", ".join(f"{number} {what}" for number, what in parts) + f"; {len(report.skipped)} skipped"


def _is_indexed(settings: Settings) -> bool:
    """Whether there is something to search, as far as that can be told without asking a server."""
    return bool(settings.index or settings.qdrant_url) or Generations(settings.index_dir).current() is not None


class _RateColumn(ProgressColumn):
    """Pages a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "", style="dim")


def _index(settings: Settings, docs: str, choice: IndexChoice) -> IngestReport:
    columns = (
        TextColumn("Indexing"),
        BarColumn(),
        TextColumn("{task.completed} pages, {task.fields[passages]} passages"),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style="dim"),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task("", total=None, passages=0)

        def show(now: IngestProgress) -> None:
            progress.update(task, total=now.total, completed=now.pages, passages=now.passages, description=now.page)

        async def run() -> IngestReport:
            async with _opened(settings, keep=choice.keep) as opened:
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
        _err.print(f"skipped {page.page}: {page.reason}")
    return report


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as exc:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host}, port {settings.port}: {exc.strerror or exc}; "
            f"choose another with --port (0 takes any that is free)"
        ) from exc
    return listening


def _summary(report: IngestReport) -> str:
    changes = f"{report.added} new, {report.changed} changed, {report.removed} removed, {len(report.skipped)} skipped"
    return f"{report.pages} pages, {report.passages} passages in {report.seconds:.1f} s ({changes})"


def _evaluated(report: Report, bounds: Sequence[str]) -> bool:
    shortfalls = report.shortfalls(bounds)
    if report.misses:
        _err.print(_table(report.misses))
    _print_json(report.to_json())
    for shortfall in shortfalls:
        _err.print(shortfall)
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


def _print_json(document: dict[str, Any]) -> None:
    _out.print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
