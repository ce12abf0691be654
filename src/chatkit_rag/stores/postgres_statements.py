"""What `PostgresStore` says to the database: one statement for each operation, so that each takes one flight. Pure.

`$1` and `$2` are always the owner's tenant and user. `SELECT`s alone never write.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements over one schema."""

    version: str
    load_thread: str
    save_thread: str
    """No row where the owner was deleted since the request came, which is `$5` seconds ago at most."""
    patch_thread: str
    delete_thread: str
    threads: dict[str, str]
    """By order; the first page."""
    threads_after: dict[str, str]
    """By order; no row where the cursor is not there, and one without an id where nothing is behind it."""
    items: dict[str, str]
    items_after: dict[str, str]
    add_item: str
    """No row where the thread is not there."""
    load_item: str
    delete_item: str
    save_feedback: str
    load_attachment: str
    save_attachment: str
    """As `save_thread`."""
    delete_attachment: str
    load_attachments: str
    claim_attachments: str
    """A row for each, or none at all."""
    release_attachments: str
    take_lease: str
    """A row where it was taken."""
    release_lease: str
    claim_request: str
    """Whether the claim is ours, and the request that the key stands for."""
    note_request: str
    forget_request: str
    begin_turn: str
    """`begun`, a `Refusal`, or `again`, with the thread's payload; behind it, the history's ids and payloads."""
    begin_thread: str
    """`begun`, `full` or `again`; `deleted` where the owner was since the request came, `$13` seconds ago at most."""
    end_turn: str
    """No row where the thread is not there."""


_OWNER = "tenant = $1 AND user_id = $2"
_THREAD = f"{_OWNER} AND thread_id = $3"
_WAYS = {"asc": ">", "desc": "<"}


