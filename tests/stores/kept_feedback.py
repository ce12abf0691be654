"""What our stores keep of readers' feedback: the stores themselves only take it."""

import json
from typing import Any

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.postgres import PostgresStore


async def kept_feedback(store: Any, context: RequestContext, thread_id: str, item_id: str) -> str | None:
    """The kind of feedback that is kept on an item."""
    store = vars(store).get("_store", store)
    if isinstance(store, MemoryStore):
        kept = store._of(context).feedback.get(thread_id, {}).get(item_id)
        return kept and kept["kind"]
    names = ("tenant", "user", "thread_id", "item_id")
    key = dict(zip(names, (*context.owner, thread_id, item_id), strict=True))
    if isinstance(store, PostgresStore):
        feedback = f"{store._database.schema}.feedback WHERE (tenant, user_id, thread_id, item_id) = ($1, $2, $3, $4)"
        rows = await store._database.read(f"SELECT payload FROM {feedback}", *key.values())
    else:
        wanted = "SELECT payload FROM feedback WHERE (tenant, user, thread_id, item_id) = (?, ?, ?, ?)"
        rows = await store._file.read(wanted, *key.values())
    return json.loads(rows[0][0])["kind"] if rows else None
