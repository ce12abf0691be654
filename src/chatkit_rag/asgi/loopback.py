"""A guard for apps that only their own machine may use."""

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chatkit_rag.asgi.problems import problem

_NAMES = {"localhost", "127.0.0.1", "[::1]"}


class LoopbackOnly:
    """Refuses requests that name another host than this machine.

    A foreign page can have its own name resolve to 127.0.0.1 and then speak to this server as if from the same
    origin; the `Host` header is what gives it away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets requests of this machine through."""
        if scope["type"] == "http" and _host(HTTPConnection(scope)) not in _NAMES:
            refused = problem(403, "forbidden", "this server answers on its own machine only: open it as localhost")
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host(connection: HTTPConnection) -> str:
    host = connection.headers.get("host", "").lower()
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
