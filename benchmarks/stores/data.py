"""What is stored before anything is measured: the same threads and items in three layouts of tables.

100,000 threads of a hundred readers; the one who is measured has a thousand of them, the first three of which have
10, 1,000 and 100,000 items.
"""

from datetime import UTC, datetime
from typing import Any

import asyncpg
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    InferenceOptions,
    ThreadItem,
    ThreadMetadata,
    URLSource,
    UserMessageItem,
    UserMessageTextContent,
)
from pydantic import TypeAdapter

READER = "reader-0"
PLACES = {"10": "thr_0", "1k": "thr_1", "100k": "thr_2"}
"""The threads whose pages are read, by the number of their items."""
WRITTEN = [f"thr_{number}" for number in range(100, 1000)]
"""Threads that are written to, of ten items each."""
NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
ITEMS: TypeAdapter[list[ThreadItem]] = TypeAdapter(list[ThreadItem])
ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
THREAD = TypeAdapter(ThreadMetadata)

_TEXT = "A node is a process that performs computation, and nodes speak to each other over topics. " * 4

LAYOUTS = """
CREATE TABLE floor_threads (id text PRIMARY KEY, owner text NOT NULL, seq bigint NOT NULL, payload text NOT NULL);
CREATE INDEX ON floor_threads (owner, seq);
CREATE TABLE floor_items (
    thread_id text NOT NULL, seq bigint NOT NULL, id text NOT NULL, payload text NOT NULL, PRIMARY KEY (thread_id, seq)
);
CREATE SEQUENCE floor_numbers START 1000000;
CREATE TABLE first_threads (
    id varchar(255) PRIMARY KEY, user_id varchar(255) NOT NULL, created_at timestamptz NOT NULL, data jsonb NOT NULL
);
CREATE INDEX ON first_threads (user_id, created_at);
CREATE TABLE first_items (
    id varchar(255) PRIMARY KEY, thread_id varchar(255) NOT NULL, user_id varchar(255) NOT NULL,
    created_at timestamptz NOT NULL, data jsonb NOT NULL
);
CREATE INDEX ON first_items (thread_id, created_at);
"""

_FILL = """
CREATE TEMP TABLE made_threads AS
    SELECT 'thr_' || number AS id, 'reader-' || number / 1000 AS owner, number AS seq,
        replace($thread${thread}$thread$, '@id', 'thr_' || number) AS payload
    FROM generate_series(0, {threads} - 1) AS number;
CREATE TEMP TABLE made_items AS
    SELECT thread.id AS thread_id, thread.owner, number AS seq, 'msg_' || thread.seq || '_' || number AS id, replace(
        replace(
            CASE WHEN number % 2 = 1 THEN $item${question}$item$ ELSE $item${answer}$item$ END,
            '@id', 'msg_' || thread.seq || '_' || number
        ), '@thread', thread.id) AS payload
    FROM made_threads AS thread
    CROSS JOIN LATERAL generate_series(1, CASE thread.id WHEN 'thr_1' THEN 1000 WHEN 'thr_2' THEN {many} ELSE 10 END)
        AS number
    WHERE thread.owner = '{reader}';
INSERT INTO floor_threads (id, owner, seq, payload) SELECT id, owner, seq, payload FROM made_threads;
INSERT INTO floor_items (thread_id, seq, id, payload) SELECT thread_id, seq, id, payload FROM made_items;
INSERT INTO first_threads SELECT id, owner, now() + seq * interval '1 ms', payload::jsonb FROM made_threads;
INSERT INTO first_items
    SELECT id, thread_id, owner, now() + seq * interval '1 ms', payload::jsonb FROM made_items;
INSERT INTO chatkit_rag.owners (tenant, user_id, thread_seq)
    SELECT '', owner, max(seq) FROM made_threads GROUP BY owner;
INSERT INTO chatkit_rag.threads (tenant, user_id, id, seq, item_seq, payload)
    SELECT '', owner, id, seq, coalesce(items.held, 0), payload FROM made_threads
    LEFT JOIN (SELECT thread_id, count(*) AS held FROM made_items GROUP BY thread_id) AS items ON thread_id = id;
INSERT INTO chatkit_rag.items (tenant, user_id, thread_id, id, seq, payload)
    SELECT '', owner, thread_id, id, seq, payload FROM made_items ORDER BY thread_id, seq;
"""


async def fill(url: str, *, threads: int, many: int) -> None:
    """Makes the tables of the floor and of the first systems, and fills them and ours, which must be there."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(LAYOUTS)
        values = {"question": question("@id", "@thread"), "answer": answer("@id", "@thread")}
        texts = {name: item.model_dump_json() for name, item in values.items()}
        thread = THREAD.dump_json(ThreadMetadata(id="@id", created_at=NOW, title="Nodes")).decode()
        script = _FILL.format(**texts, thread=thread, threads=threads, many=many, reader=READER)
        await connection.execute(script, timeout=300)
        await connection.execute("DROP TABLE made_items, made_threads")
        await connection.execute("VACUUM ANALYZE", timeout=300)
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def question(id_: str, thread_id: str) -> UserMessageItem:
    """Some 600 characters of JSON."""
    content: list[Any] = [UserMessageTextContent(text=_TEXT)]
    place: dict[str, Any] = {"id": id_, "thread_id": thread_id, "created_at": NOW}
    return UserMessageItem(content=content, inference_options=InferenceOptions(), **place)


def answer(id_: str, thread_id: str) -> AssistantMessageItem:
    """Some 700 characters of JSON."""
    source = URLSource(title="Nodes", url="/module-1/nodes#what-is-a-node")
    content = AssistantMessageContent(text=_TEXT, annotations=[Annotation(source=source, index=20)])
    return AssistantMessageItem(id=id_, thread_id=thread_id, created_at=NOW, content=[content])