def statements(schema: str) -> Statements:
    """The statements over `schema`, which is a plain name."""
    s = f'"{schema}"'
    fresh = "known.expires <= now() OR known.given_up <= now()"
    return Statements(
        version=f"SELECT version_num FROM {s}.alembic_version",
        load_thread=f"SELECT payload FROM {s}.threads WHERE {_OWNER} AND id = $3",
        # The owner's row is locked until the thread is committed: threads become visible in the order of their numbers.
        save_thread=f"""
            WITH place AS (
                INSERT INTO {s}.owners AS owner (tenant, user_id, thread_seq) VALUES ($1, $2, 1)
                ON CONFLICT (tenant, user_id) DO UPDATE SET thread_seq = owner.thread_seq + 1
                WHERE {_not_deleted(5)}
                RETURNING thread_seq
            )
            INSERT INTO {s}.threads (tenant, user_id, id, seq, payload)
            SELECT $1, $2, $3, thread_seq, $4 FROM place
            ON CONFLICT (tenant, user_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id""",
        # `json` leaves values as they were written; `jsonb` would not.
        patch_thread=f"""
            UPDATE {s}.threads SET payload = (
                SELECT json_object_agg(key, value)::text FROM (
                    SELECT key, value FROM json_each(payload::json)
                    WHERE key NOT IN (SELECT json_object_keys($4::text::json))
                    UNION ALL SELECT key, value FROM json_each($4::text::json)
                ) AS fields
            )
            WHERE {_OWNER} AND id = $3 RETURNING id""",
        # Items, feedback and lease go with it by their foreign keys, which see also what came while it waited.
        delete_thread=f"DELETE FROM {s}.threads WHERE {_OWNER} AND id = $3",
        threads={order: _first(f"{s}.threads", _OWNER, order, 3) for order in _WAYS},
        threads_after={order: _behind(f"{s}.threads", _OWNER, order, 3) for order in _WAYS},
        items={order: _first(f"{s}.items", _THREAD, order, 4) for order in _WAYS},
        items_after={order: _behind(f"{s}.items", _THREAD, order, 4) for order in _WAYS},
        # The thread's row is locked until the item is committed: items become visible in the order of their numbers.
        add_item=f"""
            WITH place AS (
                UPDATE {s}.threads SET item_seq = item_seq + 1 WHERE {_OWNER} AND id = $3 RETURNING item_seq
            )
            INSERT INTO {s}.items (tenant, user_id, thread_id, id, seq, payload)
            SELECT $1, $2, $3, $4, item_seq, $5 FROM place
            ON CONFLICT (tenant, user_id, thread_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id""",
        load_item=f"SELECT payload FROM {s}.items WHERE {_THREAD} AND id = $4",
        delete_item=f"DELETE FROM {s}.items WHERE {_THREAD} AND id = $4",
        save_feedback=f"""
            INSERT INTO {s}.feedback (tenant, user_id, thread_id, item_id, payload)
            SELECT $1, $2, $3, item_id, $5 FROM unnest($4::text[]) AS item_id
            ON CONFLICT (tenant, user_id, thread_id, item_id) DO UPDATE SET payload = excluded.payload""",
        load_attachment=f"SELECT payload FROM {s}.attachments WHERE {_OWNER} AND id = $3",
        # The owner's row is locked likewise: whoever deletes them waits for what is being stored, and finds it.
        save_attachment=f"""
            WITH owner AS (
                INSERT INTO {s}.owners AS owner (tenant, user_id, thread_seq) VALUES ($1, $2, 0)
                ON CONFLICT (tenant, user_id) DO UPDATE SET thread_seq = owner.thread_seq
                WHERE {_not_deleted(5)}
                RETURNING 1
            )
            INSERT INTO {s}.attachments (tenant, user_id, id, payload) SELECT $1, $2, $3, $4 FROM owner
            ON CONFLICT (tenant, user_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id""",
        delete_attachment=f"DELETE FROM {s}.attachments WHERE {_OWNER} AND id = $3",
        load_attachments=f"SELECT id, payload FROM {s}.attachments WHERE {_OWNER}",
        # Locked in one order, and looked at again when the lock is had: of two claims at once, the second finds none.
        claim_attachments=f"""
            WITH free AS MATERIALIZED (
                SELECT id FROM {s}.attachments WHERE {_OWNER} AND id = ANY ($3::text[])
                AND coalesce(payload::json ->> 'thread_id', $4::text) = $4::text
                ORDER BY id FOR UPDATE
            )
            UPDATE {s}.attachments SET payload = {_with_thread("to_json($4::text)")}
            WHERE {_OWNER} AND id IN (SELECT id FROM free)
            AND (SELECT count(*) FROM free) = cardinality($3::text[])
            RETURNING id""",
        release_attachments=f"""
            UPDATE {s}.attachments SET payload = {_with_thread("'null'::json")}
            WHERE {_OWNER} AND id = ANY ($3::text[]) AND payload::json ->> 'thread_id' = $4::text""",
        take_lease=f"""
            INSERT INTO {s}.leases AS known (tenant, user_id, thread_id, holder, until)
            VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::float8))
            ON CONFLICT (tenant, user_id, thread_id) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE known.holder = excluded.holder OR known.until <= now()
            RETURNING holder""",
        release_lease=f"DELETE FROM {s}.leases WHERE {_THREAD} AND holder = $4",
        # The row comes back also where it was known: a second look would be another flight, and see an older moment.
        # `claim` tells whose it is, so that the statement may be sent again when its outcome was not heard.
        claim_request=f"""
            WITH swept AS (
                DELETE FROM {s}.requests WHERE ctid = ANY (ARRAY (
                    SELECT ctid FROM {s}.requests
                    WHERE expires <= now() AND (tenant, user_id, key) <> ($1, $2, $3)
                    ORDER BY expires LIMIT 16 FOR UPDATE SKIP LOCKED
                ))
            )
            INSERT INTO {s}.requests AS known (tenant, user_id, key, claim, payload, given_up, expires)
            VALUES ($1, $2, $3, $4, $5, {_moment(6)}, now() + make_interval(secs => $7::float8))
            ON CONFLICT (tenant, user_id, key) DO UPDATE SET
                claim = CASE WHEN {fresh} THEN excluded.claim ELSE known.claim END,
                payload = CASE WHEN {fresh} THEN excluded.payload ELSE known.payload END,
                given_up = CASE WHEN {fresh} THEN excluded.given_up ELSE known.given_up END,
                expires = CASE WHEN {fresh} THEN excluded.expires ELSE known.expires END
            RETURNING claim, payload""",
        note_request=f"UPDATE {s}.requests SET payload = $4, given_up = {_moment(5)} WHERE {_OWNER} AND key = $3",
        forget_request=f"DELETE FROM {s}.requests WHERE {_OWNER} AND key = $3",
        begin_turn=_begin_turn(s),
        begin_thread=_begin_thread(s),
        end_turn=_end_turn(s),
    )


