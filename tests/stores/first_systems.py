"""Databases as the first systems have them, and what their servers write into them."""

import json
from collections.abc import Sequence
from typing import Any

import psycopg
from chatkit.types import Attachment, ThreadItem, ThreadMetadata

from chatkit_rag.testing.store.part import T0

S1 = """
CREATE TABLE chatkit_threads (
    id varchar(255) PRIMARY KEY,
    user_id varchar(255) NOT NULL,
    metadata jsonb DEFAULT '{}',
    created_at timestamp DEFAULT current_timestamp,
    updated_at timestamp DEFAULT current_timestamp
);
CREATE INDEX ON chatkit_threads (user_id);
CREATE TABLE chatkit_thread_items (
    id varchar(255) PRIMARY KEY,
    thread_id varchar(255) NOT NULL REFERENCES chatkit_threads ON DELETE CASCADE,
    item_type varchar(50) NOT NULL,
    role varchar(50),
    content text,
    tool_name varchar(255),
    tool_arguments jsonb,
    tool_call_id varchar(255),
    tool_result text,
    tool_result_call_id varchar(255),
    task_name varchar(255),
    task_status varchar(50),
    task_result jsonb,
    workflow_name varchar(255),
    workflow_status varchar(50),
    workflow_steps jsonb,
    attachment_url text,
    attachment_mime_type varchar(100),
    attachment_size_bytes integer,
    metadata jsonb DEFAULT '{}',
    created_at timestamp DEFAULT current_timestamp,
    sequence_number serial
);
CREATE INDEX ON chatkit_thread_items (thread_id, sequence_number);
"""

S2 = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.threads (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    organization_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    data {json} NOT NULL,
    UNIQUE (id, user_id)
);
CREATE TABLE {schema}.items (
    id text PRIMARY KEY,
    thread_id text NOT NULL,
    user_id text NOT NULL,
    organization_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    data {json} NOT NULL,
    UNIQUE (id, user_id)
);
CREATE TABLE {schema}.attachments (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    organization_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    data {json} NOT NULL,
    UNIQUE (id, user_id)
);
CREATE INDEX ON {schema}.threads (user_id, created_at DESC);
CREATE INDEX ON {schema}.items (thread_id, created_at);
"""
# As a site would change it whose users' ids collided.
KEYED_BY_OWNER = """
ALTER TABLE chatkit.threads DROP CONSTRAINT threads_pkey, ALTER user_id DROP NOT NULL;
ALTER TABLE chatkit.items DROP CONSTRAINT items_pkey, DROP CONSTRAINT items_id_user_id_key, ALTER user_id DROP NOT NULL;
"""


class OldDatabase:
    """A database of a first system's."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement with `%s` for its values."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """A statement for each row of values."""
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany(statement.encode(), rows)


class S2Database(OldDatabase):
    """Of the second system, whose server wraps ChatKit's JSON in the name of its kind."""

    def __init__(self, url: str, *, schema: str = "chatkit", payload: str = "jsonb") -> None:
        super().__init__(url)
        self._schema = schema
        self.run(S2.format(schema=schema, json=payload))

    def add_thread(self, user: str | None, thread: ThreadMetadata, organization: str | None = None) -> None:
        """What its `save_thread` writes."""
        self._add("threads", [(thread.id, user, organization, thread.created_at, _wrapped("thread", thread))])

    def add_items(self, user: str | None, items: Sequence[ThreadItem]) -> None:
        """What its `add_thread_item` writes."""
        rows = [(item.id, item.thread_id, user, item.created_at, _wrapped("item", item)) for item in items]
        columns = "id, thread_id, user_id, created_at, data"
        self.many(f"INSERT INTO {self._schema}.items ({columns}) VALUES (%s, %s, %s, %s, %s)", rows)

    def add_attachment(self, user: str, attachment: Attachment, **changes: Any) -> None:
        """What its attachment store writes."""
        document = json.dumps({"attachment": attachment.model_dump(mode="json") | changes})
        self._add("attachments", [(attachment.id, user, None, T0, document)])

    def save(self, table: str, id_: str, data: str) -> None:
        """Another record in the place of one that is there."""
        self.run(f"UPDATE {self._schema}.{table} SET data = %s, updated_at = now() WHERE id = %s", data, id_)

    def _add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        columns = "id, user_id, organization_id, created_at, data"
        self.many(f"INSERT INTO {self._schema}.{table} ({columns}) VALUES (%s, %s, %s, %s, %s)", rows)


class S1Database(OldDatabase):
    """Of the first system, which has a column for each thing."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.run(S1)

    def add_thread(self, user: str, id_: str, *, metadata: Any = None, created_at: str = "2025-03-01 10:00") -> None:
        """A thread; its times have no offset."""
        columns = "id, user_id, metadata, created_at"
        values = (id_, user, json.dumps(metadata), created_at)
        self.run(f"INSERT INTO chatkit_threads ({columns}) VALUES (%s, %s, %s, %s)", *values)

    def add_item(self, thread_id: str, id_: str, item_type: str = "message", **columns: Any) -> None:
        """An item."""
        values = {"id": id_, "thread_id": thread_id, "item_type": item_type} | columns
        names, marks = ", ".join(values), ", ".join("%s" for _ in values)
        given = [json.dumps(value) if isinstance(value, dict | list) else value for value in values.values()]
        self.run(f"INSERT INTO chatkit_thread_items ({names}) VALUES ({marks})", *given)


def _wrapped(name: str, record: Any) -> str:
    return json.dumps({name: record.model_dump(mode="json")})
