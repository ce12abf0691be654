"""The tables of `SQLiteStore`.

The owner is in every key. `seq` is given by the database in the insert: the order of arrival, which no clock can
disturb. A payload is the record as ChatKit's own JSON. A file of the version before is opened as it is: what is new
comes in tables of its own.
"""

VERSION = 1
"""Of the tables, as the file notes it (`user_version`): to be raised when code of before could not work on them."""

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS threads (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        payload TEXT NOT NULL,
        UNIQUE (tenant, user, id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS threads_in_order ON threads (tenant, user, seq)",
    """
    CREATE TABLE IF NOT EXISTS items (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        thread_id TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        payload TEXT NOT NULL,
        UNIQUE (tenant, user, thread_id, id),
        FOREIGN KEY (tenant, user, thread_id) REFERENCES threads (tenant, user, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX IF NOT EXISTS items_in_order ON items (tenant, user, thread_id, seq)",
    """
    CREATE TABLE IF NOT EXISTS feedback (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        thread_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (tenant, user, thread_id, item_id),
        FOREIGN KEY (tenant, user, thread_id, item_id) REFERENCES items (tenant, user, thread_id, id)
            ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS attachments (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (tenant, user, id)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS leases (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        thread_id TEXT NOT NULL,
        holder TEXT NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY (tenant, user, thread_id),
        FOREIGN KEY (tenant, user, thread_id) REFERENCES threads (tenant, user, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS requests (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        busy_until REAL NOT NULL,
        thread_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        expires REAL NOT NULL,
        PRIMARY KEY (tenant, user, key)
    )
    """,
    "CREATE INDEX IF NOT EXISTS requests_by_expiry ON requests (expires)",
    """
    CREATE TABLE IF NOT EXISTS deleted_users (
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (tenant, user)
    )
    """,
)
"""In the order in which they are made; making them again does nothing."""
