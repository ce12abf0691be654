"""What Alembic runs for each migration: one transaction, one migrating process at a time.

`schema` is the name that the tables live under. `connection` is open, and in a transaction; without one, the statements
are only written down.
"""

from typing import Any

from alembic import context
from sqlalchemy import text

_options: dict[str, Any] = context.config.attributes
_schema: str = _options["schema"]  # checked to be a plain name: it is part of statements

context.configure(
    connection=_options.get("connection"),
    dialect_name=None if "connection" in _options else "postgresql",
    version_table_schema=_schema,
)

with context.begin_transaction():
    # Held until the transaction ends, and the only kind of lock that a transaction pooler keeps on one connection.
    context.execute(text(f"SELECT pg_advisory_xact_lock(hashtext('chatkit-rag/{_schema}'))"))
    context.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{_schema}"'))
    context.run_migrations(schema=_schema)
