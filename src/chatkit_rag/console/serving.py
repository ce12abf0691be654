"""What `serve` does before the server runs: it takes the port, and indexes, or looks whether there is an index."""

import asyncio
import socket

from chatkit_rag.console.indexing import IndexChoice, index_pages
from chatkit_rag.console.opened import is_indexed, opened_index
from chatkit_rag.console.terminal import out
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.ingestion.pipeline import IngestReport
from chatkit_rag.settings import Settings


def serve(settings: Settings, docs: str | None) -> None:
    """Indexes a folder or address, if there is one, and serves the chat until it is stopped."""
    if docs is not None and settings.index:
        raise ConfigurationError("an index that is fetched is served as it is: give DOCS, or --index")
    # Bound first: a port in use should be told before a thousand pages are read.
    listening = _bind(settings)
    if docs is not None:
        # What is served is what was named last: another course in the same data directory takes the place of the first.
        report = index_pages(settings, docs, IndexChoice(allow_removals=True))
        out.print(f"Indexed    {_summary(report)}")
    else:
        asyncio.run(_check_index(settings))
        if not is_indexed(settings):
            out.print("Indexed    nothing yet: `chatkit-rag index FOLDER` fills the index, also while this server runs")
    from chatkit_rag.serving import run  # the SDKs behind it take seconds to import: not before the first error is told

    run(settings, listening, say=out.print)


async def _check_index(settings: Settings) -> None:
    """Fetches the index, where it is fetched, and opens it: what cannot work is told here, and not by the server."""
    async with opened_index(settings):
        pass


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
