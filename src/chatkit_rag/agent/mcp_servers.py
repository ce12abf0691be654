"""MCP servers of the site's own: their tools in an answer, and answers that go on when one of them is gone.

A server is connected to in a task of its own, which also takes the connection down: the SDK's manager sees to that.
One that is not there, or that is lost, is tried again in the background when it is next wanted, and not more often
than once in a while.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from agents import Agent, FunctionTool
from agents.exceptions import ModelBehaviorError
from agents.mcp import MCPServerManager, MCPServerStreamableHttp, MCPUtil
from agents.tool_context import ToolContext

from chatkit_rag.agent.bounds import ToolBounds, bounded
from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.errors import ChatKitRagError
from chatkit_rag.retrieval.breaker import CircuitBreaker

_log = logging.getLogger(__name__)

_CALL_SECONDS = 60.0
"""One call, where its caller sets no shorter time."""
_TOOLS = 100
"""Tools of one server."""


class McpUnavailable(ChatKitRagError):
    """An MCP server does not answer now."""


class McpConnection:
    """One MCP server over Streamable HTTP."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, seconds: float = 5.0, retry_seconds: float = 30.0
    ) -> None:
        """A server, not yet connected to.

        Args:
            url: its address; redirects are not followed.
            headers: what is sent with every request, a key for instance.
            seconds: how long connecting may take.
            retry_seconds: how long a server that was not there is left alone.
        """
        self.name = urlsplit(url).hostname or url
        self._seconds = seconds
        self.tools: list[FunctionTool] = []
        """What it offers; nothing while it is not there."""
        self._server = MCPServerStreamableHttp(
            {"url": url, "headers": dict(headers or {}), "timeout": seconds, "sse_read_timeout": _CALL_SECONDS},
            cache_tools_list=True,
            name=self.name,
            client_session_timeout_seconds=_CALL_SECONDS,
        )
        self._manager = MCPServerManager(
            [self._server],
            connect_timeout_seconds=seconds,
            cleanup_timeout_seconds=seconds,
            connect_in_parallel=True,
        )
        self._breaker = CircuitBreaker(failures=1, pause=retry_seconds)
        self._connecting: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connects, if the server is there."""
        self._connect()
        if self._connecting is not None:
            await asyncio.wait([self._connecting])

    async def close(self) -> None:
        """Takes the connection down."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None and not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting])
        self.tools = []
        await self._manager.cleanup_all()

    def is_there(self) -> bool:
        """Whether it can be asked; where not, it is tried again in the background."""
        if self.tools:
            return True
        self._connect()
        return False

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """The text that a tool gives.

        Raises:
            McpUnavailable: the server is not there, or the tool failed.
        """
        if not self.is_there():
            raise McpUnavailable(f"the MCP server {self.name} is not connected")
        try:
            result = await self._server.call_tool(tool, dict(arguments))
        except Exception as exc:
            self._doubt()
            raise McpUnavailable(f"the MCP server {self.name} does not answer: {type(exc).__name__}") from exc
        text = "\n".join(item.text for item in result.content if item.type == "text")
        if getattr(result, "is_error", None) or getattr(result, "isError", None):  # the names of MCP's two majors
            raise McpUnavailable(f"the tool {tool} of the MCP server {self.name} failed")
        return text

    def _connect(self) -> None:
        """Begins to connect, unless that is under way, or was tried a short while ago."""
        if not self._is_busy() and self._breaker.lets_through():
            self._connecting = asyncio.ensure_future(self._reach())

    def _doubt(self) -> None:
        """A call has failed: either the tool could not do it, or the server is gone, which is found out."""
        if not self._is_busy():
            self._connecting = asyncio.ensure_future(self._check())

    def _is_busy(self) -> bool:
        return self._connecting is not None and not self._connecting.done()

    async def _check(self) -> None:
        try:
            # The SDK sends one request at a time: a slow call that is under way goes first.
            async with asyncio.timeout(_CALL_SECONDS):
                self._server.invalidate_tools_cache()
                await self._server.list_tools()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the server is gone
            _log.warning("the MCP server %s is lost: %s", self.name, type(exc).__name__)
            self.tools = []
            await self._reach()

    async def _reach(self) -> None:
        why = ""
        try:
            await self._manager.reconnect(failed_only=False)
            if self._manager.active_servers:
                async with asyncio.timeout(self._seconds):
                    offered = await self._server.list_tools()
                self.tools = [self._tool(tool) for tool in offered[:_TOOLS]]
        except Exception as exc:  # noqa: BLE001 - whatever it is, answers go on without this server
            why = f" ({type(exc).__name__})"
        if self.tools:
            self._breaker.succeeded()
            _log.info("the MCP server %s is connected, with %s tools", self.name, len(self.tools))
        else:
            self._breaker.failed()
            _log.warning("the MCP server %s is not there%s: answers go on without it", self.name, why)

    def _tool(self, offered: Any) -> FunctionTool:
        tool = MCPUtil.to_function_tool(
            offered, self._server, convert_schemas_to_strict=False, failure_error_function=None
        )

        async def invoke(context: ToolContext[Any], arguments: str) -> Any:
            try:
                return await tool.on_invoke_tool(context, arguments)
            except ModelBehaviorError as exc:
                raise ValueError("arguments that are no JSON object") from exc
            except Exception as exc:
                # The SDK's own kinds of error would end the answer.
                self._doubt()
                raise McpUnavailable(f"the MCP server {self.name} did not carry out {tool.name}") from exc

        return FunctionTool(
            name=tool.name,
            description=tool.description,
            params_json_schema=tool.params_json_schema,
            strict_json_schema=tool.strict_json_schema,
            on_invoke_tool=invoke,
        )


class McpServers:
    """Several servers, and what they add to an agent."""

    def __init__(self, servers: Iterable[str | McpConnection]) -> None:
        """The servers at these addresses, or connections to them."""
        self.connections = [McpConnection(server) if isinstance(server, str) else server for server in servers]

    async def open(self) -> None:
        """Connects to those that are there."""
        await asyncio.gather(*(connection.open() for connection in self.connections))

    async def close(self) -> None:
        """Takes all connections down."""
        await asyncio.gather(*(connection.close() for connection in self.connections))

    def equip(self, agent: Agent[TurnContext], bounds: ToolBounds) -> Agent[TurnContext]:
        """The agent, with the tools of the servers that are there; of several by one name, the first."""
        if not self.connections:
            return agent
        tools: dict[str, FunctionTool] = {}
        for connection in self.connections:
            if connection.is_there():
                tools = {tool.name: tool for tool in connection.tools} | tools
        own = {tool.name for tool in agent.tools}
        added = [tool for name, tool in tools.items() if name not in own]
        return changed(agent, tools=[*agent.tools, *bounded(added, bounds)]) if added else agent
