"""Turns in the database of a `PostgresStore`: one statement begins a turn, and one ends it."""

from collections.abc import Sequence

from chatkit.types import ThreadMetadata

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.interrupted import item_from_json, items_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.postgres_coordination import remembered
from chatkit_rag.stores.postgres_database import PostgresDatabase
from chatkit_rag.stores.rows import item_to_json, page_of_rows, read_row, thread_from_json, thread_to_json
from chatkit_rag.stores.storable import check_item, check_storable
from chatkit_rag.stores.turns import Asked, Begun, Ending, Refusal

_AGAIN, _BEGUN, _DELETED = "again", "begun", "deleted"


class PostgresTurns:
    """`BeginsTurns`, for a store over `_database`."""

    _database: PostgresDatabase

    async def begin_turn(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_turn`; a second flight only where another statement was in between."""
        database, message = self._database, asked.message
        check_item(message, message.thread_id)
        lease = (message.thread_id, asked.holder, float(asked.seconds))
        history = clamped(asked.history) if asked.history else 0
        values = (*lease, message.id, item_to_json(message), asked.quota, history, *_noted(asked))
        while rows := await database.change(database.sql.begin_turn, *context.owner, *values):
            state, payload, _ = rows[0]
            if state != _AGAIN:
                break
        else:
            raise NotFound("thread", message.thread_id)
        if state != _BEGUN:
            return Refusal(state)
        thread = read_row(message.thread_id, payload, "thread", thread_from_json)
        if thread is None:
            raise NotFound("thread", message.thread_id)
        before = [row[:2] for row in rows[1:]]
        return Begun(
            thread=thread, history=page_of_rows(before, asked.history, "item", item_from_json, items_from_json).data
        )

    async def begin_thread(self, thread: ThreadMetadata, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_thread`; likewise."""
        database = self._database
        check_storable(thread)
        check_item(asked.message, thread.id)
        lease = (thread.id, asked.holder, float(asked.seconds))
        payloads = (thread_to_json(thread), item_to_json(asked.message))
        values = (*lease, asked.message.id, *payloads, asked.quota, *_noted(asked), database.age_of(context))
        state = _AGAIN
        while state == _AGAIN:
            [(state,)] = await database.store(database.sql.begin_thread, *context.owner, *values)
        if state == _DELETED:
            raise NotFound("thread", thread.id)
        return Begun(thread=thread) if state == _BEGUN else Refusal(state)

    async def end_turn(self, ending: Ending, context: RequestContext) -> None:
        """See `BeginsTurns.end_turn`."""
        database, item = self._database, ending.item
        check_item(item, item.thread_id)
        values = (item.thread_id, ending.holder, item.id, item_to_json(item), *_noted(ending))
        if not await database.change(database.sql.end_turn, *context.owner, *values):
            raise NotFound("thread", item.thread_id)


def _noted(said: Asked | Ending) -> Sequence[str | float | None]:
    """The idempotency key, and what is remembered under it; there is no key of no letters."""
    return (said.key, *remembered(said.request)) if said.request is not None else ("", "", None)
