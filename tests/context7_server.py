"""A server that speaks as Context7 does, over its HTTP interface and as an MCP server, on a loopback port."""

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROS = "/ros2/ros2_documentation"
SOURCE = "https://docs.ros.org/en/jazzy/quality-of-service.html"
EXPLAINED = "A subscription with a reliable policy does not match a publisher that is best effort."
CODE = "qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)"

LIBRARIES = [
    {"id": "/someone/rosbridge", "title": "Bridge", "trustScore": 3},
    {"id": ROS, "title": "ROS 2", "description": "The Robot Operating System", "trustScore": 9},
]
SNIPPETS = {
    "codeSnippets": [
        {
            "codeTitle": "Set a policy",
            "codeDescription": "Asks for best effort.",
            "codeId": f"{SOURCE}#_snippet_0",
            "codeList": [{"language": "python", "code": CODE}],
        }
    ],
    "infoSnippets": [
        {"pageId": SOURCE, "breadcrumb": "Quality of Service > Compatibility", "content": EXPLAINED},
        {"pageId": "javascript:alert(1)", "breadcrumb": "Nowhere", "content": "A third one."},
    ],
}
LIBRARIES_TEXT = f"""Available Libraries:

- Title: Bridge
- Context7-compatible library ID: /someone/rosbridge
- Description: A bridge
----------
- Title: ROS 2
- Context7-compatible library ID: {ROS}
- Description: The Robot Operating System
- Source Reputation: High"""
SNIPPETS_TEXT = f"""### Quality of Service > Compatibility

Source: {SOURCE}

{EXPLAINED}

--------------------------------

### Set a policy

Source: {SOURCE}#_snippet_0

Asks for best effort.

```python
{CODE}
```
"""


@dataclass
class Context7Server:
    """Context7, with the libraries and snippets above. A context manager; what it does may be changed at any time."""

    port: int = 0
    hangs: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of what it knows."""
    text: str | None = None
    """Likewise, of its MCP server's tools."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def mcp(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def __enter__(self) -> Self:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        listening.listen()
        self._ended = asyncio.Event()
        config = uvicorn.Config(self._app(), log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._server.serve([listening])), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._server.should_exit = True
        self._thread.join(15)
        self._loop.close()

    def _app(self) -> Starlette:
        server = MCPServer("Context7", tools=[])
        server.add_tool(self._resolve, name="resolve-library-id", structured_output=False)
        server.add_tool(self._query, name="query-docs", structured_output=False)
        app = server.streamable_http_app(stateless_http=True, json_response=True)
        app.router.routes += [Route("/api/v2/libs/search", self._search), Route("/api/v2/context", self._context)]
        app.router.routes.append(Route("/api/elsewhere", self._search))
        return app

    async def _resolve(self, query: str, libraryName: str) -> str:  # noqa: N803 - Context7's name
        return await self._say({"query": query, "libraryName": libraryName}, LIBRARIES_TEXT)

    async def _query(self, query: str, libraryId: str) -> str:  # noqa: N803 - Context7's name
        return await self._say({"query": query, "libraryId": libraryId}, SNIPPETS_TEXT)

    async def _say(self, asked: dict[str, Any], text: str) -> str:
        self.asked.append(asked)
        if self.hangs:
            await self._ended.wait()
        if self.status != 200:
            raise ValueError(f"status {self.status}")
        return text if self.text is None else self.text

    async def _search(self, request: Request) -> Response:
        return await self._answer(request, {"results": LIBRARIES})

    async def _context(self, request: Request) -> Response:
        return await self._answer(request, SNIPPETS)

    async def _answer(self, request: Request, known: dict[str, Any]) -> Response:
        self.asked.append(dict(request.query_params))
        self.keys.append(request.headers.get("authorization", ""))
        if self.hangs:
            await self._ended.wait()
        if self.body is not None:
            return Response(self.body, self.status, self.headers, media_type="application/json")
        shown = known if self.status == 200 else {"error": "no", "redirectUrl": "/elsewhere"}
        return JSONResponse(shown, self.status, self.headers)
