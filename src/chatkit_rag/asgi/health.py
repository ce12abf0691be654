"""Whether the parts work, for load balancers and people. No paid call is made to find out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from chatkit.server import ChatKitServer
from starlette.requests import Request
from starlette.responses import Response

from chatkit_rag.asgi.problems import json_response
from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.base import Lifecycle, UsesCache

_log = logging.getLogger(__name__)

_PATIENCE = 2.0


class Health:
    """The three health routes."""

    def __init__(
        self,
        server: ChatKitServer[RequestContext],
        *,
        start: Callable[[], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> None:
        """The routes of an app.

        Args:
            server: whose parts are looked at.
            start: starts the app: where the host runs no lifespan, the first request may be one of these.
            stopping: whether the app is about to end.
        """
        self._store: object = server.store.unwrapped if isinstance(server.store, HookStore) else server.store
        self._sources = server.sources if isinstance(server, RagChatServer) else ()
        self._model = server.chosen_model.label if isinstance(server, RagChatServer) else type(server).__name__
        self._start = start
        self._stopping = stopping

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return json_response({"status": "healthy"})

    async def ready(self, _request: Request) -> Response:
        """As `summary`, with 503 while a part that is needed is down, and when the app is about to end."""
        state = await self._state()
        return json_response(state, 200 if state["status"] != "unhealthy" and not self._stopping() else 503)

    async def summary(self, _request: Request) -> Response:
        """Every part, and the whole: unhealthy without the store, degraded without anything to search, or the cache."""
        return json_response(await self._state())

    async def _state(self) -> dict[str, object]:
        # Without a limit: a start that is given up half-way is one that never comes to its end.
        started = await _works(self._start(), "app", within=None)
        store = await _works(self._store.ping(), "store") if isinstance(self._store, Lifecycle) else True
        cache = {"cache": await _works(self._store.ping_cache(), "cache")} if isinstance(self._store, UsesCache) else {}
        searching = [await _works(source.ping(), "source") for source in self._sources]
        operational = started and store
        whole = all(searching) and all(cache.values())
        status = "unhealthy" if not operational else "healthy" if whole else "degraded"
        rag = "healthy" if all(searching) else "degraded" if any(searching) else "down"
        return {
            "status": status,
            "chatkit_server": "operational" if operational else "down",
            "rag_service": rag,
            "store": "operational" if store else "down",
            "checks": {"store": store, **cache, "sources": searching, "model": self._model},
        }


async def _works(check: Awaitable[None], what: str, *, within: float | None = _PATIENCE) -> bool:
    try:
        async with asyncio.timeout(within):
            await check
    except Exception as exc:  # noqa: BLE001 - whatever it is, the part does not work
        _log.warning("the %s does not answer: %s", what, exc)
        return False
    return True
