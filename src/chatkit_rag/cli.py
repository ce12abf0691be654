"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from chatkit_rag.errors import ChatKitRagError

app = typer.Typer(
    help="A chat assistant over your own course or documentation pages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

users = typer.Typer(help="What is held of a reader.", no_args_is_help=True)
app.add_typer(users, name="users")

_DOCS = "a folder of pages or of a built site, or the address of a sitemap or page"

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where threads, the index and the session secret are kept.", show_default=".chatkit-rag"),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The settings to read.", show_default="chatkit-rag.toml")
]
Site = Annotated[str | None, typer.Option(help="The name that the pages are searched under.")]
Url = Annotated[str | None, typer.Option(help="The course's public address; citations are relative without it.")]
Layout = Literal["s1", "s2"]
User = Annotated[str, typer.Argument(help="The reader's id, as `authenticate` gives it.", show_default=False)]
Tenant = Annotated[str, typer.Option(help="The reader's tenant, where there are several.", show_default="none")]
Json = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]
AlwaysJson = Annotated[bool, typer.Option("--json", help="As without: it is always JSON.")]
Embedder = Annotated[
    str | None, typer.Option(help="none, openai:NAME, fastembed:NAME or cohere:NAME.", show_default="none")
]
Language = Annotated[str | None, typer.Option(help="The language of the course.", show_default="english")]


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's way
    if wanted:
        from chatkit_rag import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """A chat assistant over your own course or documentation pages."""


@app.command()
def serve(
    docs: Annotated[str | None, typer.Argument(help=f"What to index first: {_DOCS}.")] = None,
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any.", show_default="8000")] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Where the chat's routes are.", show_default="/api/chatkit")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes.", show_default="1")] = None,
    url: Url = None,
    site: Site = None,
    language: Language = None,
    model: Annotated[
        str | None, typer.Option(help="auto, extractive, an OpenAI model, or chat:NAME.", show_default="auto")
    ] = None,
    embedder: Embedder = None,
    index: Annotated[
        str | None, typer.Option(help="Serve this file, or address, that `index --output` wrote.", show_default=False)
    ] = None,
    refresh: Annotated[str | None, typer.Option(help="How often that is looked at again.", show_default="10m")] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Let readers ask without signing in.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Index DOCS, if given, and serve the chat."""
    from chatkit_rag.console import serving
    from chatkit_rag.settings import Settings

    settings = Settings.read(
        host=host,
        port=port,
        prefix=prefix,
        workers=workers,
        url=url,
        site=site,
        language=language,
        model=model,
        embedder=embedder,
        index=index,
        refresh=refresh,
        allow_anonymous=allow_anonymous,
        data_dir=data_dir,
        config=config,
    )
    serving.serve(settings, docs)


@app.command()
def index(
    docs: Annotated[str | None, typer.Argument(help=f"What to index: {_DOCS}.")] = None,
    *,
    url: Url = None,
    site: Site = None,
    language: Language = None,
    embedder: Embedder = None,
    kind: Annotated[
        str, typer.Option(help="The kind of site in the folder: auto, docusaurus, mkdocs, mdbook, plain, html.")
    ] = "auto",
    include: Annotated[
        list[str] | None, typer.Option(help="Read only files that fit this pattern; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave files out that fit this pattern; repeatable.")
    ] = None,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="Let more than half of the pages go at once.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch from private and loopback addresses, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the index into this file too, for `serve --index`.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Keep the index on the Qdrant server at this address.", show_default=False)
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Generations of the index that are kept.")] = 2,
    activate: Annotated[
        str | None, typer.Option(help="Serve this generation again, and index nothing.", show_default=False)
    ] = None,
    json: AlwaysJson = False,  # noqa: ARG001 - every command takes it
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Bring the index in step with DOCS, and print what was done as JSON."""
    from chatkit_rag.console import indexing
    from chatkit_rag.settings import Settings

    choice = indexing.IndexChoice(
        kind=kind,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        allow_removals=allow_removals,
        allow_private=allow_private,
        dry_run=dry_run,
        keep=keep,
    )
    settings = Settings.read(
        url=url,
        site=site,
        language=language,
        embedder=embedder,
        index="" if output or to else None,  # what is served elsewhere is built here
        qdrant_url=to,
        data_dir=data_dir,
        config=config,
    )
    if activate is not None:
        indexing.activate(settings, activate)
    elif docs is None:
        raise typer.BadParameter(
            "a folder or an address is needed, unless --activate names a generation", param_hint="DOCS"
        )
    else:
        indexing.index(settings, docs, choice, output=output)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of passages.")] = 5,
    site: Annotated[str | None, typer.Option(help="Search this site only.")] = None,
    embedder: Embedder = None,
    json: AlwaysJson = False,  # noqa: ARG001 - every command takes it
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Search the indexed pages, and print the passages as JSON."""
    from chatkit_rag.console import answers
    from chatkit_rag.settings import Settings

    answers.search(Settings.read(embedder=embedder, data_dir=data_dir, config=config), query, limit=limit, site=site)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    thread: Annotated[str | None, typer.Option(metavar="ID", help="Go on in this thread.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    model: Annotated[
        str | None, typer.Option(help="auto, extractive, an OpenAI model, or chat:NAME.", show_default="auto")
    ] = None,
    embedder: Embedder = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Answer QUESTION from the indexed pages, with its sources below."""
    from chatkit_rag.console import answers
    from chatkit_rag.settings import Settings

    settings = Settings.read(model=model, embedder=embedder, data_dir=data_dir, config=config)
    answers.ask(settings, question, thread_id=thread, as_json=as_json)


