"""What `migrate` does: new tables, and the threads of earlier assistants."""

import asyncio
from dataclasses import dataclass, field

from rich.progress import Progress, TextColumn, TimeElapsedColumn

from chatkit_rag.console.terminal import err, out, print_json
from chatkit_rag.settings import Settings
from chatkit_rag.stores.imports import ImportReport, take_over


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportChoice:
    """Whose threads are taken over, and how."""

    url: str = field(repr=False)
    """Of the database to take them from; holds its password."""
    layout: str | None = None
    tenant_from: str = ""
    dry_run: bool = False


def migrate(settings: Settings, *, sql: bool, json: bool) -> None:
    """Brings the tables to the newest version, or prints what would make them."""
    from chatkit_rag.stores.postgres_schema import VERSIONS, migrate_at, migration_script
    from chatkit_rag.stores.postgres_urls import check_schema_name, read_url

    schema = check_schema_name(settings.database_schema)
    if sql:
        script = migration_script(schema)
        print_json({"sql": script}) if json else out.print(script, end="")
        return
    done: dict[str, str | None]
    if url := settings.server_url:
        address = read_url(url)
        asyncio.run(migrate_at(address, schema))
        done = {"database": address.label, "schema": schema, "version": VERSIONS[-1]}
        said = f"The schema {schema} in {address.label} is of version {VERSIONS[-1]}"
    else:
        done = {"database": str(settings.threads_file), "schema": None, "version": None}
        said = f"{settings.threads_file} needs no migration: its tables are made when it is opened"
    print_json(done) if json else out.print(said)


def import_threads(settings: Settings, choice: ImportChoice) -> None:
    """Takes over the threads of an earlier assistant, and prints the report as JSON."""
    from chatkit_rag.stores.postgres_first_systems import first_system
    from chatkit_rag.wiring import build_import_target

    columns = (TextColumn("Importing"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def tell(report: ImportReport) -> None:
            progress.update(task, description=_done(report))

        async def run() -> ImportReport:
            async with (
                first_system(choice.url, layout=choice.layout, tenant=choice.tenant_from) as source,
                build_import_target(settings, dry_run=choice.dry_run) as target,
            ):
                err.print(f"From {source.label}")
                return await take_over(source, target, dry_run=choice.dry_run, on_progress=tell)

        report = asyncio.run(run())
    for row in report.skipped:
        err.print(f"skipped {row.id}: {row.reason}")
    err.print(f"{'Would take over' if choice.dry_run else 'Took over'} {_done(report)}")
    print_json(report.to_json())


def _done(report: ImportReport) -> str:
    parts = ((report.threads, "threads"), (report.items, "items"), (report.attachments, "attachments"))
    return ", ".join(f"{number} {what}" for number, what in parts) + f"; {len(report.skipped)} skipped"
