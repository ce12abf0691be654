"""What a tool may cost an answer: time, size, and how often. Failures are told to the model in our words."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from agents import FunctionTool, Tool, ToolOutputFileContent, ToolOutputImage
from agents.exceptions import AgentsException
from agents.tool_context import ToolContext

from chatkit_rag.agent.context import TurnContext

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBounds:
    """What tools may take in one answer."""

    calls: int = 20
    """Of all tools together; further ones are not carried out."""
    seconds: float = 15.0
    """One call."""
    characters: int = 40_000
    """One output; what is longer is cut."""


def bounded(tools: Iterable[Tool], bounds: ToolBounds) -> list[Tool]:
    """The tools, each function among them within bounds; what the SDK or a service carries out is left as it is."""
    return [_bounded(tool, bounds) if isinstance(tool, FunctionTool) else tool for tool in tools]


def _bounded(tool: FunctionTool, bounds: ToolBounds) -> FunctionTool:
    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        turn = context.context
        if isinstance(turn, TurnContext):
            turn.tool_calls += 1
            if turn.tool_calls > bounds.calls:
                return _error("no more tools in this answer: answer from what you have")
        try:
            async with asyncio.timeout(bounds.seconds):
                output = await tool.on_invoke_tool(context, arguments)
        except TimeoutError:
            _log.warning("the tool %s took more than %s seconds", tool.name, bounds.seconds)
            return _error("the tool took too long")
        except AgentsException:  # the SDK's own: a guardrail, say
            raise
        except Exception as exc:  # noqa: BLE001 - a tool of the site's own; the answer goes on without it
            _log.exception("the tool %s failed: %s", tool.name, type(exc).__name__)
            return _error("the tool failed")
        return _cut(output, bounds.characters)

    return replace(tool, on_invoke_tool=invoke)


def _cut(output: Any, characters: int) -> Any:
    if isinstance(output, ToolOutputImage | ToolOutputFileContent):
        return output
    text = output if isinstance(output, str) else str(output)
    return output if len(text) <= characters else f"{text[:characters]}\n(cut: {len(text)} characters)"


def _error(message: str) -> str:
    return orjson.dumps({"error": message}).decode()