@app.command()
def evaluate(
    *,
    beir: Annotated[
        Path | None, typer.Option(help="A folder with corpus.jsonl, queries.jsonl and qrels.tsv: measures search.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help='A file of {"question", "page", "heading"} lines: measures the indexed course.')
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option(help="Fail below this: 0.9 for the first figure, or recall@5=0.9; repeatable."),
    ] = None,
    language: Language = None,
    embedder: Embedder = None,
    json: AlwaysJson = False,  # noqa: ARG001 - every command takes it
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Measure search, or the indexed course's answers, and print the figures as JSON; misses go to stderr."""
    from chatkit_rag.console import measuring
    from chatkit_rag.settings import Settings

    settings = Settings.read(language=language, embedder=embedder, data_dir=data_dir, config=config)
    if beir is not None and golden is None:
        good = measuring.evaluate_search(settings, beir, at_least or ())
    elif golden is not None and beir is None:
        good = measuring.evaluate_course(settings, golden, at_least or ())
    else:
        raise typer.BadParameter("give one of --beir and --golden")
    if not good:
        raise typer.Exit(1)


@app.command()
def migrate(
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for an empty database, and do nothing.")] = False,
    import_from: Annotated[
        str | None, typer.Option(metavar="URL", help="Take over the threads of an earlier assistant's database.")
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option(help="How that one keeps them.", show_default="the one that is there")
    ] = None,
    tenant_from: Annotated[
        str, typer.Option(metavar="COLUMN", help="Its threads' column that says whose tenant's they are.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken over, and do nothing.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Bring the tables of DATABASE_URL to the newest version, or take over the threads of an earlier assistant."""
    from chatkit_rag.console import threads
    from chatkit_rag.settings import Settings

    settings = Settings.read(data_dir=data_dir, config=config)
    if import_from is None:
        if layout or tenant_from or dry_run:
            raise typer.BadParameter("--layout, --tenant-from and --dry-run go with --import-from")
        threads.migrate(settings, sql=sql, json=json)
        return
    if sql:
        raise typer.BadParameter("--sql does not go with --import-from")
    choice = threads.ImportChoice(url=import_from, layout=layout, tenant_from=tenant_from, dry_run=dry_run)
    threads.import_threads(settings, choice)


@app.command()
def purge(*, json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Remove what retention says must go, and what nobody can use any more; a running server does so every day."""
    from chatkit_rag.console import readers
    from chatkit_rag.settings import Settings

    readers.purge(Settings.read(data_dir=data_dir, config=config), json=json)


@users.command()
def export(
    user: User,
    *,
    tenant: Tenant = "",
    json: AlwaysJson = False,  # noqa: ARG001 - every command takes it
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Print everything that is held of USER as JSON."""
    from chatkit_rag.console import readers
    from chatkit_rag.settings import Settings

    readers.export_user(Settings.read(data_dir=data_dir, config=config), user, tenant)


@users.command()
def delete(
    user: User,
    *,
    tenant: Tenant = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Delete everything that is held of USER: threads, files, feedback."""
    from chatkit_rag.console import readers
    from chatkit_rag.settings import Settings

    settings = Settings.read(data_dir=data_dir, config=config)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here: say --yes")
        typer.confirm(f"Delete everything that is held of {user!r}? It cannot be brought back.", abort=True, err=True)
    readers.delete_user(settings, user, tenant, json=json)


def main() -> None:
    """The entry point: an error that we raise on purpose is a line for the operator, not a traceback."""
    logging.getLogger("stamina").setLevel(logging.ERROR)  # who asks again says so in words of their own
    try:
        app()
    except ChatKitRagError as exc:
        typer.echo(f"chatkit-rag: {exc}", err=True)
        sys.exit(1)