def _with_thread(value: str) -> str:
    """An attachment's payload with another thread; `json` leaves the rest as it was written."""
    return f"""(
        SELECT json_object_agg(key, value)::text FROM (
            SELECT key, value FROM json_each(payload::json) WHERE key <> 'thread_id'
            UNION ALL SELECT 'thread_id', {value}
        ) AS fields
    )"""


def deleted_at(owner: str) -> str:
    """When an owner was deleted; of the whole row, so that a schema without the column says never."""
    return f"(to_jsonb({owner}) ->> 'deleted_at')::timestamptz"


def _not_deleted(age: int) -> str:
    since = f"now() - make_interval(secs => ${age}::float8)"
    return f"coalesce({deleted_at('owner')} < {since}, true)"


def _begin_turn(s: str) -> str:
    # What is counted and read is as old as the statement, what is locked is of now. Where somebody was in between, the
    # numbers differ, and nothing is done. In all statements the thread's row is locked before its lease's.
    return f"""
        WITH seen AS MATERIALIZED (SELECT item_seq FROM {s}.threads WHERE {_OWNER} AND id = $3),
        locked AS MATERIALIZED (
            SELECT payload, item_seq, payload::json #>> '{{status,type}}' AS status
            FROM {s}.threads WHERE {_OWNER} AND id = $3 FOR NO KEY UPDATE
        ),
        state AS MATERIALIZED (
            SELECT payload, CASE
                WHEN item_seq IS DISTINCT FROM (SELECT item_seq FROM seen) THEN 'again'
                WHEN status <> 'active' THEN status
                WHEN $8::int > 0 AND item_seq >= $8::int
                    AND (SELECT count(*) FROM {s}.items WHERE {_THREAD}) >= $8::int
                    AND NOT EXISTS (SELECT FROM {s}.items WHERE {_THREAD} AND id = $6) THEN 'full'
                ELSE 'busy'
            END AS state FROM locked
        ),
        taken AS (
            INSERT INTO {s}.leases AS known (tenant, user_id, thread_id, holder, until)
            SELECT $1, $2, $3, $4, now() + make_interval(secs => $5::float8) FROM state WHERE state = 'busy'
            ON CONFLICT (tenant, user_id, thread_id) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE known.holder = excluded.holder OR known.until <= now()
            RETURNING holder
        ),
        place AS (
            UPDATE {s}.threads SET item_seq = item_seq + 1
            WHERE {_OWNER} AND id = $3 AND EXISTS (SELECT FROM taken) RETURNING item_seq
        ),
        added AS (
            INSERT INTO {s}.items (tenant, user_id, thread_id, id, seq, payload)
            SELECT $1, $2, $3, $6, item_seq, $7 FROM place
            ON CONFLICT (tenant, user_id, thread_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id
        ),
        noted AS (
            UPDATE {s}.requests SET payload = $11, given_up = {_moment(12)}
            WHERE {_OWNER} AND key = $10 AND EXISTS (SELECT FROM added)
        )
        SELECT CASE WHEN EXISTS (SELECT FROM added) THEN 'begun' ELSE state END, payload, NULL AS seq FROM state
        UNION ALL (
            SELECT id, payload, seq FROM {s}.items
            WHERE {_THREAD} AND id <> $6 AND EXISTS (SELECT FROM added) ORDER BY seq DESC LIMIT $9::int
        )
        ORDER BY seq DESC NULLS FIRST"""


