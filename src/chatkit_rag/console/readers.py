"""What `purge`, `users export` and `users delete` do."""

import asyncio
import json as json_
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from chatkit.store import AttachmentStore

from chatkit_rag.console.terminal import out, print_json
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.settings import Settings
from chatkit_rag.stores import privacy
from chatkit_rag.stores.base import Store
from chatkit_rag.wiring import attachment_store_to_clear, build_store, retention_of

Result = TypeVar("Result")
Files = AttachmentStore[RequestContext] | None


def purge(settings: Settings, *, json: bool) -> None:
    """Removes what is too old, and says how much."""

    async def work(store: Store, files: Files) -> privacy.Purged:
        return await privacy.purge(store, files, now=utc_now(), retention=retention_of(settings))

    purged = _with_stores(settings, work)
    if json:
        print_json(purged.to_json())
        return
    kept = "kept for ever" if settings.retention_days is None else f"kept for {settings.retention_days} days"
    out.print(f"Threads    {purged.threads} removed; they are {kept}")
    out.print(f"Files      {purged.attachments} removed that are in no thread")
    out.print(f"Expired    {purged.expired} leases, remembered requests and marks of deleted readers removed")


def export_user(settings: Settings, user: str, tenant: str) -> None:
    """Prints everything that is held of a reader: one JSON document, row by row, so that it may be of any size."""
    principal = _reader(user, tenant)

    async def work(store: Store, _files: Files) -> None:
        async with aclosing(privacy.export_user(store, principal)) as holdings:
            async for piece in _document(principal, holdings):
                out.file.write(piece)

    _with_stores(settings, work)


def delete_user(settings: Settings, user: str, tenant: str, *, json: bool) -> None:
    """Deletes everything that is held of a reader, and says how much that was."""
    principal = _reader(user, tenant)

    async def work(store: Store, files: Files) -> privacy.Deleted:
        return await privacy.delete_user(store, files, principal)

    deleted = _with_stores(settings, work)
    if json:
        gone = {"threads": deleted.threads, "attachments": deleted.attachments}
        print_json({"tenant": tenant, "user": user, **gone})
    else:
        out.print(f"Deleted    {user}: {deleted.threads} threads, {deleted.attachments} files")


def _reader(user: str, tenant: str) -> Principal:
    try:
        return Principal(user, tenant=tenant)
    except ValueError as exc:
        raise ConfigurationError(f"no reader can have this id: {exc}") from exc


def _with_stores(settings: Settings, work: Callable[[Store, Files], Awaitable[Result]]) -> Result:
    async def opened() -> Result:
        store = build_store(settings)
        try:
            await store.ping()  # not `open`, which leaves a database that is away to whoever needs it later
            return await work(store, attachment_store_to_clear(settings))
        finally:
            await store.close()

    return asyncio.run(opened())


async def _document(principal: Principal, holdings: AsyncGenerator[privacy.Holding]) -> AsyncGenerator[str]:
    named: dict[str, Any] = {"tenant": principal.tenant, "user": principal.id}
    yield _json(named)[:-1]
    kinds = list(privacy.KINDS)
    separator = ""
    yield f', "{kinds[0]}": ['
    async for holding in holdings:
        while kinds[0] != holding.kind:
            del kinds[0]
            yield f'], "{kinds[0]}": ['
            separator = ""
        yield f"{separator}{_json(holding.record)}"
        separator = ", "
    for kind in kinds[1:]:
        yield f'], "{kind}": ['
    yield "]}\n"


def _json(document: dict[str, Any]) -> str:
    # Not orjson's, which refuses integers beyond 64 bits: metadata may hold any.
    return json_.dumps(document, ensure_ascii=False)
