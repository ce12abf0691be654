"""What `SQLiteStore` says to the file. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

_OWNER = "tenant = ? AND user = ?"
_THREAD = f"{_OWNER} AND thread_id = ?"
_WAYS = {"asc": ">", "desc": "<"}

PING = "SELECT 1"

LOAD_THREAD = f"SELECT payload FROM threads WHERE {_OWNER} AND id = ?"
_NOT_DELETED = f"NOT EXISTS (SELECT 1 FROM deleted_users WHERE {_OWNER} AND at >= ?)"
"""Whether the owner was not deleted since the request came: the owner, and the request's moment."""
SAVE_THREAD = f"""
    INSERT INTO threads (tenant, user, id, payload) SELECT ?, ?, ?, ? WHERE {_NOT_DELETED}
    ON CONFLICT (tenant, user, id) DO UPDATE SET payload = excluded.payload
    RETURNING id"""
"""A row where the owner was not deleted since."""
DELETE_THREAD = f"DELETE FROM threads WHERE {_OWNER} AND id = ?"

ADD_ITEM = """
    INSERT INTO items (tenant, user, thread_id, id, payload) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant, user, thread_id, id) DO UPDATE SET payload = excluded.payload"""
"""Breaks a constraint where the thread is not there."""
LOAD_ITEM = f"SELECT payload FROM items WHERE {_THREAD} AND id = ?"
DELETE_ITEM = f"DELETE FROM items WHERE {_THREAD} AND id = ?"

COUNT_THREADS = f"SELECT count(*), max(id = ?) FROM threads WHERE {_OWNER}"
"""How many there are, and whether one of them is among them."""
COUNT_ITEMS = f"SELECT count(*), max(id = ?) FROM items WHERE {_THREAD}"
HISTORY = f"SELECT id, payload FROM items WHERE {_THREAD} AND id <> ? ORDER BY seq DESC LIMIT ?"

SAVE_FEEDBACK = """
    INSERT INTO feedback (tenant, user, thread_id, item_id, payload) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant, user, thread_id, item_id) DO UPDATE SET payload = excluded.payload"""
"""Breaks a constraint where the item is not there."""

SAVE_ATTACHMENT = f"""
    INSERT INTO attachments (tenant, user, id, payload) SELECT ?, ?, ?, ? WHERE {_NOT_DELETED}
    ON CONFLICT (tenant, user, id) DO UPDATE SET payload = excluded.payload
    RETURNING id"""
"""As `SAVE_THREAD`."""
LOAD_ATTACHMENT = f"SELECT payload FROM attachments WHERE {_OWNER} AND id = ?"
DELETE_ATTACHMENT = f"DELETE FROM attachments WHERE {_OWNER} AND id = ?"
LOAD_ATTACHMENTS = f"SELECT id, payload FROM attachments WHERE {_OWNER}"
CLAIMABLE_ATTACHMENTS = f"""
    SELECT id FROM attachments WHERE {_OWNER} AND id IN (SELECT value FROM json_each(?))
    AND coalesce(json_extract(payload, '$.thread_id'), ?) = ?"""
CLAIM_ATTACHMENT = f"UPDATE attachments SET payload = json_set(payload, '$.thread_id', ?) WHERE {_OWNER} AND id = ?"
RELEASE_ATTACHMENT = f"""
    UPDATE attachments SET payload = json_set(payload, '$.thread_id', NULL)
    WHERE {_OWNER} AND id IN (SELECT value FROM json_each(?)) AND json_extract(payload, '$.thread_id') = ?"""

TAKE_LEASE = """
    INSERT INTO leases (tenant, user, thread_id, holder, until) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant, user, thread_id) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE holder = excluded.holder OR until <= ?
    RETURNING holder"""
"""A row where it was taken; breaks a constraint where the thread is not there."""
RELEASE_LEASE = f"DELETE FROM leases WHERE {_THREAD} AND holder = ?"

CLAIM_REQUEST = """
    INSERT INTO requests (tenant, user, key, fingerprint, busy_until, thread_id, item_id, expires)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant, user, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, busy_until = excluded.busy_until,
        thread_id = excluded.thread_id, item_id = excluded.item_id, expires = excluded.expires
    WHERE expires <= ? OR (thread_id = '' AND busy_until <= ?)
    RETURNING key"""
"""A row where the key is ours now."""
FORGET_EXPIRED_REQUESTS = "DELETE FROM requests WHERE expires <= ?"
KNOWN_REQUEST = f"SELECT fingerprint, busy_until, thread_id, item_id FROM requests WHERE {_OWNER} AND key = ?"
NOTE_REQUEST = f"""
    UPDATE requests SET fingerprint = ?, busy_until = ?, thread_id = ?, item_id = ? WHERE {_OWNER} AND key = ?"""
FORGET_REQUEST = f"DELETE FROM requests WHERE {_OWNER} AND key = ?"


def patch_thread(names: Collection[str]) -> str:
    """Changes fields of a thread: a path (`$.title`) and a JSON value for each, then the thread; a row if it is one."""
    changes = "".join(", ?, json(?)" for _ in names)
    return f"UPDATE threads SET payload = json_set(payload{changes}) WHERE {_OWNER} AND id = ? RETURNING id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages of a list, by order. Each row is an id and a payload."""

    what: str
    """What the list holds."""
    first: dict[str, str]
    behind: dict[str, str]
    """No row where the cursor is not there, and one without an id where nothing is behind it."""


def _pages(table: str, what: str, within: str) -> Pages:
    return Pages(
        what=what,
        first={
            order: f"SELECT id, payload FROM {table} WHERE {within} ORDER BY seq {order} LIMIT ?" for order in _WAYS
        },
        behind={
            order: f"""
                WITH place AS (SELECT seq FROM {table} WHERE {within} AND id = ?)
                SELECT page.id, page.payload FROM place LEFT JOIN (
                    SELECT id, payload, seq FROM {table}
                    WHERE {within} AND seq {way} (SELECT seq FROM place) ORDER BY seq {order} LIMIT ?
                ) AS page
                ORDER BY page.seq {order}"""
            for order, way in _WAYS.items()
        },
    )


THREADS = _pages("threads", "thread", _OWNER)
ITEMS = _pages("items", "item", _THREAD)