def _begin_thread(s: str) -> str:
    # As `_begin_turn`; here it is the owner's row that is locked, and that counts the threads there ever were.
    return f"""
        WITH seen AS MATERIALIZED (
            SELECT thread_seq, {_not_deleted(13)} AS lives FROM {s}.owners AS owner WHERE {_OWNER}
        ),
        state AS MATERIALIZED (
            SELECT CASE
                WHEN NOT (SELECT lives FROM seen) THEN 'deleted'
                WHEN $9::int > 0 AND coalesce((SELECT thread_seq FROM seen), 0) >= $9::int
                    AND (SELECT count(*) FROM {s}.threads WHERE {_OWNER}) >= $9::int
                    AND NOT EXISTS (SELECT FROM {s}.threads WHERE {_OWNER} AND id = $3) THEN 'full'
                ELSE 'again'
            END AS state
        ),
        place AS (
            INSERT INTO {s}.owners AS owner (tenant, user_id, thread_seq)
            SELECT $1, $2, 1 FROM state WHERE state = 'again'
            ON CONFLICT (tenant, user_id) DO UPDATE SET thread_seq = owner.thread_seq + 1
            WHERE owner.thread_seq = (SELECT thread_seq FROM seen) AND {_not_deleted(13)}
            RETURNING thread_seq
        ),
        created AS (
            INSERT INTO {s}.threads (tenant, user_id, id, seq, item_seq, payload)
            SELECT $1, $2, $3, thread_seq, 1, $7 FROM place
            ON CONFLICT (tenant, user_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id
        ),
        added AS (
            INSERT INTO {s}.items (tenant, user_id, thread_id, id, seq, payload)
            SELECT $1, $2, $3, $6, 1, $8 FROM created
            ON CONFLICT (tenant, user_id, thread_id, id) DO UPDATE SET payload = excluded.payload
        ),
        taken AS (
            INSERT INTO {s}.leases AS known (tenant, user_id, thread_id, holder, until)
            SELECT $1, $2, $3, $4, now() + make_interval(secs => $5::float8) FROM created
            ON CONFLICT (tenant, user_id, thread_id) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE known.holder = excluded.holder OR known.until <= now()
        ),
        noted AS (
            UPDATE {s}.requests SET payload = $11, given_up = {_moment(12)}
            WHERE {_OWNER} AND key = $10 AND EXISTS (SELECT FROM created)
        )
        SELECT CASE WHEN EXISTS (SELECT FROM created) THEN 'begun' ELSE state END FROM state"""


def _end_turn(s: str) -> str:
    return f"""
        WITH place AS (
            UPDATE {s}.threads SET item_seq = item_seq + 1 WHERE {_OWNER} AND id = $3 RETURNING item_seq
        ),
        added AS (
            INSERT INTO {s}.items (tenant, user_id, thread_id, id, seq, payload)
            SELECT $1, $2, $3, $5, item_seq, $6 FROM place
            ON CONFLICT (tenant, user_id, thread_id, id) DO UPDATE SET payload = excluded.payload
            RETURNING id
        ),
        freed AS (DELETE FROM {s}.leases WHERE {_THREAD} AND holder = $4 AND EXISTS (SELECT FROM place)),
        noted AS (
            UPDATE {s}.requests SET payload = $8, given_up = {_moment(9)}
            WHERE {_OWNER} AND key = $7 AND EXISTS (SELECT FROM added)
        )
        SELECT id FROM added"""


def _first(table: str, within: str, order: str, limit: int) -> str:
    return f"SELECT id, payload FROM {table} WHERE {within} ORDER BY seq {order} LIMIT ${limit}::int"


def _behind(table: str, within: str, order: str, limit: int) -> str:
    page = f"""
        SELECT id, payload, seq FROM {table} WHERE {within} AND seq {_WAYS[order]} place.seq
        ORDER BY seq {order} LIMIT ${limit}::int"""
    place = f"SELECT seq FROM {table} WHERE {within} AND id = ${limit + 1}"
    return f"""
        SELECT page.id, page.payload FROM ({place}) AS place
        LEFT JOIN LATERAL ({page}) AS page ON true
        ORDER BY page.seq {order}"""


def _moment(number: int) -> str:
    return f"coalesce(to_timestamp(${number}::float8), 'infinity')"
