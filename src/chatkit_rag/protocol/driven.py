"""A ChatKit server that is not a `RagChatServer`: opened, closed, and asked through the same doors as one."""

from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult

from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.engine import Engine, drive, overrides
from chatkit_rag.protocol.process import process
from chatkit_rag.protocol.warming import complete_types, rehearse
from chatkit_rag.stores.base import Lifecycle


class DrivenServer:
    """Carries out requests by the server's hooks and store; one with a `process` of its own does so by itself."""

    def __init__(self, server: ChatKitServer[RequestContext]) -> None:
        self._server = server
        self.engine: Engine | None = None if overrides(server, "process") else drive(server)
        store: object = self.engine.store if self.engine else server.store
        self._store = store if isinstance(store, Lifecycle) else None

    async def open(self) -> None:
        """Opens the store, if it wants that. Raises StoreUnavailable."""
        complete_types()
        await rehearse()
        if self._store:
            await self._store.open()

    async def close(self) -> None:
        """Closes the store."""
        if self._store:
            await self._store.close()

    async def process(
        self, request: str | bytes | bytearray, context: RequestContext
    ) -> StreamingResult | NonStreamingResult:
        """See `process.process`."""
        if self.engine is None:
            return await self._server.process(request, context)
        return await process(self.engine, bytes(request) if isinstance(request, bytearray) else request, context)
