"""The schema's version, and bringing it to the newest; Alembic is imported when that is asked for, and not before."""

import io
from importlib.util import find_spec
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from chatkit_rag.errors import ConfigurationError, MissingExtra, StoreUnavailable
from chatkit_rag.stores.postgres_engines import migrating_engine_for
from chatkit_rag.stores.postgres_faults import translated
from chatkit_rag.stores.postgres_urls import Address

VERSIONS = ("0001", "0002")
"""The versions of the schema, oldest first. This code runs on the last two: servers are renewed before or after it."""


def check_version(found: str | None, *, schema: str, label: str) -> None:
    """Returns where this code can run on what is there.

    Raises:
        StoreUnavailable: the schema is too old.
        ConfigurationError: it is newer than this code.
    """
    if found in VERSIONS[-2:]:
        return
    if found is None or found in VERSIONS:
        raise StoreUnavailable(
            f"the schema {schema} in {label} is too old: run `chatkit-rag migrate`, or set auto_migrate"
        )
    raise ConfigurationError(
        f"the schema {schema} in {label} is of version {found}, and this chatkit-rag knows {VERSIONS[-1]} at most: "
        "install the newer chatkit-rag that migrated it"
    )


async def migrate(engine: AsyncEngine, schema: str, *, label: str) -> None:
    """Brings the schema to the newest version; of several processes at once, one does, and the others find it done.

    Raises:
        StoreUnavailable: the database cannot be reached, or does not let us.
        MissingExtra: Alembic is not installed.
        ConfigurationError: the schema is newer than this code.
    """
    config = _config(schema)
    from alembic import command
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    def upgrade(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    # An engine of the host's may be set to commit every statement by itself; half a migration is none.
    in_transactions = engine.execution_options(isolation_level="READ COMMITTED")
    try:
        async with in_transactions.begin() as connection:
            await connection.run_sync(upgrade)
    except CommandError as exc:
        if not isinstance(exc.__cause__, ResolutionError):
            raise
        raise ConfigurationError(
            f"the schema {schema} in {label} is newer than this chatkit-rag, which knows {VERSIONS[-1]} at most: "
            "install the newer chatkit-rag that migrated it"
        ) from exc
    except Exception as exc:
        raise translated(exc, label) from exc


async def migrate_at(address: Address, schema: str) -> None:
    """`migrate`, by a connection of its own."""
    engine = migrating_engine_for(address)
    try:
        await migrate(engine, schema, label=address.label)
    finally:
        await engine.dispose()


def migration_script(schema: str) -> str:
    """The SQL that makes the schema of an empty database, to be read and run by a database's administrator.

    Raises:
        MissingExtra: Alembic is not installed.
    """
    written = io.StringIO()
    config = _config(schema, written)
    from alembic import command

    command.upgrade(config, "head", sql=True)
    return written.getvalue()


def _config(schema: str, output: io.StringIO | None = None) -> Any:
    if find_spec("alembic") is None:
        raise MissingExtra("migrating a Postgres schema", "postgres")
    from alembic.config import Config

    config = Config(output_buffer=output, stdout=io.StringIO())
    config.set_main_option("script_location", "chatkit_rag.stores:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = schema
    return config
