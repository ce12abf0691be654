"""The tables of `SQLiteStore`. SQLAlchemy is imported in the modules whose names begin with `sql`, and nowhere else.

The owner is in every key. `seq` is given by the database in the insert: the order of arrival, which no clock can
disturb. A payload is the record as ChatKit's own JSON.
"""

import sqlalchemy as sa

schema = sa.MetaData()


def _owner_columns() -> list[sa.Column[str]]:
    return [sa.Column("tenant", sa.Text, nullable=False), sa.Column("user", sa.Text, nullable=False)]


threads = sa.Table(
    "threads",
    schema,
    *_owner_columns(),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("payload", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant", "user", "id"),
    sa.Index("threads_in_order", "tenant", "user", "seq"),
    sqlite_autoincrement=True,
)
items = sa.Table(
    "items",
    schema,
    *_owner_columns(),
    sa.Column("thread_id", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("payload", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant", "user", "thread_id", "id"),
    sa.Index("items_in_order", "tenant", "user", "thread_id", "seq"),
    sa.ForeignKeyConstraint(
        ["tenant", "user", "thread_id"], ["threads.tenant", "threads.user", "threads.id"], ondelete="CASCADE"
    ),
    sqlite_autoincrement=True,
)
feedback = sa.Table(
    "feedback",
    schema,
    *_owner_columns(),
    sa.Column("thread_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "user", "thread_id", "item_id"),
    sa.ForeignKeyConstraint(
        ["tenant", "user", "thread_id", "item_id"],
        ["items.tenant", "items.user", "items.thread_id", "items.id"],
        ondelete="CASCADE",
    ),
)
attachments = sa.Table(
    "attachments",
    schema,
    *_owner_columns(),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "user", "id"),
)
leases = sa.Table(
    "leases",
    schema,
    *_owner_columns(),
    sa.Column("thread_id", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "user", "thread_id"),
    sa.ForeignKeyConstraint(
        ["tenant", "user", "thread_id"], ["threads.tenant", "threads.user", "threads.id"], ondelete="CASCADE"
    ),
)
requests = sa.Table(
    "requests",
    schema,
    *_owner_columns(),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("busy_until", sa.Float, nullable=False),
    sa.Column("thread_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "user", "key"),
    sa.Index("requests_by_expiry", "expires"),
)
