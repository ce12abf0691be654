"""Tools of a site's own that tell the reader something by themselves, in every way that ChatKit's context has."""

from collections.abc import AsyncIterator

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientEffectEvent, CustomTask, ProgressUpdateEvent
from chatkit.widgets import Card, Text

from chatkit_rag.context import RequestContext

Turn = RunContextWrapper[AgentContext[RequestContext]]


@function_tool
async def look_up(turn: Turn, what: str) -> str:
    """Looks something up, and says so in the turn's workflow."""
    await turn.context.add_workflow_task(CustomTask(title=f"Looked up {what}"))
    return "found"


@function_tool
async def selection(turn: Turn) -> str:
    """Asks the browser for what the reader has selected."""
    turn.context.client_tool_call = ClientToolCall(name="selection", arguments={"trim": True})
    return "asked"


@function_tool
async def show(turn: Turn) -> str:
    """Says how it goes, shows a widget that is drawn in two steps, and highlights something on the page."""
    await turn.context.stream(ProgressUpdateEvent(text="Drawing"))

    async def drawn() -> AsyncIterator[Card]:
        yield Card(children=[Text(id="text", value="Hel")])
        yield Card(children=[Text(id="text", value="Hello")])

    await turn.context.stream_widget(drawn(), copy_text="Hello")
    await turn.context.stream(ClientEffectEvent(name="highlight", data={"id": "nodes"}))
    return "shown"
