"""Threads, items, feedback, attachments, leases and remembered requests.

The owner is in every key. `seq` is given under a lock that is held to the statement's end (of the owner's row for a
thread, of the thread's for an item), so that numbers become visible in their own order: no cursor skips what is
committed late.
"""

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None

_TABLES = (
    """
    CREATE TABLE "{schema}".owners (
        tenant text NOT NULL,
        user_id text NOT NULL,
        thread_seq bigint NOT NULL,
        PRIMARY KEY (tenant, user_id)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE "{schema}".threads (
        tenant text NOT NULL,
        user_id text NOT NULL,
        id text NOT NULL,
        seq bigint NOT NULL,
        item_seq bigint NOT NULL DEFAULT 0,
        payload text NOT NULL,
        PRIMARY KEY (tenant, user_id, id),
        CONSTRAINT threads_in_order UNIQUE (tenant, user_id, seq)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE "{schema}".items (
        tenant text NOT NULL,
        user_id text NOT NULL,
        thread_id text NOT NULL,
        id text NOT NULL,
        seq bigint NOT NULL,
        payload text NOT NULL,
        PRIMARY KEY (tenant, user_id, thread_id, id),
        CONSTRAINT items_in_order UNIQUE (tenant, user_id, thread_id, seq),
        FOREIGN KEY (tenant, user_id, thread_id) REFERENCES "{schema}".threads ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE "{schema}".feedback (
        tenant text NOT NULL,
        user_id text NOT NULL,
        thread_id text NOT NULL,
        item_id text NOT NULL,
        payload text NOT NULL,
        PRIMARY KEY (tenant, user_id, thread_id, item_id),
        FOREIGN KEY (tenant, user_id, thread_id, item_id) REFERENCES "{schema}".items ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE "{schema}".attachments (
        tenant text NOT NULL,
        user_id text NOT NULL,
        id text NOT NULL,
        payload text NOT NULL,
        PRIMARY KEY (tenant, user_id, id)
    )
    """,
    """
    CREATE TABLE "{schema}".leases (
        tenant text NOT NULL,
        user_id text NOT NULL,
        thread_id text NOT NULL,
        holder text NOT NULL,
        until timestamptz NOT NULL,
        PRIMARY KEY (tenant, user_id, thread_id),
        FOREIGN KEY (tenant, user_id, thread_id) REFERENCES "{schema}".threads ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE "{schema}".requests (
        tenant text NOT NULL,
        user_id text NOT NULL,
        key text NOT NULL,
        claim text NOT NULL,
        payload text NOT NULL,
        given_up timestamptz NOT NULL,
        expires timestamptz NOT NULL,
        PRIMARY KEY (tenant, user_id, key)
    )
    """,
    'CREATE INDEX requests_by_expiry ON "{schema}".requests (expires)',
)


def upgrade(schema: str) -> None:
    """Makes the tables."""
    for statement in _TABLES:
        op.execute(text(statement.format(schema=schema)))
